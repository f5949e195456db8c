"""Check that the images of records can be decoded, each once; tell when one has changed."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from verbalizer_bench.io.conversations import BadRecordError, Record
from verbalizer_bench.io.images import IMAGE_ERRORS, read_image
from verbalizer_bench.io.parquet_records import portable_name

_AT_ONCE = 4096


class CheckedImage(NamedTuple):
    """An image and what its check found.

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
    """Decode each distinct image once; remember those that fail.

    Of any other it remembers 8 bytes of a hash of its name, and 8 of one of its contents.

    With half a million images the chance that one is mistaken for another is 7e-9.

    Args:
        folder: What names are relative to; None for a model of text.
        before: Images of an earlier check, which are not decoded again.

    Attributes:
        bad: Why those cannot be trained on that fail, by name.
        sizes: How many images were decoded of each width and height.
    """

    def __init__(self, folder: Path | None, before: Iterable[CheckedImage] = ()):
        self.folder = folder
        self.bad: dict[str, tuple[str, str]] = {}
        self.sizes: Counter[tuple[int, int]] = Counter()
        known = {int(np.iinfo(np.uint64).max): 0}
        for image in before:
            known[_digest(image.name)] = _short(image.content)
            if image.problem:
                self.bad[image.name] = image.problem
        # Sorted; the last stands for no name.
        self._seen = np.array(sorted(known), np.uint64)
        self._contents = np.array([known[digest] for digest in sorted(known)], np.uint64)

    def check(self, names: Iterable[str]) -> list[CheckedImage]:
        """Decode the images that are new, and return them, checked, in their order."""
        distinct = list(dict.fromkeys(names))
        digests = np.array([_digest(name) for name in distinct], np.uint64)
        keys, numbers = np.unique(digests, return_index=True)
        places = np.searchsorted(self._seen, keys)
        new = self._seen[places] != keys
        if not new.any():
            return []
        fresh = [distinct[number] for number in sorted(numbers[new])]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(partial(_decoded, self.folder), fresh))
        contents = {image.name: _short(image.content) for image, _ in found}
        added = np.array([contents[distinct[number]] for number in numbers[new]], np.uint64)
        self._seen = np.insert(self._seen, places[new], keys[new])
        self._contents = np.insert(self._contents, places[new], added)
        self.sizes.update(size for _, size in found if size)
        checked = [image for image, _ in found]
        self.bad.update({image.name: image.problem for image in checked if image.problem})
        return checked

    def content(self, name: str) -> int:
        """Return 64 bits of a hash of the bytes of an image that was checked and is not bad."""
        return int(self._contents[np.searchsorted(self._seen, np.uint64(_digest(name)))])

    def refuse(self, record: Record) -> None:
        """Raise BadRecordError if an image of a record whose images were checked is bad."""
        for name in record.images:
            if problem := self.bad.get(name):
                raise BadRecordError(record.index, record.id, *problem)


def check_image(folder: Path | None, name: str) -> CheckedImage:
    """Decode an image, and return whether it can be trained on."""
    return _decoded(folder, name)[0]


def _decoded(folder: Path | None, name: str) -> tuple[CheckedImage, tuple[int, int] | None]:
    """Decode an image; return whether it can be trained on, and its width and height if so."""
    if folder is None:
        detail = f"it shows {name!r}; leave it out"
        return CheckedImage(name, None, None, ("images for a model of text", detail)), None
    path, state = folder / name, _state(folder, name)
    try:
        size = read_image(path).size
        return CheckedImage(name, state, _content(path), None), size
    except FileNotFoundError:
        problem = "missing image", f"there is no {path}; put it there or leave the record out"
    except IMAGE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        problem = "broken image", f"{path}: {reason}; replace it or leave the record out"
    return CheckedImage(name, state, None, problem), None


def recheck(folder: Path | None, before: Iterable[CheckedImage]) -> str | None:
    """Return the sha256 of names and contents, "" for none; None if other records are bad now.

    A file of the same size and modification time is taken to be the same; another one is read.
    """
    digest, images, any_image = hashlib.sha256(), iter(before), False
    with ThreadPoolExecutor(max(8, os.cpu_count() or 1)) as pool:
        while chunk := list(islice(images, _AT_ONCE)):
            any_image = True
            for old, new in zip(chunk, pool.map(partial(_again, folder), chunk), strict=True):
                if bool(new.problem) != bool(old.problem) or (new.problem and new != old):
                    return None
                digest.update(f"{new.content} {portable_name(new.name)!a}\n".encode())
    return digest.hexdigest() if any_image else ""


def current_images(folder: Path | None, before: Iterable[CheckedImage]) -> Iterator[CheckedImage]:
    """Yield images as they are now; those of the same size and time of change are not read."""
    return (_again(folder, image) for image in before)


def _again(folder: Path | None, image: CheckedImage) -> CheckedImage:
    same = _state(folder, image.name) == image.state
    return image if same else check_image(folder, image.name)


def _state(folder: Path | None, name: str) -> list[int] | None:
    try:
        stat = ((folder or Path()) / name).stat()
    except (OSError, ValueError):
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _content(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _short(content: str | None) -> int:
    return int(content[:16], 16) if content else 0


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def read_checked(lines: Iterable[Sequence[object]]) -> Iterator[CheckedImage]:
    """Yield images from the lists that JSON has made of them."""
    for name, state, content, problem in lines:
        yield CheckedImage(str(name), state, content, tuple(problem) if problem else None)  # type: ignore[arg-type]
