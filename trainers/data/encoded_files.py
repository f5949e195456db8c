"""Encode records into a folder, part by part: a build that was killed goes on after its last part.

A part is some thousand records. The files of the folder are only appended to; `progress.json`,
which is replaced as a whole after each part, says how long each of them was then.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.conversation_files import Source, read_files
from verbalizer_bench.io.conversations import BadRecordError, Record
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.trainers.data.image_check import CheckedImage, ImageCheck, read_checked
from verbalizer_bench.trainers.data.row_kinds import CONVERSATIONS, RowKind

# Records that are encoded together; chunks in a part, which is a batch of Arrow. Opening the file
# touches some pages of each batch, so that these are large.
_CHUNK, _PART = 256, 16
SHOWN = 10
ROWS, BAD, IMAGES = "rows.arrow", "bad_records.jsonl", "images.jsonl"
_RAW = {"lengths": np.int32, "modalities": np.bool_}
_FILES = (ROWS, BAD, IMAGES, *_RAW)
_PROGRESS = "progress.json"


class RecordEncoder(Protocol):
    """What makes token ids of a kind's records: `Encoder`, `PairEncoder`.

    Attributes:
        max_length: Tokens to which a record is cut.
    """

    max_length: int

    def fingerprint(self) -> str:
        """Return the sha256 of all that the ids depend on besides the records."""

    def encode(self, record: Any, /) -> tuple[Any, ...]:
        """Return the columns of a record's row, and its length in expanded tokens.

        Raises:
            BadRecordError: It cannot be trained on.
        """

    def full_length(self, record: Any, /) -> int:
        """Return a record's expanded tokens before the cut."""


@dataclass
class EncodingProgress:
    """How far a build has come.

    Attributes:
        records: How many were read.
        rows: How many of them can be trained on.
        bad: How many cannot, by reason.
        first: The first few of these, as texts.
        cut: How many of the rows were cut to `max_length`.
        lost: How many tokens they lost.
        sizes: Bytes of each file.
        counts: Once all is read, how many records each file of records has, bad ones counted.
        unread: The same of each file's keys that are not read.
    """

    records: int = 0
    rows: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)
    cut: int = 0
    lost: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    unread: list[dict[str, int]] = field(default_factory=list)


def encode_files(
    files: Sequence[Path],
    images: Path | None,
    encoder: RecordEncoder,
    folder: Path,
    kind: RowKind = CONVERSATIONS,
) -> EncodingProgress:
    """Encode the records of files, from where an earlier call was stopped.

    Returns:
        The counts over all of the records.

    Raises:
        OSError: The folder cannot be written to; what was written is kept.
    """
    done = _progress(folder)
    check = ImageCheck(images, checked_images(folder))
    with (
        _Files(folder, done, kind.schema) as out,
        tqdm(desc="Encoding records", unit="record", initial=done.records) as bar,
    ):
        batches: list[pa.RecordBatch] = []
        written = None if images is None else folder.parent
        counts: list[int] = []
        unread: list[dict[str, int]] = []
        every = read_files(files, kind.parse, written, counts, unread)
        records = islice(every, done.records, None)
        while chunk := list(islice(records, _CHUNK)):
            out.images(check.check(name for _, item in chunk for name in _images(item)))
            batches.append(_batch(chunk, encoder, check, done, out, kind))
            bar.update(len(chunk))
            if len(batches) == _PART:
                out.commit(batches)
        if batches:
            out.commit(batches)
        out.end()
    done.counts, done.unread = counts, unread
    return done


def _progress(folder: Path) -> EncodingProgress:
    """Return how far a build has come, and truncate its files there."""
    file = folder / _PROGRESS
    progress = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    sizes = {name: (folder / name).stat().st_size for name in _FILES if (folder / name).is_file()}
    if not progress or any(sizes.get(n, 0) < size for n, size in progress["sizes"].items()):
        progress = asdict(EncodingProgress(sizes=dict.fromkeys(_FILES, 0)))
    for name, size in progress["sizes"].items():
        with (folder / name).open("ab") as stream:
            stream.truncate(size)
    return EncodingProgress(**progress)


