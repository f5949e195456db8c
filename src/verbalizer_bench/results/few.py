"""Intervals where few documents differ: at a ceiling, at a floor, between models that agree.

A bootstrap draws what was seen. Where all documents are alike it says 100.0 to 100.0, whatever
their number, as if no document could ever fail. Here a document that was not seen counts too: each
end of the interval is a quantile of the mean of a Bayesian bootstrap (Rubin 1981) with one more
document, at that end of the scale, in the data set where it weighs most.

For one data set of documents that are 0 or 1 this is the exact binomial interval (Clopper and
Pearson 1934), which is computed, not drawn; with no failure among n its lower end is 0.025^(1/n),
about 1 - 3.7 / n (the rule of three, 3 / n, is that of one side). For values between 0 and 1 it is
the bound of Gaffke (2005).
One document more, where its weight is greatest, is how Fay and Feuer (1997) bound weighted sums
of Poisson counts. The verbalizers of a document are one observation: all could fail together.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv

from verbalizer_bench.results.resampling import ALPHA

# With as many that differ or more, those that were seen say how far a document may be off.
FEW = 15
_DRAWS = 3


class Stratum(NamedTuple):
    """What the documents of one data set add to a mean.

    Attributes:
        dataset: Its name.
        values: Of each document; their means, summed over data sets, are the mean. Shape
            (documents,).
        lowest: The least that a document could add.
        highest: The most.
    """

    dataset: str
    values: np.ndarray
    lowest: float
    highest: float


def differing(strata: Sequence[Stratum]) -> float:
    """Return how many documents differ from the most frequent value of their data set.

    A document of a small data set weighs more than one of a large. Of unequal ones it is as many as
    of one weight would say as much (Kish 1965), with one in each data set that was not seen.
    """
    counts = np.array(
        [1 + len(stratum.values) - int(_counted(stratum)[1].max()) for stratum in strata]
    )
    weights = np.array(
        [(stratum.highest - stratum.lowest) / len(stratum.values) for stratum in strata]
    )
    alike = float((weights @ counts) ** 2 / (weights**2 @ counts))
    return round(alike - len(strata), 6)


def interval_of_few(
    low: float, high: float, strata: Sequence[Stratum], resamples: int, seed: int
) -> tuple[float, float]:
    """Return a bootstrap's interval or, where fewer than `FEW` documents differ, that of above."""
    if differing(strata) >= FEW:
        return low, high
    return unseen_interval(strata, resamples, seed)


def unseen_interval(strata: Sequence[Stratum], resamples: int, seed: int) -> tuple[float, float]:
    """Return the interval that allows for documents not seen, however many differ."""
    mean = sum(float(stratum.values.mean()) for stratum in strata)
    if mean < 0:
        # One minus another must be the other minus the one, whatever is drawn.
        turned = [Stratum(s.dataset, -s.values, -s.highest, -s.lowest) for s in strata]
        low, high = unseen_interval(turned, resamples, seed)
        return -high, -low
    if all(len(_counted(stratum)[1]) == 1 for stratum in strata):
        low, high = _alike(strata)
    elif len(strata) == 1 and _is_binary(strata[0]):
        low, high = _exact(strata[0])
    else:
        low, high = _drawn(strata, resamples, seed)
    return min(low, mean), max(high, mean)


def _alike(strata: Sequence[Stratum]) -> tuple[float, float]:
    mean = sum(float(stratum.values[0]) for stratum in strata)
    down = [(float(stratum.values[0]) - stratum.lowest, len(stratum.values)) for stratum in strata]
    up = [(stratum.highest - float(stratum.values[0]), len(stratum.values)) for stratum in strata]
    return mean - _unseen(down), mean + _unseen(up)


def _is_binary(stratum: Stratum) -> bool:
    ends = [stratum.lowest, stratum.highest]
    values = _counted(stratum)[0]
    return len(values) == len(ends) and np.allclose(values, ends, rtol=0, atol=1e-9)


def _exact(stratum: Stratum) -> tuple[float, float]:
    """Return what draws tend to where each document is at one of both ends: a beta's quantiles."""
    failures, successes = (int(count) for count in _counted(stratum)[1])
    low = float(betaincinv(successes, failures + 1, ALPHA / 2))
    high = float(betaincinv(successes + 1, failures, 1 - ALPHA / 2))
    reach = stratum.highest - stratum.lowest
    return stratum.lowest + low * reach, stratum.lowest + high * reach


def _unseen(reaches: Sequence[tuple[float, int]]) -> float:
    """Return by how much documents that were not seen could move a mean.

    Exact for one data set. For more, what the product of (1 - q)^n over data sets allows at most
    when it is ALPHA / 2: -log(ALPHA / 2) documents, all where one weighs most.

    Args:
        reaches: Of each data set how far a document could move it, and its documents.
    """
    if len(reaches) == 1:
        ((reach, n),) = reaches
        return reach * (1 - math.pow(ALPHA / 2, 1 / n))
    most = -math.log(ALPHA / 2) * max(reach / n for reach, n in reaches)
    return min(most, sum(reach for reach, _ in reaches))


def _drawn(strata: Sequence[Stratum], resamples: int, seed: int) -> tuple[float, float]:
    means = [float(stratum.values.mean()) for stratum in strata]
    sizes = [len(stratum.values) for stratum in strata]
    lowest = _greatest([(m - s.lowest) / n for m, s, n in zip(means, strata, sizes, strict=True)])
    highest = _greatest([(s.highest - m) / n for m, s, n in zip(means, strata, sizes, strict=True)])
    down, up = np.zeros(resamples), np.zeros(resamples)
    for place, stratum in enumerate(strata):
        values, counts = _counted(stratum)
        # Documents of one value have the sum of their exponential weights.
        entropy = np.random.SeedSequence([seed, _DRAWS, *stratum.dataset.encode()])
        generator = np.random.Generator(np.random.PCG64(entropy))
        weights = generator.standard_gamma(counts, (resamples, len(counts)))
        total, unseen = weights.sum(axis=1), generator.standard_exponential(resamples)
        weighted = weights @ values
        for draws, end, at in ((down, stratum.lowest, lowest), (up, stratum.highest, highest)):
            more = unseen if place == at else 0.0
            draws += (weighted + more * end) / (total + more)
    return float(np.quantile(down, ALPHA / 2)), float(np.quantile(up, 1 - ALPHA / 2))


def _greatest(numbers: Sequence[float]) -> int:
    return max(range(len(numbers)), key=lambda place: numbers[place])


def _counted(stratum: Stratum) -> tuple[np.ndarray, np.ndarray]:
    """Return the values that occur and how often, without what the order of a sum leaves."""
    values, counts = np.unique(np.round(stratum.values, 9), return_counts=True)
    return values, counts
