"""Go through all records of some files, encode them, and keep what is to be said of each.

`--dry-run` and `validate-data` read with the encoder, the parser and the check of images that the
build of training data has, and store nothing.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from verbalizer_bench.io.conversation_files import Source, read_files
from verbalizer_bench.io.conversations import BadRecordError, Conversation, Pair
from verbalizer_bench.io.parquet_records import is_written_nowhere, portable_name
from verbalizer_bench.trainers.data.image_check import ImageCheck
from verbalizer_bench.trainers.data.overlap import RowHashes, row_hashes
from verbalizer_bench.trainers.data.row_kinds import RowKind

# Records that are read together, so that their images are decoded in threads.
_CHUNK = 256
WORST = 10
# What is kept of a record: the type of each in an array.
_COLUMNS = {"records": "q", "lengths": "l", "full": "l", "tokens": "l", "trained": "l"}
_COLUMNS |= {"images": "l", "answers": "l", "digests": "Q", "prompts": "Q", "ids": "Q"}


class Extreme(NamedTuple):
    """A record that has much of something.

    Attributes:
        value: How much.
        id: Its name.
        place: Where it stands.
    """

    value: int
    id: str
    place: str


@dataclass
class Survey:
    """What the records of some files contain. Arrays have a number for each that can be trained on.

    Attributes:
        total: Records that were read, bad ones counted.
        counts: The same of each file.
        unread: In how many records of each file each key stands that is not read.
        records: Their numbers.
        lengths: Tokens, image tokens counted, after the cut to `max_length`.
        full: Tokens before the cut.
        tokens: That a model sees: of a pair, both conversations.
        trained: Tokens that the loss is on.
        images: How many each shows.
        answers: Its turns that answer.
        digests: 64 bits of a hash of token ids and images.
        prompts: The same without the last answer.
        ids: Of a hash of its name; 0 without one, and for all but the first of a row's records.
        bad: How many cannot be trained on, by reason.
        worst: The first bad ones.
        longest: Those with the most tokens before the cut, the longest first.
        most_cut: Those that lose most of them.
        first: The first record, encoded; of a pair with either answer.
    """

    total: int
    counts: list[int]
    unread: list[dict[str, int]]
    records: np.ndarray
    lengths: np.ndarray
    full: np.ndarray
    tokens: np.ndarray
    trained: np.ndarray
    images: np.ndarray
    answers: np.ndarray
    digests: np.ndarray
    prompts: np.ndarray
    ids: np.ndarray
    bad: Counter[str]
    worst: list[BadRecordError]
    longest: list[Extreme]
    most_cut: list[Extreme]
    first: tuple[Any, ...]

    @property
    def hashes(self) -> RowHashes:
        """Return by what records are compared with others."""
        return RowHashes(self.records, self.digests, self.prompts)


@dataclass
class _Gathered:
    """A survey that grows."""

    columns: "dict[str, array[int]]" = field(
        default_factory=lambda: {name: array(kind) for name, kind in _COLUMNS.items()}
    )
    total: int = 0
    counts: list[int] = field(default_factory=list)
    unread: list[dict[str, int]] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    worst: list[BadRecordError] = field(default_factory=list)
    longest: list[tuple[int, int, Extreme]] = field(default_factory=list)
    most_cut: list[tuple[int, int, Extreme]] = field(default_factory=list)
    first: tuple[Any, ...] = ()
    source: Source | None = None

    def add(
        self,
        source: Source,
        record: Conversation | Pair,
        images: Sequence[object],
        encoded: Any,
        full: int,
    ) -> None:
        conversation = record.chosen if isinstance(record, Pair) else record
        values = (
            *(record.index, encoded.length, full, encoded.tokens, encoded.trained),
            *(len(record.images), _answers(conversation)),
            *row_hashes(encoded._asdict(), images),
            _id_hash(record.id) if source != self.source else 0,
        )
        self.source = source
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)
        self.first = self.first or encoded.shown
        for heap, value in ((self.longest, full), (self.most_cut, full - encoded.length)):
            if value:
                _keep(heap, -record.index, Extreme(value, record.id, str(source)))

    def refuse(self, error: BadRecordError) -> None:
        self.bad[error.reason] += 1
        self.worst.extend([error] if len(self.worst) < WORST else [])

    def survey(self) -> Survey:
        columns = {
            name: np.frombuffer(column, column.typecode) if column else np.zeros(0, column.typecode)
            for name, column in self.columns.items()
        }
        longest, most_cut = (
            [extreme for *_, extreme in sorted(heap, reverse=True)]
            for heap in (self.longest, self.most_cut)
        )
        return Survey(
            total=self.total,
            counts=self.counts,
            unread=self.unread,
            **columns,
            bad=self.bad,
            worst=self.worst,
            longest=longest,
            most_cut=most_cut,
            first=self.first,
        )


def survey(
    files: Sequence[Path],
    encoder: Any,
    kind: RowKind,
    images: Path | None,
    check: ImageCheck | None,
    note: Callable[[BadRecordError], None] | None = None,
    written: Path | None = None,
) -> Survey:
    """Read and encode all records of files.

    Args:
        files: As `cache.build` has them.
        encoder: Makes token ids of a record.
        kind: What the records are.
        images: The folder that image names are relative to.
        check: Decodes images. None: they need only be there, and a record without its image is
            counted as bad and as trained on, as it will be once the image is there, and images are
            told from each other by their names, in place of their contents.
        note: Is given each bad record.
        written: A folder in which images that stand in the records are written; None: nowhere.
    """
    gathered = _Gathered()
    identify = check.content if check else portable_name

    def refuse(source: Source, error: BadRecordError) -> None:
        error.place = error.place or str(source)
        gathered.refuse(error)
        if note:
            note(error)

    records = read_files(files, kind.parse, written, gathered.counts, gathered.unread)
    for source, item in _checked(records, check):
        gathered.total += 1
        try:
            if isinstance(item, BadRecordError):
                raise item
            if check:
                check.refuse(item)
            encoded = encoder.encode(item)
            cut = encoded.length >= encoder.max_length
            full = encoder.full_length(item) if cut else encoded.length
        except BadRecordError as error:
            refuse(source, error)
            continue
        if not check and (missing := _missing(item, images)):
            refuse(source, missing)
        if check:
            check.use(item.images)
        gathered.add(source, item, [*map(identify, item.images)], encoded, full)
    return gathered.survey()


def _checked(
    records: Iterator[tuple[Source, Any]], check: ImageCheck | None
) -> Iterator[tuple[Source, Any]]:
    """Yield records with their places; their images have been checked."""
    with tqdm(desc="Checking records", unit="record", disable=None) as bar:
        while chunk := list(islice(records, _CHUNK)):
            if check:
                check.check(name for _, item in chunk for name in getattr(item, "images", ()))
            yield from chunk
            bar.update(len(chunk))


def _missing(record: Conversation | Pair, images: Path | None) -> BadRecordError | None:
    for name in record.images:
        if not is_written_nowhere(name) and not ((images or Path()) / name).is_file():
            place = (images or Path()) / name
            detail = f"there is no {place}; put it there or leave the record out"
            return BadRecordError(record.index, record.id, "missing image", detail)
    return None


def _answers(conversation: Conversation) -> int:
    """Return how many turns are trained."""
    return (
        1
        if conversation.last_only
        else sum(message.role == "assistant" for message in conversation.messages)
    )


def _id_hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") if name else 0


def _keep(heap: list[tuple[int, int, Extreme]], order: int, extreme: Extreme) -> None:
    """Keep the largest values, of equals those of the highest order."""
    entry = extreme.value, order, extreme
    if len(heap) < WORST:
        heappush(heap, entry)
    else:
        heappushpop(heap, entry)
