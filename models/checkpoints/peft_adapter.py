"""Load a PEFT adapter on a base, all of it or not at all.

PEFT only warns of weights that do not fit, and then the base answers under the adapter's name. And
lm-eval cuts the base's embeddings to the tokenizer's length, which is less than the rows of many
bases (Qwen2.5 has 271 to spare) and of the adapters that were trained on them.
"""

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from peft import PeftConfig, PeftModel, load_peft_weights, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

from verbalizer_bench.models.checkpoints.strict_loading import raise_for_weights, reading
from verbalizer_bench.models.checkpoints.vocabulary import vocabulary_rows

log = logging.getLogger(__name__)
_FIX = "give a LoRA folder that was trained on this base"
# Weights that are saved whole beside those of the method, and those of AdaptionPrompt, which have
# other names than PEFT's table says.
_OTHERS = ("modules_to_save", "trainable_tokens", "adaption_")


def add_adapter(model: Any, peft: str, what: str, revision: str | None = None) -> PeftModel:
    """Return a model with an adapter on it.

    Args:
        model: The base.
        peft: A folder or a hub id.
        what: The argument that named it, with its value: `model_args peft=DIR`.
        revision: Of the hub.

    Raises:
        ValueError: The adapter cannot be read, does not fit the base, or lacks weights.
    """
    base_keys = {f"base_model.model.{key}" for key in model.state_dict()}
    with reading(what, _FIX):
        weights = load_peft_weights(peft, device="cpu", revision=revision)
        adapted = PeftModel.from_pretrained(model, peft, revision=revision)
    _check_weights(adapted, weights, base_keys, what)
    return adapted


def _check_weights(
    adapted: PeftModel, weights: Mapping[str, torch.Tensor], base_keys: Collection[str], what: str
) -> None:
    """Set the weights once more, and read what PEFT found no place or no weight for.

    Args:
        adapted: The base with its adapter.
        weights: The adapter's.
        base_keys: The names of the base's weights in `adapted`.
        what: The argument that named the adapter, with its value.
    """
    (name,) = adapted.peft_config
    config = adapted.peft_config[name]
    if config.is_prompt_learning:
        # Its only weight is no part of the model, and was checked when it was set.
        return
    result = set_peft_model_state_dict(adapted, dict(weights), adapter_name=name)
    kinds = (PEFT_TYPE_TO_PREFIX_MAPPING.get(config.peft_type, ""), *_OTHERS)
    missing = {
        key
        for key in result.missing_keys
        if key not in base_keys and any(kind in key for kind in kinds)
    }
    state = adapted.state_dict()
    # Under tied embeddings one weight has two names, and the file one of them.
    there = {w.data_ptr() for key, w in state.items() if key not in missing and not w.is_meta}
    missing = {key for key in missing if state[key].data_ptr() not in there}
    # PEFT writes resized embeddings that it saves whole twice, under two names.
    unknown = [
        key
        for key in result.unexpected_keys
        if re.sub(r"\.(modules_to_save|original_module)\.", ".", key) not in set(weights) - {key}
    ]
    base = type(adapted.get_base_model()).__name__
    raise_for_weights(
        what,
        {
            f"of the {len(weights)} weights in it have no place in {base}, such as": unknown,
            f"weights that {base} would take are not in it, such as": missing,
        },
        f"{_FIX} (it says {config.base_model_name_or_path})",
    )


def fit_vocabulary(
    model: Any, peft: str, tokenizer: Any, tokenizer_given: bool, revision: str | None = None
) -> None:
    """Resize the embeddings to those that the adapter was trained with, where it brings some.

    Args:
        model: The base. Its embeddings are cut or lengthened; new rows are overwritten by the
            adapter's.
        peft: The adapter's folder or hub id.
        tokenizer: What prompts are encoded with.
        tokenizer_given: Whether the user chose it (`tokenizer=`).
        revision: Of the hub.

    Raises:
        ValueError: The adapter was trained with another vocabulary.
    """
    what = f"model_args peft={peft}"
    with reading(what, _FIX):
        config = PeftConfig.from_pretrained(peft, revision=revision)
        weights = load_peft_weights(peft, device="cpu", revision=revision)
    rows, length = vocabulary_rows(model), max(tokenizer.get_vocab().values()) + 1
    brought = _rows(model, weights)
    if not brought:
        covered = set(getattr(config, "trainable_token_indices", None) or ())
        if set(range(rows, length)) <= covered and length > rows:
            model.resize_token_embeddings(length, mean_resizing=False)
        return
    wanted = max(brought.values())
    if wanted == rows:
        return
    if wanted > rows and not tokenizer_given:
        raise ValueError(
            f"{what}: was trained with {wanted} embeddings, {wanted - rows} more than the base "
            f"has, so tokens were added; give tokenizer={peft} too, or where its tokenizer is"
        )
    embeddings = next(
        n for n, module in model.named_modules() if module is model.get_input_embeddings()
    )
    if wanted > rows and embeddings not in brought:
        raise ValueError(
            f"{what}: brings {wanted} rows of {next(iter(brought))}, {wanted - rows} more than the "
            f"base has, and none of {embeddings}; train it with both in modules_to_save"
        )
    model.resize_token_embeddings(wanted, mean_resizing=False)
    if wanted > rows and len(brought) < 2 and (head := model.get_output_embeddings()) is not None:
        with torch.no_grad():
            head.weight[rows:] = head.weight[:rows].float().mean(0).to(head.weight.dtype)
        log.warning(
            "%s: brings no output rows for %d added tokens; they get the mean of the others, which "
            "is never the likeliest",
            *(what, wanted - rows),
        )


def _rows(model: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return how many tokens the adapter's embeddings and head have rows for, by name."""
    layers = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    names = [name for name, module in model.named_modules() if id(module) in layers]
    rows = {}
    for name in names:
        for key, tensor in weights.items():
            if f".{name}." not in key:
                continue
            if "lora_embedding_A" in key:
                rows[name] = tensor.shape[1]
            elif key.endswith((f"{name}.weight", f"{name}.base_layer.weight", "lora_B.weight")):
                rows[name] = tensor.shape[0]
    return rows
