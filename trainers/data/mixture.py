"""How many records of each of several files an epoch has, and which: seeded, exact, recorded.

Text among the image records of visual instruction tuning ("text replay") keeps what a language
model could do: a third of it, say.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from verbalizer_bench.io.conversations import AnyParse, read_as
from verbalizer_bench.trainers.data.sampler import permutation

# Tells the draw of a file's records from the orders of epochs, which have the same seed.
_DRAW = 2


class Mixture(NamedTuple):
    """What is drawn.

    Attributes:
        rows: The rows that an epoch has, int64; a row that is drawn twice is there twice.
        drawn: How many are of each file.
        available: How many each file has.
    """

    rows: np.ndarray
    drawn: list[int]
    available: list[int]


def records_of(files: Sequence[Path], parse: AnyParse) -> list[int]:
    """Return how many records each file has, bad ones counted, as they are numbered."""
    return [sum(1 for _ in read_as(parse, path, 0)) for path in files]


def mix(
    records: np.ndarray,
    counts: Sequence[int],
    wanted: Sequence[int | None] | None,
    weights: Sequence[float] | None,
    seed: int,
) -> Mixture:
    """Draw rows of several files.

    Args:
        records: The number of each row's record, in order.
        counts: How many records each file has.
        wanted: How many rows are drawn of each file, None for all.
        weights: In place of them, their proportion: the first file is there whole, and of the
            others as many rows as make that proportion, to the nearest.
        seed: Of what is drawn.

    Returns:
        Rows in the order of the files. More rows than a file has are all of them, as often as they
        fit, and some once more.

    Raises:
        ValueError: A file that rows are drawn of, or that the proportion is of, has none.
    """
    ends = np.searchsorted(records, np.cumsum(counts)).tolist()
    starts = [0, *ends[:-1]]
    available = [end - start for start, end in zip(starts, ends, strict=True)]
    if weights is not None:
        if not available[0]:
            raise ValueError(
                "data: file 1, which data_weights has whole, has no record; give another first, or "
                "data_records"
            )
        wanted = [round(available[0] * weight / weights[0]) for weight in weights]
    assert wanted is not None
    drawn = [
        size if number is None else number for size, number in zip(available, wanted, strict=True)
    ]
    rows = [
        start + _draw(size, number, seed, place)
        for place, (start, size, number) in enumerate(zip(starts, available, drawn, strict=True))
    ]
    return Mixture(np.concatenate(rows), drawn, available)


def _draw(size: int, number: int, seed: int, place: int) -> np.ndarray:
    """Return sorted places of `number` of `size` rows."""
    if number and not size:
        raise ValueError(f"data: file {place + 1} has no record to draw {number} of; leave it out")
    whole, rest = divmod(number, size) if size else (0, 0)
    some = permutation(size, seed, place, _DRAW)[:rest]
    return np.sort(np.concatenate([np.tile(np.arange(size), whole), some]))
