"""A forest plot as places on a line: differences with their intervals, for the page to draw."""

import dataclasses
import math
from collections.abc import Sequence

from verbalizer_bench.results.answers import direction, row_name
from verbalizer_bench.results.differences import Difference, Pair

# Points of 100 between two marks of the axis.
_STEPS = (1, 2, 5, 10, 20, 25, 50)
_MARKS = 6


@dataclasses.dataclass(frozen=True)
class Line:
    """One difference: places in % of the plot's width.

    Attributes:
        model: The model's name.
        difference: Of the other run from the base.
        told: Below 0 (-1), above (1), or neither (0), as the answer says it.
        at: Where the difference is.
        start: Where its interval begins; None without one.
        width: How long that is.
    """

    model: str
    difference: Difference
    told: int
    at: float
    start: float | None
    width: float


@dataclasses.dataclass(frozen=True)
class Forest:
    """The plot of a family of groups.

    Attributes:
        family: Its name.
        marks: Of the axis: place in %, and points of 100.
        zero: Where 0 is.
        groups: Each group's name and lines, a model each.
    """

    family: str
    marks: tuple[tuple[float, int], ...]
    zero: float
    groups: tuple[tuple[str, tuple[Line, ...]], ...]


def forest(pairs: Sequence[Pair], family: str) -> Forest:
    """Lay out a family's differences, a group of lines for each of its names."""
    shown = [difference for pair in pairs for difference in pair.family(family)]
    low, high, step = _axis(shown)

    def place(share: float) -> float:
        return round(100 * (100 * share - low) / (high - low), 2)

    def line(pair: Pair, difference: Difference) -> Line:
        start = None if difference.low is None else place(difference.low)
        width = 0.0 if difference.high is None or start is None else place(difference.high) - start
        name = row_name(pair, pairs)
        return Line(
            name,
            difference,
            direction(difference),
            place(difference.difference),
            start,
            round(width, 2),
        )

    names = [difference.name for difference in pairs[0].family(family)]
    return Forest(
        family,
        tuple((place(mark / 100), mark) for mark in range(low, high + 1, step)),
        place(0),
        tuple(
            (name, tuple(line(p, f) for p in pairs for f in p.family(family) if f.name == name))
            for name in names
        ),
    )


def _axis(shown: Sequence[Difference]) -> tuple[int, int, int]:
    """Return where the axis begins and ends, and its step, in points of 100; 0 is a mark of it."""
    ends = [v for d in shown for v in (d.low, d.difference, d.high) if v is not None]
    # A last digit must not ask for another mark.
    low, high = round(100 * min(0.0, *ends), 6), round(100 * max(0.0, *ends), 6)
    step = next((s for s in _STEPS if (high - low) / s <= _MARKS - 1), _STEPS[-1])
    first, last = math.floor(low / step) * step, math.ceil(high / step) * step
    return first, last if last > first else first + step, step
