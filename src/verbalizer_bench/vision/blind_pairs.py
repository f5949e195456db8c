"""CLIP-blind pairs: images that one tower takes for the same and another does not.

A folder has all of a search: `images.jsonl`, the features of both towers below `features`, the near
pairs below `search`; and what came of it: `pairs.jsonl`, `left_out.jsonl`, `duplicates.jsonl` and
`result.json`. Each of the three stages goes on where it was ended; the first two can be shared out.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.models.checkpoints.weight_hash import weights_sha256
from verbalizer_bench.version import __version__
from verbalizer_bench.vision.embedding import Embedding
from verbalizer_bench.vision.extraction import extract, made_of
from verbalizer_bench.vision.features import Store, check_same, parts_of, shard_rows
from verbalizer_bench.vision.image_index import ImageFile, keep_index, read_index, scan
from verbalizer_bench.vision.search import Rule, Search, block_rows, read_hits
from verbalizer_bench.vision.selection import Choice, Chosen, choose, copies
from verbalizer_bench.vision.towers import Tower

PAIRS, LEFT_OUT, DUPLICATES = "pairs.jsonl", "left_out.jsonl", "duplicates.jsonl"
RESULT = "result.json"
ROLES = ("similar", "different")


class Pair(NamedTuple):
    """A blind pair.

    Attributes:
        similar: Cosine in the tower that takes both for the same.
        different: Cosine in the other.
        images: Paths of both below the folder of the images.
        sha256: Hashes of both files.
    """

    similar: float
    different: float
    images: tuple[str, str]
    sha256: tuple[str, str]


class Found(NamedTuple):
    """What a search came to.

    Attributes:
        pairs: The pairs, the most different first.
        record: What `result.json` has.
    """

    pairs: tuple[Pair, ...]
    record: Mapping[str, Any]

    def lines(self) -> list[str]:
        """Return what is printed of it."""
        counts = self.record["counts"]
        choice, rule = self.record["choice"], self.record["rule"]
        near, far = (self.record[role] for role in ROLES)
        left = [f"{counts[key]:,} {text}" for key, text in _LEFT.items() if counts[key]]
        out = []
        if choice["cap"]:
            out.append(f"{counts['capped']:,} by the cap of {choice['cap']} an image")
        if choice["crowd"]:
            out.append(
                f"{counts['crowded']:,} of {counts['placeholders']:,} placeholders (near to more "
                f"than {choice['crowd']:,} images)"
            )
        return [
            f"{counts['images']:,} images, {counts['searched']:,} searched"
            + (f" (left out: {', '.join(left)})" if left else ""),
            f"{counts['near']:,} pairs above {rule['above']:g} in {near['model']} "
            f"({near['embedding']}); of these {counts['blind']:,} below {choice['below']:g} in "
            f"{far['model']} ({far['embedding']}), and {counts['near_duplicates']:,} near "
            f"duplicates (at least {choice['duplicate']:g} there)",
            f"{counts['pairs']:,} pairs taken" + (f"; left out: {', '.join(out)}" if out else ""),
        ]


_LEFT = {"no_features": "without features", "copies": "copies of others"}


def make_features(
    images: Path, towers: Mapping[str, Tower], output: Path, shard: int, shards: int, batch: int
) -> list[str]:
    """Make a shard's features of both towers, or go on with them; what is there is not made again.

    Args:
        images: The folder of the images.
        towers: By role.
        output: The search's folder.
        shard: Which, from 1.
        shards: How many there are.
        batch: Images at a time.

    Returns:
        What is said of files that are not searched.

    Raises:
        ValueError: The folder is of other images or towers.
        OSError: The images are not there, or the disk refuses.
    """
    found = scan(images)
    keep_index(found, output)
    rows = shard_rows(len(found.images), shard, shards)
    folders = {role: output / "features" / role for role in towers}
    parts = {
        role: parts_of(folders[role], rows, made_of(found, tower)) for role, tower in towers.items()
    }
    for role, tower in towers.items():
        for part in parts[role]:
            extract(found, tower, folders[role], part, batch)
    return found.lines()


def check_memory(towers: Mapping[str, Tower], rule: Rule) -> None:
    """Raise ValueError where a search of these towers' vectors would not fit into its memory."""
    block_rows(max(tower.width() for tower in towers.values()), rule.memory)


class Searched(NamedTuple):
    """The features of a folder, and which of its images are searched."""

    files: tuple[ImageFile, ...]
    stores: Mapping[str, Store]
    faults: Mapping[int, str]
    copies: Mapping[int, list[int]]
    places: np.ndarray

    def search(self, rule: Rule) -> Search:
        """Return the search for near pairs."""
        made = {role: dict(store.made) for role, store in self.stores.items()}
        similar, different = (self.stores[role] for role in ROLES)
        return Search(similar, different, self.places, rule, made)


