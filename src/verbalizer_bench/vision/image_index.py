"""The images of a folder, in an order that all processes of a search share.

`images.jsonl` has path and size of each; what is in them is hashed when they are read. Files
that are no images by their suffix, and links to folders, are counted and named, not searched.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import wait_for_lock, write_whole

INDEX = "images.jsonl"


class ImageFile(NamedTuple):
    """A file that is an image by its suffix.

    Attributes:
        path: Below the folder that was searched, with `/`.
        bytes: Its size; -1 for a link to nothing.
    """

    path: str
    bytes: int


class Scan(NamedTuple):
    """What a folder holds.

    Attributes:
        root: The folder.
        images: Its images, sorted by path.
        others: Files without an image's suffix, and links to folders.
    """

    root: Path
    images: tuple[ImageFile, ...]
    others: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Return a hash of all paths and sizes."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    @property
    def _text(self) -> str:
        # A name may be no UTF-8: escaped, its bytes come back.
        return jsonl.dumps((image._asdict() for image in self.images), ascii_only=True)

    def lines(self) -> list[str]:
        """Return what is said of files that are not searched."""
        if not self.others:
            return []
        return [
            f"no images by their name: {len(self.others):,} files or links to folders, such as "
            f"{self.others[0]!a}"
        ]


def check_folder(root: Path) -> None:
    """Raise FileNotFoundError where there is no such folder."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; give the folder of the images")


def scan(root: Path) -> Scan:
    """Find the images at any depth below a folder.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
    """
    check_folder(root)
    images, others = [], []
    for place, is_file in _files(root):
        path = place.relative_to(root).as_posix()
        if is_file and place.suffix.lower() in _suffixes():
            images.append(ImageFile(path, _size(place)))
        else:
            others.append(path)
    if not images:
        raise FileNotFoundError(
            f"{root}: no image in it ({len(others)} other files); give the folder of the images"
        )
    return Scan(root, tuple(sorted(images)), tuple(sorted(others)))


@cache
def _suffixes() -> frozenset[str]:
    Image.init()
    readable = {name for name in Image.registered_extensions().values() if name in Image.OPEN}
    extensions = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in extensions if name in readable)


def _files(root: Path) -> Iterator[tuple[Path, bool]]:
    for folder, folders, files in os.walk(root):
        for name in files:
            yield Path(folder, name), True
        # A link to a folder may lead round.
        yield from (
            (Path(folder, name), False) for name in folders if Path(folder, name).is_symlink()
        )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def keep_index(found: Scan, output: Path) -> None:
    """Write the index, or see that the one which is there is of the same images.

    Raises:
        ValueError: It is of others.
        OSError: It cannot be written.
    """
    file = output / INDEX
    with wait_for_lock(output / f"{INDEX}.lock"):
        if not file.is_file():
            write_whole(file, found._text)
            return
    known = read_index(output)
    if known != found.images:
        changed = sorted(set(known) ^ set(found.images))
        raise ValueError(
            f"{file}: its images are others than those in {found.root}, such as "
            f"{changed[0].path!a} ({len(known):,} and {len(found.images):,}); give another "
            "--output, or the folder as it was"
        )


def read_index(output: Path) -> tuple[ImageFile, ...]:
    """Return the images of an index.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged.
    """
    file = output / INDEX
    if not file.is_file():
        raise FileNotFoundError(f"{output}: no {INDEX} in it; give what blind-pairs has written")
    return tuple(
        ImageFile(str(row["path"]), int(row["bytes"])) for _, row in jsonl.read_objects(file)
    )
