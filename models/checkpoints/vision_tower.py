"""What a LLaVA would take from a vision tower: tried out on the meta device."""

from typing import Any, NamedTuple

import torch
from transformers import AutoModel

from verbalizer_bench.models.checkpoints.choices import FEATURE_LAYER
from verbalizer_bench.models.images import make_image


class TowerFeatures(NamedTuple):
    """What a vision tower makes of an image.

    Attributes:
        tokens: Number of patches, which is that of image tokens.
        strategy: LLaVA's `vision_feature_select_strategy`: `default` drops the class token that
            stands in front of the patches, `full` is for towers without one.
    """

    tokens: int
    strategy: str


def tower_features(vision_config: Any, size: tuple[int, int] | None = None) -> TowerFeatures:
    """Return what LLaVA would take from a tower, by a forward pass on the meta device.

    Args:
        vision_config: The tower's configuration.
        size: Height and width of the image in pixels; None is what the configuration says.
    """
    name = vision_config.model_type
    pixels, patch = (getattr(vision_config, key, None) for key in ("image_size", "patch_size"))
    if not pixels or not isinstance(patch, int):
        raise ValueError(
            f"vision_tower: {name} has image_size={pixels} and patch_size={patch}; LLaVA takes "
            "towers with an image size and one patch size, such as CLIP and SigLIP"
        )
    height, width = size or image_size(vision_config)
    channels = getattr(vision_config, "num_channels", 3)
    try:
        with torch.device("meta"), torch.no_grad():
            tower = AutoModel.from_config(vision_config).eval()
            image = torch.zeros(1, channels, height, width)
            shape = tower(image, output_hidden_states=True).hidden_states[FEATURE_LAYER].shape
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"vision_tower: {name} makes no features of an image of {height}x{width} pixels: "
            f"{' '.join(str(error).split())[:200]}; give a tower with the image processor that "
            "it was trained with"
        ) from error
    patches = (height // patch) * (width // patch)
    if len(shape) != 3 or shape[1] - patches not in (0, 1):
        raise ValueError(
            f"vision_tower: {name} makes features of shape {tuple(shape)} of {patches} patches; "
            "LLaVA takes one vector a patch, with at most a class token before them"
        )
    return TowerFeatures(patches, "default" if shape[1] > patches else "full")


def image_size(vision_config: Any) -> tuple[int, int]:
    """Return the height and width in pixels that a tower's configuration states."""
    pixels = vision_config.image_size
    return (pixels, pixels) if isinstance(pixels, int) else tuple(pixels)


def processed_size(image_processor: Any, name: str) -> tuple[int, int]:
    """Return the height and width in pixels that a processor gives to images of any shape."""
    shapes = set()
    for size in ((48, 64), (64, 48)):
        pixels = image_processor(make_image("white", size), return_tensors="pt")["pixel_values"]
        shapes.add(tuple(pixels.shape))
    if len(shapes) > 1 or len(min(shapes)) != 4:
        raise ValueError(
            f"vision_tower={name}: {type(image_processor).__name__} makes images of the shapes "
            f"{sorted(shapes)}; LLaVA takes one: give a tower whose processor makes squares"
        )
    return min(shapes)[2:]
