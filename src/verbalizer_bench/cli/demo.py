"""Run the paper in miniature: `demo`."""

from pathlib import Path

from verbalizer_bench.cli.options import CommandGroup, Output

commands = CommandGroup()


@commands.command()
def demo(output: Output = Path("demo_out")) -> None:
    """Train, score and publish the paper in miniature, offline.

    Args:
        output: A folder; an earlier demo in it is replaced.
    """
    from verbalizer_bench.experiments.miniature.demo import demo

    demo(output)
