"""Means of label types and their intervals.

The F1 of a label type is the unweighted mean over its (data set, verbalizer) tasks; "All" is the
mean of the three types (Shiono et al. 2024). The twelve verbalizers share each document, so
responses are not independent: intervals are of a bootstrap over documents (`resampling`), the same
that `compare` uses, and where few documents differ wide enough for those that were not seen
(`few`). They say nothing of training seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field

from verbalizer_bench.results.few import Stratum, interval_of_few
from verbalizer_bench.results.resampling import Clusters, bootstrap, interval, means
from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.results.schema import Count, Line, Score, Share
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

RESAMPLES = 10_000
SEED = 0


# Both stand in verified.json, whose schema has their docstrings. What is computed is not checked.
@dataclass(frozen=True)
class Interval:
    """A mean F1 with its 95 % bootstrap interval over documents; no ends for one document."""

    # Of a difference, as `estimate` returns with lowest=-1, all can be below 0.
    mean: Score
    low: Score | None
    high: Score | None

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __str__(self) -> str:
        """Return it in points of 100, as reports have it."""
        if self.low is None or self.high is None:
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class TypeScores:
    """One label type, or All: the mean over its tasks."""

    # All is the mean of the three types; outcomes are averaged as F1 is.
    f1: Interval
    f1_weighted: Annotated[
        Score,
        Field(
            description="every response counted alike",
            serialization_alias="f1_weighted_by_responses",
        ),
    ]
    outcomes: dict[Line, Share]
    tasks: Count
    responses: Count

    __pydantic_config__ = ConfigDict(extra="forbid")

    def rounded(self) -> "TypeScores":
        """Return the scores as files have them."""
        ends = (None if end is None else rounded(end) for end in (self.f1.low, self.f1.high))
        return TypeScores(
            Interval(rounded(self.f1.mean), *ends),
            rounded(self.f1_weighted),
            {name: rounded(share) for name, share in self.outcomes.items()},
            self.tasks,
            self.responses,
        )


def rounded(share: float) -> float:
    """Drop what the order of a sum leaves in the last digits, and what it adds beyond 0 or 1."""
    return min(1.0, max(0.0, round(float(share), 12)))


def summarize(run: Run, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, TypeScores]:
    """Summarise a run's label types, and All where it has all three.

    Raises:
        ValueError: The tasks of a data set were run on different documents.
    """
    check_documents(run)
    groups = type_weights(run.tasks)
    datasets = by_dataset(run.tasks)
    clusters = {name: score_table(tasks, "f1") for name, tasks in datasets.items()}
    ordered = [task for tasks in datasets.values() for task in tasks]
    intervals = estimate(clusters, weight_matrix(ordered, groups), resamples, seed)
    return {
        name: _summarize_group(run.tasks, weights, f1)
        for (name, weights), f1 in zip(groups.items(), intervals, strict=True)
    }


def type_weights(tasks: Sequence[TaskScores]) -> dict[str, dict[str, float]]:
    """Return the weight of each task's mean in each label type and, with all three, in All."""
    groups: dict[str, dict[str, float]] = {}
    for label_type in LABEL_TYPES:
        names = [task.task for task in tasks if task.verbalizer.type == label_type]
        if names:
            groups[label_type] = dict.fromkeys(names, 1 / len(names))
    if len(groups) == len(LABEL_TYPES):
        groups["All"] = {
            task: weight / len(LABEL_TYPES)
            for weights in list(groups.values())
            for task, weight in weights.items()
        }
    return groups


def by_dataset(tasks: Sequence[TaskScores]) -> dict[str, list[TaskScores]]:
    """Return the tasks of each data set, in their order."""
    datasets: dict[str, list[TaskScores]] = {}
    for task in tasks:
        datasets.setdefault(task.dataset, []).append(task)
    return datasets


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
) -> list[Interval]:
    """Return weighted sums of the columns' means, with intervals of a bootstrap over documents.

    Where few documents differ, as at a ceiling, the interval is that of `few`.

    Args:
        clusters: For each data set its scores, shape (documents, tasks).
        weights: Shape (all tasks, groups).
        resamples: How many bootstrap samples.
        seed: Of the random numbers.
        lowest: The least that a score can be: 0, or -1 for differences. The most is 1.
    """
    sums = means(clusters) @ weights
    low, high = interval(bootstrap(clusters, resamples, seed) @ weights)
    # Where all documents are alike, the last digit of a sum would put the mean outside.
    low, high = np.minimum(low, sums), np.maximum(high, sums)
    alone = np.concatenate([np.full(v.shape[1], len(v) < 2) for v in clusters.values()])
    unknown = alone @ (weights != 0)
    return [
        Interval(float(mean), None, None)
        if none
        else Interval(float(mean), *interval_of_few(float(a), float(b), strata, resamples, seed))
        for mean, a, b, none, strata in zip(
            sums, low, high, unknown, strata_of(clusters, weights, lowest), strict=True
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
                values @ shares[:, group],
                float(np.minimum(shares[:, group] * lowest, shares[:, group]).sum()),
                float(np.maximum(shares[:, group] * lowest, shares[:, group]).sum()),
            )
            for (dataset, values), shares in parts
            if shares[:, group].any()
        )


def _summarize_group(
    tasks: Sequence[TaskScores], weights: Mapping[str, float], f1: Interval
) -> TypeScores:
    chosen = [task for task in tasks if task.task in weights]
    pooled = np.concatenate([task.scores["f1"] for task in chosen])
    return TypeScores(
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
