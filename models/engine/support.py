"""Which models and requests the shared-prefix engine can generate for exactly."""

from typing import Any

from transformers import GenerationMixin, PreTrainedModel

from verbalizer_bench.models.engine.generation_config import influential_settings
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings

# Among them the image's, whose keys and values so depend on the text behind it.
_BOTH_DIRECTIONS = ("paligemma", "colpali")
_KNOWN_ARGUMENTS = {"num_beams", "do_sample", "length_penalty", "early_stopping"}


def unsupported_reason(
    model: Any, settings: GenerationSettings | None, longest: int | None = None
) -> str | None:
    """Return why a request cannot be answered with a shared prefix exactly; None if it can.

    Args:
        model: A loaded model of transformers.
        settings: What the request asks to generate; None if it asks for scores, which no setting of
            a generation changes.
        longest: Tokens of the longest prompt with its response, where it is known.
    """
    base, config = base_model(model), model.config.get_text_config()
    if getattr(model.config, "is_encoder_decoder", False):
        return "encoder-decoder"
    if _keeps_states(base, config):
        return "layers that keep a state instead of keys and values"
    if getattr(config, "cross_attention_layers", None):
        return "cross-attention to images"
    if getattr(config, "index_topk", None):
        return "sparse attention, whose indexer keeps a cache of its own"
    if model.config.model_type in _BOTH_DIRECTIONS:
        return "it attends in both directions over the whole prompt"
    if longest and (limit := _rope_limit(config)) and longest > limit:
        return (
            f"its rotary frequencies change where a prompt with its response has more than {limit} "
            f"tokens, and the longest here has {longest}"
        )
    if longest and (limit := _temperature_limit(config)) and longest >= limit:
        return f"its attention's temperature changes from token {limit} on; these have {longest}"
    if not hasattr(base, "get_decoder"):
        return f"{type(base).__name__}, which has no get_decoder"
    if not getattr(language_model(model), "_supports_attention_backend", False):
        return f"{config.model_type} is not on transformers' attention interface"
    return None if settings is None else _unsupported_search(model, base, settings)


def base_model(model: Any) -> Any:
    """Return a model without a LoRA wrapper around it; its layers keep their adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def language_model(model: Any) -> Any:
    """Return the decoder of a causal or image-text-to-text model, without its head."""
    base = base_model(model)
    decoder = base.get_decoder()
    if not isinstance(decoder, PreTrainedModel):
        # A matrix has that name.
        decoder = base.model
    # Some answer with a model that has a head.
    while decoder.get_output_embeddings() is not None:
        decoder = decoder.model
    return decoder


def _unsupported_search(model: Any, base: Any, settings: GenerationSettings) -> str | None:
    if settings.kwargs.get("do_sample"):
        return "sampling"
    if unknown := set(settings.kwargs) - _KNOWN_ARGUMENTS:
        return f"generation arguments {', '.join(sorted(unknown))}"
    if getattr(base.generate, "__func__", None) is not GenerationMixin.generate:
        return f"{type(base).__name__} has a generate of its own"
    if changes := influential_settings(model.generation_config.to_diff_dict(), settings.kwargs):
        name, value = next(iter(changes.items()))
        return f"the checkpoint's generation setting {name}={str(value)[:200]}"
    return None


def _keeps_states(model: Any, config: Any) -> bool:
    """Return whether a layer is no attention (Mamba, linear attention, convolution)."""
    kinds = [str(kind) for kind in getattr(config, "layer_types", None) or ()]
    if not kinds:
        return bool(getattr(model, "_is_stateful", False))
    return any("linear" in kind or not kind.endswith("attention") for kind in kinds)


def _rope_limit(config: Any) -> int | None:
    """Return from how many tokens on a pass turns all its tokens by other frequencies."""
    given = getattr(config, "rope_parameters", None) or {}
    for rope in (given, *(one for one in given.values() if isinstance(one, dict))):
        if rope.get("rope_type") in ("longrope", "dynamic"):
            return int(
                rope.get("original_max_position_embeddings")
                or getattr(config, "original_max_position_embeddings", None)
                or config.max_position_embeddings
            )
    return None


def _temperature_limit(config: Any) -> int | None:
    """Return from which token on queries are scaled by a place that a layer counts in its cache."""
    tuned = getattr(config, "attn_temperature_tuning", False)
    return int(config.floor_scale) if tuned and hasattr(config, "floor_scale") else None
