"""Of all near pairs those that one tower tells apart, few of each image; and what is no pair.

- Copies: files of the same bytes. The first by path stands for all.
- Near duplicates: pairs that are near in both towers, such as an image saved twice.
- Placeholders: images that are near to very many ("image not available"): their pairs are left out.
- The cap: pairs are taken from the least to the greatest cosine in the different tower (then by the
  images' places), each if both of its images have fewer pairs than the cap.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Choice(NamedTuple):
    """Which pairs are taken.

    Attributes:
        below: The cosine in the different tower that a pair has to be below.
        cap: The most pairs of an image; 0: no cap.
        crowd: An image that is near to more than this many is a placeholder; 0: none is.
        duplicate: The cosine in the different tower from which a near pair is a near duplicate.
    """

    below: float = 0.6
    cap: int = 3
    crowd: int = 100
    duplicate: float = 0.95


class Chosen(NamedTuple):
    """What was taken, and what was not.

    Attributes:
        pairs: The pairs taken, best first.
        blind: How many pairs are near in one tower and far in the other.
        crowded: How many of them are a placeholder's.
        capped: How many of them are left out by the cap.
        duplicates: Near duplicates, the nearest first.
        placeholders: To how many images each placeholder is near.
    """

    pairs: np.ndarray
    blind: int
    crowded: int
    capped: int
    duplicates: np.ndarray
    placeholders: Mapping[int, int]


def choose(hits: np.ndarray, choice: Choice) -> Chosen:
    """Choose among pairs that are near in the similar tower.

    Args:
        hits: All of them, as `search.HIT`.
        choice: What is wanted.
    """
    images, counts = np.unique(np.concatenate([hits["first"], hits["second"]]), return_counts=True)
    many = counts > choice.crowd if choice.crowd else np.zeros(len(counts), bool)
    placeholders = {int(i): int(n) for i, n in zip(images[many], counts[many], strict=True)}
    same = hits[hits["different"] >= choice.duplicate]
    same = same[np.lexsort((same["second"], same["first"], -same["different"]))]
    blind = hits[hits["different"] < choice.below]
    crowd = np.array(sorted(placeholders), dtype=np.uint32)
    crowded = np.isin(blind["first"], crowd) | np.isin(blind["second"], crowd)
    left = blind[~crowded]
    left = left[np.lexsort((left["second"], left["first"], left["different"]))]
    pairs = _capped(left, choice.cap) if choice.cap else left
    return Chosen(pairs, len(blind), int(crowded.sum()), len(left) - len(pairs), same, placeholders)


def _capped(pairs: np.ndarray, cap: int) -> np.ndarray:
    taken: Counter[int] = Counter()
    keep = []
    both = zip(pairs["first"].tolist(), pairs["second"].tolist(), strict=True)
    for place, (first, second) in enumerate(both):
        if taken[first] < cap and taken[second] < cap:
            taken.update((first, second))
            keep.append(place)
    return pairs[keep]


def copies(hashes: np.ndarray, faulty: Sequence[int]) -> dict[int, list[int]]:
    """Return images of the same bytes: the first, and the others.

    Args:
        hashes: sha256 of each image, shape (images, 32).
        faulty: Images that have no features, which are no copies.
    """
    whole = np.ones(len(hashes), bool)
    whole[list(faulty)] = False
    places = np.flatnonzero(whole)
    keys = np.ascontiguousarray(hashes[places]).view("V32").ravel()
    _, group = np.unique(keys, return_inverse=True)
    found: dict[int, list[int]] = {}
    order = np.argsort(group, kind="stable")
    edges = np.flatnonzero(np.diff(group[order])) + 1
    for members in np.split(places[order], edges):
        if len(members) > 1:
            found[int(members[0])] = [int(place) for place in members[1:]]
    return dict(sorted(found.items()))
