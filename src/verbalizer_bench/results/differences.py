"""Differences between runs over the same documents.

The first run is the base; a difference is the other run's F1 minus the base's. Intervals and
p-values are paired and clustered by document, see `resampling`. Where an LVLM that was shown an
image is compared with a text model, image and tuning are in the difference together; a run of the
same weights without an image takes them apart.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from verbalizer_bench.results.caveats import caveats
from verbalizer_bench.results.contrast import (
    NO_IMAGE,
    Contrast,
    contrast,
    image,
    is_lvlm,
)
from verbalizer_bench.results.few import FEW, differing
from verbalizer_bench.results.pairing import check_scores
from verbalizer_bench.results.protocol import same_responses
from verbalizer_bench.results.resampling import (
    Clusters,
    detectable,
    holm,
    means,
    p_values,
    sign_flips,
    standard_errors,
)
from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.results.statistics import (
    RESAMPLES,
    SEED,
    by_dataset,
    estimate,
    score_table,
    strata_of,
    type_weights,
    weight_matrix,
)
from verbalizer_bench.tasks.spec import Verbalizer
from verbalizer_bench.tasks.suite import suite_datasets

# A family, whose p-values Holm adjusts together: the groups of one level, over all pairs of runs.
FAMILIES = ("label type", "data set", "verbalizer", "task")


@dataclasses.dataclass(frozen=True)
class Difference:
    """One group's difference in F1 between two runs, all in [-1, 1].

    Attributes:
        family: `label type` (All is one of them), `data set`, `verbalizer` or `task`.
        name: The group.
        base: F1 of the base.
        model: F1 of the other run.
        difference: `model` minus `base`.
        low: Lower end of the 95 % interval (`statistics.Interval`); None where a data set has one
            document.
        high: Upper end.
        p: Of the sign-flip permutation test, two-sided.
        p_holm: The same, adjusted over the family and all pairs.
        error: Standard error, clustered by document; None where a data set has one document.
        detectable: Minimum detectable difference; None where few documents differ (`few`).
        documents: How many documents it is over.
    """

    family: str
    name: str
    base: float
    model: float
    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    error: float | None
    detectable: float | None
    documents: int


@dataclasses.dataclass(frozen=True)
class Pair:
    """A run against the base, by their names, and the differences of all groups.

    Attributes:
        base: The base's name.
        model: The run's.
        differences: Of all groups.
        contrast: In what the two differ beside their answers.
        same: What is to be said of the base and of the run where nearly all of its responses are
            the same text; None where they are not.
        caveats: What else is to be said before the difference is put down to tuning.
    """

    base: str
    model: str
    differences: tuple[Difference, ...]
    contrast: Contrast = dataclasses.field(default_factory=Contrast)
    same: tuple[str | None, str | None] = (None, None)
    caveats: tuple[str, ...] = ()

    def family(self, name: str) -> tuple[Difference, ...]:
        """Return the differences of one family."""
        return tuple(difference for difference in self.differences if difference.family == name)


def differences(
    runs: Sequence[Run], resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[Pair, ...]:
    """Return the differences of each run from the first; reads no files, compares no prompts.

    Behind them stand those of the image alone: of each run of an LVLM that was shown one from a run
    of the same weights without one.

    Raises:
        ValueError: The runs differ in tasks or documents.
    """
    check_scores(runs)
    base = runs[0]
    tasks = by_dataset(base.tasks)
    ordered = [task for of_dataset in tasks.values() for task in of_dataset]
    groups = groups_of(ordered)
    weights = weight_matrix(ordered, {str(key): value for key, value in groups.items()})
    sizes = {task.task: len(task.doc_ids) for task in ordered}
    documents = [
        sum({task.dataset: sizes[task.task] for task in ordered if task.task in group}.values())
        for group in groups.values()
    ]
    scores = [scores_of(run, tasks) for run in runs]
    places = [(0, place) for place in range(1, len(runs))]
    places += [pair for pair in _image_alone(runs) if pair not in places]
    compared = [
        _compared(list(groups), scores[one], scores[other], weights, documents, resamples, seed)
        for one, other in places
    ]
    return tuple(
        Pair(
            runs[one].name,
            runs[other].name,
            changes,
            contrast(runs[one], runs[other]),
            (same_responses(runs[one]), same_responses(runs[other])),
            caveats(runs[one], runs[other]),
        )
        for (one, other), changes in zip(places, _adjusted(compared), strict=True)
    )


def _image_alone(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """Return the places of runs that differ in nothing but an image, which the first lacks."""
    bases: dict[int, int] = {}
    for one, base in enumerate(runs):
        for other, run in enumerate(runs):
            if other == 0 or not is_lvlm(base) or image(base) != NO_IMAGE:
                continue
            if contrast(base, run).changed == ("image",):
                bases.setdefault(other, one)
    return [(one, other) for other, one in bases.items()]


def scores_of(run: Run, tasks: dict[str, list[TaskScores]]) -> Clusters:
    """Return a run's F1 of these tasks; by data set, shape (documents, tasks)."""
    by_name = {task.task: task for task in run.tasks}
    return {name: score_table([by_name[t.task] for t in ts], "f1") for name, ts in tasks.items()}


