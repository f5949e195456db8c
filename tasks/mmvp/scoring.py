"""What responses to MMVP's questions score: by question for lm-eval, by pair for reports."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from verbalizer_bench.tasks.choices import read_choice

# A question's verdict by both versions of the labels, and whether the response is a choice at all.
METRICS = (
    *("pair_accuracy", "accuracy", "pair_accuracy_corrected", "accuracy_corrected"),
    "unparsed",
)
# What a pair has: both right, the share right, the same by corrected labels, the share unparsed.
COLUMNS = ("pair", "single", "pair, corrected", "single, corrected", "unparsed")


def scores(doc: Mapping[str, Any], response: str) -> dict[str, Any]:
    """Return what a response to a document scores, by `METRICS`; of a pair its number besides."""
    choice = read_choice(response, (doc["a"], doc["b"])).letter
    right = choice == doc["answer"]
    corrected = choice == doc["answer_corrected"]
    return {
        "pair_accuracy": [doc["pair"], right],
        "accuracy": float(right),
        "pair_accuracy_corrected": [doc["pair"], corrected],
        "accuracy_corrected": float(corrected),
        "unparsed": float(choice is None),
    }


def pair_share(items: Sequence[tuple[int, bool]]) -> float:
    """Return the share of whole pairs of which both are right; NaN without one.

    Args:
        items: The pair's number and whether the answer is right, of each question.
    """
    pairs: dict[int, list[bool]] = {}
    for pair, right in items:
        pairs.setdefault(pair, []).append(bool(right))
    whole = [all(rights) for rights in pairs.values() if len(rights) == 2]
    return sum(whole) / len(whole) if whole else float("nan")


def pair_values(docs: Sequence[Mapping[str, Any]], responses: Sequence[str]) -> tuple[float, ...]:
    """Return what the responses to a pair's two questions score, by `COLUMNS`."""
    made = [scores(doc, response) for doc, response in zip(docs, responses, strict=True)]
    return (
        pair_share([one["pair_accuracy"] for one in made]),
        _mean(one["accuracy"] for one in made),
        pair_share([one["pair_accuracy_corrected"] for one in made]),
        _mean(one["accuracy_corrected"] for one in made),
        _mean(one["unparsed"] for one in made),
    )


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
