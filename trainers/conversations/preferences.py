"""Conversations of preference data: pairs, the best of several answers, and all with attributes.

What the records are: `io/preferences.py`.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from verbalizer_bench.io.conversation_files import AnyParse, parsed
from verbalizer_bench.io.conversations import (
    BadRecordError,
    Conversation,
    Message,
    Pair,
    conversation,
    record_id,
)
from verbalizer_bench.io.preferences import (
    LENGTH,
    UNKNOWN,
    Completion,
    PreferencePair,
    RatedCompletions,
    RecordFault,
    Turn,
    make,
)
from verbalizer_bench.trainers.conversations.steering import with_attributes

Kind = TypeVar("Kind", PreferencePair, RatedCompletions)
BEST = (
    "of a prompt's completions the one with the highest sum of helpfulness, correctness and "
    "coherence, of equals the first in the file"
)


def pair(index: int, row: Any) -> list[Pair]:
    """Make a pair of a `PreferencePair`, as `io.conversation_files.Parse` has it.

    Raises:
        BadRecordError: It is none.
    """
    record = _made(PreferencePair, index, row)
    prompt, images = messages(record.prompt, len(record.images)), tuple(record.images)

    def with_answer(turns: Sequence[Turn]) -> Conversation:
        answer = Message("assistant", turns[0].content.strip())
        return Conversation(index, record.id, (*prompt, answer), images, last_only=True)

    return [
        Pair(index, record.id, images, with_answer(record.chosen), with_answer(record.rejected))
    ]


def chosen(index: int, row: Any) -> list[Conversation]:
    """Make a conversation with the preferred answer of a `PreferencePair`."""
    return [one.chosen for one in pair(index, row)]


def answered(index: int, row: Any) -> list[Conversation]:
    """Make a conversation of a row of either layout, or of a pair's preferred answer."""
    is_pair = isinstance(row, dict) and {"chosen", "rejected"} <= row.keys()
    return chosen(index, row) if is_pair else conversation(index, row)


def best(index: int, row: Any) -> list[Conversation]:
    """Make a conversation with the best of `RatedCompletions`, by the rule `BEST`.

    Raises:
        BadRecordError: It is none, or no completion has scores.
    """
    record = _made(RatedCompletions, index, row)
    found = _best(_rated(record, index))
    return [_with_answer(record, index, messages(record.prompt, len(record.images)), found.text)]


def _quality(completion: Completion) -> int:
    assert completion.scores
    return completion.scores.quality


def _best(rated: Sequence[Completion]) -> Completion:
    return max(rated, key=_quality)


class Selection(NamedTuple):
    """What was chosen of the completions of some files.

    Attributes:
        unrated: Completions that were left out, for they have no scores.
        cut_off: Chosen ones that a limit of tokens cut off: that they end there is trained too.
        tied: Records of which several completions share the best score.
    """

    unrated: int
    cut_off: int
    tied: int


def selection(files: Iterable[Path], parse: AnyParse) -> Selection:
    """Count what `best` or `steered` chooses of the completions of files."""
    unrated = cut_off = tied = 0
    for file in files:
        for _, row, _ in parsed(file):
            with suppress(RecordFault):
                completions = make(RatedCompletions, row).completions
                rated = [one for one in completions if one.scores]
                chosen = [_best(rated)] if rated and parse is best else rated
                unrated += len(completions) - len(rated)
                cut_off += sum(one.ending == LENGTH for one in chosen)
                values = [_quality(one) for one in rated]
                tied += values.count(max(values, default=0)) > 1
    return Selection(unrated, cut_off, tied)


class CutOffPairs(NamedTuple):
    """How many pairs have answers that a limit of tokens cut off, and train that they end there.

    Attributes:
        chosen: Pairs whose preferred answer was cut off.
        rejected: Pairs whose other answer was.
        not_known: Pairs that do not say it of both.
    """

    chosen: int
    rejected: int
    not_known: int


def cut_off_pairs(files: Iterable[Path]) -> CutOffPairs:
    """Count the pairs of files by what ended their answers."""
    chosen = rejected = not_known = 0
    for file in files:
        for _, row, _ in parsed(file):
            with suppress(RecordFault):
                one = make(PreferencePair, row)
                endings = (one.ending_chosen or UNKNOWN, one.ending_rejected or UNKNOWN)
                chosen += endings[0] == LENGTH
                rejected += endings[1] == LENGTH
                not_known += UNKNOWN in endings
    return CutOffPairs(chosen, rejected, not_known)


def steered(index: int, row: Any) -> list[Conversation | BadRecordError]:
    """Make a conversation of each of `RatedCompletions`, whose question has its attributes.

    Raises:
        BadRecordError: It is none, or no completion has scores.
    """
    record = _made(RatedCompletions, index, row)
    *before, last = messages(record.prompt, len(record.images))
    made: list[Conversation | BadRecordError] = []
    for number, one in enumerate(_rated(record, index), index):
        assert one.scores
        question = last._replace(text=with_attributes(last.text, one.scores))
        made.append(_with_answer(record, number, (*before, question), one.text))
    return made


def _made(kind: type[Kind], index: int, row: Any) -> Kind:
    try:
        return make(kind, row)
    except RecordFault as error:
        found = _of_the_other(kind, row) or error
        raise BadRecordError(index, record_id(row), found.reason, found.detail) from error


def _of_the_other(kind: type[Kind], row: Any) -> RecordFault | None:
    """Return that a row is of the other kind or layout, and who takes that; None if it is not."""
    keys = set(row) if isinstance(row, dict) else set()
    if kind is PreferencePair and "completions" in keys - {"chosen"}:
        detail = "rated completions, which method=rejection and method=steerlm train; give pairs"
        return RecordFault("other kind", detail)
    fields = PreferencePair.model_fields.items()
    lacking = [name for name, field in fields if field.is_required() and name not in keys]
    if kind is PreferencePair and {"chosen", "rejected"} <= keys and lacking:
        detail = (
            f"it lacks {', '.join(lacking)}; `verbalizer-bench build "
            "recipes/data/existing_pairs.yaml` makes pairs of TRL's layout and of others"
        )
        return RecordFault("another layout", detail)
    if kind is RatedCompletions and {"chosen", "rejected"} <= keys - {"completions"}:
        detail = "a pair, which method=dpo trains; give rated completions"
        return RecordFault("other kind", detail)
    return None


def _rated(record: RatedCompletions, index: int) -> list[Completion]:
    """Return the completions that have scores; there must be one."""
    if rated := [one for one in record.completions if one.scores]:
        return rated
    detail = "no completion was judged; judge them, or leave the record out"
    raise BadRecordError(index, record.id, "no scores", detail)


def _with_answer(
    record: RatedCompletions, index: int, prompt: tuple[Message, ...], text: str
) -> Conversation:
    answer = Message("assistant", text.strip())
    return Conversation(index, record.id, (*prompt, answer), tuple(record.images), last_only=True)


def messages(turns: Sequence[Turn], images: int) -> tuple[Message, ...]:
    """Return turns as they are asked, with images in front of the first user turn's text."""
    first = next(number for number, turn in enumerate(turns) if turn.role == "user")
    return tuple(
        Message(turn.role, turn.content, images if number == first else 0)
        for number, turn in enumerate(turns)
    )
