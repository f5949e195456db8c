"""Run a vision tower over a folder's images, and keep the features."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from verbalizer_bench.io.images import IMAGE_ERRORS, as_rgb
from verbalizer_bench.models.images import make_image
from verbalizer_bench.vision.features import Batch, PartWriter
from verbalizer_bench.vision.image_index import ImageFile, Scan
from verbalizer_bench.vision.towers import Tower

READERS = 4


class _Read(NamedTuple):
    """An image file, read: its pixels and hash, or why there are none."""

    image: Image.Image | None
    sha256: str
    fault: str


def extract(found: Scan, tower: Tower, folder: Path, rows: range, batch_size: int) -> None:
    """Keep a tower's features of consecutive images; what is there already is not made again.

    Args:
        found: The images.
        tower: The tower.
        folder: The store's.
        rows: Which images.
        batch_size: Images at a time.

    Raises:
        ValueError: The store is of other images or another tower; or the tower gives no vectors.
        OSError: The disk is full, or refuses.
    """
    made = tower.record() | {"images": found.sha256}
    with closing(PartWriter(folder, rows, made)) as part:
        if part.is_complete:
            return
        width = _width(tower)
        left = range(part.done, rows.stop)
        label = f"{folder.name} features"
        with tqdm(desc=label, total=len(rows), initial=len(rows) - len(left), unit="image") as bar:
            for read, inputs in _batches(found, tower, left, batch_size):
                part.write(_batch(tower, width, read, inputs))
                bar.update(len(read))


def _batches(
    found: Scan, tower: Tower, rows: range, size: int
) -> Iterator[tuple[list[_Read], dict[str, Any] | None]]:
    """Yield images and what the tower is given of them; the next are read while it works."""
    images = [found.images[place] for place in rows]
    shares = [images[start : start + size] for start in range(0, len(images), size)]

    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(1) as ahead:

        def prepare(share: Sequence[ImageFile]) -> tuple[list[_Read], dict[str, Any] | None]:
            read = list(readers.map(lambda image: _read(found.root, image), share))
            shown = [one.image for one in read if one.image]
            return read, tower.inputs(shown) if shown else None

        waiting: Future[tuple[list[_Read], dict[str, Any] | None]]
        waiting = ahead.submit(prepare, shares[0])
        for share in [*shares[1:], None]:
            ready = waiting.result()
            if share is not None:
                waiting = ahead.submit(prepare, share)
            yield ready


def _read(root: Path, image: ImageFile) -> _Read:
    try:
        data = (root / image.path).read_bytes()
    except OSError as error:
        return _Read(None, "", f"cannot be read: {error.strerror}")
    digest = hashlib.sha256(data).hexdigest()
    if len(data) != image.bytes:
        return _Read(None, digest, f"has {len(data)} bytes, and had {image.bytes} when listed")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return _Read(as_rgb(opened), digest, "")
    except IMAGE_ERRORS as error:
        why = " ".join(str(error).encode("ascii", "backslashreplace").decode().split())
        return _Read(None, digest, f"is no image that can be read: {_nameless(why)[:200]}")


def _nameless(why: str) -> str:
    """Return an error's text without the address of the bytes that it was read from."""
    return "cannot identify image file" if why.startswith("cannot identify image file") else why


def _batch(tower: Tower, width: int, read: Sequence[_Read], inputs: dict[str, Any] | None) -> Batch:
    features = np.zeros((len(read), width), np.float32)
    places = [place for place, one in enumerate(read) if one.image]
    if inputs is not None:
        features[places] = tower.features(inputs).numpy()
    faults = {place: one.fault for place, one in enumerate(read) if one.fault}
    return Batch(features, tuple(one.sha256 for one in read), faults)


def _width(tower: Tower) -> int:
    """Return how many numbers a vector has, by a white image."""
    white = make_image("white", (64, 64))
    assert white is not None
    with torch.inference_mode():
        return tower.features(tower.inputs([white])).shape[1]
