"""Checkpoints by benchmark: judged benchmarks, lmms-eval's and verbalizer runs in one table.

    verbalizer-bench report out

A row is a checkpoint, by the hash of its weights. A column is a benchmark asked in one way and
judged by one judge: another judge, other prompts, references or questions are another column.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from verbalizer_bench.results.tables import markdown_table

# The paper's order; what is not among them follows, and verbalizer runs come last.
_ORDER = ("MM-Vet", "LLaVA-Bench", "POPE", "MMBench", "MT-Bench", "AlpacaEval")
VERBALIZER = "F1"
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*")


class Cell(NamedTuple):
    """A score of a checkpoint, or why there is none.

    Attributes:
        checkpoint: Its weights' hash, or the hash of answers from elsewhere; "" where the file
            does not say.
        loaded: What was loaded, as the model's arguments have it.
        name: What its row is called.
        title: The benchmark.
        way: How it was asked and judged; scores of other ways stand in other columns.
        text: The score.
        remark: What a reader must know of it; "" for nothing.
        source: The file or folder that it is from.
        made: When the checkpoint was asked, in seconds of the epoch; None: nobody knows.
    """

    checkpoint: str
    loaded: str
    name: str
    title: str
    way: str
    text: str
    remark: str
    source: str
    made: float | None = None

    @property
    def column(self) -> tuple[str, str]:
        """Return what cells of one column have in common."""
        return self.title, self.way


@dataclasses.dataclass(frozen=True)
class BenchmarkTable:
    """Scores by checkpoint and benchmark; as a text it is Markdown.

    Attributes:
        header: The columns' names.
        rows: A row a checkpoint, its name first.
        notes: How each column was asked and judged, then what is to be said of single scores.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([markdown_table(self.header, self.rows), "", *self.notes])


def benchmark_table(cells: Sequence[Cell], notes: Sequence[str] = ()) -> BenchmarkTable:
    """Return the table of scores.

    Args:
        cells: The scores.
        notes: What else is to be said.

    Raises:
        ValueError: A checkpoint has two results in one column.
    """
    cells = _identified(cells)
    columns = sorted(dict.fromkeys(cell.column for cell in cells), key=_place)
    found: dict[tuple[str, tuple[str, str]], Cell] = {}
    for cell in cells:
        other = found.setdefault((cell.checkpoint, cell.column), cell)
        if other is not cell:
            raise ValueError(
                f"{other.source} and {cell.source}: two results of {cell.name} in one column "
                f"({cell.title}); give one of them"
            )
    names = dict(_rows(cells))

    def text(checkpoint: str, column: tuple[str, str]) -> str:
        cell = found.get((checkpoint, column))
        return cell.text if cell else "-"

    rows = [(names[one], *(text(one, column) for column in columns)) for one in names]
    headers = _headers(columns)
    titles = dict(zip(columns, headers, strict=True))
    ways = [f"{titles[column]}: {column[1]}" for column in columns]
    remarks = [
        f"{names[cell.checkpoint]}, {titles[cell.column]}: {cell.remark}"
        for cell in cells
        if cell.remark
    ]
    return BenchmarkTable(("Checkpoint", *headers), tuple(rows), (*ways, *remarks, *notes))


def _identified(cells: Sequence[Cell]) -> list[Cell]:
    """Name the checkpoints of cells that know no hash by those that loaded the same."""
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(cell.loaded, []).append(cell)
    made = []
    for cell in cells:
        if not cell.checkpoint:
            hashes = {one.checkpoint for one in alike[cell.loaded]} - {""}
            remark = "; ".join(filter(None, (cell.remark, _doubt(cell, alike[cell.loaded]))))
            sure = hashes.pop() if len(hashes) == 1 else cell.loaded
            cell = cell._replace(checkpoint=sure, remark=remark)
        made.append(cell)
    return made


def _doubt(cell: Cell, alike: Sequence[Cell]) -> str:
    """Return why a cell that knows no hash may be of other weights than its row; "" if not."""
    known = [one for one in alike if one.checkpoint]
    if (number := len({one.checkpoint for one in known})) > 1:
        return (
            f"{cell.loaded} has had {number} different weights, and which of them this is the file "
            "does not say"
        )
    written = _written(cell.loaded)
    if written is None or cell.made is None:
        return ""
    later = cell.made > written
    others = {one.made > written for one in known or alike if one.made is not None}
    # Where a hash is on both sides the same weights were written again.
    if not others - {later} or (known and later in others):
        return ""
    order = ("after", "before") if later else ("before", "after")
    return (
        f"asked {order[0]} the weights in {cell.loaded} were last written, and others of its row "
        f"{order[1]}: it may be of other weights"
    )


def _written(loaded: str) -> float | None:
    """Return when the weights in the folders that were loaded were last written, if any are."""
    folders = [Path(part) for part in loaded.split(" + ")]
    files = [file for folder in folders for name in _WEIGHTS for file in folder.glob(name)]
    return max((file.stat().st_mtime for file in files), default=None)


def _place(column: tuple[str, str]) -> int:
    name = column[0].split(" ")[0]
    return _ORDER.index(name) if name in _ORDER else len(_ORDER) + (name == VERBALIZER)


def _rows(cells: Sequence[Cell]) -> Iterator[tuple[str, str]]:
    """Yield checkpoint and name of each row."""
    names = {cell.checkpoint: cell.name for cell in reversed(cells)}
    for checkpoint in dict.fromkeys(cell.checkpoint for cell in cells):
        name = names[checkpoint]
        # Checkpoints of one name are told apart by their weights.
        twice = list(names.values()).count(name) > 1
        short = checkpoint if "/" in checkpoint else checkpoint[:8]
        yield checkpoint, f"{name} ({short})" if twice else name


def _headers(columns: Sequence[tuple[str, str]]) -> list[str]:
    """Return the columns' names, numbered where a benchmark has several."""
    titles = [title for title, _ in columns]
    return [
        f"{title} #{titles[: place + 1].count(title)}" if titles.count(title) > 1 else title
        for place, title in enumerate(titles)
    ]
