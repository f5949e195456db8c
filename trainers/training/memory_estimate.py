"""Estimate from shapes alone the memory that training takes, and which card holds it.

The parts were compared with what torch allocates for small models on a CPU. Not in them: the
activations of a vision tower that is trained itself, and what liger-kernel saves.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.pytorch_utils import Conv1D

from verbalizer_bench.models.checkpoints.language_parts import lora_targets, part_layers
from verbalizer_bench.trainers.checkpoints.quantized import width_sum
from verbalizer_bench.trainers.checkpoints.trainable import count_parameters
from verbalizer_bench.trainers.optimizers import state_bytes
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.recipe_settings import QuantizationSettings
from verbalizer_bench.trainers.training.inputs import sample_order

GIB = 2**30
# Tokens and words that the loss of TRL 1.16 multiplies out at once, in a buffer of that size.
_TOKENS, _WORDS = 4_096, 32_768
# bitsandbytes' 4 bits have a scale for each block, in 4 bytes, or in 1 with one of 4 for 256.
_BLOCK = 64


# What each device has of its own, however many there are.
_OWN = ("activations", "loss", "one layer")
# GB of common cards, in each of which CUDA itself and gaps between tensors take some.
CARDS, _USABLE = (24, 48, 80), 0.93


class MicroBatch(NamedTuple):
    """What a device holds at once, of the heaviest micro-batch.

    Attributes:
        rows: Of a padded batch, records, of which a pair is two; without padding 1.
        longest: Tokens of a row.
    """

    rows: int
    longest: int

    @property
    def tokens(self) -> int:
        """Return its tokens, padding among them."""
        return self.rows * self.longest


def heaviest(
    recipe: Recipe, lengths: np.ndarray | None, has_image: np.ndarray | None
) -> MicroBatch:
    """Return the heaviest micro-batch of all epochs; without data that of the longest records.

    Args:
        recipe: The recipe.
        lengths: Tokens of each record.
        has_image: Of each record.
    """
    size = recipe.per_device_batch_size
    longest = recipe.max_length if lengths is None else min(int(lengths.max()), recipe.max_length)
    if not recipe.packing:
        return MicroBatch(size * (2 if recipe.method == "dpo" else 1), longest)
    if lengths is None or has_image is None:
        return MicroBatch(1, size * longest)
    order, most = sample_order(recipe, lengths, has_image), 0
    for epoch in range(int(np.ceil(recipe.num_train_epochs))):
        order.set_epoch(epoch)
        most = max(most, int(lengths[order.order()].reshape(-1, size).sum(1).max()))
    return MicroBatch(1, most)


def memory(recipe: Recipe, model: Any, batch: MicroBatch) -> dict[str, float]:
    """Estimate the GiB of one device that holds everything, by part.

    Weights as `load` has them, in few bits with their scales and one layer's matrix as it is
    computed with; gradients in float32; the optimiser's moments; with autocast a copy in two bytes
    of each trained weight that is multiplied by; of the activations a layer's inputs, or without
    gradient checkpointing all that a layer keeps. Then what comes after that, whichever is more:
    the loss, or a layer that is gone back through.

    Args:
        recipe: The recipe.
        model: Its shapes.
        batch: The heaviest micro-batch.
    """
    trained, frozen = count_parameters(model, recipe)
    half, text = recipe.precision == "bf16", model.config.get_text_config()
    size = 2 if half else 4
    layer = _layer(recipe, model, batch, size)
    if recipe.gradient_checkpointing:
        kept = float(size * batch.tokens * text.hidden_size)
    else:
        kept = layer + _kept_attention(recipe, model, batch)
    last = {
        "loss": _loss(recipe, batch.tokens, text.vocab_size, size),
        "one layer": layer + _attention(recipe, model, batch, size),
    }
    larger = max(last, key=lambda name: last[name])
    parts = {
        "weights": 4 * trained + _frozen(recipe, model, frozen) + _kept_whole(recipe, model),
        "gradients": 4 * trained,
        "optimizer": state_bytes(recipe.optim, trained_shapes(recipe, model)),
        "autocast copies": 2 * _multiplied(recipe, model) if half else 0,
        "activations": kept * text.num_hidden_layers,
        larger: last[larger],
    }
    return {name: value / GIB for name, value in parts.items()}


def gathered(recipe: Recipe, model: Any) -> float:
    """Estimate the GiB of weights that FSDP2 has gathered at once on each device.

    Two layers, the next one while one is computed, and what is in none: embeddings, output layer.
    """
    size = 2 if recipe.precision == "bf16" else 4
    if recipe.method == "tower":
        return size * _numbers(model) / GIB
    layers = _decoder_layers(model)
    beside, each = _numbers(model) - _numbers(model.get_decoder()), max(map(_numbers, layers))
    embedded = model.get_input_embeddings().weight.numel()
    return size * (min(2, len(layers)) * each + embedded + beside) / GIB


def each_device(recipe: Recipe, model: Any, parts: Mapping[str, float], devices: int) -> float:
    """Estimate the GiB of each of several devices over which FSDP2 or ZeRO-3 spreads the weights.

    Args:
        recipe: One without `quantization`, whose weights are not spread.
        model: Its shapes.
        parts: As `memory` gives them.
        devices: How many.
    """
    own = sum(parts.get(name, 0) for name in _OWN)
    spread = sum(parts.values()) - own
    return spread / devices + own + (gathered(recipe, model) if devices > 1 else 0)


def cards(needed: float) -> str:
    """Return which cards hold so many GiB, with how much to spare, and which do not."""
    spare = {size: _USABLE * size - needed for size in CARDS}
    held = [f"{size} GB ({value:.1f} GiB to spare)" for size, value in spare.items() if value >= 0]
    small = [f"{size} GB (by {-value:.1f} GiB)" for size, value in spare.items() if value < 0]
    parts = [f"fits {', '.join(held)}"] if held else []
    parts += [f"too much for {', '.join(small)}"] if small else []
    return "; ".join(parts)


def reference_memory(model: Any, longest: int) -> float:
    """Estimate the GiB in which a pair's reference log-probabilities are computed, in float32.

    Weights, all logits of both rows, their transposed copy and log-softmax.
    """
    weights = _numbers(model)
    words = model.config.get_text_config().vocab_size
    return 4 * (weights + 3 * 2 * longest * words) / GIB


def quantized_bytes(settings: QuantizationSettings, weights: int) -> float:
    """Return the bytes of so many weights in few bits, with their scales."""
    if settings.load_in_8bit:
        return float(weights)
    scale = (1 + 4 / 256) if settings.bnb_4bit_use_double_quant else 4
    return weights * (0.5 + scale / _BLOCK)


def _frozen(recipe: Recipe, model: Any, frozen: int) -> float:
    """Return the bytes of the weights that are not trained."""
    size = 2 if recipe.frozen_in_bf16 else 4
    if recipe.quantization is None:
        return size * frozen
    sizes = [_weights(model.get_submodule(name)) for name in part_layers(model, "all")]
    held = quantized_bytes(recipe.quantization, sum(sizes))
    return held + size * (frozen - sum(sizes)) + size * max(sizes)


def _kept_whole(recipe: Recipe, model: Any) -> int:
    """Return the bytes of the copies that PEFT keeps of what is trained whole beside an adapter."""
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return 4 * trained if recipe.lora else 0


def _weights(layer: Any) -> int:
    return int(layer.weight.numel())


def trained_shapes(recipe: Recipe, model: Any) -> Iterator[tuple[Any, bool]]:
    """Yield the shape of each trained weight, the adapter's too, and whether it is an embedding."""
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)
    }
    for weight in model.parameters():
        if weight.requires_grad:
            yield weight.shape, id(weight) in embeddings
    for layer in _adapted(recipe, model):
        outputs, inputs = layer.weight.shape
        assert recipe.lora
        yield torch.Size((recipe.lora.r, inputs)), False
        yield torch.Size((outputs, recipe.lora.r)), False


