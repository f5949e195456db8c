"""Which weights of a model are trained, and how many."""

import re
from typing import Any

from peft import LoraConfig

from verbalizer_bench.models.checkpoints.connector import fix_identity, trained_connector_modules
from verbalizer_bench.models.checkpoints.language_parts import lora_targets, part_layers
from verbalizer_bench.trainers.checkpoints.quantized import size, width_sum
from verbalizer_bench.trainers.recipe import Recipe

_CONNECTOR = "multi_modal_projector"


def choose_trained(model: Any, recipe: Recipe) -> None:
    """Set `requires_grad` of each weight, before an adapter is added.

    Of a CLIP all; else the connector (but for the fixed layer of a linear one) and, unless an
    adapter is trained, the language model or the recipe's part of it; the vision tower never.
    """
    whole = recipe.lora is None and recipe.method != "pretrain"
    connector = tuple(trained_connector_modules(model.config))
    part = None
    if whole and recipe.trained_modules != "all":
        part = set(part_layers(model, recipe.trained_modules))
    for name, weight in model.named_parameters():
        outside = "vision_tower." in name or _CONNECTOR in name
        weight.requires_grad_(
            any(f"{module}." in name for module in connector)
            or (whole and not outside and (part is None or name.rpartition(".")[0] in part))
        )
    if connector and not any(weight.is_meta for weight in model.parameters()):
        fix_identity(model)
    # Without autocast of its weights a connector in bfloat16 would lose small updates.
    for weight in model.parameters():
        if weight.requires_grad and not weight.is_meta:
            weight.data = weight.data.float()


def mismatch(model: Any, recipe: Recipe) -> str | None:
    """Return that another number of parameters is trained than a recipe states; None if not."""
    wanted, trained = recipe.trained_parameters, count_parameters(model, recipe)[0]
    if wanted is None or trained == wanted:
        return None
    return (
        f"trained_parameters={wanted:,}, and this model trains {trained:,}; "
        f"correct the model, or give trained_parameters={trained}"
    )


def count_parameters(model: Any, recipe: Recipe) -> tuple[int, int]:
    """Return how many parameters are trained and frozen.

    The model is as `load` gives it; the adapter that is still to be added counts as trained.
    """
    trained = sum(size(w) for w in model.parameters() if w.requires_grad)
    frozen = sum(size(w) for w in model.parameters() if not w.requires_grad)
    if recipe.lora:
        adapted = re.compile(lora_targets(model, recipe.trained_modules))
        trained += recipe.lora.r * sum(
            width_sum(module) for name, module in model.named_modules() if adapted.fullmatch(name)
        )
    return trained, frozen


def lora_config(model: Any, recipe: Recipe) -> LoraConfig | None:
    """Return PEFT's configuration; the connector is trained and saved beside the adapter."""
    if recipe.lora is None:
        return None
    return LoraConfig(
        r=recipe.lora.r,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=lora_targets(model, recipe.trained_modules),
        modules_to_save=trained_connector_modules(model.config) or None,
        task_type="CAUSAL_LM",
    )
