"""What stands in a record of turns and is not read: whoever wrote it may count on it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_LAYOUTS = ("conversations", "messages")
_READ = {*_LAYOUTS, "image", "images", "system"}
_READ_OF_TURNS = {"from", "value", "role", "content", "reasoning_content"}
# They say where a record comes from, and nothing of what is asked or trained.
_HARMLESS = {"id", "idx", "index", "uid", "uuid", "hash", "url", "license", "title", "timestamp"}
_HARMLESS |= {"source", "model", "dataset", "data_source", "subset", "split", "category", "task"}
_HARMLESS |= {"type", "topic", "domain", "language", "lang", "tags", "meta", "metadata"}
_NOTHING: tuple[Any, ...] = (None, "", [], {})


def unread_keys(row: Any) -> set[str]:
    """Return the keys of a record of turns that are not read; those of turns as `messages.weight`.

    Preference data have no such keys: there an unknown one is an error.
    """
    if not isinstance(row, Mapping) or {"chosen", "rejected"} <= row.keys():
        return set()
    layout = next((name for name in _LAYOUTS if row.get(name) is not None), None)
    if layout is None:
        return set()
    turns = row[layout] if isinstance(row[layout], list) else []
    keys = {f"{layout}.{key}" for turn in turns for key in _left(turn, _READ_OF_TURNS)}
    return keys | set(_left(row, _READ))


def _left(value: Any, read: set[str]) -> list[str]:
    """Return the keys of an object that hold something, and are neither read nor harmless."""
    if not isinstance(value, Mapping):
        return []
    keys = (str(key) for key in value if value[key] not in _NOTHING)
    return [key for key in keys if key not in read and key not in _HARMLESS]


def unread_lines(
    files: Sequence[Path | str], unread: Sequence[Mapping[str, int]], counts: Sequence[int]
) -> Iterator[str]:
    """Yield a line for each file that has keys which are not read.

    Args:
        files: The files.
        unread: In how many records of each each key stands.
        counts: How many records each file has.
    """
    for file, found, total in zip(files, unread, counts, strict=True):
        if found:
            most = sorted(found.items(), key=lambda item: (-item[1], item[0]))
            keys = ", ".join(f"{key} in {number:,}" for key, number in most)
            verb = "is" if len(most) == 1 else "are"
            yield f"{file}: {keys} of {total:,} records {verb} not read"
