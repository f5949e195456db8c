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
from tqdm import tqdm

from verbalizer_bench.io.images import IMAGE_ERRORS, read_image
from verbalizer_bench.models.images import make_image
from verbalizer_bench.vision.features import Batch, PartWriter
from verbalizer_bench.vision.image_index import ImageFile, Scan
from verbalizer_bench.vision.towers import Tower

READERS = 4


class _Read(NamedTuple):
    """An image file, read: what the tower is given of it, and its hash; or why there is nothing."""

    inputs: dict[str, torch.Tensor]
    sha256: str
    fault: str


def made_of(found: Scan, tower: Tower) -> dict[str, Any]:
    """Return what a tower's features of images depend on."""
    return tower.record() | {"images": found.sha256}


def extract(found: Scan, tower: Tower, folder: Path, rows: range, batch_size: int) -> None:
    """Keep a tower's features of consecutive images; what is there already is not made again.

    Args:
        found: The images.
        tower: The tower.
        folder: The store's.
        rows: Which images: a part of the store.
        batch_size: Images at a time.

    Raises:
        ValueError: The store is of other images or another tower; or the tower gives no vectors.
        OSError: The disk is full, or refuses.
    """
    with closing(PartWriter(folder, rows, made_of(found, tower))) as part:
        if part.is_complete:
            return
        width = _width(tower)
        left = range(part.done, rows.stop)
        label = f"{folder.name} features"
        with tqdm(desc=label, total=len(rows), initial=len(rows) - len(left), unit="image") as bar:
            for read in _batches(found, tower, left, batch_size):
                part.write(_batch(tower, width, read))
                bar.update(len(read))


def _batches(found: Scan, tower: Tower, rows: range, size: int) -> Iterator[list[_Read]]:
    """Yield images batch by batch; the next ones are read while the tower works."""
    images = [found.images[place] for place in rows]
    shares = [images[start : start + size] for start in range(0, len(images), size)]
    with ThreadPoolExecutor(READERS) as readers:

        def begin(share: Sequence[ImageFile]) -> list[Future[_Read]]:
            return [readers.submit(_read, found.root, image, tower) for image in share]

        waiting = begin(shares[0])
        for following in [*shares[1:], []]:
            reading, waiting = waiting, begin(following)
            yield [one.result() for one in reading]


def _read(root: Path, image: ImageFile, tower: Tower) -> _Read:
    try:
        data = (root / image.path).read_bytes()
    except OSError as error:
        return _Read({}, "", f"cannot be read: {error.strerror}")
    digest = hashlib.sha256(data).hexdigest()
    if len(data) != image.bytes:
        return _Read({}, digest, f"has {len(data)} bytes, and had {image.bytes} when listed")
    try:
        pixels = read_image(io.BytesIO(data))
    except IMAGE_ERRORS as error:
        return _Read({}, digest, f"is no image that can be read: {_why(error)}")
    try:
        return _Read(tower.inputs([pixels]), digest, "")
    # Of images of one pixel, or a thousand times as wide as high.
    except (ValueError, RuntimeError, MemoryError) as error:
        size = f"{pixels.width}x{pixels.height} pixels"
        return _Read({}, digest, f"{size}, of which the processor makes nothing: {_why(error)}")


def _why(error: Exception) -> str:
    """Return an error's text in a line, without the address of the bytes that it was read from."""
    text = " ".join(str(error).encode("ascii", "backslashreplace").decode().split())[:200]
    unknown = "cannot identify image file"
    return unknown if text.startswith(unknown) else text


def _batch(tower: Tower, width: int, read: Sequence[_Read]) -> Batch:
    features = np.zeros((len(read), width), np.float32)
    places = [place for place, one in enumerate(read) if one.inputs]
    if places:
        given = [read[place].inputs for place in places]
        inputs = {key: torch.cat([one[key] for one in given]) for key in given[0]}
        features[places] = tower.features(inputs).numpy()
    faults = {place: one.fault for place, one in enumerate(read) if one.fault}
    return Batch(features, tuple(one.sha256 for one in read), faults)


def _width(tower: Tower) -> int:
    """Return how many numbers a vector has, by a white image."""
    white = make_image("white", (64, 64))
    assert white is not None
    with torch.inference_mode():
        return tower.features(tower.inputs([white])).shape[1]
