"""Conversations of texts that can be recognised, to see what a chat template does to them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# Turns with a `role` and a `content`.
Messages = Sequence[Mapping[str, Any]]


class TemplateFault(NamedTuple):
    """What is wrong with a rendered conversation, and the turn's role or the error."""

    kind: str
    detail: str


def with_parts(messages: Messages) -> list[dict[str, Any]]:
    """Return a conversation whose contents are lists of parts, which may be changed."""
    return [
        {
            **message,
            "content": [{"type": "text", "text": message["content"]}]
            if isinstance(message["content"], str)
            else [dict(part) for part in message["content"]],
        }
        for message in messages
    ]


def texts(messages: Messages) -> Iterator[tuple[str, str]]:
    """Yield the role and text of each part that is a text."""
    for message in messages:
        for part in message["content"]:
            if part["type"] == "text":
                yield message["role"], part["text"]


def text_fault(messages: Messages, text: str) -> TemplateFault | None:
    """Return the fault of a text that is not in a conversation, or before what it follows.

    A system turn may stand anywhere: Mistral's templates write it into the last question.
    """
    end = 0
    for role, part in texts(messages):
        if part not in text:
            return TemplateFault("lost", role)
        if role == "system":
            continue
        start = text.find(part, end)
        if start < 0:
            return TemplateFault("order", role)
        end = start + len(part)
    return None


def probes_like(messages: Messages) -> list[dict[str, Any]]:
    """Return a conversation of the same shape whose texts stand nowhere else.

    Each has a line break, which a list that is printed as Python does has not.
    """
    probes = with_parts(messages)
    for turn, probe in enumerate(probes):
        for place, part in enumerate(probe["content"]):
            if part["type"] == "text":
                part["text"] = f"Qz{turn}x{place}w\nKj{turn}x{place}v"
    return probes
