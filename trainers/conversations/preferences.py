"""Conversations of preference data: pairs for `dpo`.

What the records are: `io/preferences.py`.
"""

from collections.abc import Sequence
from typing import Any

from verbalizer_bench.io.conversations import (
    BadRecordError,
    Conversation,
    Message,
    Pair,
    record_id,
)
from verbalizer_bench.io.preferences import PreferencePair, RecordFault, Turn, make


def pair(index: int, row: Any) -> list[Pair]:
    """Make a pair of a `PreferencePair`, as `io.conversations.Parse` has it.

    Raises:
        BadRecordError: It is none.
    """
    try:
        record = make(PreferencePair, row)
    except RecordFault as error:
        raise BadRecordError(index, record_id(row), error.reason, error.detail) from error
    prompt, images = messages(record.prompt, len(record.images)), tuple(record.images)

    def answered(turns: Sequence[Turn]) -> Conversation:
        answer = Message("assistant", turns[0].content.strip())
        return Conversation(index, record.id, (*prompt, answer), images, last_only=True)

    return [Pair(index, record.id, images, answered(record.chosen), answered(record.rejected))]


def messages(turns: Sequence[Turn], images: int) -> tuple[Message, ...]:
    """Return turns as they are asked, with images in front of the first user turn's text."""
    first = next(number for number, turn in enumerate(turns) if turn.role == "user")
    return tuple(
        Message(turn.role, turn.content, images if number == first else 0)
        for number, turn in enumerate(turns)
    )
