"""Response-format data: existing questions, and how their answers are asked for. No model is asked.

verbalizer-bench build recipes/data/response_format.yaml records=data/vqa.jsonl

Visual questions get LLaVA-1.5's format prompts (Liu et al. 2023, arXiv 2310.03744, section 3.2):
after the question it says that a short answer, or an option's letter, is wanted. Questions of text
whose records have an answer in one of IFEval's formats beside the plain one make two sets of the
same items, with the format's instruction and without; the former are verified.
"""

import dataclasses
import hashlib
import json
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.builders.export.sets import SetLayout
from verbalizer_bench.builders.filters import screening, verifiers, wording
from verbalizer_bench.builders.pipeline.context import BuildContext, PlannedCalls
from verbalizer_bench.builders.pipeline.prompts import check_records
from verbalizer_bench.builders.pipeline.recipe import ResponseFormat
from verbalizer_bench.builders.pipeline.sample import Instruction, TrainingSample, Turn
from verbalizer_bench.builders.pipeline.stages import Stage
from verbalizer_bench.client.response_checks import artifact_problem
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.json_reading import read_json

NEEDED = {"records": {"short": ("question",), "letter": ("question", "context")}}
LAYOUTS = (SetLayout("response_format", ("short", "letter"), image=True, template="arm"),)
PAIRED_TEXTS = {"format": ("instruction", "question"), "plain": ("question",)}
PAIRED = tuple(SetLayout(arm, (arm,), image=False) for arm in PAIRED_TEXTS)
_ASKED = "instruction"


