"""Check that the images of records can be decoded, each once; tell when one has changed."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from verbalizer_bench.io.conversations import BadRecordError, Record
from verbalizer_bench.io.images import IMAGE_ERRORS, as_rgb, is_turned
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


class _Look(NamedTuple):
    """What an image looks like: width and height in pixels, and whether EXIF turns it."""

    width: int
    height: int
    turned: bool


_UNSEEN = _Look(0, 0, False)


class ImageCheck:
    """Decode each distinct image once; remember those that fail.

    Of any other it remembers 8 bytes of a hash of its name, 8 of one of its contents, and 13 of its
    size and orientation, and of whether a record that can be trained on shows it.

    With half a million images the chance that one is mistaken for another is 7e-9.

    Args:
        folder: What names are relative to; None for a model of text.
        before: Images of an earlier check, which are not decoded again.

    Attributes:
        bad: Why those cannot be trained on that fail, by name.
    """

    def __init__(self, folder: Path | None, before: Iterable[CheckedImage] = ()):
        self.folder = folder
        self.bad: dict[str, tuple[str, str]] = {}
        known = {int(np.iinfo(np.uint64).max): 0}
        for image in before:
            known[_digest(image.name)] = _short(image.content)
            if image.problem:
                self.bad[image.name] = image.problem
        # Sorted; the last stands for no name.
        self._seen = np.array(sorted(known), np.uint64)
        self._contents = np.array([known[digest] for digest in sorted(known)], np.uint64)
        self._looks = np.zeros((len(known), len(_UNSEEN)), np.int32)
        self._used = np.zeros(len(known), bool)

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
        by_name = {image.name: (_short(image.content), look) for image, look in found}
        contents, looks = zip(*(by_name[distinct[number]] for number in numbers[new]), strict=True)
        self._seen = np.insert(self._seen, places[new], keys[new])
        self._contents = np.insert(self._contents, places[new], np.array(contents, np.uint64))
        self._looks = np.insert(self._looks, places[new], np.array(looks, np.int32), axis=0)
        self._used = np.insert(self._used, places[new], False)
        checked = [image for image, _ in found]
        self.bad.update({image.name: image.problem for image in checked if image.problem})
        return checked

    def content(self, name: str) -> int:
        """Return 64 bits of a hash of the bytes of an image that was checked and is not bad."""
        return int(self._contents[self._place(name)])

    def use(self, names: Iterable[str]) -> None:
        """Note that a record that can be trained on shows images that were checked."""
        for name in names:
            self._used[self._place(name)] = True

    def used(self) -> np.ndarray:
        """Return width, height and whether EXIF turns it, of each image that was noted so."""
        return self._looks[self._used]

    def _place(self, name: str) -> int:
        return int(np.searchsorted(self._seen, np.uint64(_digest(name))))

    def refuse(self, record: Record) -> None:
        """Raise BadRecordError if an image of a record whose images were checked is bad."""
        for name in record.images:
            if problem := self.bad.get(name):
                raise BadRecordError(record.index, record.id, *problem)


def check_image(folder: Path | None, name: str) -> CheckedImage:
    """Decode an image, and return whether it can be trained on."""
    return _decoded(folder, name)[0]


def _decoded(folder: Path | None, name: str) -> tuple[CheckedImage, _Look]:
    """Decode an image; return whether it can be trained on, and what it looks like if so."""
    if folder is None:
        detail = f"it shows {name!r}; leave it out"
        return CheckedImage(name, None, None, ("images for a model of text", detail)), _UNSEEN
    path, state = folder / name, _state(folder, name)
    try:
        with Image.open(path) as image:
            look = _Look(*as_rgb(image).size, is_turned(image))
        return CheckedImage(name, state, _content(path), None), look
    except FileNotFoundError:
        problem = "missing image", f"there is no {path}; put it there or leave the record out"
    except IMAGE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        problem = "broken image", f"{path}: {reason}; replace it or leave the record out"
    return CheckedImage(name, state, None, problem), _UNSEEN


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
