"""Read the parts that a LLaVA is put together from: a language model, vision towers."""

from typing import Any

import torch
from tokenizers import AddedToken
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from verbalizer_bench.models.checkpoints.strict_loading import load_whole, reading
from verbalizer_bench.models.checkpoints.vision_tower import tower_features
from verbalizer_bench.models.checkpoints.vocabulary import add_embedding_rows

IMAGE_TOKEN = "<image>"
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p")


def load_llm(llm: str, dtype: str) -> tuple[Any, Any]:
    """Return tokenizer and model, with image and padding token in both.

    Args:
        llm: A folder or hub id.
        dtype: Floating type of the weights; `auto` is the files'.

    Raises:
        ValueError: It cannot be read, or is nothing that LLaVA holds as its language model.
    """
    with reading(f"llm={llm}"):
        config = AutoConfig.from_pretrained(llm)
        tokenizer = AutoTokenizer.from_pretrained(llm)
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ValueError(
            f"llm={llm}: a checkpoint of {config.model_type}, which is no causal language model; "
            "give one of AutoModelForCausalLM"
        )
    language = load_part(AutoModelForCausalLM, "llm", llm, dtype=dtype)
    _check_layout(language, llm)
    add_embedding_rows(language, tokenizer, _add_tokens(tokenizer))
    language.config.pad_token_id = tokenizer.pad_token_id
    # As in a model that is built with this configuration.
    language.get_input_embeddings().padding_idx = tokenizer.pad_token_id
    language.generation_config.pad_token_id = tokenizer.pad_token_id
    if not language.generation_config.do_sample:
        # Greedy decoding ignores them, and transformers refuses to save them (Vicuna has some).
        for key in _SAMPLING:
            setattr(language.generation_config, key, None)
    return tokenizer, language


def load_tower(role: str, name: str, dtype: torch.dtype | str) -> Any:
    """Return a vision model, frozen as LLaVA trains it; of a model with two halves that one.

    Args:
        role: The argument that named it: `vision_tower` or `second_tower`.
        name: A folder or hub id.
        dtype: Floating type of the weights.

    Raises:
        ValueError: It cannot be read, or a first tower is of a kind that LLaVA cannot hold.
    """
    with reading(f"{role}={name}"):
        config = AutoConfig.from_pretrained(name)
    part = hasattr(config, "vision_config")
    config = getattr(config, "vision_config", config)
    if role == "vision_tower":
        tower_features(config)
    tower = load_part(AutoModel, role, name, part, config=config, dtype=dtype)
    return tower.requires_grad_(False)


def load_part(auto_class: Any, role: str, name: str, part: bool = False, **kwargs: Any) -> Any:
    """Load a model, all of it; only a pooler, which LLaVA does not use, may be missing."""
    model = load_whole(auto_class, name, f"{role}={name}", unused=r"^pooler\.", part=part, **kwargs)
    # A folder's own path would be written into the checkpoints made of it.
    model.config._name_or_path = ""
    return model


def _add_tokens(tokenizer: Any) -> list[int]:
    """Add image and padding token where they are not there; return the ids that are new."""
    known = set(tokenizer.get_vocab().values())
    image = AddedToken(IMAGE_TOKEN, special=True, normalized=False)
    tokenizer.add_tokens([image], special_tokens=True)
    if tokenizer.pad_token in (None, tokenizer.eos_token):
        trained = (None, tokenizer.eos_token, tokenizer.bos_token)
        spare = "<pad>" if tokenizer.unk_token in trained else tokenizer.unk_token
        tokenizer.add_special_tokens({"pad_token": spare})
    return sorted(set(tokenizer.get_vocab().values()) - known)


def _check_layout(language: Any, llm: str) -> None:
    """Raise ValueError unless a model is a decoder under one matrix: LLaVA holds no more."""
    start = f"{language.base_model_prefix}."
    parameters = language.named_parameters(remove_duplicate=False)
    outside = [name for name, _ in parameters if not name.startswith(start)]
    head, base = language.get_output_embeddings(), language.base_model
    tied = language.config.tie_word_embeddings
    if (
        len(outside) == 1
        and getattr(head, "bias", None) is None
        and (not tied or hasattr(base, "embed_tokens"))
    ):
        return
    raise ValueError(
        f"llm={llm}: {type(language).__name__} is not laid out as LLaVA's language model "
        f"(outside of {start[:-1]}: {', '.join(outside)}; tied embeddings: {tied}); give one of "
        "the Llama, Mistral or Qwen2 family"
    )
