"""How a function becomes a command, and the options that several commands have."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option, Typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.exceptions import TyperException


def _checked(data: str | None) -> str | None:
    from verbalizer_bench.tasks.data import check_data

    if data:
        check_data(data)
    return data


Required = Annotated[str, Option()]
Repeated = Annotated[list[str], Option(default_factory=list, show_default=False)]
Output = Annotated[Path, Option("--output", "-o")]
ReportOutput = Annotated[Path | None, Option("--output", "-o")]
Overrides = Annotated[
    list[str], Argument(metavar="key=value...", default_factory=list, show_default=False)
]
DryRun = Annotated[bool, Option("--dry-run")]
Json = Annotated[bool, Option("--json")]
Data = Annotated[str | None, Option(metavar="hub|sample|DIR", callback=_checked)]


class _Command(TyperCommand):
    """A command whose docstring is its help, and whose `Args` are the help of its parameters."""

    def __init__(self, name: str | None, **options: Any) -> None:
        text, _, arguments = (options.pop("help") or "").partition("\n\nArgs:\n")
        super().__init__(name, help=text, **options)
        described = dict(re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", arguments, re.MULTILINE))
        for parameter in self.params:
            if isinstance(parameter, TyperArgument | TyperOption) and parameter.name in described:
                parameter.help = " ".join(described[parameter.name].split())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command's words; its errors know which command it was."""
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the docstring line by line: click would reflow its examples."""
        formatter.write("".join(f"  {line}\n" for line in f"\n{self.help}".split("\n")))


class _Group(TyperGroup):
    """A group that prints its help where nothing stands behind it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])


class CommandGroup(Typer):
    """A group of commands; help is plain text, and errors are left to the caller."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            add_completion=False,
            cls=_Group,
            **options,
        )

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Return a decorator that makes a function a command."""
        return super().command(name, cls=_Command, **options)
