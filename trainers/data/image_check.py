"""What records show: each image is decoded once, and known again by its content."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from verbalizer_bench.models.images import IMAGE_ERRORS, read_image

_AT_ONCE = 4096


class Seen(NamedTuple):
    """An image as it was found.

    Attributes:
        name: Relative to the folder of images.
        state: The file's size in bytes and time of change in nanoseconds; None if there is none.
        content: The blake2b of its bytes; None if it cannot be trained on.
        problem: Why not: a reason, and its detail.
    """

    name: str
    state: list[int] | None
    content: str | None
    problem: tuple[str, str] | None


class ImageCheck:
    """Decode each distinct image once; remember those that fail, and 8 bytes of any other's name.

    With half a million images the chance that one is mistaken for another is 7e-9.

    Args:
        folder: What names are relative to; None for a model of text.
        before: What an earlier check found, which is not looked at again.
    """

    def __init__(self, folder: Path | None, before: Iterable[Seen] = ()):
        self.folder = folder
        self.bad: dict[str, tuple[str, str]] = {}
        digests = []
        for one in before:
            digests.append(_digest(one.name))
            if one.problem:
                self.bad[one.name] = one.problem
        # Sorted; the last stands for no name.
        self._seen = np.array(sorted({*digests, np.iinfo(np.uint64).max}), np.uint64)

    def check(self, names: Iterable[str]) -> list[Seen]:
        """Decode those of the images that are new, and return what was found, in their order."""
        distinct = list(dict.fromkeys(names))
        digests = np.array([_digest(name) for name in distinct], np.uint64)
        keys, numbers = np.unique(digests, return_index=True)
        places = np.searchsorted(self._seen, keys)
        new = self._seen[places] != keys
        if not new.any():
            return []
        self._seen = np.insert(self._seen, places[new], keys[new])
        fresh = [distinct[number] for number in sorted(numbers[new])]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(lambda name: look(self.folder, name), fresh))
        self.bad.update({one.name: one.problem for one in found if one.problem})
        return found


def look(folder: Path | None, name: str) -> Seen:
    """Decode an image, and return what it is."""
    if folder is None:
        detail = f"it shows {name!r}; leave it out"
        return Seen(name, None, None, ("images for a model of text", detail))
    path, state = folder / name, _state(folder, name)
    try:
        read_image(path)
        return Seen(name, state, _content(path), None)
    except FileNotFoundError:
        problem = "missing image", f"there is no {path}; put it there or leave the record out"
    except IMAGE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        problem = "broken image", f"{path}: {reason}; replace it or leave the record out"
    return Seen(name, state, None, problem)


def unchanged(folder: Path | None, before: Iterable[Seen]) -> str | None:
    """Return the sha256 of names and contents, "" for none; None if a record's fate is another.

    A file of the same size and time of change is taken to be the same; another one is read.
    """
    digest, images, found = hashlib.sha256(), iter(before), False
    with ThreadPoolExecutor(max(8, os.cpu_count() or 1)) as pool:
        while some := list(islice(images, _AT_ONCE)):
            found = True
            for one, now in zip(some, pool.map(lambda one: _again(folder, one), some), strict=True):
                if bool(now.problem) != bool(one.problem) or (now.problem and now != one):
                    return None
                digest.update(f"{now.content} {now.name!a}\n".encode())
    return digest.hexdigest() if found else ""


def _again(folder: Path | None, one: Seen) -> Seen:
    same = _state(folder, one.name) == one.state
    return one if same else look(folder, one.name)


def _state(folder: Path | None, name: str) -> list[int] | None:
    try:
        found = ((folder or Path()) / name).stat()
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


def _content(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def read_seen(lines: Iterable[Sequence[object]]) -> Iterator[Seen]:
    """Yield images of rows that JSON has made lists of."""
    for name, state, content, problem in lines:
        yield Seen(str(name), state, content, tuple(problem) if problem else None)  # type: ignore[arg-type]
