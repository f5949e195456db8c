"""JSON files that users provide: nothing is lost silently, and `.json` lists are streamed.

Python's reader keeps the last of two equal keys and accepts NaN and lone surrogates, which no
tokenizer and no file can hold. Here such a value comes with its problem; what is not JSON at all,
or not UTF-8, is an error that names the file. `jsonl` reads files with one value per line.
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
    """A value read from a file.

    Attributes:
        place: `line 3` or `row 3`, from 1.
        value: The value as Python reads it.
        problem: The kind of problem, and its details with the fix; None if there is none.
    """

    place: str
    value: Any
    problem: tuple[str, str] | None


def read_json(path: Path) -> Any:
    """Return the value that a file holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, not JSON, or has a problem as in `Parsed`.
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
    """Return the object in a file that a program wrote; NaN is allowed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, not JSON or no object.
    """
    return check_object(parse_written(path.read_bytes(), str(path)), str(path))


def parse_written(data: bytes, where: str) -> Any:
    """Parse bytes that a program wrote; NaN is allowed.

    Args:
        data: UTF-8, with or without a byte order mark.
        where: The file, and the line if it is one of many, for the error.

    Raises:
        ValueError: They are not UTF-8 or not JSON.
    """
    try:
        refuse_utf16(data)
        return json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        text = f"{where}: {reason(error)}; cut off? correct it, or write it anew"
        raise ValueError(text) from error
    except ValueError as error:
        raise ValueError(f"{where}: {reason(error)}") from error
    except RecursionError:
        raise ValueError(f"{where}: not JSON (nested too deeply)") from None


def check_object(value: Any, where: str) -> dict[str, Any]:
    """Return the value if it is an object, else raise ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: keys and values are needed, got {str(value)[:60]!r}")
    return value


class Parser:
    """Python's JSON parser, extended to notice what it would pass over."""

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant
        )
        self._problem: tuple[str, str] | None = None
        # Of a constant, whose key is known when its object ends.
        self._unnamed = ""

    def at(self, text: str, start: int) -> tuple[Any, int, tuple[str, str] | None]:
        """Return the value that starts at `start`, its end, and its problem."""
        self._problem, self._unnamed = None, ""
        try:
            value, end = self._decoder.raw_decode(text, start)
        except RecursionError:
            raise ValueError("not JSON (nested too deeply)") from None
        if text.find("\\u", start, end) >= 0:
            self._check_characters(value)
        return value, end, self._problem

    def whole(self, text: str) -> tuple[Any, tuple[str, str] | None]:
        """Return the value that makes up a whole text, and its problem."""
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
    """Stream the values of a `.json` list, without holding the whole file in memory.

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
    """A text that is read incrementally and discarded up to `at`."""

    def __init__(self, file: BinaryIO):
        self.text, self.at = "", 0
        self._file, self._parser = file, Parser()
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._fault: UnicodeDecodeError | None = None
        self._ended = False
        refuse_utf16(file.peek(4))  # type: ignore[attr-defined]

    def sign(self) -> str:
        """Skip white space and return the next character; "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def value(self) -> tuple[Any, tuple[str, str] | None]:
        """Return the next value and its problem."""
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
        """Double the buffer; return whether anything was left to read."""
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
    """Raise ValueError if a file starts like UTF-16 or UTF-32, or is gzip."""
    if head[:2] == b"\x1f\x8b":
        raise ValueError("gzip; unpack it (`gunzip`)")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head[:2]:
        raise ValueError("UTF-16 or UTF-32; save the file as UTF-8")


def reason(error: ValueError) -> str:
    """Explain why a text could not be read, with the fix."""
    if isinstance(error, UnicodeDecodeError):
        byte = error.object[error.start]
        return f"byte 0x{byte:02x} is not UTF-8 (Latin-1?); save the file as UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg}, character {error.pos + 1})"
    return str(error)
