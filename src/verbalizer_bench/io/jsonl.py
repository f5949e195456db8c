"""JSON lines: one value per line. Only a line feed ends a line: a text may contain U+2028.

`read` is for files that users provide and raises for every problem; `parsed` leaves problems to the
caller. `read_written` and `read_objects` are for files that this package or lm-eval wrote. All of
them name file and line in their errors.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from verbalizer_bench.io.json_reading import (
    Parsed,
    Parser,
    check_object,
    parse_written,
    reason,
    refuse_utf16,
)


def dumps(values: Iterable[Any], ascii_only: bool = False) -> str:
    """Serialise values as JSON lines.

    Args:
        values: Values that JSON can represent.
        ascii_only: Whether to escape all other characters.
    """
    return "".join(json.dumps(value, ensure_ascii=ascii_only) + "\n" for value in values)


def read(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place (`line 3`) and value of each non-empty line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, or a line is not JSON or has a problem as in `Parsed`.
    """
    for place, value, problem in parsed(path):
        if problem:
            raise ValueError(f"{path}, {place}: {problem[0]}: {problem[1]}")
        yield place, value


def parsed(path: Path) -> Iterator[Parsed]:
    """Yield each non-empty line with its problem, if it has one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, or a line is not JSON.
    """
    parser = Parser()
    for place, line in _lines(path):
        try:
            refuse_utf16(line)
            text = line.decode("utf-8-sig")
            if text.strip():
                yield Parsed(place, *parser.whole(text))
        except ValueError as error:
            # A pretty-printed file: a list, or an object over several lines.
            begun = line.strip() in (b"[", b"{", b"[{")
            fix = "; write each value on a line of its own" if begun else ""
            raise ValueError(f"{path}, {place}: {reason(error)}{fix}") from error


def read_written(path: Path, torn: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield place and value of each line of a file that a program wrote; NaN is allowed.

    Args:
        path: The file.
        torn: Whether to skip a last line without a line feed, which a killed process left.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, or a line is not JSON.
    """
    for place, line in _lines(path):
        if line.strip() and not (torn and not line.endswith(b"\n")):
            yield place, parse_written(line, f"{path}, {place}")


def read_objects(path: Path, torn: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and object of each line, as `read_written` does.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, or a line is not JSON or no object.
    """
    for place, value in read_written(path, torn):
        yield place, check_object(value, f"{path}, {place}")


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield f"line {number}", line
