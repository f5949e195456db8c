"""How many records of each of several files an epoch has, and which: seeded, exact, recorded.

Text among the image records of visual instruction tuning ("text replay") keeps what a language
model could do: a third of it, say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

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


@dataclass(frozen=True)
class Proportions:
    """How many records are drawn of each file; at most one of the first three is given.

    Attributes:
        records: So many of each, None for all.
        weights: Their proportion: the first file is there whole, and of the others as many rows as
            make that proportion, to the nearest.
        temperature: Each file's share is proportional to n^(1 / temperature), where n is the number
            of its rows, and the total is that of all files. 1 draws all rows of each.
        replayed: How many files, the last ones, are replayed beside those.
        share: What of all rows that are drawn is of these, to the nearest row; divided among them
            by their numbers of rows.
    """

    records: Sequence[int | None] | None = None
    weights: Sequence[float] | None = None
    temperature: float | None = None
    replayed: int = 0
    share: float = 0.0

    def numbers(self, available: Sequence[int]) -> list[int]:
        """Return how many rows are drawn of files that have so many.

        Raises:
            ValueError: The file that the proportion is of has none.
        """
        first = len(available) - self.replayed
        drawn = self._drawn(available[:first])
        if self.replayed:
            total = round(sum(drawn) * self.share / (1 - self.share))
            drawn += divided(total, available[first:])
        return drawn

    def _drawn(self, available: Sequence[int]) -> list[int]:
        if self.weights is not None:
            if not available[0]:
                raise ValueError(
                    "data: file 1, which data_weights has whole, has no record; give another "
                    "first, or data_records"
                )
            first = self.weights[0]
            return [round(available[0] * weight / first) for weight in self.weights]
        if self.temperature is not None:
            parts = [size ** (1 / self.temperature) for size in available]
            return divided(sum(available), parts)
        records = self.records or [None] * len(available)
        return [
            size if number is None else number
            for size, number in zip(available, records, strict=True)
        ]


def divided(total: int, parts: Sequence[float]) -> list[int]:
    """Divide a number in proportion: each share rounded down, and what is left to the largest rest.

    Of equal rests the first is taken.
    """
    whole = sum(parts) or 1.0
    exact = [total * part / whole for part in parts]
    found = [int(share) for share in exact]
    order = sorted(range(len(parts)), key=lambda place: found[place] - exact[place])
    for place in order[: total - sum(found)]:
        found[place] += 1
    return found


def mix(records: np.ndarray, counts: Sequence[int], proportions: Proportions, seed: int) -> Mixture:
    """Draw rows of several files.

    Args:
        records: The number of each row's record, in order.
        counts: How many records each file has.
        proportions: How many rows are drawn of each.
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
    drawn = proportions.numbers(available)
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