def open_features(output: Path) -> Searched:
    """Open the features of a folder.

    Raises:
        FileNotFoundError: Some are missing.
        ValueError: The towers saw other bytes of an image.
    """
    index = read_index(output)
    stores = {role: Store(output / "features" / role, len(index)) for role in ROLES}
    similar, different = (stores[role] for role in ROLES)
    if similar.made["images"] != different.made["images"]:
        raise ValueError(f"{output}: the features are of different images; give another --output")
    faults = {**different.faults, **similar.faults}
    changed = (similar.hashes != different.hashes).any(axis=1)
    changed[list(faults)] = False
    if changed.any():
        raise ValueError(
            f"{output}: {int(changed.sum())} images were changed between the towers, such as "
            f"{index[int(changed.argmax())].path!a}; give another --output"
        )
    found = copies(similar.hashes, sorted(faults))
    out = np.zeros(len(index), bool)
    out[list(faults)] = True
    out[[place for others in found.values() for place in others]] = True
    return Searched(index, stores, faults, found, np.flatnonzero(~out))


def check_towers(output: Path, asked: Mapping[str, tuple[str, Embedding]]) -> None:
    """See that a folder's features are of some towers, without loading them.

    Args:
        output: The search's folder.
        asked: Checkpoint and embedding by role.

    Raises:
        ValueError: They are of others.
    """
    stores = open_features(output).stores
    for role, (name, embedding) in asked.items():
        made = stores[role].made
        wanted = {"weights": weights_sha256(name), "embedding": str(embedding)}
        check_same(output / "features" / role, made, made | wanted)


def search_shard(output: Path, rule: Rule, shard: int = 1, shards: int = 1) -> None:
    """Find a shard's near pairs, or go on with them.

    Raises:
        ValueError: There are too many, or the folder has those of another search.
        OSError: Features are missing, or the disk refuses.
    """
    open_features(output).search(rule).run(output / "search", shard, shards)


def take_pairs(output: Path, rule: Rule, choice: Choice) -> Found:
    """Choose the pairs of all shards, and write what came of the search.

    Raises:
        ValueError: A shard is of another search.
        OSError: Shards are missing, or the disk refuses.
    """
    searched = open_features(output)
    search = searched.search(rule)
    hits = read_hits(output / "search", search.blocks, search.made)
    chosen = choose(hits, choice)
    pairs = tuple(_pair(searched, hit) for hit in chosen.pairs)
    found = Found(pairs, _record(searched, rule, choice, chosen, len(hits)))
    _write(output / PAIRS, (pair._asdict() for pair in pairs))
    _write(output / DUPLICATES, _duplicates(searched, chosen))
    _write(output / LEFT_OUT, _left_out(searched, chosen))
    write_whole(output / RESULT, json.dumps(found.record, indent=1) + "\n")
    return found


def read_pairs(output: Path) -> Found:
    """Return what a folder's search came to.

    Raises:
        FileNotFoundError: It has no pairs.
        ValueError: A file is damaged.
    """
    from verbalizer_bench.io.json_reading import read_record

    if not (output / RESULT).is_file():
        raise FileNotFoundError(f"{output}: no {RESULT} in it; give what blind-pairs has written")
    pairs = []
    for place, row in jsonl.read_objects(output / PAIRS):
        try:
            (one, other), (hash_one, hash_other) = row["images"], row["sha256"]
            pairs.append(
                Pair(row["similar"], row["different"], (one, other), (hash_one, hash_other))
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{output / PAIRS}, {place}: no pair ({error}); take pairs again"
            ) from error
    return Found(tuple(pairs), read_record(output / RESULT))


def _write(file: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    # A path may be no UTF-8.
    write_whole(file, jsonl.dumps(rows, ascii_only=True))


def _pair(searched: Searched, hit: Any) -> Pair:
    places = int(hit["first"]), int(hit["second"])
    hashes = searched.stores["similar"].hashes
    one, other = places
    return Pair(
        float(hit["similar"]),
        float(hit["different"]),
        (searched.files[one].path, searched.files[other].path),
        (hashes[one].tobytes().hex(), hashes[other].tobytes().hex()),
    )


def _duplicates(searched: Searched, chosen: Chosen) -> Iterator[Mapping[str, Any]]:
    for first, others in searched.copies.items():
        paths = [searched.files[place].path for place in (first, *others)]
        yield {"kind": "copies", "images": paths}
    for hit in chosen.duplicates:
        pair = _pair(searched, hit)
        yield {"kind": "near", **pair._asdict()}


def _left_out(searched: Searched, chosen: Chosen) -> Iterator[Mapping[str, Any]]:
    for place, why in sorted(searched.faults.items()):
        yield {"image": searched.files[place].path, "why": why}
    for first, others in searched.copies.items():
        why = f"has the bytes of {searched.files[first].path}"
        yield from ({"image": searched.files[place].path, "why": why} for place in others)
    for place, count in chosen.placeholders.items():
        why = f"a placeholder: near to {count} images"
        yield {"image": searched.files[place].path, "why": why}


def _record(
    searched: Searched, rule: Rule, choice: Choice, chosen: Chosen, near: int
) -> dict[str, Any]:
    return {
        "verbalizer-bench": __version__,
        **{role: dict(store.made) for role, store in searched.stores.items()},
        "rule": rule._asdict(),
        "choice": choice._asdict(),
        "counts": {
            "images": len(searched.files),
            "no_features": len(searched.faults),
            "copies": sum(map(len, searched.copies.values())),
            "searched": len(searched.places),
            "near": near,
            "blind": chosen.blind,
            "near_duplicates": len(chosen.duplicates),
            "placeholders": len(chosen.placeholders),
            "crowded": chosen.crowded,
            "capped": chosen.capped,
            "pairs": len(chosen.pairs),
        },
    }
