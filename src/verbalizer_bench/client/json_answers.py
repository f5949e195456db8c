"""JSON answers: the object in a model's text, repaired where its meaning is beyond doubt.

A server that takes a schema gives the object alone. Others give it in a code fence, with a sentence
around it, with single quotes or an extra comma. Libraries that repair JSON complete an object that
is cut off; here it is no answer, for its last text would be half of one.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from verbalizer_bench.client.structured_output import mismatch

_DEPTH = 50
_SPACE = re.compile(r"\s*")
_LITERALS: dict[str, Any] = {"true": True, "false": False, "null": None}
_LITERALS |= {"True": True, "False": False, "None": None}
_SCALAR = re.compile(r"true|false|null|True|False|None|-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_WORD_AT_END = re.compile(r"[\w.+-]+\s*\Z")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_ESCAPES |= {char: char for char in "\"'\\/"}


class JsonAnswer(NamedTuple):
    """An object, or why there is none."""

    value: dict[str, Any] | None
    problem: str | None


class _Malformed(Exception):
    """There is no object at this place."""


class _Truncated(Exception):
    """The text ends inside an object."""


def parse(text: str, schema: Mapping[str, Any]) -> JsonAnswer:
    """Return the last object in a text that follows a schema: drafts come before the answer.

    A text that ends inside an object is cut off: it has no answer, whatever comes before.
    """
    problem, value = "no JSON object in it", None
    at = text.find("{")
    while at >= 0:
        try:
            candidate, end = _read(text, at, 0)
        except _Truncated:
            return JsonAnswer(None, "its JSON object is cut off")
        except _Malformed:
            at = text.find("{", at + 1)
            continue
        departure = mismatch(candidate, schema)
        if departure is None:
            value = candidate
        elif value is None:
            problem = departure
        at = text.find("{", end)
    return JsonAnswer(value, problem if value is None else None)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _read(text: str, at: int, depth: int) -> tuple[Any, int]:
    """Return the value that begins at a place, and where it ends."""
    at = _skip(text, at)
    if at >= len(text):
        raise _Truncated
    if depth > _DEPTH:
        raise _Malformed
    if text[at] == "{":
        return _read_object(text, at, depth)
    if text[at] == "[":
        return _read_array(text, at, depth)
    if text[at] in "\"'":
        return _read_string(text, at)
    match = _SCALAR.match(text, at)
    if _WORD_AT_END.match(text, at):
        raise _Truncated
    if not match or match.end() - at > 300:
        raise _Malformed
    word = match.group()
    if word in _LITERALS:
        return _LITERALS[word], match.end()
    number = float(word) if match[1] or match[2] else int(word)
    if number in (float("inf"), float("-inf")):
        raise _Malformed
    return number, match.end()


def _read_object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    members: dict[str, Any] = {}
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        if at < len(text) and text[at] not in "\"'":
            raise _Malformed
        name, at = _read(text, at, depth + 1)
        at = _expect(text, at, ":")
        # With two values of one name, it is not known which is meant.
        if name in members:
            raise _Malformed
        members[name], at = _read(text, at, depth + 1)
        at = _next_item(text, at, "}")
    return members, at + 1


def _read_array(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        item, at = _read(text, at, depth + 1)
        items.append(item)
        at = _next_item(text, at, "]")
    return items, at + 1


def _next_item(text: str, at: int, close: str) -> int:
    """Return where the next item begins, or the closing bracket after a last comma."""
    at = _skip(text, at)
    return at if text[at : at + 1] == close else _expect(text, at, ",")


def _expect(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if at >= len(text):
        raise _Truncated
    if text[at] != mark:
        raise _Malformed
    return _skip(text, at + 1)


def _read_string(text: str, at: int) -> tuple[str, int]:
    """Return a string in either kind of quotes; a quote inside a word does not close it."""
    quote = text[at]
    parts: list[str] = []
    at += 1
    while at < len(text):
        char = text[at]
        if char == quote and _closes(text, at):
            whole = "".join(parts).encode("utf-16", "surrogatepass")
            return whole.decode("utf-16", "replace"), at + 1
        if char == "\\":
            char, at = _read_escape(text, at + 1)
        else:
            at += 1
        parts.append(char)
    raise _Truncated


def _closes(text: str, at: int) -> bool:
    after = _skip(text, at + 1)
    return after >= len(text) or text[after] in ",:}]"


def _read_escape(text: str, at: int) -> tuple[str, int]:
    if at >= len(text):
        raise _Truncated
    if text[at] != "u":
        # JSON has no other escapes: the backslash is LaTeX's or a regular expression's.
        return _ESCAPES.get(text[at], "\\" + text[at]), at + 1
    digits = text[at + 1 : at + 5]
    if not re.fullmatch("[0-9a-fA-F]{4}", digits, re.ASCII):
        raise _Truncated if at + 5 > len(text) else _Malformed
    return chr(int(digits, 16)), at + 5
