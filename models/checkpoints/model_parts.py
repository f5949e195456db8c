"""Which of a model's weights are its vision tower, its connector and its language model.

transformers' classes say which module is the decoder. What stands beside it has no common name, so
the names of the families' modules are listed here; a module that is not listed is refused, because
what is trained and what is frozen must not be guessed.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

VISION_TOWER, CONNECTOR, LANGUAGE_MODEL = "vision_tower", "connector", "language_model"
MODEL_PARTS = (VISION_TOWER, CONNECTOR, LANGUAGE_MODEL)
_TOWERS = frozenset(
    {
        *("vision_tower", "second_vision_tower", "image_tower", "video_tower"),
        *("vision_model", "vision_encoder", "visual"),
    }
)
_CONNECTORS = frozenset(
    {
        *("multi_modal_projector", "second_multi_modal_projector", "mm_projector", "connector"),
        *("projector", "aligner", "vision_projection", "language_projection", "embed_vision"),
        # What has features of the vision tower pass through few queries.
        *("qformer", "query_tokens", "resampler_model", "image_to_text_projection"),
        # What stands for the end of a row of patches, or for patches that were counted out.
        *("image_newline", "view_separator", "visual_embeddings_table"),
        # Fuyu has no tower: patches are projected as they are.
        *("vision_embed_tokens", "merger"),
    }
)
# What a tower holds of the connector, as its own module: Qwen-VL, GLM-V, Llama 4, Ovis2, Docling.
_CONNECTORS_IN_TOWERS = frozenset(
    {
        *("merger", "deepstack_merger_list", "downsample", "vision_adapter", "connector"),
        *("head_linear", "head_norm"),
    }
)
# What PEFT writes into the names of a module that an adapter holds whole.
_WRAPPED = re.compile(r"\.(?:modules_to_save\.\w+|original_module)\.")
# A decoder with one of these is the whole model under another name.
_NOT_IN_DECODERS = _TOWERS | _CONNECTORS | {"vqmodel", "perceiver_resampler", "audio_tower"}


def parameter_parts(model: Any) -> dict[str, str]:
    """Return the part of each parameter, by its name.

    Args:
        model: A causal language model or a vision-language model, without an adapter's wrapper; it
            may hold the layers of one.

    Returns:
        One of `MODEL_PARTS` for each name of `named_parameters()`. The output layer is of the
        language model.

    Raises:
        ValueError: A parameter is of no part that is known, in one line.
    """
    language = _language_prefixes(model)
    return {
        name: LANGUAGE_MODEL if name.startswith(language) else _part_beside(model, name)
        for name, _ in model.named_parameters()
    }


def outermost_modules(model: Any, names: Collection[str]) -> Iterator[str]:
    """Yield the names of the outermost modules that hold some of these parameters and no others.

    A parameter that stands by itself, as LLaVA-NeXT's `image_newline`, is in none of them.
    """
    others = [name for name, _ in model.named_parameters() if name not in names]
    found: tuple[str, ...] = ()
    for module, _ in model.named_modules():
        start = f"{module}."
        if not module or start.startswith(found):
            continue
        some = any(name.startswith(start) for name in names)
        if some and not any(name.startswith(start) for name in others):
            found += (start,)
            yield module


def _language_prefixes(model: Any) -> tuple[str, ...]:
    """Return what the names of the decoder's and the output layer's parameters begin with."""
    language = (model.get_decoder(), model.get_output_embeddings())
    inside = [name for name, _ in language[0].named_children()]
    if foreign := [name for name in inside if name in _NOT_IN_DECODERS]:
        raise ValueError(
            f"{type(model).__name__} does not tell its language model from its {foreign[0]}, so "
            "that what is to be trained of it is not known; give another family"
        )
    return tuple(
        f"{name}." if name else ""
        for name, module in model.named_modules()
        if any(module is one for one in language)
    )


def _part_beside(model: Any, name: str) -> str:
    """Return the part of a parameter outside the language model."""
    path = _WRAPPED.sub(".", name).removeprefix("model.").split(".")
    if path[0] in _TOWERS:
        held = len(path) > 1 and path[1] in _CONNECTORS_IN_TOWERS
        return CONNECTOR if held else VISION_TOWER
    if path[0] in _CONNECTORS:
        return CONNECTOR
    raise ValueError(
        f"{type(model).__name__}: {name} is of no vision tower, connector or language model that "
        "is known, so that it can be neither trained nor frozen as asked; give another family"
    )
