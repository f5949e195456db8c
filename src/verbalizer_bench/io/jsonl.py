"""JSON lines: a value a line. Lines end with a line feed only: a text may hold U+2028 as it is.

What users bring is read by `read` (strict) and `parsed` (which leaves it to the caller what is done
about a line that is not what it seems); what a program of ours or lm-eval wrote, by `read_written`
and `read_objects`. Each names file and line of a fault.
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
    """Return values as JSON lines.

    Args:
        values: What JSON has words for.
        ascii_only: Whether to write other characters as escapes.
    """
    return "".join(json.dumps(value, ensure_ascii=ascii_only) + "\n" for value in values)


def read(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield place (`line 3`) and value of each line that is not empty.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, or a line is not JSON or not what it seems.
    """
    for place, value, problem in parsed(path):
        if problem:
            raise ValueError(f"{path}, {place}: {problem[0]}: {problem[1]}")
        yield place, value


def parsed(path: Path) -> Iterator[Parsed]:
    """Yield each line that is not empty, with what is wrong with it.

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
            raise ValueError(f"{path}, {place}: {reason(error)}") from error


def read_written(path: Path, torn: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield place and value of each line of a file that a program wrote: NaN may stand in it.

    Args:
        path: The file.
        torn: Whether a last line without its end is what a kill left, and is passed over.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, or a line is not JSON.
    """
    for place, line in _lines(path):
        if line.strip() and not (torn and not line.endswith(b"\n")):
            yield place, parse_written(line, f"{path}, {place}")


def read_objects(path: Path, torn: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and object of each line of a file that a program wrote, as `read_written` does.

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
