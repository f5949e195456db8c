"""Read files that nobody trusts.

Nothing is unpickled, no link is followed, and no file is read beyond its cap.
"""

import dataclasses
import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from verbalizer_bench.results.schema import explain, short

TEXTS = ("submission.yaml", "results.json", "run.json")
SUMS = "SHA256SUMS"
VERIFIED = "verified.json"
SIGNED = "spot-check.json"
# What others write beside a submission: not the submitter's word, and not in SHA256SUMS.
BESIDE = (VERIFIED, SIGNED)
# A submission has a file a task and a few more.
_FILES = 1000
_SAMPLES_NAME = re.compile(r"samples/([A-Za-z0-9_.-]{1,150})\.jsonl\.gz")
_SUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
# Where an escape could leave half of a surrogate pair, which no file can be written with.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
# The parser's time grows with the square of the depth.
_YAML_DEPTH = 10
# Nearly three times what the largest of our files has. pydantic makes kilobytes of every value that
# is not what it must be.
VALUES = 50_000
# A row has one response, and a response has a cap.
LINE = 128 << 10
_T = TypeVar("_T", bound=BaseModel)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is read at most.

    Attributes:
        text: Bytes of a short file.
        json: Bytes of a JSON file.
        packed: Bytes of a samples file.
        unpacked: Bytes of a samples file when unpacked.
        total: Bytes of all samples files when unpacked.
        rows: Rows of all samples files; the suite has 89,160, and each takes a kilobyte and more.
    """

    text: int = 64 << 10
    json: int = 8 << 20
    packed: int = 4 << 20
    unpacked: int = 16 << 20
    total: int = 256 << 20
    rows: int = 250_000


class Malformed(ValueError):
    """A file is not what a submission has there; `file` is its path in the submission."""

    def __init__(self, file: str, text: str) -> None:
        super().__init__(f"{file}: {text}")
        self.file, self.text = file, text


def escaped(text: Any) -> str:
    """Return a path or another text for a terminal: what is not printable ASCII is escaped."""
    return ascii(str(text))[1:-1].replace("\\'", "'").replace("\\\\", "\\")


def list_files(folder: Path, limits: Limits) -> list[str]:
    """Return the paths of a submission's files, all of them expected, no link among them.

    Raises:
        Malformed: Something else is there, something is missing or too large.
    """
    try:
        if folder.is_symlink() or not folder.is_dir():
            raise Malformed(".", "not a folder; give the submission's own folder, not a link to it")
        names = [name for name in islice(_walk(folder), _FILES + 1) if name not in BESIDE]
    except OSError as error:
        raise Malformed(".", f"cannot be read: {error.strerror}; mend its permissions") from error
    if len(names) > _FILES:
        raise Malformed(".", f"more than {_FILES} files; a submission has one a task")
    for name in (*TEXTS, SUMS):
        if name not in names:
            raise Malformed(name, "missing; `submit pack` writes it")
    for name in names:
        cap = limits.packed if name.endswith(".gz") else limits.json
        cap = limits.text if name in (SUMS, "submission.yaml") else cap
        size = (folder / name).lstat().st_size
        if size > cap:
            raise Malformed(name, f"{size} bytes; at most {cap} are read")
    return sorted(names)


def _walk(folder: Path) -> Iterator[str]:
    for prefix, place in (("", folder), ("samples/", folder / "samples")):
        if not place.is_dir():
            raise Malformed("samples", "missing; `submit pack` writes it")
        with os.scandir(place) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_symlink():
                    raise Malformed(short(name), "a link; a submission has files only")
                if name == "samples" and entry.is_dir(follow_symlinks=False):
                    continue
                if not entry.is_file(follow_symlinks=False):
                    raise Malformed(
                        short(name),
                        "no plain file; give a submission's own folder, org__model/DATE-HASH",
                    )
                if name not in (*TEXTS, SUMS, *BESIDE) and not _SAMPLES_NAME.fullmatch(name):
                    raise Malformed(short(name), "not a file of a submission; remove it")
                yield name


def read_bytes(folder: Path, name: str, cap: int) -> bytes:
    """Read a plain file, at most `cap` bytes of it."""
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Malformed(name, f"cannot be read: {error.strerror}") from error
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Malformed(name, "not a plain file; remove it")
        content = file.read(cap + 1)
    if len(content) > cap:
        raise Malformed(name, f"more than {cap} bytes; at most {cap} are read")
    return content


def decode(name: str, content: bytes) -> str:
    """Return UTF-8 text."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(name, f"not UTF-8: byte {error.start}; write it as UTF-8") from error


