"""Means of label types and their intervals.

The F1 of a label type is the unweighted mean over its (data set, verbalizer) tasks; "All" is the
mean of the three types (Shiono et al. 2024). The twelve verbalizers share each document, so
responses are not independent: standard errors are clustered by document. Intervals say nothing of
training seeds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from verbalizer_bench.leaderboard.runs import Run, TaskScores
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

_Z95 = 1.959963984540054


class Estimate(NamedTuple):
    """A mean in [0, 1] with a 95 % interval (normal approximation, cut at 0 and 1).

    `low` and `high` are None where a data set has one document.
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


def summarize(run: Run) -> dict[str, TypeSummary]:
    """Summarise a run's label types, and All where it has all three.

    Raises:
        ValueError: The tasks of a data set were run on different documents.
    """
    _check_documents(run)
    present = [label_type for label_type in LABEL_TYPES if run.of_type(label_type)]
    groups: dict[str, dict[str, float]] = {
        label_type: _equal_weights(run.of_type(label_type)) for label_type in present
    }
    if len(present) == len(LABEL_TYPES):
        groups["All"] = {
            task: weight / len(LABEL_TYPES)
            for label_type in LABEL_TYPES
            for task, weight in groups[label_type].items()
        }
    return {name: _summarize_group(run.tasks, weights) for name, weights in groups.items()}


def clustered_mean(
    tasks: Sequence[TaskScores], weights: Mapping[str, float], metric: str
) -> Estimate:
    """Return the weighted mean of tasks' means, with its interval clustered by document.

    A data set's documents are the clusters: a document's scores under all its verbalizers are
    added, with their weights, before the variance is taken. Data sets are independent.

    Args:
        tasks: Tasks; those of one data set have the same documents.
        weights: The weight of each task's mean, by task name; tasks without one are left out.
        metric: The score.
    """
    sums: dict[str, np.ndarray] = {}
    for task in tasks:
        if task.task in weights:
            scores = weights[task.task] * task.scores[metric]
            sums[task.dataset] = sums.get(task.dataset, 0) + scores
    mean = float(sum(values.mean() for values in sums.values()))
    if any(len(values) < 2 for values in sums.values()):
        return Estimate(mean, None, None)
    variance = sum(values.var(ddof=1) / len(values) for values in sums.values())
    half = _Z95 * float(np.sqrt(variance))
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))


def _equal_weights(tasks: Sequence[TaskScores]) -> dict[str, float]:
    return {task.task: 1 / len(tasks) for task in tasks}


def _summarize_group(tasks: Sequence[TaskScores], weights: Mapping[str, float]) -> TypeSummary:
    chosen = [task for task in tasks if task.task in weights]
    pooled = np.concatenate([task.scores["f1"] for task in chosen])
    return TypeSummary(
        f1=clustered_mean(chosen, weights, "f1"),
        f1_weighted=float(pooled.mean()),
        outcomes={
            name: float(sum(weights[task.task] * task.scores[name].mean() for task in chosen))
            for name in OUTCOMES
        },
        tasks=len(chosen),
        responses=len(pooled),
    )


def _check_documents(run: Run) -> None:
    first: dict[str, TaskScores] = {}
    for task in run.tasks:
        other = first.setdefault(task.dataset, task)
        if task.doc_ids != other.doc_ids:
            raise ValueError(
                f"{run.folder}: {task.task} was run on {len(task.doc_ids)} documents and "
                f"{other.task} on {len(other.doc_ids)}, or on others; "
                "intervals are clustered by document and need the same: run them together"
            )
