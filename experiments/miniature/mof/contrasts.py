"""The study's numbers: F1 and pair accuracy of an arm by tuning seed, and differences of arms."""

import numpy as np

from verbalizer_bench.experiments.contrast import SeedContrast, contrast
from verbalizer_bench.experiments.miniature.mof.tables import MofTables
from verbalizer_bench.experiments.miniature.mof.world import PAIRS
from verbalizer_bench.tasks.mmvp.patterns import PATTERNS
from verbalizer_bench.tasks.spec import LABEL_TYPES

GROUPS = (*LABEL_TYPES, "All")
# By what the pairs differ in, the pattern's name.
NAMED = {kind: PATTERNS[code] for kind, code in PAIRS.items()}
BOTH = "both"


def pairs(tables: MofTables, arm: str, kind: str) -> np.ndarray:
    """Return whether both answers about each pair are right; shape (seeds, pairs), 0 or 1.

    Args:
        tables: The tables.
        arm: An arm.
        kind: `colour`, `direction`, or `both` for the pairs of either kind.
    """
    kinds = tuple(NAMED) if kind == BOTH else (kind,)
    of_kinds = [
        np.stack([tables.right[seed, arm, NAMED[k]] for seed in tables.grid.seeds]) for k in kinds
    ]
    return np.concatenate(of_kinds, axis=1).astype(float)


def f1(tables: MofTables, arm: str, image: str, group: str = "All") -> np.ndarray:
    """Return F1 of each document; shape (seeds, documents). The base's are repeated."""
    number = GROUPS.index(group)
    keys = [(None, "base", "") if arm == "base" else (s, arm, image) for s in tables.grid.seeds]
    return np.stack([tables.f1[key][number] for key in keys])


def pair_contrast(tables: MofTables, one: str, other: str, kind: str) -> SeedContrast:
    """Return the pair accuracy of one arm minus another's."""
    table = pairs(tables, one, kind) - pairs(tables, other, kind)
    kinds = tuple(NAMED) if kind == BOTH else (kind,)
    strata = [k for k in kinds for _ in range(table.shape[1] // len(kinds))]
    return contrast(table[None], strata)


def f1_contrast(
    tables: MofTables, one: str, other: str, image: str, group: str = "All"
) -> SeedContrast:
    """Return F1 of one arm minus another's, with the same image."""
    table = f1(tables, one, image, group) - f1(tables, other, image, group)
    return contrast(table[None], tables.datasets)
