"""Pairs of images whose vectors are near: all of them, exactly, in blocks that fit into memory.

What is exact is defined on the stored float16 vectors: the cosine is dot / sqrt(norm * norm) of
them in float64. As they are of length 1, products are multiples of 2^-48 below 2, and float64 adds
them without rounding, in any order. A block's float32 product only proposes pairs: what is below
the threshold by less than float32 can err is looked at exactly.

Rows of blocks are independent: a shard takes every n-th, to and fro, since the first ones have the
most blocks. `shard-1-of-4.hits` has the pairs, 24 bytes each, and a log beside it which rows of
blocks are done: a search goes on after the last of them.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from tqdm import tqdm

from verbalizer_bench.io.append_log import AppendLog, read_log

KIND, VERSION = "pairs", 1
HIT = np.dtype([("first", "<u4"), ("second", "<u4"), ("similar", "<f8"), ("different", "<f8")])
# Proposed pairs whose vectors are held as float64 at a time, and rows of a block that propose.
_EXACT, _STRIP = 4096, 256
_FEWEST, _MOST_ROWS, _LEAST_BLOCKS = 64, 16384, 8


class Vectors(Protocol):
    """Where vectors are read from."""

    @property
    def width(self) -> int:
        """Return how many numbers a vector has."""

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return float16 vectors of length 1, shape (places, width)."""


class Rule(NamedTuple):
    """Which pairs are wanted, and what a search may use.

    Attributes:
        above: The cosine in the first tower that a pair has to be above.
        most: How many pairs may be so near, of all shards together.
        memory: MiB for blocks.
        device: Where products are computed.
    """

    above: float = 0.95
    most: int = 5_000_000
    memory: int = 1024
    device: str = "cpu"


def block_rows(width: int, memory: int) -> int:
    """Return how many rows a block has so that two blocks and their product fit into memory.

    Args:
        width: Numbers of a vector.
        memory: MiB.

    Raises:
        ValueError: It is too little for the smallest block.
    """
    # The float64 vectors of proposed pairs; two blocks; their product; what a strip of it proposes.
    fixed = 4 * _EXACT * width * 8
    for rows in range(_MOST_ROWS, 0, -_FEWEST):
        if fixed + 8 * rows * width + 4 * rows * rows + 34 * _STRIP * rows <= memory * 2**20:
            return rows
    raise ValueError(f"--memory {memory}: too little for vectors of {width} numbers; give more")


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the exact cosines of float16 vectors of length 1, row by row; shape (rows,)."""
    one, other = first.astype(np.float64), second.astype(np.float64)
    norms = np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", other, other)
    return np.einsum("ij,ij->i", one, other) / np.sqrt(norms)


class Search:
    """The pairs among some images, in the shards of a folder."""

    def __init__(
        self,
        similar: Vectors,
        different: Vectors,
        places: np.ndarray,
        rule: Rule,
        made: Mapping[str, Any],
    ) -> None:
        """Prepare a search.

        Args:
            similar: Vectors in which pairs are near.
            different: Vectors of which the cosine is given too.
            places: Which images, by their place in the index, rising.
            rule: Which pairs.
            made: What pairs depend on beside the rule.
        """
        self.similar, self.different, self.places, self.rule = similar, different, places, rule
        fitting = block_rows(max(similar.width, different.width), rule.memory)
        # Half of the products of a block on the diagonal are of no use.
        self.rows = min(fitting, max(_FEWEST, -(-len(places) // _LEAST_BLOCKS)))
        self.made = {**made, "above": rule.above, "block": self.rows}
        self.blocks = -(-len(places) // self.rows)
        # What float32 errs at most: in the product, and in vectors that are scaled.
        unit = 2.0**-24
        self._margin = (similar.width + 8) * unit / (1 - (similar.width + 8) * unit) * 1.01

    def run(self, folder: Path, shard: int = 1, shards: int = 1) -> None:
        """Find a shard's pairs, or go on with it.

        What shards of another number have found is not searched again.

        Args:
            folder: Where shards are kept.
            shard: Which, from 1.
            shards: How many there are.

        Raises:
            ValueError: Too many pairs are near; or the shard is of another search.
            OSError: The disk is full, or refuses.
        """
        name = folder / f"shard-{shard}-of-{shards}"
        mine = set(shard_blocks(self.blocks, shard, shards))
        others = _rows_of_others(folder, name, self.made)
        most = self.rule.most // shards - sum(others[row] for row in mine & others.keys())
        with _ShardWriter(name, self.made) as written:
            todo = sorted(row for row in mine - others.keys() if row not in written)
            with tqdm(desc="Blocks", total=sum(self.blocks - row for row in todo)) as bar:
                for row in todo:
                    hits = np.concatenate(
                        list(self._row(row, most - written.hits, bar)) or [np.empty(0, HIT)]
                    )
                    written.add(row, hits)

    def _row(self, row: int, most: int, bar: Any) -> Iterator[np.ndarray]:
        above, count, looked = self._block(row), 0, 0
        for column in range(row, self.blocks):
            beside = above if column == row else self._block(column)
            for hits in self._pairs(above, beside, row, column):
                count += len(hits)
                yield hits
                looked = (column - row + 1) * self.rows * self.rows
                if count > most:
                    raise ValueError(
                        f"more than {self.rule.most:,} pairs are above {self.rule.above} in the "
                        f"similar tower ({count / looked:.1%} of those looked at last); raise "
                        "--above, choose another embedding, or raise --most-pairs"
                    )
            bar.update()

    def _block(self, number: int) -> torch.Tensor:
        """Return a block's vectors, scaled to length 1 as float32 can."""
        places = self.places[number * self.rows : (number + 1) * self.rows]
        vectors = np.empty((len(places), self.similar.width), np.float32)
        for start in range(0, len(places), _STRIP):
            wide = self.similar.take(places[start : start + _STRIP]).astype(np.float64)
            vectors[start : start + _STRIP] = wide / np.sqrt((wide**2).sum(axis=1, keepdims=True))
        return torch.from_numpy(vectors).to(self.rule.device)

    def _pairs(
        self, above: torch.Tensor, beside: torch.Tensor, row: int, column: int
    ) -> Iterator[np.ndarray]:
        """Yield the pairs of a block, exact."""
        product = above @ beside.T
        for start in range(0, len(above), _STRIP):
            strip = product[start : start + _STRIP]
            near = (strip > self.rule.above - self._margin).nonzero().cpu().numpy()
            first = near[:, 0] + start + row * self.rows
            second = near[:, 1] + column * self.rows
            later = second > first
            first, second = self.places[first[later]], self.places[second[later]]
            for at in range(0, len(first), _EXACT):
                yield self._exact(first[at : at + _EXACT], second[at : at + _EXACT])

    def _exact(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        similar = cosines(self.similar.take(first), self.similar.take(second))
        near = similar > self.rule.above
        first, second = first[near], second[near]
        hits = np.empty(len(first), HIT)
        hits["first"], hits["second"], hits["similar"] = first, second, similar[near]
        hits["different"] = cosines(self.different.take(first), self.different.take(second))
        return hits


def shard_blocks(blocks: int, shard: int, shards: int) -> list[int]:
    """Return a shard's rows of blocks: dealt to and fro, so that all have about as many blocks."""
    turn = 2 * shards
    return [row for row in range(blocks) if row % turn in (shard - 1, turn - shard)]


def read_hits(folder: Path, blocks: int, made: Mapping[str, Any]) -> np.ndarray:
    """Return the pairs of all shards, sorted by their images.

    Raises:
        FileNotFoundError: Rows of blocks are missing.
        ValueError: A shard is of another search, or two have the same rows.
    """
    found, done = [np.empty(0, HIT)], set[int]()
    for file in sorted(folder.glob("shard-*.jsonl")):
        rows = _rows(file, made)
        if rows.keys() & done:
            raise ValueError(f"{file}: another shard has its pairs too; remove one number's shards")
        done |= rows.keys()
        found.append(_hits(file.with_suffix(".hits"), sum(rows.values())))
    if missing := sorted(set(range(blocks)) - done):
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {blocks} rows of blocks are not searched; run --stage "
            "search with the shards that are missing"
        )
    hits = np.concatenate(found)
    return hits[np.lexsort((hits["second"], hits["first"]))]


