import random
import sys
from types import ModuleType

import pytest

from verbalizer_bench.tasks.metrics import METRICS, OUTCOMES, normalize, outcome, score, token_f1


@pytest.mark.parametrize(
    ("gold", "response", "f1"),
    [
        ("positive", '"Positive".', 1),
        ("positive", "The sentiment of the movie review is positive", 2 / 7),
        ("positive", "Yes, the movie review is positive", 1 / 3),
        ("1", "label 1", 2 / 3),
        ("not_entailment", "not entailment", 0),
        ("a", "", 1),
        ("positive", "", 0),
        ("yes", "yes yes", 2 / 3),
        ("lake", "river", 0),
    ],
)
def test_f1_by_hand(gold: str, response: str, f1: float) -> None:
    assert token_f1(gold, response) == pytest.approx(f1, abs=1e-12)


def official_normalize(monkeypatch: pytest.MonkeyPatch):
    """Return the official script's `normalize_answer`, as lm-eval carries it for another task."""
    for name in ("jieba", "fuzzywuzzy", "rouge"):
        module = ModuleType(name)
        module.fuzz = module.Rouge = object  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    from lm_eval.tasks.longbench.metrics import normalize_answer

    return normalize_answer


def official_f1(gold: list[str], said: list[str]) -> float:
    """Count the overlap by striking out, token by token."""
    if not gold or not said:
        return float(gold == said)
    left, same = list(gold), 0
    for token in said:
        if token in left:
            left.remove(token)
            same += 1
    return 2 * same / (len(gold) + len(said))


def test_f1_equals_the_official_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    normalize_answer = official_normalize(monkeypatch)
    generator = random.Random(0)
    pieces = (
        *("positive", "Positive", "POSITIVE.", "a", "an", "the", "The", "theory", "1", "0", "yes"),
        *("not", "entailment", "not_entailment", "foo", "bar", " ", "\t", "\n", "\u00a0", "\u2014"),
        *('"', "'", "…", "«", "»", ".", ",", "-", "é", "İ", "ß", "ǅ", "the-cat", "a\u2014b", "'a'"),
    )

    def text() -> str:
        joint = generator.choice(("", " ", " "))
        return joint.join(generator.choices(pieces, k=generator.randrange(0, 9)))

    for _ in range(2000):
        gold, response = text(), text()
        assert normalize(gold) == normalize_answer(gold)
        expected = official_f1(normalize_answer(gold).split(), normalize_answer(response).split())
        assert token_f1(gold, response) == pytest.approx(expected, abs=1e-12), (gold, response)


@pytest.mark.parametrize(
    ("target", "other", "response", "expected"),
    [
        ("foo", "bar", "foo", "follows"),
        ("foo", "bar", ' "Foo". ', "follows"),
        ("foo", "bar", "The answer is foo", "verbose"),
        ("foo", "bar", "bar", "flipped"),
        ("foo", "bar", "I say bar!", "flipped"),
        ("foo", "bar", "foo or bar", "both"),
        ("foo", "bar", "", "neither"),
        ("foo", "bar", "food barn", "neither"),
        ("not_entailment", "entailment", "not_entailment", "follows"),
        ("entailment", "not_entailment", "not_entailment", "flipped"),
        # A label word inside the other: the longer one is taken first.
        ("not entailment", "entailment", "it is not entailment", "verbose"),
        ("entailment", "not entailment", "it is not entailment", "flipped"),
        ("entailment", "not entailment", "entailment, not entailment", "both"),
        ("new york", "los angeles", "new in york", "neither"),
    ],
)
def test_outcome(target: str, other: str, response: str, expected: str) -> None:
    assert outcome(target, other, response) == expected


def test_score_has_every_metric_and_one_outcome() -> None:
    values = score("foo", "bar", "well, foo")
    assert set(values) == set(METRICS)
    assert sum(values[name] for name in OUTCOMES) == 1
    assert (values["exact_match"], values["contains_label"], values["verbose"]) == (0, 1, 1)
    assert values["f1"] == pytest.approx(2 / 3)
