"""Estimate from shapes alone the memory and the disk space that training takes."""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from verbalizer_bench.trainers.checkpoints.trainable import count_parameters
from verbalizer_bench.trainers.recipe import Recipe

log = logging.getLogger(__name__)

# Tokens and words that the loss of TRL 1.16 multiplies out at once, in a buffer of that size.
_TOKENS, _WORDS = 4_096, 32_768
# States that are there while one more is written, before the oldest is removed.
_STATES = 3
_GIB = 2**30


def memory(recipe: Recipe, model: Any, longest: int) -> dict[str, float]:
    """Estimate the GiB of one device that holds everything, by part.

    Weights as `load` has them, gradients and AdamW's two moments in float32; with autocast a copy
    in two bytes of each trained weight that is multiplied by; of the activations a layer's inputs
    (with gradient checkpointing, else some 18 widths and 3 inner widths a token) and what one layer
    needs while it is computed again; of the logits TRL's buffer, and twice as many in float32
    (which its kernel for CUDA does without); with weights of tokens all logits, their float32, its
    softmax, and the gradients of both.

    Args:
        recipe: The recipe.
        model: Its shapes.
        longest: Tokens of the longest record.
    """
    trained, frozen = count_parameters(model, recipe)
    text = model.config.get_text_config()
    half = recipe.precision == "bf16"
    # A pair is two rows.
    rows = recipe.per_device_batch_size * (2 if recipe.method == "dpo" else 1)
    tokens = rows * min(longest, recipe.max_length)
    layer = tokens * (18 * text.hidden_size + 3 * _inner_width(model, text))
    kept = tokens * text.hidden_size if recipe.gradient_checkpointing else layer
    size = 2 if half else 4
    frozen_size = 2 if recipe.frozen_in_bf16 else 4
    parts = {
        "weights": 4 * trained + frozen_size * frozen,
        "gradients": 4 * trained,
        "optimizer": 8 * trained,
        "autocast copies": 2 * _multiplied(recipe, model) if half else 0,
        "activations": size * (kept * text.num_hidden_layers + layer),
        "logits": _logits(recipe, tokens, text.vocab_size, size),
    }
    return {name: value / _GIB for name, value in parts.items()}


def reference_memory(model: Any, longest: int) -> float:
    """Estimate the GiB in which a pair's reference log-probabilities are computed, in float32.

    Weights, all logits of both rows, their transposed copy and log-softmax.
    """
    weights = sum(weight.numel() for weight in model.parameters())
    words = model.config.get_text_config().vocab_size
    return 4 * (weights + 3 * 2 * longest * words) / _GIB


def _logits(recipe: Recipe, tokens: int, words: int, size: int) -> int:
    """Return the bytes that the loss takes."""
    if recipe.method == "tower":
        return 0
    if recipe.loss_weights:
        return tokens * words * (2 * size + 12)
    return min(tokens, _TOKENS) * (size * _WORDS + 8 * min(words, _WORDS))


def _inner_width(model: Any, text: Any) -> int:
    """Return the width inside a layer: the configuration's, or else the widest matrix's."""
    stated: int | None = getattr(text, "intermediate_size", None)
    return stated or max(max(layer.weight.shape) for layer in _linear_layers(model.get_decoder()))


def _linear_layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear | Conv1D)]


def _multiplied(recipe: Recipe, model: Any) -> int:
    """Return how many trained weights autocast copies: matrices, but for embeddings."""
    layers = _linear_layers(model)
    multiplied = sum(layer.weight.numel() for layer in layers if layer.weight.requires_grad)
    whole = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    # The adapter, which is still to be added.
    return multiplied + count_parameters(model, recipe)[0] - whole


def disk(recipe: Recipe, model: Any) -> dict[str, float]:
    """Estimate the GiB that training writes into its output folder, by part.

    A state has the weights that a trainer saves (of an adapter only that), and AdamW's moments.
    """
    trained, frozen = count_parameters(model, recipe)
    weights = 4 * trained + (0 if recipe.lora else (2 if recipe.frozen_in_bf16 else 4) * frozen)
    base = sum(weight.numel() for weight in model.parameters())
    saved = getattr(model.config, "dtype", None)
    keeps_best = recipe.early_stopping and recipe.early_stopping.keep == "best"
    parts = {
        "states": _STATES * (weights + 8 * trained) if recipe.save_steps or keeps_best else 0,
        "checkpoint": base * (saved.itemsize if saved else 4),
        "adapter": 4 * trained if recipe.lora else 0,
    }
    return {name: value / _GIB for name, value in parts.items()}


def room(folder: Path) -> float:
    """Return the GiB that are free where a folder is or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / _GIB


def lacking_room(recipe: Recipe, model: Any) -> str | None:
    """Return a warning if the disk has no room for what training writes, None if it has."""
    needed, free = sum(disk(recipe, model).values()), room(recipe.output)
    if needed <= free:
        return None
    smaller = ", or save_steps=null" if recipe.save_steps else ""
    return (
        f"output={recipe.output}: {gib(free)} are free, some {gib(needed)} will be written; make "
        f"room, or give another output{smaller}"
    )


def gib(value: float) -> str:
    """Return a size as text."""
    return f"{value:.1f} GiB" if value >= 1 else f"{value * 1024:.1f} MiB"
