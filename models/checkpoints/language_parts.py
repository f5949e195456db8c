"""The linear layers of a language model: what LoRA adapts, and the parts that are trained alone.

Training the attention's projections alone, or those into the MLPs alone, forgets little of what a
model could do before (arXiv 2510.08564).
"""

import re
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from transformers.pytorch_utils import Conv1D

_LINEAR_KINDS = (torch.nn.Linear, Conv1D)
# What transformers' families call the projections into an MLP, and those out of it.
_MLP_IN = (
    *("gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "c_fc"),
    *("fc1", "fc_in", "dense_h_to_4h", "wi", "wi_0", "wi_1"),
)
_MLP_OUT = ("down_proj", "w2", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "wo")
_MLP = {"mlp_in": _MLP_IN, "mlp": _MLP_IN + _MLP_OUT}


def part_layers(model: Any, part: str) -> list[str]:
    """Return the names of the linear layers of a part of the language model.

    Args:
        model: A LLaVA or a causal language model.
        part: One of `choices.PARTS`; `all` has every linear layer inside it, not the output layer.

    Raises:
        ValueError: There are none, or the part has weights in other layers too.
    """
    decoder = model.get_decoder()
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    output = getattr(model, "get_output_embeddings", lambda: None)()
    inside = [
        name
        for name, module in decoder.named_modules()
        if _is_linear(module) and module is not output
    ]
    if not inside:
        raise ValueError(
            f"{type(decoder).__name__} has no linear layer that LoRA could adapt; train it in full"
        )
    attention = [name for name in inside if _in_attention(name)]
    if part == "attention":
        inside = attention
    elif part in _MLP:
        _refuse_experts(decoder, part)
        inside = [
            name
            for name in inside
            if name.rpartition(".")[2] in _MLP[part] and name not in set(attention)
        ]
    if not inside:
        leaves = sorted({name.rpartition(".")[2] for name, _ in decoder.named_modules()} - {""})
        raise ValueError(
            f"trained_modules={part}: {type(decoder).__name__} has no layer that is known to be "
            f"one, of {', '.join(leaves)}; give trained_modules=all"
        )
    return [f"{prefix}.{name}" if prefix else name for name in inside]


def _is_linear(module: Any) -> bool:
    """Tell whether a module is a linear layer; Llama 4's router is one that returns a pair."""
    return isinstance(module, _LINEAR_KINDS) and not type(module).__name__.endswith("Router")


def _in_attention(name: str) -> bool:
    return any("attn" in part or "attention" in part for part in name.split(".")[:-1])


def _refuse_experts(decoder: Any, part: str) -> None:
    """Raise ValueError where MLPs are experts, whose weights are stacked in no linear layer."""
    for name, module in decoder.named_modules():
        if any(weight.dim() == 3 for weight in module.parameters(recurse=False)):
            raise ValueError(
                f"trained_modules={part}: {name} of {type(decoder).__name__} holds the stacked "
                "weights of experts, which are trained whole or not at all; give attention or all"
            )


def lora_targets(model: Any, part: str = "all") -> str:
    """Return a regular expression for PEFT's `target_modules`.

    Args:
        model: A LLaVA or a causal language model.
        part: What is adapted, one of `choices.PARTS`.

    Returns:
        What fully matches the linear layers of the part inside the language model, and neither its
        output layer, nor a vision tower or connector.

    Raises:
        ValueError: The language model has no linear layer, or PEFT would adapt others.
    """
    names = part_layers(model, part)
    if part == "all":
        decoder = model.get_decoder()
        prefix = next(name for name, module in model.named_modules() if module is decoder)
        layers = sorted({name.rpartition(".")[2] for name in names})
        start = re.escape(f"{prefix}.") if prefix else ""
        pattern = rf"{start}(?:.+\.)?(?:{'|'.join(map(re.escape, layers))})"
    else:
        # A layer's number is any.
        alike = sorted({re.sub(r"\\\.\d+\\\.", r"\\.\\d+\\.", re.escape(name)) for name in names})
        pattern = "|".join(alike)
    _check_kept(model, pattern)
    return pattern


def _check_kept(model: Any, pattern: str) -> None:
    """Raise ValueError where PEFT replaces the layers that it is told to adapt.

    For some mixtures of experts it takes the names of linear layers for those of experts, as they
    were in transformers 4: it would adapt these, and not the linear layers of that name.
    """
    config = LoraConfig(target_modules=pattern)
    convert_peft_config_for_transformers(config, model, None)
    if others := getattr(config, "target_parameters", None):
        raise ValueError(
            f"lora: of {type(model).__name__} PEFT would adapt the experts' "
            f"{', '.join(sorted(others))} and leave out the linear layers that were called so; "
            "train it in full"
        )
