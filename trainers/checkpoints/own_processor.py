"""Vision-language models that are no LLaVA: what a recipe may ask of them, and their processor."""

from typing import Any

from transformers import LlavaConfig

from verbalizer_bench.models.checkpoints.image_families import has_own_processor, image_token_ids
from verbalizer_bench.trainers.conversations.processor_texts import ProcessorTexts
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.recipe_checks import EITHER

_CROSS_ATTENTION = ("mllama",)


def sees_by_own_processor(recipe: Recipe, config: Any) -> bool:
    """Tell whether a recipe trains a vision-language model that is no LLaVA."""
    trains = recipe.method in ("vit", *EITHER) and not recipe.text_model
    return trains and has_own_processor(config)


def check_own_processor(recipe: Recipe, config: Any) -> None:
    """Raise ValueError where a recipe asks for what LLaVAs alone have."""
    own = (
        ("format", recipe.format, "tokenizer", "its own chat template"),
        ("image_aspect_ratio", recipe.image_aspect_ratio, "square", "its own image processor"),
    )
    for key, value, needed, why in own:
        if value != needed:
            raise ValueError(
                f"{key}={value}: a {config.model_type} model is trained with {why}; give "
                f"{key}={needed}"
            )
    size = recipe.per_device_batch_size
    if config.model_type in _CROSS_ATTENTION and size > 1:
        raise ValueError(
            f"per_device_batch_size={size}: in a batch of a {config.model_type} model what a "
            "record is depends on the images of the others, whose number transformers pads; give "
            "per_device_batch_size=1"
        )


def processor_texts(recipe: Recipe, config: Any, processor: Any) -> ProcessorTexts:
    """Return what asks the processor of a model that is no LLaVA.

    Raises:
        ValueError: What it makes of images cannot be known.
    """
    place = recipe.model.config or recipe.model.path
    try:
        return ProcessorTexts(
            processor, image_token_ids(config), flat=isinstance(config, LlavaConfig)
        )
    except ValueError as error:
        raise ValueError(f"model {place} cannot be trained: {error}") from error
