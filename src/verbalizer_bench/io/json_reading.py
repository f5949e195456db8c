"""JSON as users bring it, and nothing in it lost in silence; `.json` lists are read as a stream.

Python's reader takes the last of two equal keys, takes NaN, and half a surrogate, which no
tokenizer and no file takes. Here a value says what is wrong with it; what is not JSON at all, or
not UTF-8, is an error that names the file. Files with a value a line: `jsonl`.
"""

import codecs
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

_BLOCK = 1 << 16
# How far before the end of what is read so far an error can stand that more text would mend: the
# longest thing that is cut, but for a text, is an escape or a name such as -Infinity.
_TORN = 16


class Parsed(NamedTuple):
    """A value of a file.

    Attributes:
        place: `line 3` or `row 3`, from 1.
        value: What Python makes of it.
        problem: A kind of reason, then the value and the fix, if it is not what it seems.
    """

    place: str
    value: Any
    problem: tuple[str, str] | None


def read_json(path: Path) -> Any:
    """Return the value of a file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, not JSON or not what it seems.
    """
    data, parser = path.read_bytes(), Parser()
    try:
        refuse_utf16(data)
        value, problem = parser.whole(data.decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path}: {reason(error)}") from error
    if problem:
        raise ValueError(f"{path}: {problem[0]}: {problem[1]}")
    return value


def read_record(path: Path) -> dict[str, Any]:
    """Return the object of a file that a program wrote: NaN may stand in it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, not JSON or no object.
    """
    return check_object(parse_written(path.read_bytes(), str(path)), str(path))


def parse_written(data: bytes, where: str) -> Any:
    """Return the value of bytes that a program wrote: NaN may stand in it.

    Args:
        data: UTF-8, with or without a byte order mark.
        where: The file, and the line if it is one of many, for the error.

    Raises:
        ValueError: They are not UTF-8 or not JSON.
    """
    try:
        refuse_utf16(data)
        return json.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{where}: {reason(error)}") from error
    except RecursionError:
        raise ValueError(f"{where}: not JSON (nested too deeply)") from None


def check_object(value: Any, where: str) -> dict[str, Any]:
    """Return a value that is an object, and raise ValueError for any other."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: keys and values are needed, got {str(value)[:60]!r}")
    return value


class Parser:
    """Python's reader, which remembers what it would pass over."""

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant
        )
        self._problem: tuple[str, str] | None = None
        # Of a constant, whose key is known when its object ends.
        self._unnamed = ""

    def at(self, text: str, start: int) -> tuple[Any, int, tuple[str, str] | None]:
        """Return the value that starts there, where it ends, and what is wrong with it."""
        self._problem, self._unnamed = None, ""
        try:
            value, end = self._decoder.raw_decode(text, start)
        except RecursionError:
            raise ValueError("not JSON (nested too deeply)") from None
        if text.find("\\u", start, end) >= 0:
            self._check_characters(value)
        return value, end, self._problem

    def whole(self, text: str) -> tuple[Any, tuple[str, str] | None]:
        """Return the value that is all of a text, and what is wrong with it."""
        stripped = text.strip(" \t\r\n")
        value, end, problem = self.at(stripped, 0)
        if end < len(stripped):
            raise json.JSONDecodeError("Extra data", stripped, end)
        return value, problem

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        for key, value in pairs if self._unnamed else ():
            if isinstance(value, float) and not math.isfinite(value):
                self._refuse_constant(self._unnamed, f" (of {key!r})")
                self._unnamed = ""
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            self._problem = ("key twice", f"{twice!r} stands twice; leave one out")
        return made

    def _constant(self, name: str) -> float:
        self._unnamed = name
        self._refuse_constant(name, "")
        return float(name)

    def _refuse_constant(self, name: str, where: str) -> None:
        detail = f"{name} stands in it{where}; write null, or leave the key out"
        self._problem = ("not JSON", detail)

    def _check_characters(self, value: Any) -> None:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            self._problem = (
                "half a character",
                f"{half!a} is half of a surrogate pair; write the whole character",
            )


def read_list(path: Path) -> Iterator[Parsed]:
    """Yield the values of a `.json` list one by one; the file is never in memory as a whole.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8 or not JSON, or no list.
    """
    number = 1
    with path.open("rb") as file:
        try:
            scanner = _Scanner(file)
            if scanner.sign() != "[":
                raise ValueError("a .json file is a list of records; one a line is .jsonl")
            scanner.at += 1
            more = scanner.sign() != "]"
            while more:
                scanner.sign()
                value, problem = scanner.value()
                end = scanner.sign()
                yield Parsed(f"row {number}", value, problem)
                if end not in ("]", ","):
                    raise ValueError("not JSON (no comma behind it; broken, or cut off)")
                if more := end == ",":
                    scanner.at, number = scanner.at + 1, number + 1
            scanner.at += 1
            if scanner.sign():
                raise ValueError("not JSON (more stands behind the list); one a line is .jsonl")
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {reason(error)}") from error


class _Scanner:
    """A text that is read by and by: what is behind `at` is forgotten."""

    def __init__(self, file: BinaryIO):
        self.text, self.at = "", 0
        self._file, self._parser = file, Parser()
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._fault: UnicodeDecodeError | None = None
        self._ended = False
        refuse_utf16(file.peek(4))  # type: ignore[attr-defined]

    def sign(self) -> str:
        """Return the next character that is no white space; none at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def value(self) -> tuple[Any, tuple[str, str] | None]:
        """Return the next value, and what is wrong with it."""
        while True:
            try:
                value, end, problem = self._parser.at(self.text, self.at)
            except json.JSONDecodeError as error:
                torn = error.msg.startswith("Unterminated") or (error.pos > len(self.text) - _TORN)
                if not torn or not self._more():
                    # Where in the file, nobody knows any more.
                    raise ValueError(f"not JSON ({error.msg})") from error
                continue
            # A number near the end of what is read may go on, behind "." or "e-" too.
            if end + 2 < len(self.text) or not self._more():
                self.at = end
                return value, problem

    def _more(self) -> bool:
        """Read as much again as is held; tell whether there was any."""
        if self._fault:
            raise self._fault
        if self._ended:
            return False
        data = self._file.read(max(_BLOCK, len(self.text) - self.at))
        self._ended = not data
        try:
            new = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            # What stands before it is read first, so that the row can be named.
            self._fault = error
            new = error.object[: error.start].decode("utf-8-sig")
        self.text, self.at = self.text[self.at :] + new, 0
        return True


def refuse_utf16(head: bytes) -> None:
    """Raise ValueError for a file that begins as UTF-16 or UTF-32 does."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head[:2]:
        raise ValueError("UTF-16 or UTF-32; save the file as UTF-8")


def reason(error: ValueError) -> str:
    """Say why a text could not be read, and what to do."""
    if isinstance(error, UnicodeDecodeError):
        byte = error.object[error.start]
        return f"byte 0x{byte:02x} is not UTF-8 (Latin-1?); save the file as UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg}, character {error.pos + 1})"
    return str(error)
