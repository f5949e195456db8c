"""What the study answers: paired contrasts of its points (`contrast.py`).

A base is told by itself: two are not a sample.
"""

from typing import NamedTuple

import numpy as np

from verbalizer_bench.experiments.contrast import SeedContrast, contrast
from verbalizer_bench.experiments.miniature.arms import ALIGNED, ARMS
from verbalizer_bench.experiments.miniature.study.grid import Point
from verbalizer_bench.experiments.miniature.study.tables import StudyTables
from verbalizer_bench.tasks.spec import LABEL_TYPES

GROUPS = (*LABEL_TYPES, "All")
MODELS = ("base", ALIGNED, *ARMS)
PAIRS = (("LLM-FOIT", "LLM-NoFOIT"), ("LVLM-FOVIT", "LVLM-NoFOVIT"))


class Shown(NamedTuple):
    """A model as it was asked; no image is an LVLM's first one, and nothing for a text model."""

    model: str
    image: str | None = None


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
