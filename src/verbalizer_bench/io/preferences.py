"""The two kinds of records that preference data is kept in, one a line of JSON, read strictly.

    {"id": "7", "prompt": [{"role": "user", "content": "What is it?"}],
     "chosen": [{"role": "assistant", "content": "A red cat on a mat."}],
     "rejected": [{"role": "assistant", "content": "A dog."}], "images": ["7.jpg"],
     "score_chosen": 11.0, "score_rejected": 4.0, "source": "annotated",
     "ending_chosen": "stop", "ending_rejected": "length"}

    {"id": "7", "prompt": [{"role": "user", "content": "What is it?"}], "images": ["7.jpg"],
     "completions": [{"text": "A red cat on a mat.", "scores": {"helpfulness": 4, "correctness": 4,
                      "coherence": 3, "complexity": 1, "verbosity": 1}, "ending": "stop"}],
     "source": "llava-1.5-13b"}

A pair's endings may be left out, and nothing else. `datasets` reads both as they are, and TRL the
first. An image stands in front of the first user
turn's text, in the list's order; no text has a token for it. Image names are relative to a folder
that the reader is given.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole

IMAGE = "<image>"
# The ending of an answer that a limit of tokens cut off.
LENGTH = "length"
# That of one of which nothing is known.
UNKNOWN = "unknown"
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
Kind = TypeVar("Kind", bound="_Record")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Turn(_Part):
    """A turn of a conversation.

    Attributes:
        role: Whose it is.
        content: Its text.
    """

    role: Literal["system", "user", "assistant"]
    content: str


class Scores(_Part):
    """What a judge gave a completion, each from 0 (worst, least) to 4."""

    helpfulness: Annotated[int, Field(ge=0, le=4)]
    correctness: Annotated[int, Field(ge=0, le=4)]
    coherence: Annotated[int, Field(ge=0, le=4)]
    complexity: Annotated[int, Field(ge=0, le=4)]
    verbosity: Annotated[int, Field(ge=0, le=4)]

    @property
    def quality(self) -> int:
        """Return the sum of the first three, 0 to 12: what completions are ranked by."""
        return self.helpfulness + self.correctness + self.coherence


class Completion(_Part):
    """An answer that was sampled.

    Attributes:
        text: The answer.
        scores: What a judge gave it; None if it was not judged.
        ending: What ended it, as whoever sampled it says: `stop`, `length`.
    """

    text: str
    scores: Scores | None
    ending: str


class _Record(_Part):
    id: str
    prompt: list[Turn]
    images: list[str]
    source: str

    @model_validator(mode="after")
    def _check(self) -> "_Record":
        _check_prompt(self.prompt)
        for turn in self.prompt:
            _check_text("prompt", turn.content)
        return self


class PreferencePair(_Record):
    """Two answers to a prompt, the first preferred.

    Attributes:
        id: The record's name.
        prompt: Turns of a conversation; the last is a user's.
        chosen: The better answer, one assistant turn.
        rejected: The worse one.
        images: Names of images, which stand in front of the first user turn's text.
        score_chosen: What it was preferred by; None if by no number.
        score_rejected: The same of the other.
        source: Where the pair comes from.
        ending_chosen: What ended it, as a completion's; None where nothing is known.
        ending_rejected: The same of the other.
    """

    chosen: list[Turn]
    rejected: list[Turn]
    score_chosen: float | None
    score_rejected: float | None
    ending_chosen: str | None = None
    ending_rejected: str | None = None

    @model_validator(mode="after")
    def _check_answers(self) -> "PreferencePair":
        for name, turns in (("chosen", self.chosen), ("rejected", self.rejected)):
            roles = [turn.role for turn in turns]
            if roles != ["assistant"]:
                detail = f"{name}: {', '.join(roles) or 'no turn'}; write one assistant turn"
                raise _fault("malformed answer", f"{detail}, and those before it in prompt")
            _check_text(name, turns[0].content)
        if self.chosen[0].content.strip() == self.rejected[0].content.strip():
            text = _short(self.chosen[0].content)
            raise _fault("same answer", f"chosen and rejected are both {text}; leave it out")
        one, other = self.score_chosen, self.score_rejected
        if one is not None and other is not None and one < other:
            detail = f"score_chosen={one:g} is below score_rejected={other:g}; exchange the answers"
            raise _fault("scores", f"{detail}, or write null for scores where less is better")
        return self


class RatedCompletions(_Record):
    """Several answers to a prompt, with a judge's scores.

    Attributes:
        id: The record's name.
        prompt: Turns of a conversation; the last is a user's.
        images: Names of images, which stand in front of the first user turn's text.
        completions: The answers, at least one.
        source: Where they come from.
    """

    completions: Annotated[list[Completion], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_completions(self) -> "RatedCompletions":
        for number, completion in enumerate(self.completions):
            _check_text(f"completions.{number}.text", completion.text)
        return self


class RecordFault(ValueError):
    """What is wrong with a record: the kind of fault, and its detail with key and fix."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def make(kind: type[Kind], value: Any) -> Kind:
    """Make a record of what JSON holds.

    Raises:
        RecordFault: A key is missing, unknown or wrong, an answer is empty or equals the other, a
            text has an image's token, or the turns are in no order that is asked.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _first_fault(error) from error


def read(kind: type[Kind], path: Path) -> Iterator[tuple[str, Kind]]:
    """Yield place (`line 3`) and record of each line of a file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is not JSON or not a record of the kind; names file, line and key.
    """
    for place, value in jsonl.read(path):
        try:
            yield place, make(kind, value)
        except RecordFault as error:
            raise ValueError(f"{path}, {place}: {error}") from error


def write(path: Path, records: Iterable[PreferencePair | RatedCompletions]) -> None:
    """Write records, one a line; the file is replaced as a whole."""
    write_whole(path, jsonl.dumps(record.model_dump(exclude_unset=True) for record in records))


def _check_prompt(turns: Sequence[Turn]) -> None:
    roles = [turn.role for turn in turns]
    said = roles[1:] if roles[:1] == ["system"] else roles
    wanted = [("user", "assistant")[number % 2] for number in range(len(said))]
    if said != wanted or len(said) % 2 == 0:
        raise _fault(
            "turn order",
            f"prompt: {', '.join(roles) or 'no turn'}; a system turn if any, then user and "
            "assistant in turn, the user's last",
        )


def _check_text(key: str, text: str) -> None:
    if not text.strip():
        raise _fault("empty text", f"{key}: it has no text; leave the record out")
    if IMAGE in text:
        raise _fault(
            "image token", f"{key}: {IMAGE} stands in {_short(text)}; name the image in images"
        )


def _first_fault(error: ValidationError) -> RecordFault:
    fault = error.errors(include_url=False)[0]
    key = ".".join(map(str, fault["loc"]))
    if fault["type"] == "record_fault":
        context = fault["ctx"]
        return RecordFault(context["reason"], context["detail"])
    if fault["type"] == "missing":
        there = ", ".join(map(str, fault["input"]))
        fix = f"{key} (there are {there}); write it, or null or [] where nothing is known"
        return RecordFault("missing key", fix)
    if fault["type"] == "extra_forbidden":
        return RecordFault("unknown key", f"{key}; leave it out")
    value = shown(fault["input"])
    if not key:
        return RecordFault("wrong value", f"{value} is no record; give an object of JSON")
    return RecordFault("wrong value", f"{key}={value}: {fault['msg']}")


def _fault(reason: str, detail: str) -> PydanticCustomError:
    return PydanticCustomError("record_fault", "{detail}", {"reason": reason, "detail": detail})


def shown(value: Any) -> str:
    """Return a value as a message shows it."""
    return _cut(repr(value))


def _short(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
