"""Training data: records are encoded once, into Arrow that is mapped and never read as a whole.

The cache has a folder for each list of files, tokenizer, format and lengths: `rows.arrow`,
`lengths.npy`, `modalities.npy`, `images.jsonl`, `bad_records.jsonl`, and `index.json`, which is
written last. A folder is built under another name and renamed. One process builds, however long it
takes; others wait for its lock, which the system takes from a process that ends, and load what it
built, or go on where it was stopped.
"""

import errno
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset

from verbalizer_bench.io.conversations import listed
from verbalizer_bench.io.files import remove, wait_for_lock, write_whole
from verbalizer_bench.io.record_files import record_name, records_sha256
from verbalizer_bench.trainers.data import encoded_files
from verbalizer_bench.trainers.data.encoded_files import RecordEncoder
from verbalizer_bench.trainers.data.image_check import ImageCheck, current_images, recheck
from verbalizer_bench.trainers.data.mapped_table import MappedTable
from verbalizer_bench.trainers.data.mixture import Mixture
from verbalizer_bench.trainers.data.overlap import RowHashes, table_hashes
from verbalizer_bench.trainers.data.row_kinds import CONVERSATIONS, RowKind

# Raise it when the same records would be encoded differently or stored otherwise.
_LAYOUT = 5
_INDEX, _LOCK = "index.json", "lock"


class DataFile(NamedTuple):
    """A file of records, or what else `io.record_files` has, and its sha256."""

    file: str
    sha256: str


@dataclass(frozen=True)
class TrainingData:
    """Encoded records, with what can be known of them without reading them.

    Attributes:
        dataset: Columns record, those of its kind (of conversations input_ids and assistant_mask),
            length, and images if any row has one (of pairs, pictures).
        lengths: Expanded tokens of each row, int32.
        has_image: Of each row, bool.
        files: What it is made of, in order; a file that was given twice is there twice.
        images: The sha256 of all images' names and contents; None without images.
        skipped: How many records were left out for each reason.
        cut: Of the files' records, how many were cut to `max_length`.
        lost: How many tokens they lost.
        counts: How many records each file has, bad ones counted.
        unread: In how many of each each key stands that is not read.
        mixture: How many rows of each file were drawn, and of how many; None for all of them.
        folder: Where it is cached; `bad_records.jsonl` there lists what was left out.
        prompts_trained: Of what is held out, how many records ask what is trained on, with other
            answers.
    """

    dataset: Dataset
    lengths: np.ndarray
    has_image: np.ndarray
    files: tuple[DataFile, ...]
    images: str | None
    skipped: Mapping[str, int]
    cut: int
    lost: int
    folder: Path
    counts: list[int]
    unread: list[dict[str, int]]
    mixture: Mixture | None = None
    prompts_trained: int = 0

    def hashes(self, images: Path | None) -> RowHashes:
        """Return by what its records are compared with others; reads all rows.

        Args:
            images: The folder that image names are relative to.
        """
        known = encoded_files.checked_images(self.folder) if self.has_image.any() else ()
        contents = ImageCheck(images, current_images(images, known))
        # What is drawn are places in a table of all rows.
        found = table_hashes(self.dataset.data.table, contents.content)
        return found.take(self.mixture.rows) if self.mixture else found

    def record(self) -> dict[str, Any]:
        """Return what identifies the data, as JSON values."""
        files: list[dict[str, Any]] = [one._asdict() for one in self.files]
        if self.mixture:
            parts = zip(files, self.mixture.drawn, self.mixture.available, strict=True)
            files = [file | {"drawn": drawn, "of": size} for file, drawn, size in parts]
        return {"files": files, "images": self.images}

    def mixed(self, mixture: Mixture) -> "TrainingData":
        """Return the rows that a mixture draws."""
        rows = mixture.rows
        return replace(
            self,
            dataset=self.dataset.select(rows),
            lengths=self.lengths[rows],
            has_image=self.has_image[rows],
            mixture=mixture,
        )


