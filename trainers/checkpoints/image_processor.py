"""The image processor that training and evaluation share: images padded to a square, or not.

transformers' CLIP processor cannot pad. LLaVA's, whose other steps are the same, can.
"""

from typing import Any

import numpy as np
from PIL import Image
from transformers import LlavaImageProcessor

from verbalizer_bench.models.images import make_image

_STEPS = ("do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize")


def with_aspect_ratio(image_processor: Any, aspect_ratio: str) -> Any:
    """Return an image processor that pads to a square in its mean colour (LLaVA-1.5), or does not.

    Args:
        image_processor: A checkpoint's.
        aspect_ratio: `pad`, or `square`: it crops or squeezes, as its settings say.

    Raises:
        ValueError: No stock class pads and does the rest as this one.
    """
    pads = bool(getattr(image_processor, "do_pad", False)) and hasattr(
        image_processor, "pad_to_square"
    )
    if pads == (aspect_ratio == "pad"):
        return image_processor
    # What a processor does not do may be missing there, and is done by default in the other.
    steps = {name: bool(getattr(image_processor, name, False)) for name in _STEPS}
    settings = image_processor.to_dict() | steps | {"do_pad": not pads}
    for name in ("image_processor_type", "processor_class", "feature_extractor_type"):
        settings.pop(name, None)
    made = LlavaImageProcessor(**settings)
    if not _same_squares(image_processor, made):
        raise ValueError(
            f"image_aspect_ratio={aspect_ratio}: {type(image_processor).__name__} does other "
            "things to an image than LlavaImageProcessor, the stock class that pads, so that the "
            "checkpoint would be asked with other pixels than it was trained on; give square"
        )
    return made


def _same_squares(one: Any, other: Any) -> bool:
    """Tell whether two processors make the same pixels of squares, which need no padding."""
    images: list[Image.Image] = [
        image for side in (50, 500) if (image := make_image("noise", (side, side)))
    ]
    first, second = (p(images=images, return_tensors="np")["pixel_values"] for p in (one, other))
    return np.array_equal(first, second)
