"""A LLaVA with two vision towers: its configuration, its tokens, and whether the two towers fit."""

from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor

from verbalizer_bench.models.checkpoints.choices import FEATURE_LAYER
from verbalizer_bench.models.checkpoints.second_tower import SecondTower
from verbalizer_bench.models.checkpoints.strict_loading import one_line, reading
from verbalizer_bench.models.mof import MofLlavaConfig, MofLlavaModel
from verbalizer_bench.models.mof.configuration_mof_llava import GRIDS


def mixed_config(
    settings: dict[str, Any], second: SecondTower, image_processor: Any = None
) -> MofLlavaConfig:
    """Make the configuration of a LLaVA with two towers; reads no weights.

    Args:
        settings: What a `LlavaConfig` takes.
        second: The second tower.
        image_processor: The first tower's; None: its normalisation is not looked at.

    Raises:
        ValueError: The second tower cannot be read, or does not fit.
    """
    vision = _config(second)
    layer = second.layer
    if layer is None:
        layer = -1 if vision.model_type.startswith("dino") else FEATURE_LAYER
    rule = None if image_processor is None else _normalization(second, image_processor)
    try:
        return MofLlavaConfig(
            **settings | {"vision_feature_layer": second.first_layer},
            second_vision_config=vision,
            second_vision_feature_layer=layer,
            mixture=second.mixture,
            alpha=second.alpha,
            normalize_features=second.normalize,
            grid=second.grid,
            second_normalization=rule,
        )
    except (ValueError, AttributeError) as error:
        raise ValueError(f"second_tower={second.tower}: {one_line(error)}") from error


def mixed_tokens(config: MofLlavaConfig, size: tuple[int, int]) -> int:
    """Return how many tokens an image of so many pixels has, by a pass on the meta device.

    Raises:
        ValueError: The towers make no features of it that can be mixed.
    """
    channels = getattr(config.vision_config, "num_channels", 3)
    try:
        with torch.device("meta"), torch.no_grad():
            model = MofLlavaModel(config).eval()
            features = model.get_image_features(torch.zeros(1, channels, *size)).pooler_output
    except (ValueError, TypeError, RuntimeError, AttributeError) as error:
        second = config.second_vision_config
        other = next(grid for grid in GRIDS if grid != config.grid)
        raise ValueError(
            f"second_tower: {second.model_type} makes no features beside "
            f"{config.vision_config.model_type} of an image of {size[0]}x{size[1]} pixels with "
            f"grid={config.grid}: {one_line(error)}; give grid={other}, or another tower"
        ) from error
    return int(features[0].shape[0])


def _config(second: SecondTower) -> Any:
    """Return the tower's configuration, of a model with two halves that of its tower.

    Raises:
        ValueError: It cannot be read.
    """
    with reading(f"second_tower={second.tower}"):
        config = AutoConfig.from_pretrained(second.tower)
    return getattr(config, "vision_config", config)


def _normalization(second: SecondTower, image_processor: Any) -> dict[str, list[float]] | None:
    """Return `MofLlavaConfig`'s rule for its pixels, given the first tower's processor.

    Raises:
        ValueError: Its processor cannot be read, or scales pixels in another way.
    """
    if second.pixels == "first":
        return None
    with reading(f"second_tower={second.tower}", "give its processor beside it, or pixels=first"):
        own = AutoImageProcessor.from_pretrained(second.tower)
    scales = [_scale(processor) for processor in (image_processor, own)]
    if scales[0] != scales[1]:
        raise ValueError(
            f"second_tower={second.tower}: its processor scales pixels by {scales[1]}, and the "
            f"first tower's by {scales[0]}; give pixels=first"
        )
    first_mean, first_std = _mean_and_deviation(image_processor)
    mean, std = _mean_and_deviation(own)
    return {"first_mean": first_mean, "first_std": first_std, "mean": mean, "std": std}


def _scale(image_processor: Any) -> float:
    rescales = getattr(image_processor, "do_rescale", False)
    return float(image_processor.rescale_factor) if rescales else 1.0


def _mean_and_deviation(image_processor: Any) -> tuple[list[float], list[float]]:
    if not getattr(image_processor, "do_normalize", False):
        return [0.0] * 3, [1.0] * 3
    return list(image_processor.image_mean), list(image_processor.image_std)
