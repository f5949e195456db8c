"""Resample documents: bootstrap intervals, sign-flip permutations, Holm, detectable differences.

The documents of a data set are the clusters: a document is drawn, or its sign is flipped, in all
its verbalizers (and models) together. Data sets are resampled apart, each to its own size. All
functions take *clusters*: for each data set a table of a value for each document (rows) and each
column. What they return for columns is in the order of the data sets, then of their columns.

Every data set has random numbers of its own, PCG64 seeded by (seed, purpose, name), so that its
draws do not depend on which other data sets are there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

Clusters = Mapping[str, np.ndarray]
# Generator, resamples, documents: how much each document counts, shape (resamples, documents).
Draw = Callable[[np.random.Generator, int, int], np.ndarray]

ALPHA = 0.05
Z_ALPHA = 1.959963984540054  # the normal's quantile at 1 - ALPHA / 2
Z_POWER = 0.8416212335729143  # the normal's quantile at 0.8, the power
_BOOTSTRAP, _SIGNS, _ALIKE = 1, 2, 3
# Cells (resamples x documents) at a time: some MB, which stay in the cache.
_CELLS = 500_000


def means(clusters: Clusters) -> np.ndarray:
    """Return the mean of each column over its documents; shape (columns,)."""
    return np.concatenate([values.mean(axis=0) for values in clusters.values()])


def bootstrap(clusters: Clusters, resamples: int, seed: int) -> np.ndarray:
    """Draw each data set's documents with replacement, and return the means of the columns.

    How often each document was drawn, times the values, is one matrix product a block.

    Returns:
        Shape (resamples, columns).
    """

    def draw(generator: np.random.Generator, rows: int, n: int) -> np.ndarray:
        drawn = generator.integers(n, size=(rows, n))
        drawn += n * np.arange(rows)[:, None]
        return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)

    return _resample(clusters, resamples, seed, _BOOTSTRAP, draw)


def bootstrap_alike(clusters: Clusters, resamples: int, seed: int) -> np.ndarray:
    """Bootstrap as `bootstrap` does, tables whose rows are often equal, however long they are.

    How often each kind of row is drawn is multinomial, so that only different rows cost time.

    Returns:
        Shape (resamples, columns).
    """
    columns = []
    for name, values in clusters.items():
        kinds, counts = np.unique(values, axis=0, return_counts=True)
        generator = _generator(seed, _ALIKE, name)
        drawn = np.empty((resamples, values.shape[1]))
        for block in _blocks(resamples, len(kinds)):
            size = block.stop - block.start
            drawn[block] = generator.multinomial(len(values), counts / len(values), size) @ kinds
        columns.append(drawn / len(values))
    return np.concatenate(columns, axis=1)


def sign_flips(clusters: Clusters, resamples: int, seed: int) -> np.ndarray:
    """Flip the sign of each document's values by a fair coin, and return the means of the columns.

    Returns:
        Shape (resamples, columns).
    """

    def draw(generator: np.random.Generator, rows: int, n: int) -> np.ndarray:
        return 1 - 2 * generator.integers(2, size=(rows, n), dtype=np.int8)

    return _resample(clusters, resamples, seed, _SIGNS, draw)


def _resample(
    clusters: Clusters, resamples: int, seed: int, purpose: int, draw: Draw
) -> np.ndarray:
    draws = np.empty((resamples, sum(values.shape[1] for values in clusters.values())))
    column = 0
    for dataset, values in clusters.items():
        n, width = values.shape
        generator = _generator(seed, purpose, dataset)
        for block in _blocks(resamples, n):
            weights = draw(generator, block.stop - block.start, n).astype(float)
            draws[block, column : column + width] = weights @ values / n
        column += width
    return draws


def _generator(seed: int, purpose: int, name: str) -> np.random.Generator:
    entropy = [seed, purpose, *name.encode()]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _blocks(resamples: int, n: int) -> Iterator[slice]:
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        yield slice(start, min(start + step, resamples))


def interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % percentile interval (Efron 1979) of each column of draws."""
    low, high = np.quantile(draws, (ALPHA / 2, 1 - ALPHA / 2), axis=0)
    return low, high


def p_values(observed: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """Return the two-sided p-value of each column.

    (1 + how many permutations are as far from 0 as what was observed) / (1 + permutations): never
    0, and valid with any number of them (Phipson and Smyth 2010). The null hypothesis is that a
    document's differences could as well have had the other sign.

    Args:
        observed: Shape (columns,).
        flipped: Shape (permutations, columns).
    """
    # The order of a sum must not make a tie a win.
    as_far = np.abs(flipped) >= np.abs(observed) - 1e-12
    return np.asarray((1 + as_far.sum(axis=0)) / (1 + len(flipped)))


def holm(values: Sequence[float]) -> list[float]:
    """Return the p-values of one family, adjusted by Holm's step-down rule (1979)."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted


def standard_errors(clusters: Clusters, weights: np.ndarray) -> np.ndarray:
    """Return the standard error of weighted sums of column means, clustered by document.

    A document's values are added, with their weights, before the variance is taken; data sets are
    independent.

    Args:
        clusters: Tables of shape (documents, columns of the data set).
        weights: Shape (columns, groups).

    Returns:
        Shape (groups,); NaN where a data set that the group has is of one document.
    """
    variance, column = np.zeros(weights.shape[1]), 0
    for values in clusters.values():
        n, width = values.shape
        weighting = weights[column : column + width]
        column += width
        if n > 1:
            variance += (values @ weighting).var(axis=0, ddof=1) / n
        else:
            variance[np.any(weighting != 0, axis=0)] = np.nan
    return np.asarray(np.sqrt(variance))


def detectable(errors: np.ndarray) -> np.ndarray:
    """Return the minimum detectable differences.

    The smallest true difference that a two-sided test at alpha = 5 % finds with a power of 80 %:
    (z(0.975) + z(0.80)) SE = 2.80 SE, SE the standard error clustered by document, as found (the
    power analysis of Miller 2024, arXiv 2411.00640). NaN where no document differs from another.
    """
    return np.where(errors > 1e-12, (Z_ALPHA + Z_POWER) * errors, np.nan)
