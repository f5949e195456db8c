"""What F1 is where nothing is understood: answers that need no model, scored on a run's documents.

They say how to read a number: 50 is what always the same word gets where the classes are equally
large, 33 what the expected word gets among five. docs/sanity.md has more of them, on all rows.
"""

from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.tasks.metrics import token_f1
from verbalizer_bench.tasks.spec import LABEL_TYPES

# Words that no label word has.
_OTHER_WORDS = ("x1", "x2", "x3", "x4")


class Reference(NamedTuple):
    """An answer that needs no model.

    Attributes:
        answer: What it is.
        f1: Its mean F1 in [0, 1] by label type, and All where all three are there.
    """

    answer: str
    f1: dict[str, float]


def references(run: Run) -> list[Reference]:
    """Return such answers with their scores on a run's documents, from the highest to the lowest.

    None where it is not known how often each label word was expected.
    """
    if not all(task.targets for task in run.tasks):
        return []
    same = _means(run, _constant)
    random = fmean(_means(run, lambda task: fmean(_words(task))).values())
    return [
        Reference("the expected word alone, each time", _means(run, lambda task: 1.0)),
        Reference(f"the more frequent of a task's two words ({100 * random:.1f} at random)", same),
        Reference("the expected word and four others, each time", _means(run, _among_five)),
        Reference("what the words mean by themselves, whatever is asked for", _means(run, _meant)),
        Reference("the other one of the two words, each time", _means(run, _flipped)),
    ]


def _means(run: Run, score: Callable[[TaskScores], float]) -> dict[str, float]:
    """Return a score's mean over the tasks of each label type, and All."""
    found = {name: [score(task) for task in run.of_type(name)] for name in LABEL_TYPES}
    means = {name: fmean(scores) for name, scores in found.items() if scores}
    if len(means) == len(LABEL_TYPES):
        means["All"] = fmean(means.values())
    return means


def _mean(task: TaskScores, answer: Callable[[str], str]) -> float:
    """Return the mean F1 of what is answered where a word is expected."""
    total = sum(count for _, count in task.targets)
    scores = (count * token_f1(target, answer(target)) for target, count in task.targets)
    return sum(scores) / total


def _words(task: TaskScores) -> list[float]:
    """Return what each of the two label words gets as the only answer."""
    first, second = task.verbalizer.first, task.verbalizer.second
    return [_mean(task, lambda target: first), _mean(task, lambda target: second)]


def _constant(task: TaskScores) -> float:
    return max(_words(task))


def _among_five(task: TaskScores) -> float:
    return _mean(task, lambda target: " ".join((target, *_OTHER_WORDS)))


def _flipped(task: TaskScores) -> float:
    words = {task.verbalizer.first: task.verbalizer.second}
    return _mean(task, lambda target: words.get(target, task.verbalizer.first))


def _meant(task: TaskScores) -> float:
    """Score natural words as natural: the expected ones, the other ones, or neither (neutral)."""
    if task.verbalizer.type == "natural":
        return 1.0
    return _flipped(task) if task.verbalizer.type == "unnatural" else 0.0
