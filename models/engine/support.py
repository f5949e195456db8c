"""Which models and requests the shared-prefix engine can generate for exactly."""

from typing import Any

from transformers import GenerationMixin

from verbalizer_bench.models.engine.generation_config import influential_settings
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings

_KNOWN_ARGUMENTS = {"num_beams", "do_sample", "length_penalty", "early_stopping"}


def unsupported_reason(model: Any, settings: GenerationSettings) -> str | None:
    """Return why a request cannot be generated with a shared prefix exactly; None if it can."""
    base, config = base_model(model), model.config.get_text_config()
    if getattr(model.config, "is_encoder_decoder", False):
        return "encoder-decoder"
    if not hasattr(base, "get_decoder"):
        return f"{type(base).__name__}, which has no get_decoder"
    if not getattr(language_model(model), "_supports_attention_backend", False):
        return f"{config.model_type} is not on transformers' attention interface"
    if _has_sliding_window(config):
        return "sliding-window attention"
    # Positions behind an image are no plain count there, which is what the decoder hands over.
    if "mrope_section" in (getattr(config, "rope_parameters", None) or {}):
        return "M-RoPE"
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


def base_model(model: Any) -> Any:
    """Return a model without a LoRA wrapper around it; its layers keep their adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def language_model(model: Any) -> Any:
    """Return the decoder of a causal or image-text-to-text model, without its head."""
    return base_model(model).get_decoder()


def _has_sliding_window(config: Any) -> bool:
    if layer_types := getattr(config, "layer_types", None):
        return set(layer_types) != {"full_attention"}
    return bool(
        getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    )
