"""The judge of the miniature: a program that knows the scene of each image, and no model.

It answers as an OpenAI-compatible server on this machine, so that the builders ask it as they ask
any judge. An answer's statements about the scene are found by patterns and looked up; five marks
from 0 to 4 follow by rules, the same each time:

- helpfulness: 4 for what was asked, told right, and 3 with more beside it; 1 where it is told
  wrong; 0 where it is not told. Of a description: the share of things and background it has.
- correctness: the share of its statements that are true; 4 if all are, 0 if none is.
- coherence: one whole sentence has 4; less for a missing full stop or capital, for words said
  again, for statements that contradict each other, and for unknown words.
- complexity: how many different statements.
- verbosity: how many words.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from verbalizer_bench.experiments.miniature.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    Scene,
)
from verbalizer_bench.io.preferences import Scores

_COLOUR, _SHAPE, _PLACE, _BACKGROUND = (
    f"({'|'.join(words)})" for words in (COLOURS, SHAPES, PLACES, BACKGROUNDS)
)
_NUMBERS = ("one", "two")
# What a question asks for, and what about: the groups of its pattern.
_QUESTIONS = {
    "background": r"what color is the background",
    "colour": rf"what color is the {_SHAPE}",
    "shape": rf"what shape is in the {_PLACE}",
    "place": rf"where is the {_SHAPE}",
    "number": r"how many shapes",
    "presence": rf"is there an? {_COLOUR} {_SHAPE}",
    "description": r"describe the image|what does the image show",
}
# The words that answer a question, where an answer is nothing but one.
_WORDS = {
    "background": BACKGROUNDS,
    "colour": COLOURS,
    "shape": SHAPES,
    "place": PLACES,
    "number": _NUMBERS,
    "presence": ("yes", "no"),
}
_THING = re.compile(rf"(no )?\b{_COLOUR} {_SHAPE}\b(?: in the {_PLACE})?")
_STATED = {
    "colour": re.compile(rf"\b{_SHAPE} in the image is {_COLOUR}\b"),
    "shape": re.compile(rf"\bshape in the {_PLACE} is an? {_SHAPE}\b"),
    "place": re.compile(rf"\b{_SHAPE} is in the {_PLACE}\b"),
}
_STATED_BACKGROUND = re.compile(
    rf"background (?:of the image )?is {_BACKGROUND}|on an? {_BACKGROUND} b"
)
_STATED_NUMBER = re.compile(r"\b(one|two) shapes?\b")
_REPEATED = 4  # words in a row


class Question(NamedTuple):
    """What is asked: of what kind, and about which shape, place or thing."""

    kind: str
    about: tuple[str, ...]


class Statement(NamedTuple):
    """What an answer says of a scene: of what kind, about what, which value, and whether truly."""

    kind: str
    about: tuple[str, ...]
    value: str
    true: bool


def read_question(text: str) -> Question:
    """Return what a question of this world asks.

    Raises:
        ValueError: It is none of them.
    """
    for kind, pattern in _QUESTIONS.items():
        if match := re.search(pattern, text.lower()):
            return Question(kind, ("background",) if kind == "background" else match.groups())
    raise ValueError(f"question {text!r}: none of the miniature's; the program knows these alone")


def statements(scene: Scene, question: Question, answer: str) -> list[Statement]:
    """Return the different statements of an answer, in no particular order."""
    text = " ".join(answer.lower().split())
    found = [*_of_things(scene, text), *_of_parts(scene, text), *_of_whole(scene, text)]
    found += _bare(scene, question, text.strip(' .!"'))
    return list(dict.fromkeys(found))


def rate(scene: Scene, question: str, answer: str) -> Scores:
    """Return the marks of an answer."""
    asked = read_question(question)
    found = statements(scene, asked, answer)
    true = sum(one.true for one in found)
    partly = min(3, max(1, round(4 * true / len(found)))) if found else 0
    return Scores(
        helpfulness=_helpfulness(scene, asked, found),
        correctness=0 if not true else 4 if true == len(found) else partly,
        coherence=_coherence(answer, found),
        complexity=min(4, len(found)),
        verbosity=sum(len(answer.split()) > limit for limit in (2, 6, 12, 20)),
    )


def _helpfulness(scene: Scene, asked: Question, found: list[Statement]) -> int:
    if asked.kind == "description":
        told = {one.about for one in found if one.true and one.kind in ("thing", "background")}
        parts = {("background",), *((t.colour, t.shape) for t in scene.things)}
        return round(4 * len(told & parts) / len(parts))
    answers = [one for one in found if _answers(asked, one)]
    if not answers:
        return 0
    if not all(one.true for one in answers):
        return 1
    # A yes or no says with it what is there.
    return 4 if len(found) <= (2 if asked.kind == "presence" else 1) else 3


def _answers(asked: Question, one: Statement) -> bool:
    """Tell whether a statement answers a question; one of a thing may tell its colour or place."""
    if one.kind != "thing":
        return (one.kind, one.about) == asked
    told = {"colour": one.about[1:], "shape": (one.value,), "presence": one.about}
    told |= {"place": one.about[1:]} if one.value else {}
    return told.get(asked.kind) == asked.about


def _coherence(answer: str, found: list[Statement]) -> int:
    words, text = answer.split(), answer.strip()
    runs = list(zip(*(words[n:] for n in range(_REPEATED)), strict=False))
    values: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for one in found:
        values.setdefault((one.kind, one.about), set()).add(one.value)
    less = (not text.endswith(".")) + (not text[:1].isupper())
    less += 2 * (len(set(runs)) < len(runs)) + any(len(some) > 1 for some in values.values())
    return max(0, 4 - less - ("<unk>" in answer))


def _of_things(scene: Scene, text: str) -> Iterator[Statement]:
    """Yield `a red circle in the top left`, and what follows of its colour and place."""
    for absent, colour, shape, place in _THING.findall(text):
        things = [t for t in scene.things if (t.colour, t.shape) == (colour, shape)]
        if absent:
            yield Statement("presence", (colour, shape), "no", not things)
            continue
        right = bool(things) and place in ("", things[0].place)
        yield Statement("thing", (colour, shape), place, right)


def _of_parts(scene: Scene, text: str) -> Iterator[Statement]:
    """Yield what a sentence says of a colour, a shape or a place."""
    shapes = {thing.shape: thing for thing in scene.things}
    for shape, colour in _STATED["colour"].findall(text):
        right = shape in shapes and shapes[shape].colour == colour
        yield Statement("colour", (shape,), colour, right)
    for place, shape in _STATED["shape"].findall(text):
        right = shape in shapes and shapes[shape].place == place
        yield Statement("shape", (place,), shape, right)
    for shape, place in _STATED["place"].findall(text):
        right = shape in shapes and shapes[shape].place == place
        yield Statement("place", (shape,), place, right)


def _of_whole(scene: Scene, text: str) -> Iterator[Statement]:
    """Yield what is said of the background, and of how many things there are."""
    for pair in _STATED_BACKGROUND.findall(text):
        value = "".join(pair)
        yield Statement("background", ("background",), value, value == scene.background)
    for number in _STATED_NUMBER.findall(text):
        yield Statement("number", (), number, number == _NUMBERS[len(scene.things) - 1])


def _bare(scene: Scene, question: Question, text: str) -> Iterator[Statement]:
    """Yield a lone word as the answer to what was asked, and a yes or no that begins a sentence."""
    kind = question.kind
    word = re.split(r"[ ,.]", text)[0] if kind == "presence" else text
    if word not in _WORDS.get(kind, ()):
        return
    yield Statement(kind, question.about, word, word == _right(scene, question))


def _right(scene: Scene, question: Question) -> str:
    """Return the word that answers a question, "" where the scene has none."""
    kind, about = question
    if kind == "background":
        return scene.background
    if kind == "number":
        return _NUMBERS[len(scene.things) - 1]
    if kind == "presence":
        return "yes" if about in [(t.colour, t.shape) for t in scene.things] else "no"
    found = [t for t in scene.things if about[0] in (t.shape, t.place)]
    return getattr(found[0], kind) if found else ""
