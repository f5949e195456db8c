"""What the parsers of the command line share."""

import argparse
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """argparse, whose mistakes are one line, and which takes whole option names only."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Raise ValueError, which the command line prints."""
        raise ValueError(f"{message}; `{self.prog} --help` says what it takes")


Commands = argparse._SubParsersAction


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
