"""CSV files that users provide, in UTF-8, with a header; a row may have cells of several lines.

Cells are parted by commas; or by semicolons, as spreadsheets write them where the comma is for
decimals, if the header's are.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_MARKS = {",": "commas", ";": "semicolons"}
_CELL = re.compile(r'(?:"(?P<quoted>.*?)"|(?P<plain>(?!")[^,\r\n]*))(?P<end>,|\r?\n|\Z)', re.DOTALL)


def read_csv(file: Path, columns: Sequence[str], of: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield place (`FILE, line 3`) and cells by column of each row; empty rows are left out.

    Args:
        file: The file, with or without a byte order mark.
        columns: Those that it has to have.
        of: Whose layout that is, for the error.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8 or no CSV, lacks a column, or a row has more or fewer cells.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not in UTF-8 ({error}); save it as UTF-8") from error
    try:
        mark = _mark(text, columns)
        (_, names), *rows = _cells(text, mark) or [(1, [])]
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    check_columns(file, names, columns, of)
    for line, cells in rows:
        if len(cells) != len(names):
            raise ValueError(
                f"{file}, line {line}: {len(cells)} cells, and the header has {len(names)}; put "
                f"cells with {_MARKS[mark]} between quotation marks"
            )
        yield f"{file}, line {line}", dict(zip(names, cells, strict=True))


def check_columns(file: Path, names: Sequence[str], columns: Sequence[str], of: str) -> None:
    """Raise ValueError if a table lacks a column."""
    if missing := [name for name in columns if name not in names]:
        raise ValueError(
            f"{file}: no column {missing[0]}; it has {', '.join(names) or 'none'}, and {of} has "
            f"{', '.join(columns)}"
        )


def _mark(text: str, columns: Sequence[str]) -> str:
    """Return what parts a table's cells: a semicolon where only that finds all columns."""
    header = text.partition("\n")[0].rstrip("\r")
    found = {mark: next(csv.reader([header], delimiter=mark), []) for mark in _MARKS}
    return next((mark for mark in _MARKS if set(columns) <= set(found[mark])), ",")


def _cells(text: str, mark: str) -> list[tuple[int, list[str]]]:
    """Return the cells of a CSV, and the line on which each row begins; empty rows are left out.

    The release of MMVP has quotation marks inside quoted cells that are not doubled ("the key "Z"
    in"), which the csv module reads as others than stand there. Where it is no strict CSV, a mark
    therefore closes a cell only if a comma or the line's end follows.
    """
    reader, found, line = _strict(text, mark), [], 1
    try:
        for cells in reader:
            found.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        if mark != ",":
            raise ValueError(f"line {line}: {error}; mend it, or save it with commas") from None
        found = list(_loose_cells(text))
    return [(line, cells) for line, cells in found if any(cells)]


def _strict(text: str, mark: str) -> Any:
    return csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=mark)


def _loose_cells(text: str) -> Iterator[tuple[int, list[str]]]:
    cells: list[str] = []
    place, line = 0, 1
    while place < len(text):
        cell = _CELL.match(text, place)
        # An opening mark that nothing closes.
        if cell is None:
            raise ValueError(f"a quotation mark in line {line} is not closed; mend it")
        quoted, place = cell["quoted"], cell.end()
        cells.append(cell["plain"] if quoted is None else quoted.replace('""', '"'))
        if cell["end"] != ",":
            yield line, cells
            cells, line = [], 1 + text.count("\n", 0, place)
