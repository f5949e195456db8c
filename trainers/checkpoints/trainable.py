"""Which weights of a model are trained, and how many."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from peft import LoraConfig
from torch import nn

from verbalizer_bench.models.checkpoints.connector import fix_identity, fixed_layer
from verbalizer_bench.models.checkpoints.language_parts import lora_targets, part_layers
from verbalizer_bench.models.checkpoints.model_parts import (
    CONNECTOR,
    LANGUAGE_MODEL,
    VISION_TOWER,
    outermost_modules,
    parameter_parts,
)
from verbalizer_bench.trainers.checkpoints.quantized import size, width_sum
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.recipe_settings import ALL, LORA, NONE

_LANGUAGE = {
    "all": "the language model",
    "attention": "the language model's attention",
    "mlp": "the language model's MLPs",
    "mlp_in": "the projections into the language model's MLPs",
}


def choose_trained(model: Any, recipe: Recipe) -> None:
    """Set `requires_grad` of each weight, before an adapter is added.

    Of a CLIP all; else what the recipe trains of each part, but for the fixed layer of a linear
    connector. The output layer is of the language model, also where it is its input embeddings.

    Raises:
        ValueError: A part is to be trained that the model has not, or that cannot be told.
    """
    trained = trained_names(model, recipe)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in trained)
    if not any(weight.is_meta for weight in model.parameters()):
        fix_identity(model)
    # Without autocast of its weights a connector in bfloat16 would lose small updates.
    for weight in model.parameters():
        if weight.requires_grad and not weight.is_meta:
            weight.data = weight.data.float()


def trained_names(model: Any, recipe: Recipe) -> set[str]:
    """Return the names of the weights that are trained, but for an adapter's.

    Raises:
        ValueError: As `choose_trained`.
    """
    if recipe.method == "tower":
        return {name for name, _ in model.named_parameters()}
    parts, wanted = parameter_parts(model), recipe.trained_parts
    _check_statistics(model)
    names = _beside_language(model, recipe, parts)
    if recipe.lora:
        saved = tuple(f"{module}." for module in _saved_modules(model, names))
        names = {name for name in names if name.startswith(saved)}
    if wanted.language_model == ALL:
        names |= {name for name, part in parts.items() if part == LANGUAGE_MODEL}
    elif wanted.language_model not in (LORA, NONE):
        layers = set(part_layers(model, str(wanted.language_model)))
        names |= {name for name in parts if name.rpartition(".")[0] in layers}
    return names


def is_tied(model: Any) -> bool:
    """Tell whether a model's output layer and input embeddings are one matrix."""
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return output is not None and output.weight is model.get_input_embeddings().weight


def left_out(model: Any, recipe: Recipe) -> list[str]:
    """Return the weights of trained parts that stay as they are: an adapter cannot hold them.

    PEFT saves modules, and these are in none: LLaVA-NeXT's `image_newline`, BLIP-2's queries.
    """
    if not recipe.lora:
        return []
    wanted = _beside_language(model, recipe, parameter_parts(model))
    return sorted(wanted - trained_names(model, recipe))


def _beside_language(model: Any, recipe: Recipe, parts: Mapping[str, str]) -> set[str]:
    """Return the weights of the vision tower and the connector that the recipe trains."""
    names: set[str] = set()
    for part in (VISION_TOWER, CONNECTOR):
        if getattr(recipe.trained_parts, part) == NONE:
            continue
        found = {name for name, kind in parts.items() if kind == part}
        if not found:
            raise ValueError(f"train.{part}=all: {type(model).__name__} has none; give none")
        names |= found
    fixed = fixed_layer(model.config)
    return {name for name in names if fixed is None or f"{fixed}." not in name}


def _saved_modules(model: Any, names: Collection[str]) -> list[str]:
    """Return the modules that an adapter holds whole so that it holds these weights.

    Lists of modules are none that PEFT could wrap: it is called with what is in them.
    """
    modules: list[str] = []
    for name in outermost_modules(model, names):
        module = model.get_submodule(name)
        is_list = isinstance(module, nn.ModuleList)
        modules += [f"{name}.{n}" for n, _ in module.named_children()] if is_list else [name]
    return modules


def _check_statistics(model: Any) -> None:
    """Raise ValueError where a forward pass in training changes what is frozen."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"{type(model).__name__}: {name} is a batch norm, whose statistics a step would "
                "change whether it is trained or not; give another family"
            )


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
    """Return PEFT's configuration; trained parts beside the language model are saved whole."""
    if recipe.lora is None:
        return None
    beside = _beside_language(model, recipe, parameter_parts(model))
    return LoraConfig(
        r=recipe.lora.r,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=lora_targets(model, recipe.trained_modules),
        modules_to_save=_saved_modules(model, beside) or None,
        task_type="CAUSAL_LM",
    )


def describe_trained(recipe: Recipe) -> str:
    """Describe in words which parts are trained, and at which rates of their own."""
    parts, rates = recipe.trained_parts, recipe.learning_rates
    if recipe.method == "tower" or (recipe.text_model and parts.language_model == ALL):
        return "all weights"
    trained = [
        f"the {name.replace('_', ' ')}"
        + (f" (learning rate {rates[name]:g})" if name in rates else "")
        for name in (VISION_TOWER, CONNECTOR)
        if getattr(parts, name) == ALL
    ]
    if parts.language_model != NONE:
        trained.append(_language(recipe))
    if len(trained) == 1:
        return trained[0] if recipe.text_model else f"{trained[0]} alone"
    return f"{', '.join(trained[:-1])} and {trained[-1]}"


def _language(recipe: Recipe) -> str:
    part = recipe.trained_parts.language_model
    name = _LANGUAGE[recipe.trained_modules if part == LORA else str(part)]
    if recipe.lora is None:
        return name
    return f"a low-rank adapter of {name}, r={recipe.lora.r}, alpha={recipe.lora.alpha}"
