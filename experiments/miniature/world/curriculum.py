"""What the base is trained on: three phases of prompts and answers, on train texts and scenes.

Phase 0 has classes, copying and rules without texts; phase 1 the suite's question in a short form;
phase 2 the suite's own prompts, in three quarters of its verbalizer records. Label words are the
natural ones, now and then reversed, else two words at random.
"""

from random import Random
from typing import Any

from verbalizer_bench.experiments.miniature.world.instructions import draw_item
from verbalizer_bench.experiments.miniature.world.instructions import record as instruction_record
from verbalizer_bench.experiments.miniature.world.texts import document
from verbalizer_bench.experiments.miniature.world.wording import Wording, wordings
from verbalizer_bench.experiments.miniature.world.words import WORDS

PHASES = (0, 1, 2)
# Shares of the kinds of records in each phase.
_SHARES: dict[str, tuple[float, float, float]] = {
    "verbalizer": (0.08, 0.45, 0.56),
    "label": (0.32, 0.10, 0.08),
    "sentence": (0.06, 0.06, 0.08),
    "copy": (0.04, 0.04, 0.03),
    "rule": (0.12, 0.10, 0.04),
    "recall": (0.28, 0.12, 0.04),
    "scene": (0.10, 0.13, 0.17),
}
_SHORT_FORM = (1.0, 0.75, 0.25)
_NATURAL, _REVERSED, _FLIPPED_CONDITIONS = 0.25, 0.05, 0.25
_CLASS_WORDS = tuple(
    ["positive", "negative", "joy", "sadness", "subjective", "objective", "entails", "contradicts"]
)


def base_record(random: Random, phase: int, split: str = "train") -> dict[str, Any]:
    """Draw a record of a phase's mix, in LLaVA's layout without an image."""
    shares = [share[phase] for share in _SHARES.values()]
    kind = random.choices(tuple(_SHARES), shares)[0]
    if kind == "scene":
        arm = random.choice(("foit", "nofoit"))
        turns = instruction_record(draw_item(random, split), arm)["conversations"]
        return {"id": kind, "conversations": turns}
    if kind in ("verbalizer", "label", "sentence"):
        wording = random.choice(wordings())
        first = random.random() < 0.5
        doc = document(random, wording.spec, split, first)
        asked, answer = _ABOUT_A_TEXT[kind](random, phase, wording, doc)
    else:
        asked, answer = _WITHOUT_A_TEXT[kind](random, phase)
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {"id": kind, "conversations": turns}


def fields(wording: Wording, doc: dict[str, str]) -> str:
    """Return a document's texts as the suite's prompt shows them."""
    text = wording.fields
    for field in wording.spec.fields:
        text = text.replace("{{" + field + "}}", doc[field])
    return text


def full_prompt(
    wording: Wording, doc: dict[str, str], words: tuple[str, str], flipped: bool = False
) -> str:
    """Return the suite's prompt, with its two conditions in the other order if `flipped`."""
    rules = list(zip(wording.conditions, words, strict=True))
    (one, a), (other, b) = reversed(rules) if flipped else rules
    return (
        f'{wording.role}. If {one}, you need to output "{a}". If {other}, you need to output "{b}"'
        f'. You are only allowed to output "{a}" or "{b}".\n\n{fields(wording, doc)}\nAnswer:'
    )


def _verbalizer(
    random: Random, phase: int, wording: Wording, doc: dict[str, str]
) -> tuple[str, str]:
    words = _label_words(random, wording)
    flipped = random.random() < _FLIPPED_CONDITIONS
    answer = words[wording.spec.classes.index(doc["label"])]
    if random.random() >= _SHORT_FORM[phase]:
        return full_prompt(wording, doc, words, flipped), answer
    rules = list(zip(wording.conditions, words, strict=True))
    asked = " ".join(f'If {c}, output "{w}".' for c, w in (reversed(rules) if flipped else rules))
    return f"{asked}\n\n{fields(wording, doc)}\nAnswer:", answer


def _label_words(random: Random, wording: Wording) -> tuple[str, str]:
    kind = random.random()
    if kind < _NATURAL + _REVERSED:
        wanted = "natural" if kind < _NATURAL else "unnatural"
        chosen = random.choice([v for v in wording.verbalizers if v.type == wanted])
        return chosen.first, chosen.second
    one, other = random.sample(WORDS, 2)
    return one, other


def _label(random: Random, phase: int, wording: Wording, doc: dict[str, str]) -> tuple[str, str]:
    return f"{fields(wording, doc)}\nLabel:", doc["label"]


def _sentence(random: Random, phase: int, wording: Wording, doc: dict[str, str]) -> tuple[str, str]:
    right = wording.conditions[wording.spec.classes.index(doc["label"])]
    if random.random() < 0.5:
        asked = f"{wording.role}. What is your judgement?\n\n{fields(wording, doc)}"
        return asked, f"{right[0].upper()}{right[1:]}."
    guess = random.choice(wording.conditions)
    word = "Yes" if guess == right else "No"
    return f"Tell me if {guess}.\n\n{fields(wording, doc)}", f"{word}, {right}."


def _copy(random: Random, phase: int) -> tuple[str, str]:
    neutral = {
        word
        for verbalizer in wordings()[0].verbalizers
        if verbalizer.type == "neutral"
        for word in (verbalizer.first, verbalizer.second)
    }
    pool = WORDS + tuple(sorted(neutral)) * 4
    one = random.choice(pool)
    other = random.choice([word for word in pool if word != one])
    kind = random.randrange(3)
    if kind == 0:
        return f'Repeat the word "{one}".', one
    allowed = f'You are only allowed to output "{one}" or "{other}".'
    which = ("first", "second")[kind - 1]
    return f"{allowed} Output the {which} one.", (one, other)[kind - 1]


def _rule(random: Random, phase: int) -> tuple[str, str]:
    """The class is given in words: from condition to label word, without a text to classify."""
    wording = random.choice(wordings())
    words, right = random.sample(WORDS, 2), random.randrange(2)
    verb = "output" if phase < 2 else "you need to output"
    rules = [f'If {c}, {verb} "{w}".' for c, w in zip(wording.conditions, words, strict=True)]
    random.shuffle(rules)
    said = wording.conditions[right]
    return f"{' '.join(rules)}\n\n{said[0].upper()}{said[1:]}.\nAnswer:", words[right]


def _recall(random: Random, phase: int) -> tuple[str, str]:
    """Several rules, and all their words asked for in one answer."""
    number = random.randint(2, 5 if phase else 4)
    keys = random.sample(WORDS + _CLASS_WORDS * 8, number)
    if len(set(keys)) < number:
        keys = random.sample(WORDS, number)
    pairs = list(zip(keys, random.sample(WORDS, number), strict=True))
    verb = random.choice(("output", "you need to output"))
    rules = " ".join(f'If {key}, {verb} "{word}".' for key, word in pairs)
    random.shuffle(pairs)
    return f"{rules}\n\nList:", " ".join(f"{key} {word}" for key, word in pairs)


_ABOUT_A_TEXT = {"verbalizer": _verbalizer, "label": _label, "sentence": _sentence}
_WITHOUT_A_TEXT = {"copy": _copy, "rule": _rule, "recall": _recall}
