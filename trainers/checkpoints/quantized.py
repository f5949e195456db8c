"""An adapter's base with the linear layers of its language model in few bits, by bitsandbytes."""

import os
from importlib.metadata import version
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from verbalizer_bench.models.checkpoints.language_parts import part_layers
from verbalizer_bench.trainers.optimizers import OPTIMIZERS
from verbalizer_bench.trainers.recipe import Recipe


def quantization_config(recipe: Recipe, shapes: Any) -> BitsAndBytesConfig:
    """Return what `from_pretrained` is told: which layers to quantise, and how.

    Args:
        recipe: One with `quantization`.
        shapes: Its model; the output layer and what is outside its language model are left out.
    """
    settings = recipe.quantization
    assert settings
    inside = set(part_layers(shapes, "all"))
    outside = [
        name
        for name, module in shapes.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and name not in inside
    ]
    return BitsAndBytesConfig(
        load_in_4bit=settings.load_in_4bit,
        load_in_8bit=settings.load_in_8bit,
        bnb_4bit_quant_type=settings.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=settings.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=torch.bfloat16 if recipe.precision == "bf16" else torch.float32,
        llm_int8_skip_modules=outside,
    )


def check_distribution(recipe: Recipe) -> None:
    """Refuse to spread a quantised base, or what an optimiser cannot update, over processes.

    Raises:
        ValueError: FSDP or DeepSpeed was asked for.
    """
    fix = "start with torchrun or recipes/accelerate/ddp.yaml, where each process holds it all"
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() not in ("1", "true"):
            continue
        if recipe.quantization:
            raise ValueError(f"quantization: weights in few bits are not spread by {name}; {fix}")
        if name == "FSDP" and not OPTIMIZERS[recipe.optim].spread:
            raise ValueError(
                f"optim={recipe.optim}: it does not work on weights that FSDP spreads; {fix}, or "
                "give optim=adamw_torch_fused"
            )


def compute_alike(model: Any) -> None:
    """Have 4-bit layers compute an evaluation as they do training.

    On CPUs of some kind bitsandbytes 0.50 has a kernel of its own for evaluation: in bfloat16
    whatever the inputs are, and for widths alone that are multiples of 64.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_quantized(model: Any) -> bool:
    """Tell whether a model, or the base of an adapter, is held in few bits."""
    return bool(getattr(model, "is_quantized", False))


def quantized_record(model: Any) -> dict[str, Any]:
    """Return how a base is held in few bits, and of which layers, as JSON values; {} if it is not.

    Args:
        model: As `load` gives it.
    """
    if not is_quantized(model):
        return {}
    settings = model.config.quantization_config.to_dict()
    wanted = ("load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant")
    layers = [weight for weight in model.parameters() if not weight.is_floating_point()]
    kept = {
        name: settings[name] for name in wanted if settings["load_in_4bit"] or "4bit" not in name
    }
    return kept | {
        "bitsandbytes": version("bitsandbytes"),
        "quantized_layers": len(layers),
        "quantized_weights": sum(map(size, layers)),
    }


def size(weight: torch.Tensor) -> int:
    """Return how many numbers a weight holds: in 4 bits two of them are one element."""
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else int(state.shape.numel())


def width_sum(layer: Any) -> int:
    """Return a linear layer's inputs and outputs together, each row of an adapter's weights."""
    if isinstance(layer, torch.nn.Linear):
        return layer.in_features + layer.out_features
    return sum(layer.weight.shape)
