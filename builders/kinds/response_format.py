"""Response-format data: existing visual questions with LLaVA-1.5's format prompts.

verbalizer-bench build recipes/data/response_format.yaml records=data/vqa.jsonl

Liu et al. 2023 (arXiv 2310.03744), section 3.2: a prompt after the question says that a short
answer, or an option's letter, is wanted. No model is asked.
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
from verbalizer_bench.builders.filters import screening, wording
from verbalizer_bench.builders.pipeline.context import BuildContext, PlannedCalls
from verbalizer_bench.builders.pipeline.recipe import ResponseFormat
from verbalizer_bench.builders.pipeline.sample import TrainingSample, Turn
from verbalizer_bench.builders.pipeline.stages import Stage
from verbalizer_bench.client.response_checks import artifact_problem
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.json_reading import read_json

NEEDED = {"records": {"short": ("question",), "letter": ("question", "context")}}
LAYOUTS = (SetLayout("response_format", ("short", "letter"), image=True, template="arm"),)


class ResponseFormatStages:
    """The stages."""

    layouts, needed, roles = LAYOUTS, NEEDED, ()

    def __init__(self, context: BuildContext, recipe: ResponseFormat) -> None:
        """Read the records."""
        self.recipe = recipe
        self.records = read_records(recipe.records)[: recipe.limit]

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
        made = [make_sample(record, number) for number, record in enumerate(self.records)]
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
