r"""Read conversations: LLaVA's layout, and `messages` with `images`.

    {"id": "7", "image": "7.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat?"},
                                                    {"from": "gpt", "value": "A cat."}]}
    {"messages": [{"role": "user", "content": "<image>What?"},
                  {"role": "assistant", "content": "A cat."}], "images": ["7.jpg"]}

A `.json` file is a list of records, a `.jsonl` file has one a line, a `.parquet` file has them as
rows; all are read as a stream. What else names records: `record_files`. A content may also be a
list of parts, {"type": "text", "text": "What?"} and {"type": "image"}, as `datasets` and TRL have
them. The key `system` is a system turn in front of the others.
`read_prompts` takes these, without the last answer, and questions alone:

    {"id": "7", "image": "7.jpg", "question": "What?"}
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from verbalizer_bench.io import jsonl, parquet_records
from verbalizer_bench.io.json_reading import Parsed, read_list
from verbalizer_bench.io.preferences import IMAGE
from verbalizer_bench.io.record_files import record_files
from verbalizer_bench.io.unread_keys import unread_keys

_ROLES = {"human": "user", "gpt": "assistant"} | {r: r for r in ("user", "assistant", "system")}


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
        index: Its number.
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
        index: Its number.
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
    """A record that cannot be trained on: the kind of reason, then the value and the fix."""

    index: int
    id: str
    reason: str
    detail: str
    place: str = ""

    def __str__(self) -> str:
        where = f" in {self.place}" if self.place else ""
        return f"record {self.index} (id {self.id!r}){where}: {self.reason}: {self.detail}"


class Source(NamedTuple):
    """Where a record stands.

    Attributes:
        file: As `record_files` has it.
        place: `line 3` or `row 3`, from 1; of several files by one name with the file's name.
    """

    file: Path
    place: str

    def __str__(self) -> str:
        return f"{self.file}, {self.place}"


Kind = TypeVar("Kind", bound=Record)
# Makes the records of what JSON holds, given the first one's number; each has the next.
Parse = Callable[[int, Any], Sequence[Kind | BadRecordError]]
AnyParse = Parse[Any]


def conversation(index: int, row: Any) -> list[Conversation]:
    """Make a conversation of a row of either layout, as `Parse` has it.

    Raises:
        BadRecordError: It cannot be trained on.
    """
    return [_parse(index, row)]


def read_records(path: Path, start: int = 0) -> Iterator[Conversation | BadRecordError]:
    """Yield the conversations of a file one by one; the first has the index `start`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is neither `.json` with a list nor `.jsonl`, or not UTF-8.
    """
    yield from read_as(conversation, path, start)


def read_prompts(path: Path) -> Iterator[Conversation | BadRecordError]:
    """Yield what the records of a file ask: conversations that end with a user's turn.

    Images stand in front of the first user turn, wherever placeholders are, or if there are none.

    Raises:
        As `read_records`.
    """
    yield from read_as(lambda index, row: [prompt_of(index, row)], path, 0)


def read_as(
    parse: Parse[Kind], path: Path, start: int, written: Path | None = None
) -> Iterator[Kind | BadRecordError]:
    """Yield the records of a file one by one, as `read_records` does.

    Args:
        parse: Makes records of what JSON holds.
        path: The file.
        start: The first record's number.
        written: As in `parsed`.
    """
    yield from (record for _, record in _placed(parse, path, start, written))


def _placed(
    parse: Parse[Kind],
    path: Path,
    start: int,
    written: Path | None,
    unread: Counter[str] | None = None,
) -> Iterator[tuple[Source, Kind | BadRecordError]]:
    """Yield the records of a file one by one, each with its place."""
    index = start
    records: Sequence[Kind | BadRecordError]
    for place, value, problem in parsed(path, written):
        try:
            if problem:
                raise BadRecordError(index, record_id(value), *problem)
            records = parse(index, value)
        except BadRecordError as error:
            records = [error]
        if unread is not None:
            unread.update(unread_keys(value))
        source = Source(path, place)
        for record in records:
            if isinstance(record, BadRecordError):
                record.place = str(source)
            yield source, record
        index += len(records)


def parsed(path: Path, written: Path | None = None) -> Iterator[Parsed]:
    """Yield what the records of a file, or of several by one name, are as JSON.

    Args:
        path: As `record_files` has it.
        written: A folder in which images are written that stand in the records themselves; None:
            they are written nowhere.

    Raises:
        As `read_records`.
    """
    files = record_files(path)
    for file in files:
        if file.suffix == ".parquet":
            rows = parquet_records.parsed(file, written)
        else:
            rows = read_list(file) if file.suffix == ".json" else jsonl.parsed(file)
        where = f"{file.name}, " if len(files) > 1 else ""
        yield from (row._replace(place=f"{where}{row.place}") for row in rows)


def read_files(
    files: Iterable[Path],
    parse: AnyParse = conversation,
    written: Path | None = None,
    counts: list[int] | None = None,
    unread: list[dict[str, int]] | None = None,
) -> Iterator[tuple[Source, Record | BadRecordError]]:
    """Yield the records of files, numbered through all of them, each with its place.

    Args:
        files: As `record_files` has them.
        parse: Makes records of what JSON holds.
        written: As in `parsed`.
        counts: Is given the number of each file's records, once they are read.
        unread: Is given in how many records of each file each key stands that is not read.
    """
    following = 0
    for path in files:
        first, keys = following, Counter[str]()
        for source, record in _placed(parse, path, first, written, keys):
            following = record.index + 1
            yield source, record
        if counts is not None:
            counts.append(following - first)
        if unread is not None:
            unread.append(dict(keys))


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
    key = record_id(row)

    def refuse(reason: str, detail: str) -> BadRecordError:
        return BadRecordError(index, key, reason, detail)

    keys = {key for key in row if row[key] is not None} if isinstance(row, Mapping) else set()
    if not keys & {"conversations", "messages"}:
        raise refuse("unknown layout", "give it the key conversations or messages")
    for one, other in (("conversations", "messages"), ("image", "images")):
        if {one, other} <= keys:
            raise refuse("two layouts", f"it has {one} and {other}; leave one of them out")
    turns, images = _turns(row), _images(row)
    if turns is None:
        raise refuse(
            "malformed turns",
            "each is {from, value} or {role, content}, both strings",
        )
    if images is None:
        raise refuse("malformed images", "image is a file name or a list of them")
    if not answered and turns and turns[-1][0] == "assistant":
        turns = turns[:-1]
    if problem := _order_problem([role for role, _ in turns], answered):
        raise refuse("turn order", problem)
    if empty := [n for n, (role, text) in enumerate(turns) if role != "system" and not text]:
        raise refuse(
            "empty turn", f"turn {empty[0]} ({turns[empty[0]][0]}) has no text; leave it out"
        )
    if (system := _system(row)) is None:
        raise refuse("malformed turns", "the key system is a text; correct it, or leave it out")
    if system and turns[0][0] == "system":
        raise refuse("two layouts", "it has a system turn and the key system; leave one out")
    turns = [("system", system), *turns] if system else turns
    stated = sum(text.count(IMAGE) for _, text in turns)
    if (answered or stated) and (problem := _placeholder_problem(turns, len(images))):
        raise refuse("placeholders", problem)
    if (thoughts := _thoughts(row)) is None:
        raise refuse("malformed turns", "reasoning_content is a string, of an answer")
    thoughts = ["", *thoughts] if system else thoughts
    messages = (_message(*turn, thought) for turn, thought in zip(turns, thoughts, strict=False))
    return Conversation(index, key, tuple(messages), images)


def _turns(row: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """Return (role, stripped text) of each turn, None if one is malformed."""
    name, role, text = "messages", "role", "content"
    if row.get("conversations") is not None:
        name, role, text = "conversations", "from", "value"
    turns = row[name]
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        return None
    read = []
    for turn in turns:
        known = _ROLES.get(str(turn.get(role))) if isinstance(turn, Mapping) else None
        content = _content(turn.get(text)) if known else None
        if known is None or content is None:
            return None
        read.append((known, content.strip()))
    return read


def _system(row: Mapping[str, Any]) -> str | None:
    """Return the text of the key `system`, empty without it; None if it is malformed."""
    value = row.get("system") or ""
    return value.strip() if isinstance(value, str) else None


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


def _thoughts(row: Mapping[str, Any]) -> list[str] | None:
    """Return each turn's `reasoning_content`, None if one is malformed or no answer's."""
    if row.get("messages") is None:
        return [""] * len(row["conversations"])
    given = [(turn["role"], turn.get("reasoning_content") or "") for turn in row["messages"]]
    if any(thought and role != "assistant" for role, thought in given):
        return None
    thoughts = [thought.strip() for _, thought in given if isinstance(thought, str)]
    return thoughts if len(thoughts) == len(given) else None


def _images(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    value = row.get("image") or row.get("images") or ()
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def _order_problem(roles: Sequence[str], answered: bool) -> str | None:
    """Return how the turns differ from an optional system turn, then user and assistant in turn."""
    turns = roles[1:] if roles[:1] == ["system"] else roles
    for number, role in enumerate(turns):
        if role != (expected := ("user", "assistant")[number % 2]):
            where = number + len(roles) - len(turns)
            return f"turn {where} is {role}, expected {expected}; turns alternate, the user's first"
    if answered and (not turns or len(turns) % 2):
        return f"the last of {len(roles)} turns is not an answer; leave it out or answer it"
    if not answered and len(turns) % 2 == 0:
        return "no user turn is left to answer; give a question"
    return None


def _placeholder_problem(turns: Sequence[tuple[str, str]], images: int) -> str | None:
    count = sum(text.count(IMAGE) for _, text in turns)
    if count != images:
        return f"{count} {IMAGE} for {images} images; write one for each image, and none else"
    if any(IMAGE in text for role, text in turns if role != "user"):
        return f"{IMAGE} stands in a turn that is not the user's; move it to a question"
    return None


def _message(role: str, text: str, thought: str) -> Message:
    return Message(role, text.replace(IMAGE, "").strip(), text.count(IMAGE), thought)
