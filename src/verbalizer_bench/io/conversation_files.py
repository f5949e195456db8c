"""Read files of conversations, each record with its place.

A `.json` file is a list of records, a `.jsonl` file has one a line, a `.parquet` file has them as
rows; all are read as a stream. What else names records: `record_files`. What a record is:
`conversations`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from verbalizer_bench.io import jsonl, parquet_records
from verbalizer_bench.io.conversations import (
    BadRecordError,
    Conversation,
    Record,
    conversation,
    prompt_of,
    record_id,
)
from verbalizer_bench.io.json_reading import Parsed, read_list
from verbalizer_bench.io.record_files import record_files
from verbalizer_bench.io.unread_keys import unread_keys


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


def named(files: Sequence[Path], parse: AnyParse, numbers: Iterable[int]) -> dict[int, str]:
    """Return place and id of the records of some numbers, which are looked for in the files.

    Args:
        files: As `record_files` has them.
        parse: Makes records of what JSON holds.
        numbers: Of records, from 0 through all files.
    """
    wanted = {*numbers}
    if not wanted:
        return {}
    first = islice(read_files(files, parse), max(wanted) + 1)
    return {
        record.index: f"{source} (id {record.id!r})"
        for source, record in first
        if record.index in wanted
    }


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
