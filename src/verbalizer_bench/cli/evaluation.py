"""Run a model on the tasks: lm-eval's `run`, `ls` and `validate`; `merge`; and `benchmarks`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Context, Option

from verbalizer_bench.cli.options import CommandGroup, Output

commands = CommandGroup()
# lm-eval reads what stands behind these commands, and prints their help.
_LM_EVALS: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
}


@commands.command(**_LM_EVALS)
def run(context: Context) -> None:
    """Run a model on the tasks (lm-eval's, and all its flags)."""
    from verbalizer_bench.running.harness import harness

    _summarize(harness("run", context.args, shown=True))


@commands.command(**_LM_EVALS)
def ls(context: Context) -> None:
    """List tasks, groups and tags: ours, then lm-eval's."""
    from verbalizer_bench.running.harness import harness

    harness("ls", context.args)


@commands.command(**_LM_EVALS)
def validate(context: Context) -> None:
    """Check that task names exist (lm-eval's)."""
    from verbalizer_bench.running.harness import harness

    harness("validate", context.args)


@commands.command()
def merge(shards: list[Path], output: Output) -> None:
    """Put the shards of a run together.

    verbalizer-bench merge out/1 out/2 -o out/all

    Args:
        shards: The --output_path of each shard.
        output: The folder of the whole run.
    """
    from verbalizer_bench.running.merge import merge

    _summarize([merge(shards, output)])


@commands.command()
def benchmarks(
    recipe: str,
    checkpoints: list[str],
    output: Output,
    model: Annotated[str, Option(metavar="MODEL")] = "verbalizer-lvlm",
    model_args: Annotated[str, Option("--model_args", "--model-args")] = "dtype=bfloat16",
    judge: Annotated[str, Option("--judge", metavar="MODEL")] = "JUDGE",
) -> None:
    """Print the command by which each checkpoint takes each benchmark of a recipe (lmms-eval's).

    verbalizer-bench benchmarks evaluation/llava15 checkpoints/llava15/8_sharegpt -o out > all.sh

    Nothing is run. `verbalizer-bench report out` reads what the commands write.

    Args:
        recipe: A YAML file, or the name of a shipped one.
        checkpoints: Folders or ids of the hub; or model arguments, such as pretrained=DIR,peft=DIR.
        output: The folder of all results.
        model: The adapter, or a model class of lmms-eval.
        model_args: Its arguments beside the checkpoint.
        judge: The judge's name at its server, where one is asked by `judge`.
    """
    from verbalizer_bench.evaluation.commands import Asked
    from verbalizer_bench.evaluation.commands import commands as lines
    from verbalizer_bench.evaluation.recipe import read_evaluation

    asked = Asked(model, model_args, judge, output)
    print(lines(read_evaluation(recipe), checkpoints, asked))


def _summarize(folders: Sequence[Path]) -> None:
    """Report on runs that were just made, unless none of our tasks is in them."""
    from verbalizer_bench.leaderboard.reports.gathering import report_of_folders
    from verbalizer_bench.results.run import NotAVerbalizerRun

    try:
        if folders:
            found = report_of_folders(folders)
            page, *_ = found.write(folders[0] / "report")
            print(f"\n{found.short()}\n\n{page}")
    except NotAVerbalizerRun as error:
        print(f"No summary: {error}")
