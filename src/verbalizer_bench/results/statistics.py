"""Means of label types and their intervals.

The F1 of a label type is the unweighted mean over its (data set, verbalizer) tasks; "All" is the
mean of the three types (Shiono et al. 2024). The twelve verbalizers share each document, so
responses are not independent: intervals are of a bootstrap over documents (`resampling`), the same
that `compare` uses, and where few documents differ wide enough for those that were not seen
(`few`). They say nothing of training seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from verbalizer_bench.results.few import Stratum, interval_of_few
from verbalizer_bench.results.resampling import Clusters, bootstrap, interval, means
from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

RESAMPLES = 10_000
SEED = 0


class Estimate(NamedTuple):
    """A mean with a 95 % interval: percentiles of a bootstrap over documents.

    Where few documents differ, as at a ceiling, it is that of `few`. `low` and `high`
    are None where a data set has one document.
    """

    mean: float
    low: float | None
    high: float | None


class TypeSummary(NamedTuple):
    """One label type (or All) of a run.

    Attributes:
        f1: Unweighted mean over tasks; for All, over the three types.
        f1_weighted: Mean over all responses, so that larger data sets count for more.
        outcomes: Share of each outcome, averaged as `f1` is.
        tasks: How many tasks.
        responses: How many responses.
    """

    f1: Estimate
    f1_weighted: float
    outcomes: dict[str, float]
    tasks: int
    responses: int


def summarize(run: Run, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, TypeSummary]:
    """Summarise a run's label types, and All where it has all three.

    Raises:
        ValueError: The tasks of a data set were run on different documents.
    """
    check_documents(run)
    groups = type_weights(run.tasks)
    tasks = by_dataset(run.tasks)
    clusters = {name: score_table(own, "f1") for name, own in tasks.items()}
    ordered = [task for own in tasks.values() for task in own]
    estimates = estimate(clusters, weight_matrix(ordered, groups), resamples, seed)
    return {
        name: _summarize_group(run.tasks, weights, found)
        for (name, weights), found in zip(groups.items(), estimates, strict=True)
    }


def type_weights(tasks: Sequence[TaskScores]) -> dict[str, dict[str, float]]:
    """Return the weight of each task's mean in each label type and, with all three, in All."""
    groups: dict[str, dict[str, float]] = {}
    for label_type in LABEL_TYPES:
        own = [task.task for task in tasks if task.verbalizer.type == label_type]
        if own:
            groups[label_type] = dict.fromkeys(own, 1 / len(own))
    if len(groups) == len(LABEL_TYPES):
        groups["All"] = {
            task: weight / len(LABEL_TYPES)
            for weights in list(groups.values())
            for task, weight in weights.items()
        }
    return groups


def by_dataset(tasks: Sequence[TaskScores]) -> dict[str, list[TaskScores]]:
    """Return the tasks of each data set, in their order."""
    found: dict[str, list[TaskScores]] = {}
    for task in tasks:
        found.setdefault(task.dataset, []).append(task)
    return found


def score_table(tasks: Sequence[TaskScores], metric: str) -> np.ndarray:
    """Return the scores of a data set's tasks; shape (documents, tasks)."""
    return np.column_stack([task.scores[metric] for task in tasks])


def weight_matrix(
    tasks: Sequence[TaskScores], groups: Mapping[str, Mapping[str, float]]
) -> np.ndarray:
    """Return what turns means of tasks into those of groups; shape (tasks, groups)."""
    return np.array([[w.get(task.task, 0.0) for w in groups.values()] for task in tasks])


def estimate(
    clusters: Clusters,
    weights: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    lowest: float = 0.0,
) -> list[Estimate]:
    """Return weighted sums of the columns' means, with intervals of a bootstrap over documents.

    Args:
        clusters: For each data set its scores, shape (documents, tasks).
        weights: Shape (all tasks, groups).
        resamples: How many bootstrap samples.
        seed: Of the random numbers.
        lowest: The least that a score can be: 0, or -1 for differences. The most is 1.
    """
    found = means(clusters) @ weights
    low, high = interval(bootstrap(clusters, resamples, seed) @ weights)
    # Where all documents are alike, the last digit of a sum would put the mean outside.
    low, high = np.minimum(low, found), np.maximum(high, found)
    alone = np.concatenate([np.full(v.shape[1], len(v) < 2) for v in clusters.values()])
    unknown = alone @ (weights != 0)
    return [
        Estimate(float(mean), None, None)
        if none
        else Estimate(float(mean), *interval_of_few(float(a), float(b), strata, resamples, seed))
        for mean, a, b, none, strata in zip(
            found, low, high, unknown, strata_of(clusters, weights, lowest), strict=True
        )
    ]


def strata_of(
    clusters: Clusters, weights: np.ndarray, lowest: float
) -> Iterator[tuple[Stratum, ...]]:
    """Yield what the documents of each data set add to a group, a group at a time."""
    ends = np.cumsum([values.shape[1] for values in clusters.values()])[:-1]
    parts = list(zip(clusters.items(), np.split(weights, ends), strict=True))
    for group in range(weights.shape[1]):
        yield tuple(
            Stratum(
                dataset,
                values @ own[:, group],
                float(np.minimum(own[:, group] * lowest, own[:, group]).sum()),
                float(np.maximum(own[:, group] * lowest, own[:, group]).sum()),
            )
            for (dataset, values), own in parts
            if own[:, group].any()
        )


def _summarize_group(
    tasks: Sequence[TaskScores], weights: Mapping[str, float], f1: Estimate
) -> TypeSummary:
    chosen = [task for task in tasks if task.task in weights]
    pooled = np.concatenate([task.scores["f1"] for task in chosen])
    return TypeSummary(
        f1=f1,
        f1_weighted=float(pooled.mean()),
        outcomes={
            name: float(sum(weights[task.task] * task.scores[name].mean() for task in chosen))
            for name in OUTCOMES
        },
        tasks=len(chosen),
        responses=len(pooled),
    )


def check_documents(run: Run) -> None:
    """Raise ValueError where tasks of a data set were run on different documents."""
    first: dict[str, TaskScores] = {}
    for task in run.tasks:
        other = first.setdefault(task.dataset, task)
        if task.doc_ids != other.doc_ids:
            raise ValueError(
                f"{run.folder}: {task.task} was run on {len(task.doc_ids)} documents and "
                f"{other.task} on {len(other.doc_ids)}, or on others; "
                "intervals are clustered by document and need the same: run them together"
            )
