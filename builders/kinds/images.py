"""Images: which are taken, and what their annotations have about them.

Annotations are COCO's JSON, or JSON lines as LLaVA's evaluation has them: `image`, `captions` or
`caption`, and `instances`, each with `category` and `bbox` (left, top, right, bottom as shares).
"""

import asyncio
import hashlib
import io
import math
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.builders.pipeline.blocks import Captions, Images
from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.json_reading import read_json

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
# What Pillow raises for files that are no image; UnidentifiedImageError is an OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")


class BoundingBox(NamedTuple):
    """An object's category and place: left, top, right and bottom as shares of the image."""

    category: str
    place: tuple[float, float, float, float]


class AnnotatedImage(NamedTuple):
    """An image's name and what is known of it."""

    image: str
    captions: tuple[str, ...] = ()
    boxes: tuple[BoundingBox, ...] = ()


def select(images: Images, limit: int | None = None, files: bool = True) -> list[AnnotatedImage]:
    """Return the first n images by the sha256 of seed and name.

    Args:
        images: Which ones.
        limit: Of those, how many.
        files: Whether the files themselves are needed, and not their names alone.

    Raises:
        FileNotFoundError: A file or folder is not there.
        ValueError: There are fewer than n, or a file is none of annotations.
    """
    if not images.folder.is_dir() and (files or not images.annotations):
        raise FileNotFoundError(f"images.folder={images.folder}: no such folder")
    if where := images.annotations:
        known = read_annotations(where, images.boxes)
    else:
        known, where = _all(images.folder), images.folder
    return _first(known, images.n, images.seed, "images", where)[:limit]


def select_captions(captions: Captions, limit: int | None = None) -> list[AnnotatedImage]:
    """Return images that come with captions, the first n by the sha256 of seed and name."""
    known = [image for image in read_annotations(captions.file) if image.captions]
    return _first(known, captions.n, captions.seed, "captions", captions.file)[:limit]


def _all(folder: Path) -> list[AnnotatedImage]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [AnnotatedImage(name) for name in names if name.lower().endswith(_SUFFIXES)]


def _first(
    images: Iterable[AnnotatedImage], n: int | None, seed: int, block: str, where: Path
) -> list[AnnotatedImage]:
    by_name = {image.image: image for image in images}
    if not by_name:
        raise ValueError(f"{block}: {where} has no image; give another source")
    if len(by_name) < (n or 0):
        raise ValueError(
            f"{block}.n={n}: {where} has {len(by_name)} images; lower n, or give another source"
        )

    def order(image: AnnotatedImage) -> str:
        return hashlib.sha256(f"{seed}\t{image.image}".encode()).hexdigest()

    return sorted(by_name.values(), key=order)[:n]


async def image_samples(images: Sequence[AnnotatedImage], folder: Path) -> list[TrainingSample]:
    """Return the images' samples; one whose file is not there has no hash."""

    def all_samples() -> list[TrainingSample]:
        return [_image_sample(image, folder, number) for number, image in enumerate(images)]

    return await asyncio.to_thread(all_samples)


def _image_sample(image: AnnotatedImage, folder: Path, number: int) -> TrainingSample:
    sha256, problem = look_at(folder / image.image)
    sample = TrainingSample(
        id=f"{number:06}",
        image=image.image,
        image_sha256=sha256,
        caption=image.captions[0] if image.captions else None,
    )
    return sample.reject("images", "image", problem) if sha256 and problem else sample


class LookedAt(NamedTuple):
    """The sha256 of an image's file, None if it is not there, and why it cannot be shown."""

    sha256: str | None
    problem: str | None


def look_at(path: Path) -> LookedAt:
    """Return an image's hash, and what is wrong with it."""
    if not path.is_file():
        return LookedAt(None, f"{path}: no such file")
    data = path.read_bytes()
    damage = _damage(data)
    return LookedAt(hashlib.sha256(data).hexdigest(), f"{path}: {damage}" if damage else None)


