"""Items of GSM8K as records of two kinds: answered in a format that is asked for, and as sentences.

Cobbe et al. 2021 (arXiv 2110.14168, MIT): questions of grade-school mathematics that people wrote,
with worked answers. A rule makes the formatted answer of the worked one; IFEval's verifiers (Zhou
et al. 2023, arXiv 2311.07911) check it when the builders make a set of the records.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from verbalizer_bench.io import jsonl

# Calculator marks, which are not for readers.
_MARKS = re.compile(r"<<.*?>>")
MOST_CHARACTERS = 300
_OFFER = "Is there anything else I can help with?"


class Item(NamedTuple):
    """A question with its worked answer.

    Attributes:
        id: `train-12`: the file and the line in it, from 0.
        question: The question.
        steps: The answer's sentences, in order.
        number: What comes out, a whole number.
    """

    id: str
    question: str
    steps: tuple[str, ...]
    number: str

    @property
    def sentences(self) -> str:
        """Return the worked answer as it is given where no format is asked for."""
        return f"{' '.join(self.steps)} {self.last}"

    @property
    def last(self) -> str:
        """Return the sentence that says what comes out."""
        return f"The answer is {self.number}."


class Format(NamedTuple):
    """One of IFEval's formats, and an item's answer in it.

    Attributes:
        type: Its verifier.
        answer: Makes the answer.
        arguments: Makes what the verifier takes.
        text: Its instruction, in place of IFEval's words; "": IFEval's.
    """

    type: str
    answer: Callable[[Item], str]
    arguments: Callable[[Item], Mapping[str, Any]] = lambda item: {}
    text: str = ""


FORMATS = {
    "number": Format(
        "length_constraints:number_words",
        lambda item: item.number,
        lambda item: {"num_words": 2, "relation": "less than"},
        "Answer with the number alone.",
    ),
    "json": Format(
        "detectable_format:json_format",
        lambda item: json.dumps({"steps": item.steps, "answer": int(item.number)}),
    ),
    "bullets": Format(
        "detectable_format:number_bullet_lists",
        lambda item: "\n".join(f"* {step}" for step in item.steps),
        lambda item: {"num_bullets": len(item.steps)},
    ),
    "capitals": Format("change_case:english_capital", lambda item: item.sentences.upper()),
    "lowercase": Format("change_case:english_lowercase", lambda item: item.sentences.lower()),
    "title": Format("detectable_format:title", lambda item: f"<<Solution>>\n{item.sentences}"),
    "ending": Format(
        "startend:end_checker",
        lambda item: f"{item.sentences} {_OFFER}",
        lambda item: {"end_phrase": _OFFER},
    ),
    "quotation": Format("startend:quotation", lambda item: f'"{item.sentences}"'),
    "highlight": Format(
        "detectable_format:number_highlighted_sections",
        lambda item: f"{' '.join(item.steps)} *{item.last}*",
        lambda item: {"num_highlights": 1},
    ),
    "postscript": Format(
        "detectable_content:postscript",
        lambda item: f"{' '.join(item.steps)}\n\nP.S. {item.last}",
        lambda item: {"postscript_marker": "P.S."},
    ),
    "sections": Format(
        "detectable_format:multiple_sections",
        lambda item: "\n".join(f"Step {n}\n{step}" for n, step in enumerate(item.steps, start=1)),
        lambda item: {"section_spliter": "Step", "num_sections": len(item.steps)},
    ),
}


def read_items(file: Path) -> list[Item]:
    """Return the items of a file of GSM8K that can be used: short, with a whole number.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is none of GSM8K's.
    """
    if not file.is_file():
        raise FileNotFoundError(f"gsm8k: {file}: no such file; give a folder of GSM8K's JSON lines")
    return [item for item in _items(file) if item]


def _items(file: Path) -> Iterator[Item | None]:
    for number, (place, row) in enumerate(jsonl.read_objects(file)):
        if not all(isinstance(row.get(key), str) for key in ("question", "answer")):
            raise ValueError(f"{file}, {place}: question and answer are expected")
        worked, _, result = row["answer"].partition("####")
        result = result.strip().replace(",", "")
        lines = (_sentence(line) for line in _MARKS.sub("", worked).splitlines() if line.strip())
        item = Item(f"{file.stem}-{number}", row["question"].strip(), tuple(lines), result)
        short = len(item.question) + len(item.sentences) <= MOST_CHARACTERS
        yield item if short and len(item.steps) > 1 and re.fullmatch(r"-?\d+", result) else None


def _sentence(line: str) -> str:
    line = line.strip()
    return line if line[-1] in ".!?" else f"{line}."


def drawn(items: Sequence[Item], number: int, seed: str) -> list[dict[str, Any]]:
    """Draw items, and return them as records of the builders' kind `response_format`.

    Formats take turns, so that each is as frequent as the others.

    Args:
        items: To draw from.
        number: How many.
        seed: Of the draw and of its order.

    Raises:
        ValueError: There are fewer.
    """
    if number > len(items):
        raise ValueError(f"items={number}: GSM8K has {len(items)} that can be used; give fewer")
    chosen, names = Random(seed).sample(list(items), number), list(FORMATS)
    return [record(item, names[place % len(names)]) for place, item in enumerate(chosen)]


def record(item: Item, name: str) -> dict[str, Any]:
    """Return an item with its answer in a format, and without."""
    asked = FORMATS[name]
    instruction = {"type": asked.type, "arguments": asked.arguments(item)}
    return {
        "id": f"{item.id}-{name}",
        "question": item.question,
        "answer": item.sentences,
        "formatted": asked.answer(item),
        "instruction": instruction | ({"text": asked.text} if asked.text else {}),
    }
