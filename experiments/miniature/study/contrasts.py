"""What the study answers: paired contrasts of its points, with intervals over seeds and documents.

A contrast is a table of differences, a row for each tuning seed and a column for each document (or
record), the mean over the bases. Every seed is asked the same documents, so seeds and documents
are crossed random effects. The variance of the mean is that of the seeds' means plus that of the
documents' (within their data sets) less the residual's, by the method of moments; the interval is
t's with Satterthwaite's degrees of freedom (1946). Where seeds decide, a bootstrap of five falls
short of its 95 %. The bases are two: they are not a sample, and each is told by itself.

In simulation (tests/experiments/test_study.py) the intervals hold what they promise for normal
effects, less where few documents ever change, and nothing where none does: at the ceiling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student_t

from verbalizer_bench.experiments.miniature.arms import ARMS
from verbalizer_bench.experiments.miniature.study.grid import ALIGNED, Point
from verbalizer_bench.experiments.miniature.study.tables import StudyTables
from verbalizer_bench.results.resampling import ALPHA
from verbalizer_bench.tasks.spec import LABEL_TYPES

GROUPS = (*LABEL_TYPES, "All")
MODELS = ("base", ALIGNED, *ARMS)
PAIRS = (("LLM-FOIT", "LLM-NoFOIT"), ("LVLM-FOVIT", "LVLM-NoFOVIT"))


@dataclass(frozen=True)
class SeedContrast:
    """A difference of two models, all in [-1, 1].

    Attributes:
        mean: Over bases, seeds and documents.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: Of the t test, two-sided; NaN where no cell and no document differs from another.
        by_base: The mean of each base.
        above: In how many cells the difference is above 0.
        below: In how many it is below 0.
        cells: How many cells there are.
    """

    mean: float
    low: float
    high: float
    p: float
    by_base: tuple[float, ...]
    above: int
    below: int
    cells: int

    @property
    def direction(self) -> int:
        """Return 1 or -1 where the interval is on one side of 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


class Shown(NamedTuple):
    """A model as it was asked; no image is an LVLM's first one, and nothing for a text model."""

    model: str
    image: str | None = None


def contrast(differences: np.ndarray, strata: Sequence[str]) -> SeedContrast:
    """Summarise paired differences.

    Args:
        differences: Shape (bases, seeds, documents); at least two seeds, and two documents of each
            data set.
        strata: The data set of each document.
    """
    table = differences.mean(axis=0)
    mean = float(table.mean())
    error, degrees = _error(table, np.unique(np.asarray(strata), return_inverse=True)[1])
    half, p = 0.0, float("nan")
    if error:
        half = float(student_t.ppf(1 - ALPHA / 2, degrees) * error)
        p = float(2 * student_t.sf(abs(mean) / error, degrees))
    cells = differences.mean(axis=2)
    # Sums of the same numbers in another order are not a difference.
    above, below = (cells > 1e-9).sum(), (cells < -1e-9).sum()
    return SeedContrast(
        mean=mean,
        low=mean - half,
        high=mean + half,
        p=p,
        by_base=tuple(float(value) for value in cells.mean(axis=1)),
        above=int(above),
        below=int(below),
        cells=cells.size,
    )


def _error(table: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Return the standard error of the mean of a table of seeds x documents, and its degrees."""
    rows, columns = table.shape
    of_seeds = table.mean(axis=1)
    # A data set's own mean is fixed, in each seed.
    means = np.stack([table[:, groups == g].mean(axis=1) for g in np.unique(groups)], axis=1)
    inner = table - means[:, groups]
    of_documents = inner.mean(axis=0)
    freedom = columns - means.shape[1]
    residual = ((inner - of_documents) ** 2).sum() / ((rows - 1) * freedom) / (rows * columns)
    seeds = of_seeds.var(ddof=1) / rows
    documents = (of_documents**2).sum() / freedom / columns
    # The difference of moments can fall below what either effect alone would give.
    variance = max(seeds + documents - residual, seeds, documents)
    if variance == 0:
        return 0.0, 0.0
    degrees = variance**2 / (seeds**2 / (rows - 1) + documents**2 / freedom)
    return float(np.sqrt(variance)), float(degrees)


def scores(tables: StudyTables, shown: Shown) -> np.ndarray:
    """Return a model's F1; shape (bases, seeds, groups, documents), groups as in `GROUPS`.

    A base has no tuning seed: its scores are repeated.
    """
    grid = tables.grid
    cells = [tables.f1[key] for key in _keys(tables, shown)]
    table = np.stack([np.concatenate([cell, cell.mean(axis=0, keepdims=True)]) for cell in cells])
    return table.reshape(len(grid.bases), len(grid.seeds), *table.shape[1:])


def f1_contrasts(tables: StudyTables, one: Shown, other: Shown) -> dict[str, SeedContrast]:
    """Return one model's F1 minus another's, for each of `GROUPS`."""
    differences = scores(tables, one) - scores(tables, other)
    return {
        name: contrast(differences[:, :, number], tables.datasets)
        for number, name in enumerate(GROUPS)
    }


def unseen(tables: StudyTables, model: str, measure: str) -> np.ndarray:
    """Return the second measure; shape (bases, seeds, records that have it)."""
    grid = tables.grid
    rows = [tables.unseen[_point(tables, *cell, model)][measure] for cell in grid.cells]
    table = np.stack(rows)
    table = table[:, ~np.isnan(table[0])]
    return table.reshape(len(grid.bases), len(grid.seeds), -1)


def unseen_contrast(tables: StudyTables, one: str, other: str, measure: str) -> SeedContrast:
    """Return one model's share minus another's, of unseen records."""
    differences = unseen(tables, one, measure) - unseen(tables, other, measure)
    return contrast(differences, ["records"] * differences.shape[2])


def outcome_shares(tables: StudyTables, shown: Shown, outcome: str) -> np.ndarray:
    """Return an outcome's share of responses; shape (bases, seeds, groups)."""
    grid, rows = tables.grid, []
    for key in _keys(tables, shown):
        shares = [float(tables.points[key][f"{t}_{outcome}"]) / 100 for t in LABEL_TYPES]
        rows.append([*shares, sum(shares) / len(shares)])
    return np.array(rows).reshape(len(grid.bases), len(grid.seeds), len(GROUPS))


def _keys(tables: StudyTables, shown: Shown) -> list[tuple[Point, str]]:
    """Return the point and image of each cell."""
    keys = []
    for base, seed in tables.grid.cells:
        point = _point(tables, base, seed, shown.model)
        image = shown.image or point.images(tables.grid.images)[0]
        if image not in point.images([image]):
            # Not tuned, and without an image: the base.
            point, image = _point(tables, base, seed, "base"), ""
        keys.append((point, image))
    return keys


def _point(tables: StudyTables, base: int, seed: int, model: str) -> Point:
    if model == "base":
        return Point(base, None, model, None)
    return Point(base, seed, model, tables.rates.get(model))


def seeing() -> list[str]:
    """Return the models that are shown images."""
    return [name for name in MODELS if Point(0, 0, name, None).shows_images]
