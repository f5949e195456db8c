"""What a benchmark asks, and what was answered."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.json_reading import read_json


class Question(NamedTuple):
    """A question of one or more turns.

    Attributes:
        id: Its name in the benchmark.
        category: What its benchmark counts it under.
        turns: What is asked, turn by turn.
        temperature: Of the answer; 0 is greedy.
        image: What is shown with the first turn; None: nothing.
    """

    id: str
    category: str
    turns: tuple[str, ...]
    temperature: float = 0.0
    image: Path | None = None


class Answer(NamedTuple):
    """What was answered.

    Attributes:
        turns: The answers, turn by turn.
        endings: What ended each: `eos`, `stop`, `limit` (of new tokens), or `no room` where the
            conversation filled the model's context.
    """

    turns: tuple[str, ...]
    endings: tuple[str | None, ...]


def rows_of(file: Path, wanted: Mapping[str, type]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and object of each row of a JSON list or of JSON lines.

    Args:
        file: The file.
        wanted: Keys that each row has to have, and their types.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or a row lacks a key or has one of another type.
    """
    for place, row in _values(file):
        if not isinstance(row, dict):
            raise ValueError(f"{file}, {place}: an object is expected; give the benchmark's file")
        for key, kind in wanted.items():
            value = row.get(key)
            # An answer may be empty, a question may not.
            if not isinstance(value, kind) or (value == "" and key not in ("output", "text")):
                raise ValueError(
                    f"{file}, {place}: {key}={value!r}: {_NAMES[kind]} is expected; give the "
                    "benchmark's own file"
                )
        yield f"{file}, {place}", row


_NAMES = {str: "a text", list: "a list", int: "a whole number"}


def _values(file: Path) -> Iterator[tuple[str, Any]]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; give the benchmark's folder or file")
    with file.open("rb") as stream:
        is_list = stream.read(64).lstrip().startswith(b"[")
    if not is_list:
        yield from jsonl.read(file)
        return
    for number, row in enumerate(read_json(file), 1):
        yield f"row {number}", row


def check_unique(questions: Sequence[Question], file: Path) -> None:
    """Raise ValueError for a file without a question, or with one twice."""
    names = [question.id for question in questions]
    if not names:
        raise ValueError(f"{file}: holds no question; give the benchmark's own file")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{file}: question {twice[0]} is there twice; remove one")


def missing_images(questions: Sequence[Question]) -> str | None:
    """Return where how many of the questions' images are not there; None if all are."""
    wanted = {question.image for question in questions if question.image}
    missing = sorted(image for image in wanted if not image.is_file())
    if not missing:
        return None
    return (
        f"{missing[0].parent}: {len(missing)} of {len(wanted)} images are not there, such as "
        f"{missing[0].name}"
    )


def check_images(questions: Sequence[Question]) -> None:
    """Raise FileNotFoundError if images of the questions are not there."""
    if missing := missing_images(questions):
        raise FileNotFoundError(f"{missing}; give the folder that has them all")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return a template with `{name}` replaced where the name is known; other braces stay."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


def sha256_of(value: Any) -> str:
    """Return a hash of what JSON can hold, and of paths by their names."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=lambda path: path.name)
    return hashlib.sha256(text.encode()).hexdigest()