def _hits(file: Path, count: int) -> np.ndarray:
    """Return the pairs of a shard, without those of a row that it was killed in."""
    # Its log may have been begun and the file not yet.
    hits = np.fromfile(file, HIT, count) if count else np.empty(0, HIT)
    if len(hits) < count:
        raise ValueError(f"{file}: it is cut off; remove it and its log")
    return hits


def _rows(file: Path, made: Mapping[str, Any]) -> dict[int, int]:
    """Return the rows of blocks that a shard's log has, and how many pairs are in each."""
    log = read_log(file, KIND, VERSION)
    header = next(log, ("", {}))[1]
    _check_same(file, header.get("made"), made)
    return {int(line["row"]): int(line["hits"]) for _, line in log}


def _rows_of_others(folder: Path, name: Path, made: Mapping[str, Any]) -> dict[int, int]:
    found: dict[int, int] = {}
    for file in sorted(folder.glob("shard-*.jsonl")):
        if file != name.with_suffix(".jsonl"):
            found |= _rows(file, made)
    return found


def _check_same(file: Path, known: Any, made: Mapping[str, Any]) -> None:
    if known is not None and known != made:
        key = next(key for key in sorted(made) if known.get(key) != made[key])
        raise ValueError(
            f"{file}: its pairs are of {key}={known.get(key)}, and {key}={made[key]} is asked for; "
            "remove the folder to search again, or give another --output"
        )


class _ShardWriter:
    """A shard's pairs, and the log of its rows of blocks."""

    def __init__(self, name: Path, made: Mapping[str, Any]) -> None:
        self._log = AppendLog(
            name.with_suffix(".jsonl"), KIND, VERSION, "wait for it, or give another --output"
        )
        try:
            lines = [line for _, line in self._log.read()]
            if lines:
                _check_same(self._log.path, lines[0].get("made"), made)
            else:
                self._log.append({KIND: VERSION, "made": dict(made)})
            self._rows = {int(line["row"]) for line in lines[1:]}
            self.hits = sum(int(line["hits"]) for line in lines[1:])
            self._path = name.with_suffix(".hits")
            self._file = self._path.open("ab", buffering=0)
            if self._file.tell() < self.hits * HIT.itemsize:
                raise ValueError(f"{self._path}: it is cut off; remove it and its log")
            self._file.truncate(self.hits * HIT.itemsize)
        except BaseException:
            self._log.close()
            raise

    def __contains__(self, row: int) -> bool:
        return row in self._rows

    def add(self, row: int, hits: np.ndarray) -> None:
        try:
            left = memoryview(hits.tobytes())
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            error.filename = str(self._path)
            raise
        self._log.append({"row": row, "hits": len(hits)})
        self.hits += len(hits)

    def __enter__(self) -> "_ShardWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._log.close()
