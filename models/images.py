"""Blank images for text-only prompts: pure functions.

Shiono et al. 2024 show LVLMs a plain white image with every prompt. Grey, black and noise are our
controls: does the result depend on what is not there to see?
"""

import hashlib
import random
from pathlib import Path

from PIL import Image, UnidentifiedImageError

LEVELS = {"white": 255, "gray": 128, "black": 0}
MODES = (*LEVELS, "noise", "none")
_NOISE_SEED = 0


def make_image(mode: str, size: tuple[int, int]) -> Image.Image | None:
    """Return the RGB image that goes with every prompt.

    Args:
        mode: `white`, `gray`, `black`, `noise` (uniform, from a fixed seed), `none`, or the path of
            an image file.
        size: Width and height in pixels of a made image: the vision tower's input.

    Returns:
        An RGB image, or None for `none`. A file keeps its own size.

    Raises:
        ValueError: `mode` is neither a mode nor a readable image file.
    """
    if mode == "none":
        return None
    if mode in LEVELS:
        return Image.new("RGB", size, (LEVELS[mode],) * 3)
    if mode == "noise":
        width, height = size
        return Image.frombytes(
            "RGB", size, random.Random(_NOISE_SEED).randbytes(3 * width * height)
        )
    try:
        with Image.open(Path(mode).expanduser()) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(
            f"image={mode}: neither {', '.join(MODES)} nor a readable image file ({error})"
        ) from error


def image_sha256(image: Image.Image) -> str:
    """Return the sha256 of an image's mode, size and pixels, in hexadecimal."""
    head = f"{image.mode} {image.width}x{image.height}\n".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


def tower_size(config: object) -> tuple[int, int]:
    """Return the width and height that a checkpoint's vision tower takes, from its configuration.

    Towers of any resolution (Qwen-VL) state none: 336 is LLaVA-1.5's.
    """
    size = getattr(getattr(config, "vision_config", None), "image_size", None) or 336
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(width), int(height)
