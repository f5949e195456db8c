"""Choose examples of what responses did, the same document side by side over the models."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from typing import TypeVar

import numpy as np

from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.results.schema import Sample
from verbalizer_bench.tasks.metrics import OUTCOMES

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Said:
    """One model's response to an example, and what it did; None where it was not asked."""

    model: str
    response: str | None
    outcome: str | None


@dataclasses.dataclass(frozen=True)
class Example:
    """A document under one verbalizer.

    Attributes:
        task: The task's name.
        doc_id: The document's number in it.
        prompt: What the first model was asked, after its chat template if it had one.
        target: The label word of the document's class.
        said: What each model said.
    """

    task: str
    doc_id: int
    prompt: str
    target: str
    said: tuple[Said, ...]


def worst_outcome(run: Run) -> tuple[str, float] | None:
    """Return the outcome that most responses have instead of `follows`, and their share in [0, 1].

    None where all follow.
    """
    counts = {
        name: sum(float(task.scores[name].sum()) for task in run.tasks)
        for name in OUTCOMES
        if name != "follows"
    }
    worst = max(counts, key=lambda name: (counts[name], OUTCOMES.index(name)))
    total = sum(len(task.doc_ids) for task in run.tasks)
    return (worst, counts[worst] / total) if counts[worst] else None


def examples_of(run: Run, outcome: str, count: int) -> list[tuple[str, Sample]]:
    """Return tasks and samples of responses with an outcome, spread as `choose_examples` does."""
    chosen = [(task.task, doc_id) for task, doc_id in _spread([run], outcome, count)]
    wanted: dict[str, set[int]] = {}
    for name, doc_id in chosen:
        wanted.setdefault(name, set()).add(doc_id)
    samples = _read(run, wanted)
    return [(name, samples[name, doc_id]) for name, doc_id in chosen]


def choose_examples(runs: Sequence[Run], count: int = 10) -> dict[str, list[Example]]:
    """Return examples of each outcome that a run has, at most `count` of each.

    They are spread over data sets and label types; within these, documents where the models differ
    come first. The same runs give the same examples.
    """
    chosen = {name: _spread(runs, name, count) for name in OUTCOMES}
    wanted: dict[str, set[int]] = {}
    for places in chosen.values():
        for task, doc_id in places:
            wanted.setdefault(task.task, set()).add(doc_id)
    samples = [_read(run, wanted) for run in runs]
    return {
        name: [_example(runs, samples, task, doc_id) for task, doc_id in places]
        for name, places in chosen.items()
        if places
    }


def _spread(runs: Sequence[Run], outcome: str, count: int) -> list[tuple[TaskScores, int]]:
    """Take candidates of every data set and label type in turn."""
    cells: dict[str, dict[str, list[tuple[bool, int, int, TaskScores]]]] = {}
    for order, task in enumerate(runs[0].tasks):
        same = [scored for run in runs if (scored := _same(run, task))]
        has = np.array([scored.scores[outcome] > 0 for scored in same])
        for place in np.flatnonzero(has.any(axis=0)):
            entry = (bool(has[:, place].all()), int(place), order, task)
            types = cells.setdefault(task.dataset, {})
            types.setdefault(task.verbalizer.type, []).append(entry)
    lanes = []
    for index, types in enumerate(cells.values()):
        ordered = [sorted(cell, key=lambda entry: entry[:3]) for cell in types.values()]
        # Each data set begins with another label type: few examples reach all of both.
        start = index % len(ordered)
        lanes.append(ordered[start:] + ordered[:start])
    chosen = islice(_in_turn(_in_turn(lanes)), count)
    return [(task, task.doc_ids[place]) for _, place, _, task in chosen]


def _in_turn(lists: Iterable[Sequence[T]]) -> Iterator[T]:
    """Yield the first of each list, then the second of each, to the end of the longest."""
    return (item for turn in zip_longest(*lists) for item in turn if item is not None)


def _same(run: Run, task: TaskScores) -> TaskScores | None:
    """Return a run's task of the same prompts and documents, if it has it."""
    scored = next((scored for scored in run.tasks if scored.task == task.task), None)
    same = scored and (scored.identity, scored.doc_ids) == (task.identity, task.doc_ids)
    return scored if same else None


def _read(run: Run, wanted: dict[str, set[int]]) -> dict[tuple[str, int], Sample]:
    names = [task.task for task in run.tasks if task.task in wanted]
    return {
        (name, sample.doc_id): sample
        for name in names
        for sample in run.samples(name, wanted[name])
    }


def _example(
    runs: Sequence[Run],
    samples: Sequence[dict[tuple[str, int], Sample]],
    task: TaskScores,
    doc_id: int,
) -> Example:
    said = []
    for run, by_document in zip(runs, samples, strict=True):
        sample = by_document.get((task.task, doc_id)) if _same(run, task) else None
        said.append(
            Said(run.name, sample.response, sample.outcome)
            if sample
            else Said(run.name, None, None)
        )
    first = samples[0][task.task, doc_id]
    return Example(task.task, doc_id, first.prompt, first.target, tuple(said))
