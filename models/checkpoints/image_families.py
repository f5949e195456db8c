"""Which vision-language models there are: LLaVAs of fixed image lengths, and those of other kinds.

Of a LLaVA each image takes as many tokens as the configuration says, whatever its size. Of others
their processor alone knows what an image becomes.
"""

from typing import Any

from transformers import LlavaConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def is_llava(config: Any) -> bool:
    """Tell whether a model is a LLaVA whose images take `image_seq_length` tokens each.

    A Pixtral has the same configuration class, and a tower that takes images of any size.
    """
    if not isinstance(config, LlavaConfig):
        return False
    return getattr(config.vision_config, "model_type", None) != "pixtral"


def has_own_processor(config: Any) -> bool:
    """Tell whether a model sees images by a processor of its own: it is no LLaVA, and no text's."""
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not is_llava(config)


def image_token_ids(config: Any) -> tuple[int, ...]:
    """Return the ids whose embeddings come from an image, as a configuration states them."""
    names = ("image_token_id", "image_token_index")
    stated = [getattr(config, name, None) for name in names]
    marks = getattr(config, "visual_indicator_token_ids", None) or ()
    return tuple(dict.fromkeys(i for i in (*stated, *marks) if isinstance(i, int)))
