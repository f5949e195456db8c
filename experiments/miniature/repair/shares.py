"""How much of what tuning cost came back, over seeds and documents.

`compare --repaired` answers it for one run of each, over documents. Here the same ratio and the
same rule (Fieller's, `results.ratio`) are over the study's crossed seeds and documents
(`contrast.py`): the interval has each share s for which came back - s x cost cannot be told from 0.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from verbalizer_bench.experiments.contrast import SeedContrast, contrast, share
from verbalizer_bench.experiments.miniature.arms import ALIGNED
from verbalizer_bench.experiments.miniature.repair.grid import BASE_POINT, RemedyPoint
from verbalizer_bench.experiments.miniature.repair.remedies import PLAIN, REMEDIES
from verbalizer_bench.experiments.miniature.repair.tables import RepairTables
from verbalizer_bench.results.ratio import Ratio
from verbalizer_bench.tasks.spec import LABEL_TYPES

GROUPS = (*LABEL_TYPES, "All")


@dataclass(frozen=True)
class CameBack:
    """What a remedy brought back, all in [-1, 1] but for the share.

    Attributes:
        cost: F1 of the base minus that of the tuned model.
        back: F1 of the repaired model minus that of the tuned one.
        share: `back` by `cost`; None where the cost cannot be told from 0.
    """

    cost: SeedContrast
    back: SeedContrast
    share: Ratio | None


class TradeOff(NamedTuple):
    """A tuning: its loss on held-out dialogues, and F1 of the suite's tasks, in [0, 1]."""

    model: str
    rate: float
    loss: float
    f1: float


def f1(tables: RepairTables, model: str, image: str) -> np.ndarray:
    """Return a model's F1; shape (seeds, groups, documents), groups as in `GROUPS`.

    A base has no tuning seed: its scores are repeated. So are they for an aligned LLaVA without an
    image, which is the base.
    """
    cells = []
    for seed in tables.grid.seeds:
        point = tables.point(seed, model)
        if model == ALIGNED and image == "none":
            point = BASE_POINT
        cell = tables.f1[point, "" if point == BASE_POINT else image]
        cells.append(np.concatenate([cell, cell.mean(axis=0, keepdims=True)]))
    return np.stack(cells)


def difference(
    tables: RepairTables, one: str, other: str, image: str, group: str = "All"
) -> SeedContrast:
    """Return one model's F1 minus another's, with the same image."""
    number = GROUPS.index(group)
    table = f1(tables, one, image)[:, number] - f1(tables, other, image)[:, number]
    return contrast(table[None], tables.datasets)


def by_rate(tables: RepairTables, one: str, other: str) -> dict[float, float]:
    """Return one remedy's F1 minus another's at each rate that both were tried with.

    At the first tuning seed, over all label types, with the first image.
    """
    grid, levels = tables.grid, {}
    common = [rate for rate in grid.learning_rates[one] if rate in grid.learning_rates[other]]
    for rate in common:
        points = (RemedyPoint(grid.seeds[0], name, rate) for name in (one, other))
        above, below = (float(tables.f1[point, grid.images[0]].mean()) for point in points)
        levels[rate] = above - below
    return levels


def trade_offs(tables: RepairTables) -> list[TradeOff]:
    """Return the tunings on dialogues at the first tuning seed, with the first image."""
    grid = tables.grid
    tuned: list[tuple[RemedyPoint, float]] = [
        (RemedyPoint(grid.seeds[0], PLAIN), tables.about["tuned_rate"]),
        *((point, point.rate or 0.0) for point in grid.tuned()),
        *((p, p.rate or 0.0) for p in grid.tried() if REMEDIES[p.model].start == ALIGNED),
    ]
    found = []
    for point, rate in tuned:
        key = point, grid.images[0]
        loss = float(tables.points[key]["held_out_loss"])
        found.append(TradeOff(point.model, rate, loss, float(tables.f1[key].mean())))
    return found


def came_back(tables: RepairTables, model: str, image: str, group: str = "All") -> CameBack:
    """Return how much of what plain tuning cost came back with a model."""
    number = GROUPS.index(group)
    base, tuned, repaired = (f1(tables, m, image)[:, number] for m in ("base", PLAIN, model))
    cost, back = base - tuned, repaired - tuned
    return CameBack(
        contrast(cost[None], tables.datasets),
        contrast(back[None], tables.datasets),
        share(back, cost, tables.datasets),
    )
