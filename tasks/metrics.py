"""Score one response against a label word: pure functions, strings in, numbers out.

F1 is SQuAD v2's (Rajpurkar et al. 2018, the official script's rule), as in Shiono et al. 2024.
The other scores are ours: F1 alone mixes verbosity with wrong answers.
"""

import re
import string
from collections import Counter

OUTCOMES = ("follows", "verbose", "flipped", "both", "neither")
METRICS = ("f1", "exact_match", "contains_label", *OUTCOMES)

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize(text: str) -> str:
    """Lower-case, delete ASCII punctuation, drop the words a, an, the, and collapse white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(target: str, response: str) -> float:
    """Return the multiset token F1 of two strings, in [0, 1]; both empty is 1, one empty is 0."""
    gold, said = normalize(target).split(), normalize(response).split()
    if not gold or not said:
        return float(gold == said)
    common = sum((Counter(gold) & Counter(said)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(said), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def outcome(target: str, other: str, response: str) -> str:
    """Say what a response did, one of `OUTCOMES`.

    `follows`: it is the target. `verbose`: the target and more words. `flipped`: the other label
    word and not the target. `both`, `neither`: as they say. A label word occurs where its
    normalised tokens stand in a row; one that is part of the other label word (entailment in "not
    entailment") is looked for outside the longer one only.
    """
    said, gold, wrong = (normalize(text).split() for text in (response, target, other))
    if said == gold:
        return "follows"
    first, second = sorted((gold, wrong), key=len, reverse=True)
    has_first, rest = _take(said, first)
    has_second, _ = _take(rest, second)
    has_gold, has_wrong = (has_first, has_second) if first is gold else (has_second, has_first)
    return {(1, 0): "verbose", (0, 1): "flipped", (1, 1): "both"}.get(
        (has_gold, has_wrong), "neither"
    )


def score(target: str, other: str, response: str) -> dict[str, float]:
    """Return every metric of one response, keyed as in `METRICS`, each in [0, 1].

    Args:
        target: The label word of the document's class.
        other: The label word of the other class.
        response: What the model generated.
    """
    result = outcome(target, other, response)
    return {
        "f1": token_f1(target, response),
        "exact_match": float(result == "follows"),
        "contains_label": float(result in ("follows", "verbose")),
        **{name: float(name == result) for name in OUTCOMES},
    }


def _take(tokens: list[str], words: list[str]) -> tuple[bool, list[str]]:
    """Say whether `words` stand in a row in `tokens`; return the tokens without such rows."""
    found, rest, i = False, list(tokens), 0
    while i + len(words) <= len(rest):
        if rest[i : i + len(words)] == words:
            found = True
            rest[i : i + len(words)] = [""] * len(words)
            i += len(words)
        else:
            i += 1
    return found, rest
