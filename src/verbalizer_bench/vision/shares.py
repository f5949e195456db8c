"""Shares of pairs that are right, by pattern and over all, with 95 % intervals.

As everywhere here: a bootstrap over pairs, each pattern drawn apart, and where fewer than 15 pairs
differ the interval that allows for pairs not seen, which of one pattern is the exact binomial one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verbalizer_bench.results.few import Stratum, interval_of_few
from verbalizer_bench.results.means import RESAMPLES, SEED
from verbalizer_bench.results.resampling import bootstrap, interval


class Share(NamedTuple):
    """A share in [0, 1].

    Attributes:
        value: The share; of several patterns their mean.
        low: The interval's lower end.
        high: Its upper end.
        pairs: How many pairs it is of.
    """

    value: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def record(self) -> dict[str, Any]:
        """Return what a result has of it, in percent."""
        ends = [round(100 * self.low, 2), round(100 * self.high, 2)]
        return {"mean": round(100 * self.value, 2), "interval": ends, "pairs": self.pairs}


def share_of(groups: Mapping[str, Sequence[bool]]) -> Share:
    """Return the mean over groups of the share of pairs that are right.

    Args:
        groups: By pattern whether each pair is right; at least one pattern, none empty.
    """
    tables = {name: np.array(right, float)[:, None] for name, right in groups.items()}
    weight = 1 / len(tables)
    drawn = bootstrap(tables, RESAMPLES, SEED) @ np.full((len(tables), 1), weight)
    low, high = (float(end[0]) for end in interval(drawn))
    strata = [Stratum(name, weight * table[:, 0], 0.0, weight) for name, table in tables.items()]
    low, high = interval_of_few(low, high, strata, RESAMPLES, SEED)
    value = float(np.mean([table.mean() for table in tables.values()]))
    return Share(value, low, high, sum(map(len, tables.values())))
