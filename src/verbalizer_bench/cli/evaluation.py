"""Run a model on the tasks: `run`, `ls` and `validate`, which are lm-eval's, and `merge`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer import Context

from verbalizer_bench.cli.options import CommandGroup, Output
from verbalizer_bench.cli.results import write

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

    _summarize(harness("run", context.args))


@commands.command(**_LM_EVALS)
def ls(context: Context) -> None:
    """List tasks, groups and tags (lm-eval's)."""
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


def _summarize(folders: Sequence[Path]) -> None:
    """Report on runs that were just made, unless none of our tasks is in them."""
    from verbalizer_bench import api
    from verbalizer_bench.results.run import NotAVerbalizerRun, read_run

    try:
        if folders:
            write(api.report(*map(read_run, folders)), folders[0] / "report")
    except NotAVerbalizerRun as error:
        print(f"No summary: {error}")
