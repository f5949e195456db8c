"""Held-out records that are trained on too: as a whole, or what they ask.

Compared are 64 bits of a hash of what a model is given: token ids, and the contents of images.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from verbalizer_bench.io.conversation_files import AnyParse, named


class RowHashes(NamedTuple):
    """By what encoded records are compared; arrays have a number for each.

    Attributes:
        records: Their numbers.
        whole: Hashes of ids and images.
        prompts: The same without the last answer.
    """

    records: np.ndarray
    whole: np.ndarray
    prompts: np.ndarray

    def take(self, rows: np.ndarray) -> "RowHashes":
        """Return those of some rows."""
        return RowHashes(*(column[rows] for column in self))


class Overlap(NamedTuple):
    """How many held-out records are trained on too.

    Attributes:
        held_out: How many there are.
        records: How many are trained on as a whole.
        prompts: How many are not, and ask what is trained on.
        first: The number of the first that is trained on as a whole.
    """

    held_out: int
    records: int
    prompts: int
    first: int | None

    def fault(self, files: Sequence[Path], parse: AnyParse) -> str | None:
        """Return why training must stop: records are trained on as a whole; None if none is.

        Args:
            files: The held-out files.
            parse: Makes their records.
        """
        if self.first is None:
            return None
        return (
            f"{_names(files)}: {self.records:,} of {self.held_out:,} of its records are trained on "
            f"too, the first is {named(files, parse, [self.first])[self.first]}; leave them out"
        )

    def warning(self, files: Sequence[Path]) -> str | None:
        """Return that prompts are trained on with other answers; None if none is."""
        if not self.prompts:
            return None
        return (
            f"{_names(files)}: {self.prompts:,} of {self.held_out:,} of its records ask what is "
            "trained on too, with other answers"
        )


def _names(files: Sequence[Path]) -> str:
    return f"held_out={', '.join(map(str, files))}"


def overlap(data: RowHashes, held_out: RowHashes) -> Overlap:
    """Return how many held-out records are trained on too."""
    whole = np.isin(held_out.whole, data.whole)
    prompts = np.isin(held_out.prompts, data.prompts) & ~whole
    first = int(held_out.records[whole.argmax()]) if whole.any() else None
    return Overlap(len(whole), int(whole.sum()), int(prompts.sum()), first)


def row_hashes(row: Mapping[str, Any], images: Sequence[object]) -> tuple[int, int]:
    """Return the hashes of a row, as a whole and without its last answer.

    Args:
        row: Its columns of ids: of a pair prompt_ids, chosen_ids and rejected_ids; of another
            record input_ids and assistant_mask.
        images: What tells each of its images from others: 64 bits of a hash of its contents, or
            where none is read its name.
    """
    if "prompt_ids" in row:
        parts = [row[f"{name}_ids"] for name in ("prompt", "chosen", "rejected")]
    else:
        start = _last_answer(np.asarray(row["assistant_mask"], bool))
        parts = [row["input_ids"][:start], row["input_ids"][start:]]
    found = hashlib.blake2b("\n".join(map(str, images)).encode(), digest_size=8)
    hashes = []
    for part in parts:
        ids = np.asarray(part, np.int32)
        found.update(len(ids).to_bytes(8, "little") + ids.tobytes())
        hashes.append(int.from_bytes(found.digest(), "little"))
    return hashes[-1], hashes[0]


def _last_answer(mask: np.ndarray) -> int:
    """Return where the last trained run of tokens begins."""
    stop = len(mask) - int(mask[::-1].argmax())
    untrained = np.flatnonzero(~mask[:stop])
    return int(untrained[-1]) + 1 if len(untrained) else 0


def table_hashes(table: pa.Table, content: Callable[[str], object]) -> RowHashes:
    """Return the hashes of encoded rows.

    Args:
        table: The rows, as `TrainingData.dataset` has them.
        content: Returns what tells an image from others, by its name.
    """
    records = table.column("record").to_numpy()
    found = [row_hashes(row, [*map(content, images)]) for row, images in _rows(table)]
    whole, prompts = np.array(found, np.uint64).reshape(-1, 2).T
    return RowHashes(records, whole, prompts)


def _rows(table: pa.Table) -> Iterator[tuple[dict[str, np.ndarray], list[str]]]:
    """Yield each row's columns of ids and the names of its images."""
    shown = next((name for name in ("images", "pictures") if name in table.column_names), None)
    names = [name for name in table.column_names if name.endswith(("_ids", "_mask"))]
    for batch in table.to_batches():
        columns = {name: _split(batch.column(name)) for name in names}
        images = batch.column(shown).to_pylist() if shown else [[]] * len(batch)
        for row, pictures in enumerate(images):
            yield {name: parts[row] for name, parts in columns.items()}, pictures


def _split(column: Any) -> list[np.ndarray]:
    """Return the lists of a column."""
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False))
    return np.split(column.flatten().to_numpy(zero_copy_only=False), ends[:-1])