def _damage(data: bytes) -> str | None:
    """Return why an image cannot be shown to a model."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
            kind = image.format
        # `verify` reads only the head of a JPEG: half of one would be sent, and paid for.
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (64, 64))
            image.load()
    except UnidentifiedImageError:  # it names the object that was read, another one each time
        return "no image: in none of the formats that Pillow knows"
    except (Image.DecompressionBombError, *_DAMAGE) as error:
        return f"no image: {' '.join(str(error).split())}"
    return None if kind in _FORMATS else f"{kind} is a format that servers do not take; convert it"


def describe(image: AnnotatedImage) -> str:
    """Return captions and boxes as text, a line each, as LLaVA gave them to a language model."""
    boxes = (f"{box.category}: {list(box.place)}" for box in image.boxes)
    return "\n".join([*image.captions, *([""] if image.boxes else []), *boxes])


def read_annotations(path: Path, boxes: Path | None = None) -> list[AnnotatedImage]:
    """Return the images of a file, with captions, and boxes from it or from another.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none of annotations.
    """
    for file in (path, boxes):
        if file and not file.is_file():
            raise FileNotFoundError(f"annotations {file}: no such file")
    if path.suffix == ".jsonl":
        return _merged(_placed(path, place, _of_line, line) for place, line in jsonl.read(path))
    coco = read_json(path)
    return _merged(_placed(path, "", _of_coco, coco, read_json(boxes) if boxes else coco))


def _placed(path: Path, place: str, read: Callable[..., Any], *parts: Any) -> Any:
    """Return what `read` makes of parts of a file; its errors then name file and line."""
    where = f"annotations {path}{f', {place}' if place else ''}"
    try:
        return read(*parts)
    except BadAnnotation as error:
        raise ValueError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error)
        if isinstance(error, KeyError):
            reason = f"no {reason} in it"
        elif not isinstance(parts[0], Mapping):
            reason = f"a {type(parts[0]).__name__} in place of an object"
        raise ValueError(
            f"{where}: neither COCO's JSON (images, annotations) nor JSON lines with image: "
            f"{reason}"
        ) from error


class BadAnnotation(ValueError):
    """A value of annotations cannot be used."""


def _merged(parts: Iterable[AnnotatedImage]) -> list[AnnotatedImage]:
    """Return each image once: some files have a line for each caption."""
    images: dict[str, AnnotatedImage] = {}
    for one in parts:
        known = images.get(one.image, AnnotatedImage(one.image))
        captions = tuple(dict.fromkeys(known.captions + one.captions))
        images[one.image] = AnnotatedImage(
            one.image, captions, tuple(dict.fromkeys(known.boxes + one.boxes))
        )
    return list(images.values())


def _of_line(line: Mapping[str, Any]) -> AnnotatedImage:
    captions = line.get("captions") or ([line["caption"]] if line.get("caption") else [])
    if not isinstance(captions, list):
        raise BadAnnotation(
            f"captions={captions!r}: a list of texts is expected; one alone is caption"
        )
    boxes = (
        BoundingBox(one["category"], _shares(one["bbox"])) for one in line.get("instances", ())
    )
    name = line["image"] if "image" in line else line["file_name"]
    return AnnotatedImage(_name(name), tuple(map(_one_line, captions)), tuple(boxes))


def _of_coco(coco: Mapping[str, Any], instances: Mapping[str, Any]) -> list[AnnotatedImage]:
    captions: dict[int, list[str]] = defaultdict(list)
    for one in sorted(coco.get("annotations", ()), key=lambda one: one["id"]):
        if "caption" in one:
            captions[one["image_id"]].append(_one_line(one["caption"]))
    categories = {one["id"]: one["name"] for one in instances.get("categories", ())}
    sizes = {one["id"]: one for one in instances["images"]}
    boxes: dict[int, list[BoundingBox]] = defaultdict(list)
    for one in sorted(instances.get("annotations", ()), key=lambda one: one["id"]):
        if "bbox" in one and one["image_id"] in sizes:
            place = _corners(one["bbox"], sizes[one["image_id"]])
            boxes[one["image_id"]].append(BoundingBox(categories[one["category_id"]], place))
    return [
        AnnotatedImage(_name(one["file_name"]), tuple(captions[one["id"]]), tuple(boxes[one["id"]]))
        for one in coco["images"]
    ]


def _corners(box: Sequence[float], size: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return a COCO box (left, top, width, height in pixels) as shares of the image."""
    left, top, width, height = box
    across, down = size["width"], size["height"]
    if not (across > 0 and down > 0):
        raise BadAnnotation(
            f"image {size['id']}: width={across}, height={down}: more than 0 is expected"
        )
    return _shares((left / across, top / down, (left + width) / across, (top + height) / down))


def _shares(box: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(float(value), 3) for value in box)
    if not math.isfinite(left + top + right + bottom):
        raise BadAnnotation(f"bbox={list(box)}: four numbers are expected")
    return left, top, right, bottom


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadAnnotation(f"image={value!r}: a file's name is expected")
    return value


def _one_line(text: Any) -> str:
    if not isinstance(text, str):
        raise BadAnnotation(f"caption={text!r}: a text is expected")
    return " ".join(text.split())