def _adapted(recipe: Recipe, model: Any) -> list[Any]:
    """Return the layers that an adapter is added to."""
    if recipe.lora is None:
        return []
    pattern = re.compile(lora_targets(model, recipe.trained_modules))
    return [module for name, module in model.named_modules() if pattern.fullmatch(name)]


def _decoder_layers(model: Any) -> list[Any]:
    """Return the layers of the language model."""
    modules = model.get_decoder().modules()
    lists: list[Any] = [module for module in modules if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=_numbers))


def _numbers(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _layer(recipe: Recipe, model: Any, batch: MicroBatch, size: int) -> float:
    """Return the bytes that a layer keeps to be gone back through, but for its attention.

    Some 18 widths and 3 inner widths a token, and for an adapter its inputs once more.
    """
    text = model.config.get_text_config()
    numbers = 18 * text.hidden_size + 3 * _inner_width(model, text)
    if adapted := _adapted(recipe, model):
        numbers += sum(layer.weight.shape[-1] for layer in adapted) // text.num_hidden_layers
    return float(size * batch.tokens * numbers)


def _attention(recipe: Recipe, model: Any, batch: MicroBatch, size: int) -> float:
    """Return the bytes of what is as large as the square of a row's tokens, in one layer."""
    name = _attention_name(recipe, model)
    if recipe.method == "tower" or name.startswith("flash"):
        return 0.0
    # A mask: whether each token sees each other one, and that as a number.
    each = 1 + size
    if name == "eager":
        # Softmax in float32, its result, and their gradients.
        each += model.config.get_text_config().num_attention_heads * (4 + 2 * size)
    return float(batch.rows * batch.longest**2 * each)


def _kept_attention(recipe: Recipe, model: Any, batch: MicroBatch) -> float:
    """Return the bytes of attention's weights that a layer keeps: in float32, and their copy."""
    if recipe.method == "tower" or _attention_name(recipe, model) != "eager":
        return 0.0
    heads = model.config.get_text_config().num_attention_heads
    kept = 4 + (2 if recipe.precision == "bf16" else 0)
    return float(batch.rows * batch.longest**2 * heads * kept)


def _attention_name(recipe: Recipe, model: Any) -> str:
    return str(recipe.attn_implementation or model.config._attn_implementation)


def _loss(recipe: Recipe, tokens: int, words: int, size: int) -> float:
    """Return the bytes that the loss takes.

    TRL's buffer, and twice as many in float32 (which its kernel for CUDA does without); with
    weights of tokens all logits, their float32, its softmax, and the gradients of both.
    """
    if recipe.method == "tower":
        return 0.0
    if recipe.loss_weights:
        return float(tokens * words * (2 * size + 12))
    return float(min(tokens, _TOKENS) * (size * _WORDS + 8 * min(words, _WORDS)))


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
    rank = recipe.lora.r if recipe.lora else 0
    return multiplied + rank * sum(width_sum(layer) for layer in _adapted(recipe, model))
