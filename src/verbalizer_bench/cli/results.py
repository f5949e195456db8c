"""Say what runs mean: `report` and `compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from verbalizer_bench.cli.options import CommandGroup, Repeated, ReportOutput

Evaluation = Annotated[str, Option(metavar="RECIPE")]
if TYPE_CHECKING:
    from verbalizer_bench.leaderboard.reports.comparison import Comparison
    from verbalizer_bench.leaderboard.reports.picture_comparison import PictureComparison
    from verbalizer_bench.leaderboard.reports.report import Report

commands = CommandGroup()


@commands.command()
def report(
    runs: list[Path], output: ReportOutput = None, evaluation: Evaluation = "evaluation/llava15"
) -> None:
    """Write tables and a figure of runs, and a table of checkpoints by benchmark.

    verbalizer-bench report out/llama out/llava-white -o comparison
    verbalizer-bench report out/llava-white out/llava-mtbench out/llava-pope

    A row of the second table is a checkpoint. Another judge, other prompts, references or questions
    are another column.

    Args:
        runs: An --output_path each: of `run`, `judge` or lmms-eval.
        output: A folder (default: `report` in the first run's).
        evaluation: The recipe that says which of lmms-eval's tasks are which benchmarks.
    """
    from verbalizer_bench import api

    write(api.report(*runs, evaluation=evaluation), output or runs[0] / "report")


@commands.command()
def compare(
    runs: list[Path], allow: Repeated, repaired: Repeated, output: ReportOutput = None
) -> None:
    """Compare runs over the same documents: did tuning hurt? How much came back?

    verbalizer-bench compare out/llama out/llava-white out/llava-none -o comparison
    verbalizer-bench compare out/llava-white out/llava-noise --allow image
    verbalizer-bench compare out/llama out/llava-white --repaired out/llava-dpo
    verbalizer-bench compare out/llava-mmvp out/interleaved-mmvp

    Runs of MMVP are compared over its pairs.

    Args:
        runs: An --output_path each; the first is the base.
        allow: A difference to let through, which the answer names: image, template, engine or
            precision; more than one: repeat it, or give a list with commas.
        repaired: The --output_path of what should have repaired the second run, which is the only
            other one then: says how much of its cost came back; again for another remedy.
        output: A folder (default: `compare` in the first run's).
    """
    from verbalizer_bench import api

    write(api.compare(*runs, allow=allow, repaired=repaired), output or runs[0] / "compare")


def write(made: "Report | Comparison | PictureComparison", folder: Path) -> None:
    """Write the files, and print the tables and where they stand."""
    files = made.write(folder)
    print(f"\n{made}\n")
    for file in files:
        print(f"Wrote {file}")
