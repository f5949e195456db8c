"""Samples: records in the making, which the stages hand on, a JSON object a line.

A sample goes on or is rejected with a reason; none is ever left out.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io import jsonl


class Turn(NamedTuple):
    """A question and its answer, which is empty until there is one."""

    question: str
    answer: str


class Attempt(NamedTuple):
    """A call made for a sample.

    Attributes:
        role: What was asked for.
        key: The response's key in the store.
        model: The server's name for it.
        input_tokens: Of the prompt.
        output_tokens: Of the response.
        problem: Why the response was not accepted; None if it was.
    """

    role: str
    key: str
    model: str
    input_tokens: int
    output_tokens: int
    problem: str | None = None


class Rejection(NamedTuple):
    """Why a sample is no record: the stage, the kind of reason, and the particulars."""

    stage: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Instruction:
    """One of IFEval's instructions.

    Attributes:
        type: `detectable_format:title`.
        arguments: What its verifier's `build_description` takes.
        text: What that returns.
        source: The IFEval prompt's key and the place in its list: `1001:0`.
    """

    type: str
    arguments: Mapping[str, Any]
    text: str
    source: str


class Candidate(NamedTuple):
    """A completion of a prompt, one of several.

    Attributes:
        text: The answer.
        ending: What ended it: `stop`, `length`, `filtered`; `unknown` where the server says none.
        seed: What it was sampled with; None: none was given, or it was not sampled.
        problem: Why it cannot be used; None if it can.
    """

    text: str
    ending: str
    seed: int | None = None
    problem: str | None = None


class Verdict(NamedTuple):
    """What a judge said of a sample's candidates.

    Attributes:
        order: The candidates' places, in the order in which they were shown.
        scores: Of each, in that order: an attribute's value by its name.
        reasons: Of each, in that order.
    """

    order: tuple[int, ...]
    scores: tuple[Mapping[str, int], ...]
    reasons: tuple[str, ...]

    def by_candidate(self) -> dict[int, Mapping[str, int]]:
        """Return the scores by the candidate's place."""
        return dict(zip(self.order, self.scores, strict=True))


@dataclass(frozen=True)
class TrainingSample:
    """A record in the making.

    Attributes:
        id: Unique in the data set.
        arm: Which set it is for: `format`, `plain`; `conversation`, …; "" while it is an image.
        image: Path of the file in the images' folder.
        image_sha256: Of the file; None if it is not there.
        caption: What is known of the image.
        context: More of that: captions and boxes, or options.
        instruction: The output format.
        system: The conversation's system turn.
        turns: Questions and answers; a prompt's last answer is empty.
        candidates: Completions of the prompt.
        verdicts: What a judge said of them; the first counts, a second is for its agreement.
        source: Which of the recipe's records it is from.
        pair: The sample whose image and question it shares; both are accepted or neither.
        attempts: The calls.
        verified: Whether the verifier of the instruction's type accepts the answer.
        rejection: Why it is no record; `set_aside` in files.
    """

    id: str
    arm: str = ""
    image: str | None = None
    image_sha256: str | None = None
    caption: str | None = None
    context: str | None = None
    instruction: Instruction | None = None
    system: str | None = None
    turns: tuple[Turn, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    source: str | None = None
    pair: str | None = None
    attempts: tuple[Attempt, ...] = ()
    verified: bool | None = None
    rejection: Rejection | None = None

    def reject(self, stage: str, reason: str, detail: str) -> "TrainingSample":
        """Return the sample, rejected."""
        return dataclasses.replace(self, rejection=Rejection(stage, reason, detail))

    def as_json(self) -> dict[str, Any]:
        """Return the sample's JSON, without fields that have no value."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("turns", "candidates", "verdicts", "attempts"):
            values[name] = [part._asdict() for part in values[name]]
        if self.instruction:
            values["instruction"] = dataclasses.asdict(self.instruction)
        if rejection := values.pop("rejection"):
            values["set_aside"] = rejection._asdict()
        return {name: value for name, value in values.items() if value not in (None, [], "")}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "TrainingSample":
        """Return the sample of a JSON object."""
        values = dict(record)
        values["turns"] = tuple(Turn(**turn) for turn in values.get("turns", ()))
        values["candidates"] = tuple(Candidate(**one) for one in values.get("candidates", ()))
        values["verdicts"] = tuple(
            Verdict(*(tuple(one[name]) for name in Verdict._fields))
            for one in values.get("verdicts", ())
        )
        values["attempts"] = tuple(Attempt(**one) for one in values.get("attempts", ()))
        if "instruction" in values:
            values["instruction"] = Instruction(**values["instruction"])
        if "set_aside" in values:
            values["rejection"] = Rejection(**values.pop("set_aside"))
        return cls(**values)


def read_samples(path: Path) -> list[TrainingSample]:
    """Return a stage's samples.

    Raises:
        ValueError: A line is no sample.
    """
    samples = []
    for place, value in jsonl.read(path):
        try:
            samples.append(TrainingSample.of(value))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, {place}: not a row of a stage: {error}") from error
    return samples
