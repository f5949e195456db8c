"""Differences of every two runs, for a reader who chooses two of them on the page.

The bootstrap draws the same documents whatever the run, so that the draws of a difference are the
difference of the runs' draws: each run is drawn once.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from verbalizer_bench.results.differences import groups_of, scores_of
from verbalizer_bench.results.few import interval_of_few
from verbalizer_bench.results.resampling import bootstrap, interval, means
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.statistics import (
    RESAMPLES,
    SEED,
    by_dataset,
    strata_of,
    weight_matrix,
)

FAMILIES = ("label type", "data set", "verbalizer")


def every_two(runs: Sequence[Run], resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Any]:
    """Return F1 of every run and the difference of every two, by group, as JSON.

    `pairs` has for each two, the first before the second, the second minus the first: difference,
    low and high, in points of 100; low and high are None where a data set has one document.
    """
    tasks = by_dataset(runs[0].tasks)
    ordered = [task for values in tasks.values() for task in values]
    groups = {k: w for k, w in groups_of(ordered).items() if k[0] in FAMILIES}
    weights = weight_matrix(ordered, {str(key): values for key, values in groups.items()})
    tables = [scores_of(run, tasks) for run in runs]
    drawn = [bootstrap(table, resamples, seed) @ weights for table in tables]
    scores = [means(table) @ weights for table in tables]
    alone = any(len(values[0].doc_ids) < 2 for values in tasks.values())
    pairs = []
    for one, other in combinations(range(len(runs)), 2):
        change = {name: tables[other][name] - tables[one][name] for name in tasks}
        low, high = interval(drawn[other] - drawn[one])
        rows = []
        for place, strata in enumerate(strata_of(change, weights, -1.0)):
            ends = (float(low[place]), float(high[place]))
            interval_ends = interval_of_few(*ends, strata, resamples, seed)
            value = float(scores[other][place] - scores[one][place])
            rows.append([_points(value), *([None, None] if alone else map(_points, interval_ends))])
        pairs.append({"first": one, "second": other, "rows": rows})
    return {
        "models": [run.name for run in runs],
        "groups": [list(key) for key in groups],
        "scores": [[_points(float(value)) for value in values] for values in scores],
        "pairs": pairs,
    }


def _points(value: float) -> float:
    return float(np.round(100 * value, 6)) + 0.0
