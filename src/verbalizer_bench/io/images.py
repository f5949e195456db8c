"""How an image file becomes RGB, for training, asking, and tasks with images of their own."""

import hashlib
import struct
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

# What PIL's decoders raise for files that are broken, cut off or no image.
IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


def read_image(file: Path | BinaryIO) -> Image.Image:
    """Return an image file, or what is read of an open one, as RGB, decoded; see `as_rgb`.

    An EXIF orientation is not applied, as in LLaVA.

    Raises:
        FileNotFoundError: There is no such file.
        Exception: Any other of `IMAGE_ERRORS`: the file is broken, or its levels mean nothing sure.
    """
    with Image.open(file) as image:
        return as_rgb(image)


def readable_image(file: Path) -> Image.Image:
    """Return an image file as `read_image` does; what it raises names the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image, or broken.
    """
    try:
        return read_image(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file}: no such image; check the name") from error
    except IMAGE_ERRORS as error:
        what = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise ValueError(f"{file}: no image that can be read{what}; give another") from error


def image_size(file: Path) -> tuple[int, int]:
    """Return an image file's width and height in pixels, which its head states.

    Raises:
        As `read_image`, as far as the head shows it.
    """
    with Image.open(file) as image:
        return image.size


def is_turned(image: Image.Image) -> bool:
    """Tell whether an image has an EXIF orientation to be applied, which `read_image` does not."""
    try:
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    # EXIF that cannot be read says nothing, and spoils no image.
    except (*IMAGE_ERRORS, KeyError, TypeError):
        return False


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image as RGB: the one way in which trainers and adapters see pixels.

    What is transparent becomes white, as transformers' processors have it, which see the images of
    tasks. Grey levels of 16 bits are scaled to 8, where PIL would cut them off at 255.

    Raises:
        ValueError: The levels are floating, or integers of which nobody says what white is.
    """
    image = with_8_bits(image)
    if image.has_transparency_data:
        # PIL has no other way from premultiplied grey.
        coloured = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured)
    return image.convert("RGB")


def with_8_bits(image: Image.Image) -> Image.Image:
    """Return grey levels of 16 bits, or 12, as their high 8, and any other image as it is.

    Raises:
        ValueError: As `as_rgb`.
    """
    return _scaled(image) if image.mode.startswith("I") or image.mode == "F" else image


def _scaled(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating levels, and no word of what white is; save it with 8 or 16 bits")
    levels = image.convert("I")
    extrema: Any = levels.getextrema()
    low, high = extrema
    # PNG and PGM give 16 bits; other files and arrays of 32 may hold anything.
    sure = image.mode != "I" or image.format in ("PNG", "PPM") or high > 255 or high == 0
    if low < 0 or high > 65535 or not sure:
        raise ValueError(
            f"levels from {low} to {high} in 32 bits: white may be any; save it with 8 or 16 bits"
        )
    # A TIFF says how many bits there are, and whether 0 is white: PIL heeds neither.
    tags = getattr(image, "tag_v2", {})
    bits = min(tags.get(BITSPERSAMPLE, (16,))[0], 16)
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:
        levels = levels.point(lambda level: level * -1 + (2**bits - 1))
    return levels.point(lambda level: level / 2 ** (bits - 8)).convert("L")


def image_sha256(image: Image.Image) -> str:
    """Return the sha256 of an image's mode, size and pixels, in hexadecimal."""
    head = f"{image.mode} {image.width}x{image.height}\n".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()
