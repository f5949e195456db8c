"""Training data: records are encoded once, into Arrow that is mapped and never read as a whole.

The cache has a folder for each combination of files, tokenizer, format and lengths: `rows.arrow`,
`lengths.npy`, `modalities.npy`, `bad_records.jsonl`, and `index.json`, which is written last. A
folder is built under another name and renamed: one without `index.json` is built again.
"""

import hashlib
import json
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset
from tqdm import tqdm

from verbalizer_bench.trainers.collator import ImageCheck, image_state
from verbalizer_bench.trainers.formats import Encoded, Encoder
from verbalizer_bench.trainers.mapped import MappedTable
from verbalizer_bench.trainers.records import BadRecord, BadRecordError, Record, read_records

ON_BAD = ("error", "skip")
# Raise it when the same records would be encoded differently or stored otherwise.
_LAYOUT = 1
# Records that are encoded together; chunks in a batch of Arrow. Opening the file touches some
# pages of each batch, so that these are large.
_CHUNK, _BATCH = 256, 16
_SHOWN = 3
_INDEX, _BAD = "index.json", "bad_records.jsonl"
_SCHEMA = pa.schema(
    [
        ("record", pa.int64()),
        ("input_ids", pa.list_(pa.int32())),
        ("answer", pa.list_(pa.bool_())),
        ("length", pa.int32()),
        ("images", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class TrainingData:
    """Encoded records, and what is known of them without reading them.

    Attributes:
        dataset: Columns record, input_ids, answer, length, and images unless nothing has any.
        lengths: Expanded tokens of each row, int32.
        modalities: Whether each row has an image, bool.
        hashes: The sha256 of each file.
        skipped: How many records were left out for each reason.
        folder: Where it is cached; `bad_records.jsonl` there lists what was left out.
    """

    dataset: Dataset
    lengths: np.ndarray
    modalities: np.ndarray
    hashes: Mapping[str, str]
    skipped: Mapping[str, int]
    folder: Path

    @property
    def text_only(self) -> bool:
        """Tell whether no row has an image."""
        return not self.modalities.any()


def build(
    files: Sequence[Path],
    images: Path | None,
    encoder: Encoder,
    *,
    on_bad: str,
    cache: Path,
) -> TrainingData:
    """Encode the records of files, or load what an earlier call encoded.

    Every image is decoded once, in threads. A record is bad if it cannot be parsed, does not fit
    `encoder`, or shows an image that is missing or broken.

    Args:
        files: `.json` and `.jsonl`; records are numbered through all of them.
        images: The folder that image names are relative to.
        encoder: Makes token ids of a record.
        on_bad: `error` raises one error for all bad records, `skip` leaves them out.
        cache: The folder for what is built.

    Raises:
        ValueError: There are bad records and `on_bad` is `error`, or no record is left.
    """
    if on_bad not in ON_BAD:
        raise ValueError(f"on_bad={on_bad!r}: it is {' or '.join(ON_BAD)}")
    hashes = {str(path): _sha256(path) for path in files}
    base = str(images.resolve()) if images else None
    key = [_LAYOUT, list(hashes.values()), base, encoder.fingerprint(), on_bad]
    folder = cache / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    if not _is_current(folder, images):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=cache) as parent:
            made = Path(parent) / "made"
            made.mkdir()
            found = _write(files, encoder, ImageCheck(images), made)
            _refuse(found, made, cache, on_bad)
            _install(made, folder, images)
    return _load(folder, hashes)


class _Written(NamedTuple):
    """What a build found: rows, bad records by reason, the first of them, states of bad images."""

    rows: int
    bad: Counter[str]
    first: list[str]
    bad_images: dict[str, list[int] | None]


def _write(files: Sequence[Path], encoder: Encoder, check: ImageCheck, folder: Path) -> _Written:
    """Write the rows and what is known of them, and list what is left out."""
    lengths, modalities = array("i"), array("b")
    bad: Counter[str] = Counter()
    first: list[str] = []
    with (
        (folder / _BAD).open("w", encoding="utf-8") as listing,
        _Stream(folder / "rows.arrow") as stream,
        tqdm(desc="Encoding records", unit="record") as bar,
    ):
        for chunk in _chunks(files):
            check.check(name for _, item in chunk for name in _images(item))
            rows = []
            for path, item in chunk:
                try:
                    rows.append(_row(item, encoder, check))
                except BadRecordError as error:
                    found = error.bad._replace(place=error.bad.place or str(path))
                    bad[found.reason] += 1
                    first.extend([str(found)] if len(first) < _SHOWN else [])
                    listing.write(json.dumps({"file": str(path)} | found._asdict()) + "\n")
            stream.write(rows)
            lengths.extend(row["length"] for row in rows)
            modalities.extend(bool(row["images"]) for row in rows)
            bar.update(len(chunk))
    np.save(folder / "lengths.npy", np.array(lengths, np.int32))
    np.save(folder / "modalities.npy", np.array(modalities, np.bool_))
    return _Written(len(lengths), bad, first, check.states())


class _Stream:
    """Write rows to an Arrow file, many of them a batch."""

    def __init__(self, path: Path):
        self._sink = pa.OSFile(str(path), "wb")
        self._stream = pa.ipc.new_stream(self._sink, _SCHEMA)
        self._held: list[pa.RecordBatch] = []

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._stream.close()
        self._sink.close()

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take some rows, at most a chunk of them."""
        self._held.append(pa.RecordBatch.from_pylist(rows, _SCHEMA))
        if len(self._held) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._held, _SCHEMA).combine_chunks()
        self._stream.write_table(table)
        self._held = []


def _chunks(files: Sequence[Path]) -> Iterator[list[tuple[Path, Record | BadRecord]]]:
    """Yield records of all files, numbered through, some at a time."""

    def records() -> Iterator[tuple[Path, Record | BadRecord]]:
        start = 0
        for path in files:
            for item in read_records(path, start):
                start = item.index + 1
                yield path, item

    stream = records()
    while chunk := list(islice(stream, _CHUNK)):
        yield chunk


def _images(item: Record | BadRecord) -> tuple[str, ...]:
    return item.images if isinstance(item, Record) else ()


def _row(item: Record | BadRecord, encoder: Encoder, check: ImageCheck) -> dict[str, Any]:
    """Return the columns of a record, or raise a BadRecordError."""
    if isinstance(item, BadRecord):
        raise BadRecordError(item)
    for name in item.images:
        if problem := check.bad.get(name):
            raise BadRecordError(BadRecord(item.index, item.id, *problem))
    encoded: Encoded = encoder.encode(item)
    return {"record": item.index, "images": item.images} | encoded._asdict()


def _refuse(found: _Written, made: Path, cache: Path, on_bad: str) -> None:
    """Raise one error for all bad records, and keep their list, if this is not to be trained on."""
    count = sum(found.bad.values())
    if found.rows and not (count and on_bad == "error"):
        index = {"skipped": found.bad, "bad_images": found.bad_images}
        (made / _INDEX).write_text(json.dumps(index), encoding="utf-8")
        return
    if not count:
        raise ValueError("the files hold no records: there is nothing to train on")
    listing = (made / _BAD).replace(cache / _BAD)
    shown = "".join(f"\n  {line}" for line in found.first)
    fix = "mend them" if on_bad == "skip" else "mend them, or leave them out with bad_records=skip"
    raise ValueError(
        f"{count} of {count + found.rows} records cannot be trained on; {fix}. All are listed in "
        f"{listing}; the first {len(found.first)}:{shown}"
    )


def _install(made: Path, folder: Path, images: Path | None) -> None:
    """Move what was made to its place, unless another process was there first."""
    if _is_current(folder, images):
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        made.rename(folder)
    except OSError:
        if not _is_current(folder, images):
            raise


def _is_current(folder: Path, images: Path | None) -> bool:
    """Tell whether a build is complete, and nothing has happened to the images that it refused."""
    if not (folder / _INDEX).exists():
        return False
    refused = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["bad_images"]
    return all(image_state(images, name) == state for name, state in refused.items())


def _load(folder: Path, hashes: Mapping[str, str]) -> TrainingData:
    modalities = np.load(folder / "modalities.npy")
    table = MappedTable(folder / "rows.arrow", () if modalities.any() else ("images",))
    return TrainingData(
        dataset=Dataset(table),
        lengths=np.load(folder / "lengths.npy"),
        modalities=modalities,
        hashes=hashes,
        skipped=json.loads((folder / _INDEX).read_text(encoding="utf-8"))["skipped"],
        folder=folder,
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
