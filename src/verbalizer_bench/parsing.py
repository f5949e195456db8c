"""What the parsers of the command line share."""

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """argparse, whose mistakes are one line, and which takes whole option names only."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; a misspelt option is said before what is missing, which it may have been."""
        commands = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        known = [name for action in commands for name in action.choices]
        own = next((n for n, word in enumerate(args) if word in known), len(args))
        if problem := unknown_option(self, args[:own]):
            self.error(problem)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise ValueError, which the command line prints."""
        raise ValueError(f"{message}; `{self.prog} --help` says what it takes")


Commands = argparse._SubParsersAction


def unknown_option(
    parser: argparse.ArgumentParser, words: Sequence[str], others: Iterable[str] = ()
) -> str | None:
    """Say which of the words is an option that a parser does not have; None if all are known.

    Args:
        parser: The parser that the words are for.
        words: Options, their values and other arguments.
        others: Options that somebody else takes.
    """
    known = {name for action in parser._actions for name in action.option_strings}
    for word in words[: words.index("--")] if "--" in words else words:
        name = word.partition("=")[0]
        # A number may be negative, a lone dash is a name, and -oDIR is -o DIR.
        if not re.match(r"-[^\d.]", word) or " " in name or {name, word[:2]} & known:
            continue
        near = difflib.get_close_matches(name, [*known, *others], n=1)
        return f"unknown argument {word}" + (f" (did you mean {near[0]}?)" if near else "")
    return None


def examples(*lines: str) -> dict[str, Any]:
    """Return what puts command lines under a parser's help."""
    return {
        "epilog": "\n  ".join(["examples:", *lines]),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Add `--data`."""
    parser.add_argument(
        "--data",
        metavar="hub|sample|DIR",
        help="where the rows are (default: VERBALIZER_BENCH_DATA, else hub)",
    )
