"""What the study answers: paired differences of its models, over the seeds that were run.

A model is compared with another over the seeds that both have; a base has none, and is repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verbalizer_bench.experiments.contrast import SeedContrast, contrast, share
from verbalizer_bench.experiments.smollm2.arms import MERGE, PLAIN
from verbalizer_bench.experiments.smollm2.columns import F1
from verbalizer_bench.experiments.smollm2.grid import BASE
from verbalizer_bench.experiments.smollm2.items import FORMATS
from verbalizer_bench.experiments.smollm2.tables import StudyTables
from verbalizer_bench.results.ratio import Ratio
from verbalizer_bench.tasks.spec import LABEL_TYPES

GROUPS = (*LABEL_TYPES, "All")
# Of IFEval: whole prompts, and instructions of the types that FOIT's records have, and of others.
PROMPTS, TUNED, OTHERS = "prompts", "tuned formats", "other formats"
_TUNED_TYPES = frozenset(one.type for one in FORMATS.values())


@dataclass(frozen=True)
class CameBack:
    """What a remedy brought back of what NoFOIT cost, in [-1, 1] but for the share.

    Attributes:
        back: F1 of the remedy minus that of NoFOIT.
        rest: F1 of the remedy minus that of the base.
        share: `back` by the cost; None where the cost cannot be told from 0.
    """

    back: SeedContrast
    rest: SeedContrast
    share: Ratio | None


def models(tables: StudyTables, base: str) -> list[str]:
    """Return the models of a base that were run, in the grid's order."""
    return list(dict.fromkeys(one.model for one in tables.points if one.base == base))


def remedies(tables: StudyTables, base: str) -> list[str]:
    """Return what was run that changes or follows NoFOIT's tuning."""
    tuned = (BASE, "FOIT", "FOIT-attention", PLAIN)
    return [name for name in models(tables, base) if name not in tuned]


def common(tables: StudyTables, base: str, *names: str) -> list[int]:
    """Return the tuning seeds that all of some models have, in order."""
    has = [set(tables.seeds(base, name)) for name in names if name != BASE]
    return sorted(seed for seed in set.intersection(*has) if seed is not None) if has else []


def by_document(
    tables: StudyTables, base: str, model: str, seeds: Sequence[int], measure: str = F1
) -> np.ndarray:
    """Return a model's scores; shape (seeds, groups, documents), groups as in `GROUPS`."""
    points, scores = tables.seeds(base, model), tables.scores[measure]
    cells = [scores[points[None if model == BASE else seed]] for seed in seeds]
    return np.stack([np.concatenate([one, one.mean(axis=0, keepdims=True)]) for one in cells])


def before_tuning(tables: StudyTables, base: str) -> np.ndarray | None:
    """Return a base's F1 on the documents of the curves, by label type; None if it was not run.

    Shape (3,). They are the first of each data set.
    """
    point = tables.seeds(base, BASE).get(None)
    if point is None:
        return None
    names = list(tables.datasets)
    starts = [names.index(name) for name in dict.fromkeys(names)]
    first = [start + n for start in starts for n in range(tables.grid.curve_documents)]
    return tables.scores[F1][point][:, first].mean(axis=1)


def difference(
    tables: StudyTables, base: str, one: str, other: str, group: str = "All", measure: str = F1
) -> SeedContrast | None:
    """Return one model's F1, or another measure, minus another's; None where no seed has both."""
    seeds = common(tables, base, one, other)
    if not seeds:
        return None
    first, second = (by_document(tables, base, name, seeds, measure) for name in (one, other))
    table = (first - second)[:, GROUPS.index(group)]
    return contrast(table[None], tables.datasets)


def came_back(tables: StudyTables, base: str, model: str, group: str = "All") -> CameBack | None:
    """Return what a remedy brought back; None where no seed has both it and NoFOIT."""
    seeds = common(tables, base, PLAIN, model)
    if not seeds:
        return None
    place = GROUPS.index(group)
    whole, hurt, repaired = (
        by_document(tables, base, name, seeds)[:, place] for name in (BASE, PLAIN, model)
    )
    return CameBack(
        contrast((repaired - hurt)[None], tables.datasets),
        contrast((repaired - whole)[None], tables.datasets),
        share(repaired - hurt, whole - hurt, tables.datasets),
    )


def followed(
    tables: StudyTables, base: str, model: str, kind: str, seeds: Sequence[int]
) -> np.ndarray:
    """Return which prompts, or instructions, a model's answers follow; shape (seeds, n)."""
    points = tables.seeds(base, model)
    rows = []
    for seed in seeds:
        answers = tables.ifeval[points[None if model == BASE else seed]]
        if kind == PROMPTS:
            rows.append([all(bits) for bits in answers])
            continue
        rows.append(
            [
                bit
                for bits, types in zip(answers, tables.types, strict=True)
                for bit, name in zip(bits, types, strict=True)
                if (name in _TUNED_TYPES) == (kind == TUNED)
            ]
        )
    return np.array(rows, dtype=float)


def followed_difference(
    tables: StudyTables, base: str, one: str, other: str, kind: str = PROMPTS
) -> SeedContrast | None:
    """Return one model's share of followed prompts minus another's; None where no seed has both."""
    seeds = common(tables, base, one, other)
    if not seeds:
        return None
    first, second = (followed(tables, base, name, kind, seeds) for name in (one, other))
    return contrast((first - second)[None], ["prompts"] * first.shape[1])


def is_merged(model: str) -> bool:
    """Return whether a model is weights merged."""
    return model.startswith(f"{MERGE}-")
