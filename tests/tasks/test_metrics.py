import random
import sys
from types import ModuleType

import pytest

from verbalizer_bench.tasks.metrics import (
    METRICS,
    OUTCOMES,
    normalize,
    outcome,
    score,
    token_f1,
    unseen_by_f1,
    words,
)


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


@pytest.mark.parametrize(
    ("target", "other", "response", "expected"),
    [
        ("positive", "negative", "\u201cpositive\u201d", "follows"),
        ("positive", "negative", "\u201cPositive\u201d\u2026", "follows"),
        ("positive", "negative", "\u2018positive\u2019.", "follows"),
        ("positive", "negative", "\u2014 positive\u2014negative", "both"),
        ("positive", "negative", "\u200bpositive\ufeff", "follows"),
        ("positive", "negative", "\uff02positive\uff02\uff01", "follows"),
        ("positive", "negative", "positive \U0001f600", "verbose"),
        ("positive", "negative", "\u2705positive", "verbose"),
        ("positive", "negative", "negative\U0001f44e\U0001f3fd.", "flipped"),
        ("\U0001f44d", "\U0001f44e", "\U0001f44d!", "follows"),
        # A word that is none to the outcomes ends nothing, and occurs nowhere.
        ("the", "an", "so what", "neither"),
        # Cyrillic in guillemets, and in a sentence.
        ("\u0434\u0430", "\u043d\u0435\u0442", "\u00ab\u0414\u0430\u00bb.", "follows"),
        (
            "\u0434\u0430",
            "\u043d\u0435\u0442",
            "\u041e\u0442\u0432\u0435\u0442\u00a0\u2014 \u0434\u0430",
            "verbose",
        ),
        ("\u0434\u0430", "\u043d\u0435\u0442", "\u0434\u0430\u0447\u0430", "neither"),
        # Chinese: with a full stop; inside running text; the other word; one inside the other.
        ("\u80af\u5b9a", "\u5426\u5b9a", "\u80af\u5b9a\u3002", "follows"),
        ("\u80af\u5b9a", "\u5426\u5b9a", "\u300c\u80af\u5b9a\u300d", "follows"),
        ("\u80af\u5b9a", "\u5426\u5b9a", "\u7b54\u6848\u662f\u80af\u5b9a\u7684\u3002", "verbose"),
        ("\u80af\u5b9a", "\u5426\u5b9a", "\u5426\u5b9a\uff0c\u56e0\u4e3a", "flipped"),
        ("\u662f", "\u4e0d\u662f", "\u4e0d\u662f\u3002", "flipped"),
        ("\u4e0d\u662f", "\u662f", "\u6211\u8ba4\u4e3a\u4e0d\u662f", "verbose"),
        ("positive", "negative", "\u7b54\u6848\uff1apositive\u3002", "verbose"),
        ("positive", "negative", "\u7b54\u6848\u662fpositive\u7684", "verbose"),
        # Japanese, Thai; Thai marks stay with their letter.
        (
            "\u306f\u3044",
            "\u3044\u3044\u3048",
            "\u306f\u3044\u3001\u305d\u3046\u3067\u3059\u3002",
            "verbose",
        ),
        (
            "\u0e43\u0e0a\u0e48",
            "\u0e44\u0e21\u0e48\u0e43\u0e0a\u0e48",
            "\u0e44\u0e21\u0e48\u0e43\u0e0a\u0e48\u0e04\u0e23\u0e31\u0e1a",
            "flipped",
        ),
        # Korean has spaces: a particle makes another word.
        ("\uae0d\uc815", "\ubd80\uc815", "\uae0d\uc815.", "follows"),
        ("\uae0d\uc815", "\ubd80\uc815", "\uae0d\uc815\uc785\ub2c8\ub2e4", "neither"),
        # Accents coded in two ways; Turkish capitals; the German double s; the final sigma.
        ("caf\u00e9", "th\u00e9", "cafe\u0301!", "follows"),
        ("cafe\u0301", "the\u0301", "\u00abcaf\u00e9\u00bb", "follows"),
        ("iyi", "k\u00f6t\u00fc", "\u0130Y\u0130", "follows"),
        ("hay\u0131r", "evet", "HAYIR", "follows"),
        ("stra\u00dfe", "weg", "STRASSE", "follows"),
        (
            "\u03bb\u03ac\u03b8\u03bf\u03c2",
            "\u03c3\u03c9\u03c3\u03c4\u03cc",
            "\u039b\u0386\u0398\u039f\u03a3",
            "follows",
        ),
        # Typographic apostrophes and hyphens leave no gap, as ASCII's do not.
        ("don't", "do", "don\u2019t", "follows"),
        ("not-so", "so", "not\u2011so", "follows"),
        ("\u0939\u093e\u0901", "\u0928\u0939\u0940\u0902", "\u0939\u093e\u0901\u0964", "follows"),
        ("s\u00ed", "no", "\u00bfS\u00ed? \u00a1S\u00ed!", "verbose"),
    ],
)
def test_outcomes_beyond_ascii(target: str, other: str, response: str, expected: str) -> None:
    assert outcome(target, other, response) == expected


def test_f1_and_exact_match_stay_squads() -> None:
    values = score("positive", "negative", "\u201cpositive\u201d")
    assert (values["f1"], values["exact_match"]) == (0, 0)
    assert (values["follows"], values["contains_label"]) == (1, 1)


def test_in_ascii_words_are_those_of_f1() -> None:
    generator = random.Random(1)
    for _ in range(2000):
        text = "".join(chr(generator.randrange(9, 127)) for _ in range(12)) + " the an_a A"
        assert words(text) == normalize(text).split()
        # Beyond ASCII the same rules hold for the part that is ASCII.
        assert words(text + " \u00e9") == [*words(text), "\u00e9"]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("positive", None),
        ("not_entailment", None),
        ("\u0434\u0430", None),
        ("caf\u00e9", None),
        ("\uae0d\uc815", None),
        ("caf\u0065\u0301", "not coded as NFC"),
        ("\u80af\u5b9a", "its script has no spaces"),
        ("\u0e43\u0e0a\u0e48", "its script has no spaces"),
        ("\u00abda\u00bb", "takes this for '\u00abda\u00bb', and 'da' scores 0"),
        ("\u0130yi", "'iyi' scores 0"),
        ("stra\u00dfe", "'strasse' scores 0"),
    ],
)
def test_label_words_beyond_what_f1_sees(word: str, reason: str | None) -> None:
    reason_given = unseen_by_f1(word)
    assert reason_given is None if reason is None else reason in str(reason_given)