class _Files:
    """The files of a build, which are appended to together."""

    def __init__(self, folder: Path, done: EncodingProgress, schema: pa.Schema):
        self.folder, self.done, self.schema = folder, done, schema

    def __enter__(self) -> "_Files":
        self._open: dict[str, BinaryIO] = {name: (self.folder / name).open("ab") for name in _FILES}
        skip = self.schema.serialize().size if self.done.sizes[ROWS] else 0
        self._rows = pa.ipc.new_stream(_Behind(self._open[ROWS], skip), self.schema)
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._open.values():
            # A full disk has been said already: closing tries to write once more.
            with contextlib.suppress(OSError):
                stream.close()

    def images(self, checked: Sequence[CheckedImage]) -> None:
        """Write images that were checked."""
        self._write(IMAGES, jsonl.dumps(checked, ascii_only=True).encode())

    def bad(self, file: Path, record: BadRecordError) -> None:
        """Write a record that is left out."""
        about = {"file": str(file)} | asdict(record)
        # Which of all files' records it is helps nobody who has the place.
        del about["index"]
        line = jsonl.dumps([about], ascii_only=True)
        self._write(BAD, line.encode())

    def commit(self, batches: list[pa.RecordBatch]) -> None:
        """Write the rows of a part, empty the list, and note that all of it is there."""
        table = pa.Table.from_batches(batches, self.schema).combine_chunks()
        batches.clear()
        self._rows.write_table(table)
        lengths = table.column("length").to_numpy().astype(np.int32)
        images = table.column("images").combine_chunks().value_lengths().to_numpy(False)
        self._write("lengths", lengths.tobytes())
        self._write("modalities", (images > 0).tobytes())
        for name, stream in self._open.items():
            stream.flush()
            os.fsync(stream.fileno())
            self.done.sizes[name] = stream.tell()
        self.done.rows += len(table)
        write_whole(self.folder / _PROGRESS, json.dumps(asdict(self.done)))

    def end(self) -> None:
        """Close the rows, and convert the columns of numbers to numpy's format."""
        self._rows.close()
        for name, kind in _RAW.items():
            self._open[name].flush()
            np.save(self.folder / f"{name}.npy", np.fromfile(self.folder / name, kind))

    def _write(self, name: str, data: Any) -> None:
        self._open[name].write(data)


class _Behind(io.RawIOBase):
    """A stream that drops its first bytes: Arrow's schema, if the file has it already."""

    def __init__(self, stream: BinaryIO, skip: int):
        self._stream, self._skip = stream, skip

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write what comes after them."""
        view = memoryview(data)
        cut = min(self._skip, len(view))
        self._skip -= cut
        self._stream.write(view[cut:])
        return len(view)


def tidy(folder: Path) -> None:
    """Remove from a finished build what only an unfinished one needs."""
    for name in (*_RAW, _PROGRESS):
        (folder / name).unlink()


def _images(item: Record | BadRecordError) -> tuple[str, ...]:
    return () if isinstance(item, BadRecordError) else item.images


def _batch(
    chunk: Sequence[tuple[Source, Record | BadRecordError]],
    encoder: RecordEncoder,
    check: ImageCheck,
    done: EncodingProgress,
    out: _Files,
    kind: RowKind,
) -> pa.RecordBatch:
    """Encode some records, and count and list those that are left out."""
    rows = []
    for source, item in chunk:
        try:
            rows.append(_row(item, encoder, check, kind))
            _count_cut(item, rows[-1], encoder, done)
        except BadRecordError as error:
            error.place = error.place or str(source)
            done.bad[error.reason] = done.bad.get(error.reason, 0) + 1
            done.first.extend([str(error)] if len(done.first) < SHOWN else [])
            out.bad(source.file, error)
    done.records += len(chunk)
    return pa.RecordBatch.from_pylist(rows, kind.schema)


def _row(
    item: Record | BadRecordError, encoder: RecordEncoder, check: ImageCheck, kind: RowKind
) -> dict[str, Any]:
    """Return the columns of a record, or raise a BadRecordError."""
    if isinstance(item, BadRecordError):
        raise item
    check.refuse(item)
    *columns, length = encoder.encode(item)
    row = {"record": item.index, "images": item.images, "length": length}
    return row | dict(zip(kind.columns, columns, strict=True))


def _count_cut(
    item: Any, row: dict[str, Any], encoder: RecordEncoder, done: EncodingProgress
) -> None:
    if row["length"] < encoder.max_length:
        return
    lost = encoder.full_length(item) - row["length"]
    done.cut += lost > 0
    done.lost += lost


def checked_images(folder: Path) -> Iterator[CheckedImage]:
    """Yield the images of a build's records, in the order in which they are first shown."""
    file = folder / IMAGES
    lines = jsonl.read_written(file) if file.is_file() else ()
    return read_checked(line for _, line in lines)


def begun(folder: Path) -> bool:
    """Tell whether there is a part that a later call would go on from."""
    return (folder / _PROGRESS).exists()


def start_over(folder: Path) -> None:
    """Forget what was built; the files are cut when they are opened next."""
    (folder / _PROGRESS).unlink(missing_ok=True)
