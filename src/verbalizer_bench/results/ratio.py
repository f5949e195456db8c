"""Ratios of two mean differences over the same documents, with intervals.

A ratio has no interval of its own where its denominator could be 0. So the interval is turned round
(Fieller 1954): it has each ratio r for which numerator - r x denominator cannot be told from 0, by
the same draws of documents for both. Where no draw of the denominator is on the other side of 0
these are the percentiles of the ratio of the draws; where the denominator's own interval has 0 the
ratios have no end, and there is none.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from verbalizer_bench.results.few import FEW, Stratum, differing, unseen_interval
from verbalizer_bench.results.resampling import Clusters, bootstrap, interval
from verbalizer_bench.results.statistics import RESAMPLES, SEED, strata_of

# A ratio that could be as far off (in 1, so 6,400 %) says nothing.
_FARTHEST = 64.0
_HALVINGS = 14


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A ratio with its 95 % interval; 1 is all."""

    value: float
    low: float
    high: float


def ratios(
    numerators: Clusters,
    denominators: Clusters,
    weights: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Ratio | None]:
    """Return each group's ratio of weighted sums of column means, with its 95 % interval.

    Args:
        numerators: For each data set differences in [-1, 1], shape (documents, tasks).
        denominators: The same of the same documents and tasks. The two differences have one run in
            common, which both subtract.
        weights: Shape (all tasks, groups).
        resamples: How many bootstrap samples.
        seed: Of the random numbers.

    Returns:
        None where the denominator is 0, could be (its interval has it), or is so near that an end
        would be further than 64 from the ratio; where a data set has one document.
    """
    if any(len(values) < 2 for values in numerators.values()):
        return [None] * weights.shape[1]
    tables = (numerators, denominators)
    over, under = (strata_of(table, weights, -1.0) for table in tables)
    draws = [(bootstrap(table, resamples, seed) @ weights).T for table in tables]
    return [
        _Group(*group, resamples, seed).ratio()
        for group in zip(over, under, draws[0], draws[1], strict=True)
    ]


def distance_told(told: Callable[[float], bool]) -> float | None:
    """Return how far from a ratio one must go until it can be told; None if further than 64.

    Args:
        told: Whether it can be told at a distance, from which on it can at all further ones.
    """
    near, far = 0.0, 1.0
    while not told(far):
        near, far = far, 2 * far
        if far > _FARTHEST:
            return None
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        near, far = (near, middle) if told(middle) else (middle, far)
    return near


@dataclasses.dataclass(frozen=True)
class _Group:
    """One group.

    Attributes:
        over: What the documents of each data set add to the numerator.
        under: The same of the denominator.
        over_draws: Of the bootstrap, shape (resamples,).
        under_draws: Of the same documents.
        resamples: How many, also where few documents differ.
        seed: Of the random numbers there.
    """

    over: tuple[Stratum, ...]
    under: tuple[Stratum, ...]
    over_draws: np.ndarray
    under_draws: np.ndarray
    resamples: int
    seed: int

    def ratio(self) -> Ratio | None:
        over, under = (
            sum(float(stratum.values.mean()) for stratum in strata)
            for strata in (self.over, self.under)
        )
        if abs(under) < 1e-12:
            return None
        ratio = over / under
        few = self._few(ratio)
        low, high = (self._end(ratio, way, few, under > 0) for way in (-1, 1))
        return None if low is None or high is None else Ratio(ratio, low, high)

    def _few(self, ratio: float) -> bool:
        """Say whether too few documents differ: in numerator, denominator, their difference.

        Or in how far they are from the ratio: where all have the same, no draw has another.
        """
        tables = [self.under, *(self._rest(at) for at in (0.0, 1.0, ratio))]
        return any(differing(strata) < FEW for strata in tables)

    def _rest(self, ratio: float) -> tuple[Stratum, ...]:
        """Return numerator - ratio x denominator, as a part of the most that it could be."""
        # Of x - z - ratio (y - z), with x, y and z in [0, 1].
        most = max(1.0, ratio, 1.0 - ratio)
        return tuple(
            one._replace(values=(one.values - ratio * other.values) / most)
            for one, other in zip(self.over, self.under, strict=True)
        )

    def _end(self, ratio: float, way: int, few: bool, positive: bool) -> float | None:
        """Return how far a ratio below (-1) or above (1) cannot be told; None for without end."""

        def told(distance: float) -> bool:
            at = ratio + way * distance
            low, high = (
                unseen_interval(self._rest(at), self.resamples, self.seed)
                if few
                else interval(self.over_draws - at * self.under_draws)
            )
            # A smaller ratio leaves a rest on the denominator's side.
            return bool(low > 0 if (way < 0) == positive else high < 0)

        distance = distance_told(told)
        return None if distance is None else ratio + way * distance
