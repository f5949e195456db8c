"""Which ranks a submission could have: those of all from whom it cannot be told apart.

One is better than another where the 95 % interval of their difference in F1 over all excludes 0 and
at least `few.FEW` documents differ: paired by document where both were asked the same prompts. The
interval is that of the standard error clustered by document, for all pairs at once; a table of a
thousand has half a million of them. They are not adjusted for their number.
"""

from collections.abc import Sequence

import numpy as np

from verbalizer_bench.leaderboard.site.entries import Entry
from verbalizer_bench.results.few import FEW
from verbalizer_bench.results.resampling import Z_ALPHA
from verbalizer_bench.tasks.spec import LABEL_TYPES


def rank_ranges(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """Return the best and the worst rank that each of a table's submissions could have."""
    if not entries:
        return []
    scores = np.array([entry.score("All") for entry in entries])
    ahead = scores[:, None] - scores[None, :]
    error = paired_errors(entries)
    better = ahead > Z_ALPHA * np.where(np.isnan(error), np.inf, error)
    for one, other in zip(*np.nonzero(better & (ahead < _reach_of_few(entries))), strict=True):
        better[one, other] = differing_documents(entries[one], entries[other]) >= FEW
    worse_than, better_than = better.sum(axis=0), better.sum(axis=1)
    return [
        (1 + int(above), len(entries) - int(below))
        for above, below in zip(worse_than, better_than, strict=True)
    ]


def paired_errors(entries: Sequence[Entry]) -> np.ndarray:
    """Return the standard errors of the differences in F1 over all, clustered by document.

    Returns:
        Shape (entries, entries); NaN where a data set has one document.
    """
    variances, shared = _variances(entries)
    # Rounding can leave a pair of equals a little below 0.
    errors: np.ndarray = np.sqrt(
        np.maximum(variances[:, None] + variances[None, :] - 2 * shared, 0)
    )
    return errors


def _variances(entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of each mean, and the covariance of each two over the same documents.

    NaN where a data set has one document.
    """
    size = len(entries)
    variances, shared = np.zeros(size), np.zeros((size, size))
    groups: dict[tuple[str, str, int], list[int]] = {}
    for place, entry in enumerate(entries):
        for dataset, asked in entry.asked.items():
            groups.setdefault((dataset, asked.prompts, len(asked.shares)), []).append(place)
    for (dataset, _, n), places in groups.items():
        values = np.column_stack([_over_all(entries[place], dataset) for place in places])
        centred = values - values.mean(axis=0)
        products = (
            centred.T @ centred / (n * (n - 1)) if n > 1 else np.full((len(places),) * 2, np.nan)
        )
        variances[places] += np.diag(products)
        shared[np.ix_(places, places)] += products
    return variances, shared


def _over_all(entry: Entry, dataset: str) -> np.ndarray:
    return entry.asked[dataset].shares.sum(axis=1) / len(LABEL_TYPES)


def _reach_of_few(entries: Sequence[Entry]) -> float:
    """Return how far apart two submissions can be of which fewer than FEW documents differ."""
    tasks = np.maximum(
        np.sum([answers.verbalizers for answers in entries[0].asked.values()], axis=0), 1
    )
    weights = [
        float(np.mean(np.array(answers.verbalizers) / tasks)) / len(answers.shares)
        for entry in entries
        for answers in entry.asked.values()
    ]
    return FEW * max(weights)


def differing_documents(one: Entry, other: Entry) -> int:
    """Return how many documents of two submissions differ in All; of other prompts, all."""
    count = 0
    for dataset, asked in one.asked.items():
        same = other.asked.get(dataset)
        if same is None or (same.prompts, same.shares.shape) != (asked.prompts, asked.shares.shape):
            count += len(asked.shares)
            continue
        ours, theirs = _over_all(one, dataset), _over_all(other, dataset)
        count += int((np.abs(ours - theirs) > 1e-9).sum())
    return count
