"""Blank images for text-only prompts.

Shiono et al. 2024 show LVLMs a plain white image with every prompt. Grey, black and noise are our
controls: does the result depend on what is not there to see?
"""

import random
from pathlib import Path

from PIL import Image

from verbalizer_bench.io.images import IMAGE_ERRORS, read_image

LEVELS = {"white": 255, "gray": 128, "black": 0}
MODES = (*LEVELS, "noise", "none")
_NOISE_SEED = 0
# Towers of any resolution (Qwen-VL) state none: 336 is LLaVA-1.5's.
_DEFAULT_PIXELS = 336
_TASK_MARK = "verbalizer_bench_task_image"


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
        return read_image(Path(mode).expanduser())
    except IMAGE_ERRORS as error:
        raise ValueError(
            f"image={mode}: neither {', '.join(MODES)} nor a readable image file ({error})"
        ) from error


def tower_size(config: object) -> tuple[int, int]:
    """Return the width and height that a checkpoint's vision tower takes, from its configuration.

    336 pixels where it states none.
    """
    size = getattr(getattr(config, "vision_config", None), "image_size", None) or _DEFAULT_PIXELS
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(width), int(height)


def task_image() -> Image.Image:
    """Return a white image for harnesses where tasks bring the image, who know no vision tower.

    It is marked, so that an adapter of ours can put its own in its place (`is_task_image`).
    """
    image = Image.new("RGB", (_DEFAULT_PIXELS, _DEFAULT_PIXELS), (LEVELS["white"],) * 3)
    image.info[_TASK_MARK] = True
    return image


def is_task_image(image: Image.Image) -> bool:
    """Return whether an image is one of `task_image`, or a copy of it."""
    return _TASK_MARK in image.info
