"""Features of images: float16 memory maps in parts, each with a log of what is in it.

A part has the features of consecutive images: `00000000-00250000.npy`, unit vectors, and beside it
`.jsonl`, whose lines say how far it is, the hash of each image's bytes, and which images have no
features and why. The rows of a batch are on the disk before its line is, so that a part that was
killed at any byte goes on where its log ends.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from verbalizer_bench.io.append_log import AppendLog, read_log

KIND, VERSION = "features", 1
# What may differ between the parts of a store, and between a part and who goes on with it.
_HARMLESS = ("model", "device")
_FIX = "wait for it, or give another --output"


class Batch(NamedTuple):
    """What was made of consecutive images.

    Attributes:
        features: float32, shape (images, width); rows of images without features are ignored.
        hashes: sha256 of each image's bytes; "" of one that cannot be read.
        faults: Why an image has no features, by its place in the batch.
    """

    features: np.ndarray
    hashes: tuple[str, ...]
    faults: Mapping[int, str]


class PartWriter:
    """A part that this process writes, until it closes it."""

    def __init__(self, folder: Path, rows: range, made: Mapping[str, Any]) -> None:
        """Begin a part, or go on with it.

        Args:
            folder: The store.
            rows: Which images, by their place in the index.
            made: What features depend on, and the hash of the index.

        Raises:
            ValueError: It is of other images or another tower, another process writes to it, or its
                features are gone.
        """
        self._name = folder / f"{rows.start:08d}-{rows.stop:08d}"
        self._rows, self._made = rows, dict(made)
        log_file = self._name.with_suffix(".jsonl")
        self._log = AppendLog(log_file, KIND, VERSION, _FIX)
        try:
            header, lines = _read(self._log.read())
            self._width = header.get("width")
            self.done = rows.start + sum(len(line["sha256"]) for line in lines)
            if header:
                check_same(log_file, header["made"], made)
            self._file = self._open()
        except BaseException:
            self._log.close()
            raise

    @property
    def is_complete(self) -> bool:
        """Whether all images are in it."""
        return self.done == self._rows.stop

    def _open(self) -> int:
        file = self._name.with_suffix(".npy")
        if self.done > self._rows.start and not file.is_file():
            log = self._name.with_suffix(".jsonl")
            raise ValueError(f"{file}: it is gone, and {log.name} is not; remove that one too")
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o666)

    def write(self, batch: Batch) -> None:
        """Write the next images' features.

        Raises:
            OSError: The disk is full, or refuses.
            ValueError: They are of another width than those before.
        """
        vectors, faults = unit_vectors(batch)
        if self._width is None:
            self._width = vectors.shape[1]
            self._log.append({KIND: VERSION, "made": self._made, "width": self._width})
        if vectors.shape[1] != self._width:
            raise ValueError(
                f"{self._name}.npy: rows of {self._width} numbers, and {vectors.shape[1]} come; "
                "give another --output"
            )
        head = _header(len(self._rows), self._width)
        place = len(head) + (self.done - self._rows.start) * vectors[0].nbytes
        try:
            if self.done == self._rows.start:
                _write_at(self._file, head, 0)
            _write_at(self._file, vectors.tobytes(), place)
            os.fsync(self._file)
        except OSError as error:
            error.filename = f"{self._name}.npy"
            raise
        named = {str(place): why for place, why in faults.items()}
        self._log.append({"sha256": batch.hashes, "faults": named})
        self.done += len(batch.hashes)

    def close(self) -> None:
        """Close files and locks."""
        os.close(self._file)
        self._log.close()


def unit_vectors(batch: Batch) -> tuple[np.ndarray, dict[int, str]]:
    """Return features as float16 vectors of length 1, and why images have none.

    Of length 1 no number overflows float16, and products in float64 are exact: see `search.py`.
    """
    wide = batch.features.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.abs(wide).max(axis=1, keepdims=True)
        scaled = wide / np.where(largest > 0, largest, 1)
        lengths = np.sqrt((scaled**2).sum(axis=1, keepdims=True))
        vectors = scaled / np.where(lengths > 0, lengths, 1)
    faults = dict(batch.faults)
    for place in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
        faults.setdefault(int(place), "its features are not finite")
    for place in np.flatnonzero(largest[:, 0] == 0):
        faults.setdefault(int(place), "its features are all 0")
    vectors[list(faults)] = 0
    return vectors.astype(np.float16), faults


def check_same(file: Path, known: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Raise ValueError if a store's features were made of something else."""
    for key in sorted(set(known) | set(made)):
        if key not in _HARMLESS and known.get(key) != made.get(key):
            raise ValueError(
                f"{file}: its features are of {key}={known.get(key)}, and {key}={made.get(key)} is "
                "asked for; give another --output"
            )