def build(
    files: Sequence[Path],
    images: Path | None,
    encoder: RecordEncoder,
    *,
    skip_bad: bool,
    cache: Path,
    kind: RowKind = CONVERSATIONS,
) -> TrainingData:
    """Encode the records of files, or load what an earlier call encoded.

    Every image is decoded once, in threads. A record is bad if it cannot be parsed, does not fit
    `encoder`, or shows an image that is missing or broken. Any number of processes may call this
    at once.

    Args:
        files: As `io.record_files` has them; records are numbered through all of them, and those
            of a file that stands twice are there twice. Images that stand in them are written into
            the cache.
        images: The folder that image names are relative to.
        encoder: Makes token ids of a record.
        skip_bad: Leave bad records out, instead of raising one error for all of them.
        cache: The folder for what is built.
        kind: What the files' records are, and what `encoder` makes of one.

    Raises:
        ValueError: There are bad records that are not to be skipped, or no record is left.
        OSError: The cache cannot be written to, or has no locks.
    """
    hashed = tuple(DataFile(record_name(path), records_sha256(path)) for path in files)
    base, mode = str(images.resolve()) if images else None, "skip" if skip_bad else "error"
    key = [_LAYOUT, [one.sha256 for one in hashed], base, encoder.fingerprint(), mode]
    # What there was before there were kinds keeps its place.
    key += [] if kind is CONVERSATIONS else [kind.name]
    folder = cache / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    part = folder.with_name(f"{folder.name}.part")
    while (images_hash := _images_hash(folder, images)) is None:
        with wait_for_lock(part / _LOCK) as held:
            if held and _images_hash(folder, images) is None:
                _build(files, images, encoder, part, skip_bad, kind)
                _install(part, folder)
            elif held:
                # The process that held the lock has built it.
                remove(part)
    return _load(folder, hashed, images_hash or None, kind)


def _build(
    files: Sequence[Path],
    images: Path | None,
    encoder: RecordEncoder,
    part: Path,
    skip_bad: bool,
    kind: RowKind,
) -> None:
    """Build in a folder, or go on there; remove what no later call could go on from."""
    try:
        if recheck(images, encoded_files.checked_images(part)) is None:
            encoded_files.start_over(part)
        done = encoded_files.encode_files(files, images, encoder, part, kind)
        _refuse(done, part, files, skip_bad)
        kept = ("counts", "unread", "cut", "lost")
        index = {"skipped": done.bad} | {name: getattr(done, name) for name in kept}
        write_whole(part / _INDEX, json.dumps(index))
    except BaseException as error:
        if isinstance(error, ValueError) or not encoded_files.begun(part):
            remove(part)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                f"cache={part.parent}: {error.strerror}; make room, or give another cache: what "
                "was encoded is kept, and the same command goes on from there"
            ) from error
        raise


def _refuse(
    done: encoded_files.EncodingProgress, part: Path, files: Sequence[Path], skip_bad: bool
) -> None:
    """Raise one error for all bad records, and keep their list, if they are to stop training."""
    count = sum(done.bad.values())
    if done.rows and (skip_bad or not count):
        return
    if not count:
        names = ", ".join(map(str, files))
        raise ValueError(f"{names}: no records in it, so that there is nothing to train on")
    listing = (part / encoded_files.BAD).replace(part.parent / encoded_files.BAD)
    fix = "" if skip_bad else ", or leave them out with bad_records=skip"
    error = ValueError(
        f"{count:,} of {done.records:,} records cannot be trained on; correct them{fix}; all are "
        f"listed in {listing}"
    )
    for line in listed(done.first, count):
        error.add_note(line)
    raise error


def _install(part: Path, folder: Path) -> None:
    """Move what was built to its place, with its lock: no process sees one without the other."""
    if folder.exists():
        remove(folder)
    part.rename(folder)
    encoded_files.tidy(folder)
    (folder / _LOCK).unlink()


def _images_hash(folder: Path, images: Path | None) -> str | None:
    """Return the sha256 of a build's images, "" for none, None if it must be built (again)."""
    done = (folder / _INDEX).exists()
    return recheck(images, encoded_files.checked_images(folder)) if done else None


def _load(
    folder: Path, files: tuple[DataFile, ...], images: str | None, kind: RowKind
) -> TrainingData:
    has_image = np.load(folder / "modalities.npy")
    unused = () if has_image.any() else ("images",)
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    table = MappedTable(folder / encoded_files.ROWS, unused, kind.renamed)
    return TrainingData(
        dataset=Dataset(table),
        lengths=np.load(folder / "lengths.npy"),
        has_image=has_image,
        files=files,
        images=images,
        skipped=index["skipped"],
        cut=index["cut"],
        lost=index["lost"],
        counts=index["counts"],
        unread=index["unread"],
        folder=folder,
    )
