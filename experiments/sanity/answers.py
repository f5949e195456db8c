"""Answers that need no model: what each would say to a prompt of the suite."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from verbalizer_bench.tasks.task import VerbalizerTask

Doc = Mapping[str, str]
Answer = Callable[[VerbalizerTask, Doc, random.Random], str]


class Answerer(NamedTuple):
    """What answers every prompt by one rule.

    Attributes:
        what: The rule, for a reader.
        answer: Returns the response to a task's document.
        draws: How often it is asked, each time with other random numbers.
    """

    what: str
    answer: Answer
    draws: int = 1


def target(task: VerbalizerTask, doc: Doc) -> str:
    """Return the expected word."""
    return task.spec.target(doc, task.verbalizer)


def other(task: VerbalizerTask, doc: Doc) -> str:
    """Return the word of the other class."""
    return task.spec.other(doc, task.verbalizer)


def text(task: VerbalizerTask, doc: Doc) -> str:
    """Return what is to be judged: one text or two."""
    return " ".join(doc[field] for field in task.spec.fields)


def _majority(task: VerbalizerTask, doc: Doc) -> str:
    return target(task, {"label": larger_class(task)})


@cache
def larger_class(task: VerbalizerTask) -> str:
    """Return the class that most of a task's documents have."""
    return Counter(doc["label"] for doc in task.test_docs()).most_common(1)[0][0]


def _meant(task: VerbalizerTask, doc: Doc) -> str:
    """Return the label word that means the class by itself; where none does, its name."""
    by_type = {"natural": target, "unnatural": other}
    return by_type.get(task.verbalizer.type, _class_name)(task, doc)


def _of_text(task: VerbalizerTask, doc: Doc, rng: random.Random) -> str:
    return rng.choice(text(task, doc).split())


def _both(task: VerbalizerTask, doc: Doc) -> str:
    return f"{task.verbalizer.first} {task.verbalizer.second}"


def _class_name(task: VerbalizerTask, doc: Doc) -> str:
    return doc["label"]


def _first_name(task: VerbalizerTask, doc: Doc) -> str:
    return task.spec.classes[0]


def _prompt_start(task: VerbalizerTask, doc: Doc) -> str:
    return " ".join(task.doc_to_text(doc).split()[:12])


def _runs_on(task: VerbalizerTask, doc: Doc) -> str:
    return " ".join([target(task, doc), *text(task, doc).split()[:14]])


def _word(task: VerbalizerTask, doc: Doc, rng: random.Random) -> str:
    return rng.choice((task.verbalizer.first, task.verbalizer.second))


def _by(rule: Callable[[VerbalizerTask, Doc], str]) -> Answer:
    return lambda task, doc, rng: rule(task, doc)


def _in(form: str) -> Answer:
    """Return what puts the expected word into a form of words."""
    return lambda task, doc, rng: form.format(target(task, doc))


DRAWS = 20
ANSWERERS = {
    "perfect": Answerer("the expected word", _by(target)),
    "marked": Answerer("the expected word in quotes, with a full stop", _in('"{}."')),
    "twice": Answerer("the expected word twice", _in("{0} {0}")),
    "sentence": Answerer('"The answer is" and the expected word', _in("The answer is {}.")),
    "among-five": Answerer("the expected word and four others", _in("{}, here I would say")),
    "runs-on": Answerer("the expected word, then 14 words of the text", _by(_runs_on)),
    "both": Answerer("both label words", _by(_both)),
    "random": Answerer("one of the two label words, at random", _word, DRAWS),
    "majority": Answerer("the label word of the larger class", _by(_majority)),
    "first": Answerer("the first label word", _by(lambda task, doc: task.verbalizer.first)),
    "second": Answerer("the second label word", _by(lambda task, doc: task.verbalizer.second)),
    "meant": Answerer("what the label words mean by themselves", _by(_meant)),
    "class-name": Answerer("the right class's name, whatever is asked", _by(_class_name)),
    "one-name": Answerer("the first class's name, whatever is asked", _by(_first_name)),
    "flipped": Answerer("the other label word", _by(other)),
    "prompt": Answerer("a copy of the prompt", _by(lambda task, doc: task.doc_to_text(doc))),
    "prompt-start": Answerer("the first 12 words of the prompt", _by(_prompt_start)),
    "text": Answerer("a copy of the text", _by(text)),
    "text-word": Answerer("a word of the text, at random", _of_text, DRAWS),
    "empty": Answerer("nothing", _by(lambda task, doc: "")),
}
