r"""Conversations: LLaVA's layout, and `messages` with `images`. `conversation_files` reads files.

    {"id": "7", "image": "7.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat?"},
                                                    {"from": "gpt", "value": "A cat."}]}
    {"messages": [{"role": "user", "content": "<image>What?"},
                  {"role": "assistant", "content": "A cat."}], "images": ["7.jpg"]}

A content may also be a list of parts, {"type": "text", "text": "What?"} and {"type": "image"}, as
`datasets` and TRL have them. The key `system` is a system turn in front of the others.
`prompt_of` takes these, without the last answer, and questions alone:

    {"id": "7", "image": "7.jpg", "question": "What?"}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from verbalizer_bench.io.preferences import IMAGE, RecordFault, shown
from verbalizer_bench.io.unread_keys import unread_keys
from verbalizer_bench.io.wording import counted

# Keys of a record of no layout that are named.
_SHOWN = 8
_ROLES = {"human": "user", "gpt": "assistant"} | {r: r for r in ("user", "assistant", "system")}
# What turns of either layout have.
_KEYS = {"messages": ("role", "content"), "conversations": ("from", "value")}


class Message(NamedTuple):
    """One turn: its images come before its text, wherever their placeholders stood.

    Attributes:
        role: `system`, `user` or `assistant`.
        text: What is said.
        images: How many it shows.
        thought: An answer's `reasoning_content`.
    """

    role: str
    text: str
    images: int = 0
    thought: str = ""

    def content(self) -> str | list[dict[str, str]]:
        """Return what a chat template takes: a text, or for a turn with images a list of parts."""
        if not self.images:
            return self.text
        text = [{"type": "text", "text": self.text}] if self.text else []
        return [{"type": "image"}] * self.images + text


class Conversation(NamedTuple):
    """A conversation that ends with an answer.

    Attributes:
        index: Its number, from 0; texts count from 1.
        id: Its name.
        messages: The turns.
        images: The names of the images it shows, in order.
        last_only: Whether answers before the last are context, which is not trained.
    """

    index: int  # type: ignore[assignment]
    id: str
    messages: tuple[Message, ...]
    images: tuple[str, ...]
    last_only: bool = False


class Pair(NamedTuple):
    """Two conversations that differ in their last answer.

    Attributes:
        index: Its number, from 0; texts count from 1.
        id: Its name.
        images: The names of the images that both show, in order.
        chosen: The conversation with the preferred answer.
        rejected: The one with the other.
    """

    index: int  # type: ignore[assignment]
    id: str
    images: tuple[str, ...]
    chosen: Conversation
    rejected: Conversation


Record = Conversation | Pair


@dataclass(eq=False)
class BadRecordError(ValueError):
    """A record that cannot be trained on.

    Attributes:
        index: Its number, from 0; texts count from 1.
        id: Its name.
        reason: The kind of reason.
        detail: The field, its value, and the fix.
        place: File and row where it stands; empty where it is of no file.
    """

    index: int
    id: str
    reason: str
    detail: str
    place: str = ""

    def __str__(self) -> str:
        where = self.place or f"record {self.index + 1}"
        return f"{where} (id {self.id!r}): {self.reason}: {self.detail}"


def listed(first: Sequence[object], count: int) -> list[str]:
    """Return a line for each of the first bad records, and one that says how many more there are.

    Args:
        first: These records, or their texts.
        count: How many there are in all.
    """
    more = count - len(first)
    return [*map(str, first), *([f"and {more:,} more"] if more else [])]


def conversation(index: int, row: Any) -> list[Conversation]:
    """Make a conversation of a row of either layout, as `Parse` has it.

    Raises:
        BadRecordError: It cannot be trained on.
    """
    return [_parse(index, row)]


def record_id(row: Any) -> str:
    """Return the name of a record that may be malformed; empty if it has none."""
    return str(row.get("id", "")) if isinstance(row, Mapping) else ""


def prompt_of(index: int, row: Any) -> Conversation:
    """Return what a row of a file of records asks.

    Raises:
        BadRecordError: It asks nothing, or is of no layout.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("question"), str):
        record = _parse(index, row, answered=False)
    else:
        turns = [{"role": "user", "content": row["question"]}]
        names = {name: row[name] for name in ("id", "image", "images", "system") if name in row}
        record = _parse(index, {**names, "messages": turns}, answered=False)
    first = next(n for n, message in enumerate(record.messages) if message.role == "user")
    messages = [
        message._replace(images=len(record.images) if number == first else 0)
        for number, message in enumerate(record.messages)
    ]
    return record._replace(messages=tuple(messages))