def _header(rows: int, width: int) -> bytes:
    import io

    stream = io.BytesIO()
    shape = {"descr": "<f2", "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(stream, shape)
    return stream.getvalue()


def _write_at(file: int, data: bytes, place: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, place)
        left, place = left[written:], place + written


def _read(log: Iterator[tuple[str, dict[str, Any]]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    header = next(log, None)
    return (header[1] if header else {}), [line for _, line in log]


class Store:
    """All features of a tower, read-only: parts one behind the other.

    Attributes:
        made: What they depend on.
        width: Numbers of a vector.
        hashes: sha256 of each image's bytes, shape (images, 32); 0 of one that cannot be read.
        faults: Why an image has no features, by its place in the index.
    """

    def __init__(self, folder: Path, images: int) -> None:
        """Open a store.

        Args:
            folder: Where its parts are.
            images: How many images the index has.

        Raises:
            FileNotFoundError: Parts are missing.
            ValueError: Parts overlap, are not complete, or are of different towers.
        """
        self.hashes = np.zeros((images, 32), np.uint8)
        self.faults: dict[int, str] = {}
        self.made: dict[str, Any] = {}
        self._starts: list[int] = []
        self._parts: list[np.ndarray] = []
        self.width, at = 0, 0
        for file, part in _parts_there(folder):
            if part.start != at:
                raise _gap(folder, at, part.start)
            self._add(file, part.start, part.stop)
            at = part.stop
        if at != images:
            raise _gap(folder, at, images)
        self.images = images

    def _add(self, file: Path, start: int, stop: int) -> None:
        header, lines = _read(read_log(file, KIND, VERSION))
        at = start
        for line in lines:
            for place, why in line["faults"].items():
                self.faults[at + int(place)] = why
            for number, text in enumerate(line["sha256"]):
                if text:
                    self.hashes[at + number] = np.frombuffer(bytes.fromhex(text), np.uint8)
            at += len(line["sha256"])
        if at != stop:
            raise ValueError(
                f"{file}: {at - start:,} of {stop - start:,} images are in it; run the same "
                "command for this part again"
            )
        if self.made:
            check_same(file, header["made"], self.made)
        self.made = self.made or header["made"]
        part = np.load(file.with_suffix(".npy"), mmap_mode="r")
        if part.shape != (stop - start, header["width"]) or self.width not in (0, part.shape[1]):
            raise ValueError(f"{file.with_suffix('.npy')}: shape {part.shape}; make the part again")
        self.width = part.shape[1]
        self._starts.append(start)
        self._parts.append(part)

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return float16 features of images, shape (places, width).

        Args:
            places: In the index.
        """
        rows = np.empty((len(places), self.width), np.float16)
        part_of = np.searchsorted(self._starts, places, side="right") - 1
        for number in np.unique(part_of):
            chosen = part_of == number
            rows[chosen] = self._parts[number][places[chosen] - self._starts[number]]
        return rows


def _gap(folder: Path, at: int, to: int) -> Exception:
    if to < at:
        return ValueError(
            f"{folder}: two parts have image {to}; remove one of them, its .npy and its .jsonl, "
            "and run --stage features again"
        )
    return FileNotFoundError(
        f"{folder}: no features of the images {at} to {to - 1}; run --stage features with the "
        "shards that are missing"
    )


def parts_of(folder: Path, rows: range, made: Mapping[str, Any]) -> list[range]:
    """Return the parts that make up a shard: those that are there, and new ones between them.

    Parts of another number of shards are taken as they are. One that was begun is finished by the
    shard that has its first image.

    Args:
        folder: The store.
        rows: Which images the shard has.
        made: What features depend on, and the hash of the index.

    Raises:
        ValueError: Two parts have an image, or one is of something else.
    """
    parts, at, end = [], rows.start, 0
    for file, part in _parts_there(folder):
        if part.start < end:
            raise _gap(folder, end, part.start)
        end = part.stop
        if header := next(read_log(file, KIND, VERSION), None):
            check_same(file, header[1]["made"], made)
        if part.stop <= rows.start or part.start >= rows.stop:
            continue
        if at < part.start:
            parts.append(range(at, part.start))
        if part.start >= rows.start:
            parts.append(part)
        at = part.stop
    return parts + ([range(at, rows.stop)] if at < rows.stop else [])


def _parts_there(folder: Path) -> Iterator[tuple[Path, range]]:
    """Yield the log of each part of a store and its images, in their order."""
    for file in sorted(folder.glob("*.jsonl")):
        start, stop = (int(number) for number in file.stem.split("-"))
        yield file, range(start, stop)


def shard_rows(images: int, shard: int, shards: int) -> range:
    """Return which images a shard has; `shard` counts from 1."""
    return range(images * (shard - 1) // shards, images * shard // shards)