class ResponseFormatStages:
    """The stages."""

    needed, roles = NEEDED, ()

    def __init__(self, context: BuildContext, recipe: ResponseFormat) -> None:
        """Read the records.

        Raises:
            FileNotFoundError: They are not there.
            ValueError: They are no records, or a text of the sets that they make is missing.
        """
        self.recipe = recipe
        self.records = read_records(recipe.records)[: recipe.limit]
        paired = [record for record in self.records if _ASKED in record]
        self.layouts = (PAIRED if paired else ()) + (
            LAYOUTS if len(paired) < len(self.records) else ()
        )
        if paired:
            check_records(recipe.prompts, context.prompts, PAIRED_TEXTS)

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        content = json.dumps(self.records, sort_keys=True)
        sha256 = hashlib.sha256(content.encode()).hexdigest()
        return [
            Stage("records", {"records": sha256}, self._samples),
            Stage("check", screening.settings(self.recipe), self._check),
        ]

    def plan(self) -> list[PlannedCalls]:
        """Return no call."""
        return []

    async def _samples(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        made = [
            sample
            for number, record in enumerate(self.records)
            for sample in make_samples(record, number)
        ]
        seen = Counter(sample.id for sample in made)
        # Some sources number the questions of each image from the beginning.
        return [
            dataclasses.replace(sample, id=f"{sample.id}-{number:06}")
            if seen[sample.id] > 1
            else sample
            for number, sample in enumerate(made)
        ]

    async def _check(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        # Existing questions may repeat: many are asked about many images.
        return await screening.screen(samples, self.recipe, repeated=("short", "letter"))


def make_samples(record: Mapping[str, Any], number: int) -> tuple[TrainingSample, ...]:
    """Return a record's samples: of a question of text with a format two, a pair."""
    return paired_samples(record, number) if _ASKED in record else (make_sample(record, number),)


def paired_samples(record: Mapping[str, Any], number: int) -> tuple[TrainingSample, ...]:
    """Return a question with its format's instruction, and without; rejected if one is unusable.

    Args:
        record: `question`, `answer`, `formatted`, and `instruction`: `type` and `arguments` of one
            of IFEval's verifiers, and `text` in place of IFEval's own words.
        number: Its place, from 0.
    """
    name = str(record.get("id", f"{number:06}"))
    ids = (f"{name}-format", f"{name}-plain")
    both = tuple(
        TrainingSample(id=own, arm=arm, pair=other)
        for own, other, arm in zip(ids, ids[::-1], PAIRED_TEXTS, strict=True)
    )
    problem = _paired_problem(record)
    if problem:
        said = f"record {number}: {problem.detail}"
        return tuple(sample.reject("records", problem.reason, said) for sample in both)
    question = record["question"].strip()
    asked = _instruction(record, name)
    turns = [(Turn(question, record[key].strip()),) for key in ("formatted", "answer")]
    formatted = dataclasses.replace(both[0], instruction=asked, turns=turns[0])
    formatted = dataclasses.replace(formatted, verified=_obeys(formatted))
    if not formatted.verified:
        said = f"record {number}: {record['formatted']!r} does not obey: {asked.text}"
        formatted = formatted.reject("records", "format", said)
    plain = dataclasses.replace(both[1], turns=turns[1])
    return tuple(screening.reject_pairs([formatted, plain]))


def _paired_problem(record: Mapping[str, Any]) -> wording.Problem | None:
    """Return why a question with a format cannot be used."""
    for key in ("question", "answer", "formatted"):
        value = record.get(key)
        if not isinstance(value, str):
            return wording.Problem("empty", f"{key}={value!r}: a text is expected")
        problem = (
            wording.empty_problem(value, key)
            or wording.placeholder_problem(value)
            or artifact_problem(value)
        )
        if problem:
            return wording.Problem(*problem)
    asked = record[_ASKED]
    if not isinstance(asked, Mapping) or not isinstance(asked.get("type"), str):
        return wording.Problem("instruction", f"instruction={asked!r}: give type and arguments")
    try:
        verifiers.check_type(asked["type"])
        verifiers.describe(asked["type"], asked.get("arguments", {}))
    except ValueError as error:
        return wording.Problem("instruction", str(error))
    return None


def _instruction(record: Mapping[str, Any], name: str) -> Instruction:
    asked = record[_ASKED]
    kind, arguments = asked["type"], dict(asked.get("arguments", {}))
    return Instruction(
        kind, arguments, asked.get("text") or verifiers.describe(kind, arguments), name
    )


def _obeys(sample: TrainingSample) -> bool:
    asked, (turn,) = sample.instruction, sample.turns
    assert asked
    return verifiers.verify(asked.type, asked.arguments, turn.question, turn.answer)


def read_records(path: Path) -> list[Mapping[str, Any]]:
    """Return the records of a JSON list or of JSON lines.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is neither.
    """
    if not path.is_file():
        raise FileNotFoundError(f"records={path}: no such file")
    try:
        whole = path.suffix == ".json"
        records = read_json(path) if whole else [record for _, record in jsonl.read(path)]
    except ValueError as error:
        raise ValueError(f"records={error}; one a line is .jsonl") from error
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
        raise ValueError(f"records={path}: a list of objects is expected")
    return records


def make_sample(record: Mapping[str, Any], number: int) -> TrainingSample:
    """Return a record's sample, rejected if the record cannot be used."""
    sample = TrainingSample(
        id=str(record.get("id", record.get("question_id", f"{number:06}"))),
        arm="letter" if record.get("choices") else "short",
        image=record.get("image"),
    )
    for name in ("question", "image"):
        if not isinstance(record.get(name), str) or not record[name].strip():
            value = record.get(name)
            said = f"{name}={value!r}: a text is expected" if value else f"has no {name}"
            sample = dataclasses.replace(sample, image=None) if name == "image" else sample
            return sample.reject("records", "empty", f"record {number} {said}")
    question = record["question"].strip()
    try:
        answer = _letter(record) if sample.arm == "letter" else _short(record)
    except ValueError as error:
        return sample.reject("records", "answer", f"record {number}: {error}")
    sample = dataclasses.replace(sample, turns=(Turn(question, answer),), context=_options(record))
    problem = wording.empty_problem(question, "the question") or wording.empty_problem(
        answer, "the answer"
    )
    for text in (question, answer, *map(str, record.get("choices") or ())):
        problem = problem or wording.placeholder_problem(text) or artifact_problem(text)
    return sample.reject("records", *problem) if problem else sample


def _options(record: Mapping[str, Any]) -> str | None:
    """Return the choices, a line each with its letter."""
    choices = record.get("choices") or ()
    lines = (" ".join(str(choice).split()) for choice in choices)
    pairs = zip(string.ascii_uppercase, lines, strict=False)
    return "\n".join(f"{letter}. {line}" for letter, line in pairs) or None


def _letter(record: Mapping[str, Any]) -> str:
    """Return the right option's letter; `answer` is the option, its letter, or its place from 0."""
    choices: Sequence[Any] = record["choices"]
    if not isinstance(choices, list):
        raise ValueError(f"choices={choices!r}: a list is expected")
    for choice in choices:
        if not isinstance(choice, (str, int, float)) or wording.empty_problem(str(choice), "it"):
            raise ValueError(f"choices={choices!r}: {choice!r} is no text; give each option's")
    answer = record.get("answer", record.get("correct_choice_idx"))
    letters = string.ascii_uppercase[: len(choices)]
    if len(choices) > len(letters):
        raise ValueError(f"{len(choices)} choices, and letters for {len(letters)}")
    meant = {at for at, choice in enumerate(choices) if _same(choice, answer)}
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        meant.add(answer)
    elif isinstance(answer, str) and len(answer) == 1 and answer in letters and not meant:
        meant.add(letters.index(answer))
    if len(meant) > 1:
        said = ", ".join(letters[at] for at in sorted(meant))
        raise ValueError(
            f"answer={answer!r} may be any of {said}; give the option once, or its letter"
        )
    for at in meant:
        return letters[at]
    raise ValueError(f"answer={answer!r} is none of its choices")


def _same(choice: Any, answer: Any) -> bool:
    """Return whether two values are equal and of one type: 1 is not true."""
    return type(choice) is type(answer) and bool(choice == answer)


def _short(record: Mapping[str, Any]) -> str:
    """Return the answer; of several people's, the first of the most frequent."""
    answers = record.get("answers") or [record.get("answer")]
    texts = [answer.get("answer") if isinstance(answer, Mapping) else answer for answer in answers]
    for text in texts:
        if isinstance(text, (bool, list, dict)):
            raise ValueError(f"answer={text!r}: a text is expected")
    given = [str(text).strip() for text in texts if text not in (None, "")]
    if not given or not given[0]:
        raise ValueError("no answer")
    return Counter(given).most_common(1)[0][0]