def unpack(name: str, content: bytes, cap: int) -> bytes:
    """Decompress one gzip member, never more than `cap` bytes of it."""
    stream = zlib.decompressobj(wbits=31)
    try:
        unpacked = stream.decompress(content, cap + 1)
    except zlib.error as error:
        raise Malformed(name, f"not gzip, or damaged: {error}; pack the run again") from error
    if len(unpacked) > cap:
        raise Malformed(name, f"unpacks to more than {cap} bytes; a task has no such responses")
    if not stream.eof:
        raise Malformed(name, "the gzip data end early: truncated; pack the run again")
    if stream.unused_data:
        raise Malformed(name, f"{len(stream.unused_data)} bytes stand behind the gzip data")
    return unpacked


def read_sums(name: str, text: str) -> dict[str, str]:
    """Return the sha256 of each file that SHA256SUMS lists, after a look at the paths."""
    if not text.endswith("\n"):
        raise Malformed(name, "does not end with a line feed: truncated")
    digests: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        where = f"{name}:{number}"
        if not (match := _SUM_LINE.fullmatch(line)):
            raise Malformed(where, f"not `<sha256>  <path>`: {short(line)}")
        digest, path = match.groups()
        if path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path):
            raise Malformed(where, f"absolute path {short(path)}; paths are relative")
        if ".." in re.split(r"[/\\]", path):
            raise Malformed(where, f"path {short(path)} has `..`; it leaves the submission")
        if path in digests:
            raise Malformed(where, f"{short(path)} is listed twice")
        digests[path] = digest
    return digests


def sha256(content: bytes) -> str:
    """Return the sha256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def parse_yaml(name: str, text: str) -> Any:
    """Parse plain YAML: no tags, no anchors, no key twice."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _YAML_DEPTH:
                raise Malformed(name, f"nested deeper than {_YAML_DEPTH} levels")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise Malformed(name, "has a YAML anchor or alias; write the value out")
            if (tag := getattr(event, "tag", None)) is not None:
                raise Malformed(name, f"has a YAML tag, {short(tag)}; write the value plainly")
        _check_keys(name, yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except Malformed:
        raise
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise Malformed(name, f"not YAML: {short(_first_line(error))}") from error


def _check_keys(name: str, node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(node.value):
            raise Malformed(name, f"a key stands twice, or is no word: {short(keys)}")
    if isinstance(node, yaml.CollectionNode):
        for part in node.value:
            for child in part if isinstance(part, tuple) else (part,):
                _check_keys(name, child)


def parse_json(name: str, text: str) -> Any:
    """Parse JSON strictly: no NaN, no infinity, no key twice, and no more than `VALUES` values."""
    # A value ends with one of these or opens with one; what stands in texts counts too.
    if len(text) > VALUES and sum(map(text.count, ",[{")) > VALUES:
        raise Malformed(name, f"more than {VALUES} values; a submission has no such file")

    def refuse(word: str) -> NoReturn:
        raise Malformed(name, f"{word}: not a number that JSON has")

    def finite(digits: str) -> float:
        number = float(digits)
        return number if abs(number) < float("inf") else refuse(short(digits))

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            raise Malformed(name, f"a key stands twice in one object: {short(sorted(table)[:3])}")
        return table

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=finite, object_pairs_hook=once)
        if _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except Malformed:
        raise
    except UnicodeEncodeError as error:
        raise Malformed(name, "holds half a character (a lone surrogate); not Unicode") from error
    except (ValueError, RecursionError) as error:
        raise Malformed(name, f"not JSON: {short(_first_line(error))}") from error


def parse(model: type[_T], name: str, value: Any) -> _T:
    """Check a parsed file against its model."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Malformed(name, explain(error)) from error
    except RecursionError as error:
        raise Malformed(name, "nested too deep") from error


def _first_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())