def _parse(index: int, row: Any, answered: bool = True) -> Conversation:
    """Make a record of a row of either layout, with or without its last answer."""
    try:
        messages, images = _read(row, answered)
    except RecordFault as fault:
        raise BadRecordError(index, record_id(row), fault.reason, fault.detail) from fault
    return Conversation(index, record_id(row), messages, images)


def _read(row: Any, answered: bool) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Return the messages of a row, and the names of its images."""
    keys = [key for key in row if row[key] is not None] if isinstance(row, Mapping) else []
    if not {"conversations", "messages"} & {*keys}:
        there = f"it has {', '.join(map(str, keys[:_SHOWN])) or 'no key'}"
        there = there if isinstance(row, Mapping) else f"{shown(row)} is no object"
        raise RecordFault("unknown layout", f"{there}; give it the key conversations or messages")
    for one, other in (("conversations", "messages"), ("image", "images")):
        if {one, other} <= {*keys}:
            raise RecordFault("two layouts", f"it has {one} and {other}; leave one of them out")
    name = "messages" if "messages" in keys else "conversations"
    turns, images = _turns(name, row[name]), _images(row)
    if not answered and turns and turns[-1][0] == "assistant":
        turns = turns[:-1]
    _check_order(name, [role for role, _ in turns], answered)
    for number, (role, text) in enumerate(turns):
        if role != "system" and not text:
            raise RecordFault("empty turn", f"{name}[{number}] ({role}) has no text; leave it out")
    if system := _system(row):
        if turns[0][0] == "system":
            both = "it has a system turn and the key system; leave one out"
            raise RecordFault("two layouts", both)
        turns = [("system", system), *turns]
    if answered or any(IMAGE in text for _, text in turns):
        _check_placeholders(name, turns, len(images), row)
    thoughts = [*([""] if system else []), *_thoughts(row)]
    messages = (_message(*turn, thought) for turn, thought in zip(turns, thoughts, strict=False))
    return tuple(messages), images


def _turns(name: str, turns: Any) -> list[tuple[str, str]]:
    """Return (role, stripped text) of each turn."""
    role, text = _KEYS[name]
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        fix = f"give a list of turns, each {{{role}, {text}}}"
        raise RecordFault("malformed turns", f"{name}={shown(turns)}; {fix}")
    return [_turn(f"{name}[{number}]", turn, name) for number, turn in enumerate(turns)]


def _turn(place: str, turn: Any, layout: str) -> tuple[str, str]:
    role, text = _KEYS[layout]
    if not isinstance(turn, Mapping):
        raise RecordFault("malformed turns", f"{place}={shown(turn)}; give {{{role}, {text}}}")
    known = _ROLES.get(str(turn.get(role)))
    if known is None:
        roles = "user, assistant or system" if role == "role" else "human, gpt or system"
        detail = f"{place}.{role}={shown(turn.get(role))}; give {roles}"
        other = next(name for name in _KEYS if name != layout)
        if role not in turn and {*_KEYS[other]} <= turn.keys():
            keys = " and ".join(_KEYS[other])
            detail = f"{place} has {keys}: such turns belong under the key {other}"
        raise RecordFault("malformed turns", detail)
    content = _content(turn.get(text))
    if content is None:
        fix = "give a text, or a list of {type: text, text} and {type: image}"
        raise RecordFault("malformed turns", f"{place}.{text}={shown(turn.get(text))}; {fix}")
    return known, content.strip()


def _system(row: Mapping[str, Any]) -> str:
    """Return the text of the key `system`, empty without it."""
    value = row.get("system") or ""
    if not isinstance(value, str):
        fix = "give a text, or leave it out"
        raise RecordFault("malformed turns", f"system={shown(value)}; {fix}")
    return value.strip()


def _content(value: Any) -> str | None:
    """Return a turn's text, with a placeholder for each image; None if it is malformed."""
    if not isinstance(value, list):
        return value if isinstance(value, str) else None
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else None
        text = IMAGE if kind == "image" else part.get("text") if kind == "text" else None
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)