def _compared(
    names: Sequence[tuple[str, str]],
    base: Clusters,
    model: Clusters,
    weights: np.ndarray,
    documents: Sequence[int],
    resamples: int,
    seed: int,
) -> list[Difference]:
    paired = {name: model[name] - base[name] for name in base}
    left, right, change = (means(scores) @ weights for scores in (base, model, paired))
    p = p_values(change, sign_flips(paired, resamples, seed) @ weights)
    errors = standard_errors(paired, weights)
    least = detectable(errors)
    # Of few documents the standard error says too little.
    few = [differing(strata) < FEW for strata in strata_of(paired, weights, -1.0)]
    return [
        Difference(
            *names[i],
            base=float(left[i]),
            model=float(right[i]),
            difference=float(change[i]),
            low=interval.low,
            high=interval.high,
            p=float(p[i]),
            p_holm=1.0,
            error=_number(errors[i]),
            detectable=None if few[i] else _number(least[i]),
            documents=documents[i],
        )
        for i, interval in enumerate(estimate(paired, weights, resamples, seed, lowest=-1.0))
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _adjusted(pairs: Sequence[Sequence[Difference]]) -> list[tuple[Difference, ...]]:
    """Return the differences with Holm's p-values, a family over all pairs together."""
    adjusted: dict[tuple[int, str, str], float] = {}
    for family in FAMILIES:
        keys = [(i, d) for i, pair in enumerate(pairs) for d in pair if d.family == family]
        for (i, d), p in zip(keys, holm([d.p for _, d in keys]), strict=True):
            adjusted[i, d.family, d.name] = p
    return [
        tuple(dataclasses.replace(d, p_holm=adjusted[i, d.family, d.name]) for d in pair)
        for i, pair in enumerate(pairs)
    ]


def groups_of(tasks: Sequence[TaskScores]) -> dict[tuple[str, str], dict[str, float]]:
    """Return the weight of each task's mean in each group, by (family, name).

    A data set is weighted as All is: the mean of its label types' means. A verbalizer is the mean
    over the data sets.
    """
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for name, weights in type_weights(tasks).items():
        groups["label type", name] = weights
    for dataset, asked in by_dataset(tasks).items():
        types = [w for name, w in type_weights(asked).items() if name != "All"]
        groups["data set", dataset] = {t: w / len(types) for ws in types for t, w in ws.items()}
    words: dict[str, list[str]] = {}
    for task in tasks:
        words.setdefault(verbalizer_name(task), []).append(task.task)
    for name, members in words.items():
        groups["verbalizer", name] = dict.fromkeys(members, 1 / len(members))
    return groups | {("task", task.task): {task.task: 1.0} for task in tasks}


def verbalizer_name(task: TaskScores) -> str:
    """Return a verbalizer's name over the data sets, class names by their place."""
    datasets = suite_datasets()
    classes = datasets[task.dataset][0].classes if task.dataset in datasets else ()
    return _name(task.verbalizer, classes)


def verbalizer_names() -> list[str]:
    """Return the names of the twelve verbalizers, in the order of every data set's tasks."""
    spec, verbalizers = next(iter(suite_datasets().values()))
    return [_name(verbalizer, spec.classes) for verbalizer in verbalizers]


def _name(words: Verbalizer, classes: Sequence[str]) -> str:
    named = dict(zip(classes, ("first class", "second class"), strict=False))
    first, second = (named.get(word, word) for word in (words.first, words.second))
    return f"{words.type} {first}|{second}"
