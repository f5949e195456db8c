"""Conversations of preference data: pairs, the best of several answers, and all with attributes.

What the records are: `io/preferences.py`.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from verbalizer_bench.io.conversations import (
    BadRecordError,
    Conversation,
    Message,
    Pair,
    conversation,
    parsed,
    record_id,
)
from verbalizer_bench.io.preferences import (
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
    """Make a pair of a `PreferencePair`, as `io.conversations.Parse` has it.

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
    found = max(_rated(record, index), key=lambda one: one.scores.quality if one.scores else -1)
    return [_with_answer(record, index, messages(record.prompt, len(record.images)), found.text)]


def count_tied(files: Iterable[Path]) -> int:
    """Return of how many records several completions share the best score.

    Args:
        files: Of records that `best` was made of.
    """
    count = 0
    for file in files:
        for _, row, _ in parsed(file):
            with suppress(RecordFault):
                completions = make(RatedCompletions, row).completions
                values = [one.scores.quality for one in completions if one.scores]
                count += values.count(max(values, default=0)) > 1
    return count


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
        raise BadRecordError(index, record_id(row), error.reason, error.detail) from error


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