def _thoughts(row: Mapping[str, Any]) -> list[str]:
    """Return each turn's `reasoning_content`."""
    if row.get("messages") is None:
        return [""] * len(row["conversations"])
    thoughts = []
    for number, turn in enumerate(row["messages"]):
        thought = turn.get("reasoning_content") or ""
        if not isinstance(thought, str) or (thought and turn["role"] != "assistant"):
            place = f"messages[{number}].reasoning_content={shown(thought)}"
            fix = "it is a text, of an answer; leave it out"
            raise RecordFault("malformed turns", f"{place}: {fix}")
        thoughts.append(thought.strip())
    return thoughts


def _images(row: Mapping[str, Any]) -> tuple[str, ...]:
    key = "image" if row.get("image") else "images"
    value = row.get(key) or ()
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        detail = f"{key}={shown(value)}; give a file name or a list of them"
        raise RecordFault("malformed images", detail)
    if addresses := [name for name in names if name.startswith(("data:", "http:", "https:"))]:
        kind = "a data URL" if addresses[0].startswith("data:") else "an address"
        fix = "write it to a file and name that, or its bytes into a parquet's row"
        raise RecordFault("malformed images", f"{key}={shown(addresses[0])}: {kind}; {fix}")
    return tuple(names)


def _check_order(name: str, roles: Sequence[str], answered: bool) -> None:
    """Refuse what is not an optional system turn, then user and assistant in turn."""
    turns = roles[1:] if roles[:1] == ["system"] else roles
    for number, role in enumerate(turns):
        if role != (expected := ("user", "assistant")[number % 2]):
            place = f"{name}[{number + len(roles) - len(turns)}]"
            fix = f"expected {expected}; turns alternate, the user's first"
            raise RecordFault("turn order", f"{place} is {role}, {fix}")
    if answered and (not turns or len(turns) % 2):
        detail = f"the last of {len(roles)} turns is not an answer; leave it out or answer it"
        raise RecordFault("turn order", f"{name}: {detail}")
    if not answered and len(turns) % 2 == 0:
        detail = "no user turn is left to answer; give a question"
        raise RecordFault("turn order", f"{name}: {detail}")


def _check_placeholders(
    name: str, turns: Sequence[tuple[str, str]], images: int, row: Mapping[str, Any]
) -> None:
    count = sum(text.count(IMAGE) for _, text in turns)
    if count != images:
        there = f"{name}: {count} {IMAGE} for {counted(images, 'image')}"
        raise RecordFault("placeholders", f"{there}; {_placeholder_fix(images, row)}")
    if any(IMAGE in text for role, text in turns if role != "user"):
        detail = f"{IMAGE} stands in a turn that is not the user's; move it to a question"
        raise RecordFault("placeholders", f"{name}: {detail}")


def _placeholder_fix(images: int, row: Mapping[str, Any]) -> str:
    """Return what to do about more or fewer placeholders than images."""
    unread = sorted(key for key in unread_keys(row) if "." not in key)
    if images or not unread:
        return "write one for each image, and none else"
    if len(unread) == 1:
        return f"the key {unread[0]} is not read; if it holds the image, call it image or images"
    return f"the keys {', '.join(unread)} are not read; call the one of the image image or images"


def _message(role: str, text: str, thought: str) -> Message:
    return Message(role, text.replace(IMAGE, "").strip(), text.count(IMAGE), thought)
