"""All commands together, how one is run, and how it ends."""

import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from verbalizer_bench.cli import (
    build,
    checkpoints,
    demo,
    evaluation,
    explain,
    judging,
    publishing,
    results,
    tasks,
    vision,
)
from verbalizer_bench.cli.options import CommandGroup
from verbalizer_bench.errors import failed, interrupted, terminations
from verbalizer_bench.version import __version__

NAME = "verbalizer-bench"
# The logger that says which of transformers' classes stand in for others.
_IMPORTS = "transformers.utils.import_utils"
app = CommandGroup(
    help="Does tuning hurt a model's ability to follow instructions?",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    evaluation,
    explain,
    judging,
    vision,
    results,
    checkpoints,
    build,
    tasks,
    publishing,
    demo,
):
    app.add_typer(module.commands)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code.

    A mistake is one line and code 2, Ctrl-C one line and 130; what nobody expected is one line too,
    and code 1.
    """
    logging.getLogger(_IMPORTS).addFilter(_of_use)
    # A terminal in Latin-1, say, shows `\u21b5`; a run does not end over a response's letter.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with terminations():
            code = _run(sys.argv[1:] if argv is None else argv)
        _leave_process_group()
        return code
    except BrokenPipeError:
        # The reader, such as `head`, has enough; Python would say so again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        return interrupted(error)
    # Whatever it is, a user gets a line.
    except Exception as error:
        return failed(error)


def _of_use(record: logging.LogRecord) -> bool:
    """Say whether a line is of use: image processors by PIL are what we want, and it warns of."""
    return "requires torchvision (not installed); falling back" not in record.getMessage()


def _run(words: Sequence[str]) -> int:
    # Without typer's own `main`, which turns a broken pipe and Ctrl-C into exits of its own.
    try:
        with typer.main.get_command(app).make_context(NAME, list(words)) as context:
            return context.command.invoke(context) or 0
    except typer.Exit as done:
        raise SystemExit(done.exit_code) from None
    except TyperException as error:
        raise ValueError(_usage(error)) from error


def _usage(error: Any) -> str:
    """Return what is wrong with a command's words, and where to read what it takes."""
    text = error.format_message().removesuffix(".").replace("Value error, ", "")
    if hasattr(error, "possibilities"):
        near = f" (did you mean {error.possibilities[0]}?)" if error.possibilities else ""
        text = f"unknown argument {error.option_name}{near}"
    if isinstance(error.__cause__, ValidationError):
        value = repr(error.__cause__.errors()[0]["input"])
        text += "" if value in text else f", got {value}"
    command = error.ctx.command_path if error.ctx else NAME
    return f"{text}; `{command} --help` says what it takes"


def _leave_process_group() -> None:
    """End torchrun's process group: a thread of it that outlives the interpreter would abort it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(NAME, __version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version)] = False,
) -> None: ...
