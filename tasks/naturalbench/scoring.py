"""What responses to NaturalBench's questions score: by question for lm-eval, by group for reports.

Group accuracy (G) counts a group whose four answers are right, question accuracy (Q) a question
that is right for both images, image accuracy (I) an image to which both questions are answered.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from verbalizer_bench.tasks.choices import read_choice

METRICS = ("group_accuracy", "question_accuracy", "image_accuracy", "accuracy", "unparsed")
COLUMNS = ("group", "question", "image", "single", "unparsed")
# What an answer stands for: of a group its number, of a question of it, of an image of it.
_KEYS = {"group_accuracy": (), "question_accuracy": ("question_number",)}
_KEYS |= {"image_accuracy": ("image_number",)}
_SIZES = {"group_accuracy": 4, "question_accuracy": 2, "image_accuracy": 2}


def scores(doc: Mapping[str, Any], response: str) -> dict[str, Any]:
    """Return what a response scores, by `METRICS`; of those over several answers what it is of."""
    letters = doc["type"] == "multiple_choice"
    choice = read_choice(response, (doc["a"], doc["b"]), letters).letter
    right = choice == doc["answer"]
    shared = {
        name: [[doc["group"], *(doc[key] for key in keys)], right] for name, keys in _KEYS.items()
    }
    return {**shared, "accuracy": float(right), "unparsed": float(choice is None)}


def group_share(items: Sequence[Any]) -> float:
    """Return the share of whole groups of which all four answers are right; NaN without one."""
    return _share(items, 4)


def half_share(items: Sequence[Any]) -> float:
    """Return the share of questions, or images, of which both answers are right; NaN without."""
    return _share(items, 2)


def group_values(docs: Sequence[Mapping[str, Any]], responses: Sequence[str]) -> tuple[float, ...]:
    """Return what the responses to a group's four questions score, by `COLUMNS`."""
    made = [scores(doc, response) for doc, response in zip(docs, responses, strict=True)]
    shared = [_share([one[name] for one in made], size) for name, size in _SIZES.items()]
    return (*shared, *(_mean(one[name] for one in made) for name in ("accuracy", "unparsed")))


def _share(items: Sequence[Any], size: int) -> float:
    found: dict[tuple[int, ...], list[bool]] = {}
    for key, right in items:
        found.setdefault(tuple(key), []).append(bool(right))
    whole = [all(rights) for rights in found.values() if len(rights) == size]
    return sum(whole) / len(whole) if whole else float("nan")


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
