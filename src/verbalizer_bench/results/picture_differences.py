"""Differences between runs of benchmarks with images of their own, paired over units (pairs)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from verbalizer_bench.results.contrast import ALLOWABLE, Contrast, contrast
from verbalizer_bench.results.differences import Difference, Pair
from verbalizer_bench.results.few import FEW, differing
from verbalizer_bench.results.picture_scores import PictureScores
from verbalizer_bench.results.resampling import (
    detectable,
    holm,
    means,
    p_values,
    sign_flips,
    standard_errors,
)
from verbalizer_bench.results.statistics import RESAMPLES, SEED, estimate, strata_of

# A run's tasks by name.
Tasks = Mapping[str, PictureScores]


def check_comparable(runs: Sequence[Tasks], allowed: Collection[str] = ()) -> None:
    """Raise ValueError where runs have other tasks or documents, or were not asked alike.

    Args:
        runs: The first is the base.
        allowed: Which differences are let through, of `contrast.ALLOWABLE`.
    """
    base = runs[0]
    for run in runs[1:]:
        for one, other in ((base, run), (run, base)):
            if lacking := sorted(set(one) - set(other)):
                folders = [str(next(iter(tasks.values())).run.folder) for tasks in (other, one)]
                raise ValueError(
                    f"compare: {folders[0]} lacks the task {lacking[0]}, which {folders[1]} has; "
                    "run the same tasks"
                )
        for task in base:
            _check_task(base[task], run[task], allowed)


def _check_task(base: PictureScores, run: PictureScores, allowed: Collection[str]) -> None:
    where = f"compare: {base.task}: {base.run.folder} and {run.run.folder}"
    if base.units != run.units:
        unit = min(set(base.units) ^ set(run.units))
        raise ValueError(
            f"{where}: {base.benchmark.unit} {unit} was asked in one of them only; run both on the "
            "same, with the same --limit"
        )
    if base.documents_sha256 != run.documents_sha256:
        raise ValueError(
            f"{where}: their questions, answers or images differ; run both on the same rows"
        )
    harnesses = [one.run.results.config.harness for one in (base, run)]
    if harnesses[0] != harnesses[1]:
        raise ValueError(
            f"{where}: one is a run of {harnesses[0]}, the other of {harnesses[1]}, which render "
            "prompts and set up generation by themselves; run both in one of them"
        )
    one, other = (x.run.results.configs[x.task] for x in (base, run))
    for key in ("doc_to_text", "generation_kwargs"):
        if getattr(one, key) != getattr(other, key):
            raise ValueError(
                f"{where} differ in {key}: {getattr(one, key)!r} and {getattr(other, key)!r}; run "
                "both alike"
            )
    found = picture_contrast(base, run)
    for key in ALLOWABLE:
        if (pair := getattr(found, key)) and key not in allowed:
            raise ValueError(
                f"{where} differ in {key}: {pair[0]} and {pair[1]}; run both alike, or let it "
                f"through with `compare --allow {key}`: the answer then names it"
            )


def picture_contrast(base: PictureScores, run: PictureScores) -> Contrast:
    """Say in what two runs differ; the adapter's blank image is nothing where tasks have theirs."""
    found = contrast(base.run, run.run)
    parts = {key: getattr(found, key) for key in ALLOWABLE if key != "image" or base.asked.blind}
    return Contrast(found.tuning, **parts)


def picture_differences(
    runs: Sequence[Tasks], resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[Pair, ...]:
    """Return the differences of each run from the first; a family is a task, a name a column.

    Holm's p is over all columns and runs of a task.

    Args:
        runs: They have the same tasks and units (`check_comparable`).
        resamples: How many bootstrap samples and permutations.
        seed: Of the random numbers.
    """
    base = runs[0]
    found = [
        [
            difference
            for task in base
            for difference in _of_task(base[task], run[task], resamples, seed)
        ]
        for run in runs[1:]
    ]
    adjusted = {
        task: iter(holm([d.p for of_run in found for d in of_run if d.family == task]))
        for task in base
    }
    first = next(iter(base.values()))
    return tuple(
        Pair(
            first.run.name,
            next(iter(run.values())).run.name,
            tuple(_with_holm(of_run, adjusted)),
            picture_contrast(first, run[first.task]),
        )
        for run, of_run in zip(runs[1:], found, strict=True)
    )


def _with_holm(
    found: Sequence[Difference], adjusted: Mapping[str, Iterator[float]]
) -> Iterator[Difference]:
    for difference in found:
        yield replace(difference, p_holm=next(adjusted[difference.family]))


def _of_task(
    base: PictureScores, run: PictureScores, resamples: int, seed: int
) -> list[Difference]:
    paired = {base.task: run.table - base.table}
    weights = np.eye(base.table.shape[1])
    change = means(paired)
    p = p_values(change, sign_flips(paired, resamples, seed))
    errors = standard_errors(paired, weights)
    least = detectable(errors)
    few = [differing(strata) < FEW for strata in strata_of(paired, weights, -1.0)]
    ends = estimate(paired, weights, resamples, seed, lowest=-1.0)
    return [
        Difference(
            *(base.task, column),
            base=float(base.table[:, place].mean()),
            model=float(run.table[:, place].mean()),
            difference=float(change[place]),
            low=ends[place].low,
            high=ends[place].high,
            p=float(p[place]),
            p_holm=1.0,
            error=None if np.isnan(errors[place]) else float(errors[place]),
            detectable=None if few[place] or np.isnan(least[place]) else float(least[place]),
            documents=len(base.units),
        )
        for place, column in enumerate(base.benchmark.columns)
        if column in base.columns
    ]
