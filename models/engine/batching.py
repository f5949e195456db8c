"""Batches: as many prompts as the memory holds, fewer where it does not."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import psutil
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from verbalizer_bench.models.engine.two_blocks import kept_dtype

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


class TokenBudget(NamedTuple):
    """How much the shared-prefix engine takes at a time where memory allows it.

    Attributes:
        tokens_per_pass: Tokens in a forward pass.
        kv_cache_tokens: Tokens of a batch whose keys and values are in memory: its prompts behind
            the prefix, and each beam's first.
        logits: Logits, rows by vocabulary, in memory.
    """

    tokens_per_pass: int
    kv_cache_tokens: int
    logits: int


# More brings next to nothing on a CPU (measured: benchmarks/README.md) and takes memory. What a GPU
# takes is measured there (calibration.py).
CPU_BUDGET = TokenBudget(tokens_per_pass=160, kv_cache_tokens=1280, logits=2**21)


# Beams have that many tokens of their own. Measured with 10 beams, the most at any step: 22, 27 and
# 66 in answers of SmolLM2-135M to gsm8k (200 tokens), 15 to 20 in stories of stories260K (400).
_TOKENS_APART = 64


def in_batches(
    items: Sequence[Item],
    size: int | Callable[[Sequence[Item]], int],
    run: Callable[[Sequence[Item]], Sequence[Result]],
) -> Iterator[tuple[Item, Result]]:
    """Run items in batches; on out-of-memory halve the batch and go on where it stopped.

    Args:
        items: What is run.
        size: Batch size, or a function that returns it for the items still to come.
        run: Returns a result for each item of a batch.

    Raises:
        MemoryError: A batch of one does not fit.
    """
    start, max_batch_size = 0, len(items)
    while start < len(items):
        count = size(items[start:]) if callable(size) else size
        batch = items[start : start + min(count, max_batch_size)]
        try:
            results = run(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise MemoryError("out of memory with a batch of one prompt") from error
            max_batch_size = len(batch) // 2
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        else:
            yield from zip(batch, results, strict=True)
            start += len(batch)
            continue
        # Outside the handler: the error's traceback holds the batch's tensors.
        clear_device_cache(garbage_collection=True)
        log.warning("Out of memory (%s); going on with batches of %d", reason, max_batch_size)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out, of the device or of the machine."""
    return isinstance(error, MemoryError) or bool(should_reduce_batch_size(error))


def auto_batch_size(
    model: Any, tokens: int, beams: int, max_batch_size: int, logit_positions: int = 1
) -> int:
    """Estimate how many prompts fit half of the free memory of the model's device.

    Counts keys and values of every beam, a layer's activations and the logits. It need not be
    exact: running out of memory halves the batch, and half of the memory is left for what is not
    counted.

    Args:
        model: A transformers model.
        tokens: Length of the longest prompt with its response.
        beams: Rows a prompt takes.
        max_batch_size: The most that is returned.
        logit_positions: Positions of a row whose logits are kept.
    """
    kv_cache, activations = kv_cache_bytes(model), activation_bytes(model)
    # 16 bytes a logit: `_beam_search` has several float32 copies of them.
    logits = 16 * logit_positions * model.config.get_text_config().vocab_size
    row = tokens * (kv_cache + activations) + logits
    return max(1, min(max_batch_size, int(free_memory(model) / 2 / (row * beams))))


def shared_prefix_batch_size(
    model: Any,
    suffix_lengths: Sequence[int],
    prefix_length: int,
    budget: TokenBudget,
    max_new_tokens: int,
    beams: int,
) -> int:
    """Return how many prompts the shared-prefix engine generates together.

    As many as the budget allows, or fewer: what fits half of the free memory, counted as if beams
    shared all their new tokens but the last `_TOKENS_APART`.

    Args:
        model: A transformers model.
        suffix_lengths: Tokens behind the prefix of the prompts still to come, in their order.
        prefix_length: Tokens of the prefix, whose keys and values are in memory.
        budget: How much to take at a time.
        max_new_tokens: Most tokens of a response.
        beams: Beams of a prompt.
    """
    kept = kept_dtype(model.device.type, model.dtype)
    kv_cache = kv_cache_bytes(model) * kept.itemsize // model.dtype.itemsize
    activations = activation_bytes(model)
    heads = model.config.get_text_config().num_attention_heads
    free = free_memory(model) / 2
    longest = count = 0
    for length in suffix_lengths[: max(1, budget.tokens_per_pass // beams)]:
        longest = max(longest, length)
        slots = longest + max_new_tokens + (beams - 1) * min(max_new_tokens, _TOKENS_APART)
        # The scores of all heads in float32, before and after the softmax.
        row = activations + 8 * heads * (prefix_length + slots)
        memory = (count + 1) * slots * kv_cache + max(budget.tokens_per_pass, longest, beams) * row
        if (count + 1) * (longest + beams) > budget.kv_cache_tokens or memory > free:
            break
        count += 1
    return max(1, count)


def even_batch_size(lengths: Sequence[int], fitting: Callable[[Sequence[int]], int]) -> int:
    """Return how many of some prompts come first: those that fit, or half if two batches remain.

    A last batch of a few takes a step's time of a wide one where kernel launches decide it.

    Args:
        lengths: The prompts' tokens, ascending.
        fitting: Says how many of the first of such prompts fit into a batch.
    """
    size, half = fitting(lengths), -(-len(lengths) // 2)
    rest = lengths[half:]
    return half if half < size < len(lengths) and fitting(rest) >= len(rest) else size


def kv_cache_bytes(model: Any) -> int:
    """Return the bytes of a token's keys and values in all layers."""
    layers = _layer_configs(model.config.get_text_config())
    return int(sum(map(_kv_values, layers)) * model.dtype.itemsize)


def _layer_configs(config: Any) -> list[Any]:
    """Return each layer's configuration; the layers of Gemma 4 have sizes of their own."""
    numbers = range(config.num_hidden_layers)
    if getattr(config, "is_heterogeneous", False):
        return [config.per_layer_config[number] for number in numbers]
    return [config for _ in numbers]


def _kv_values(config: Any) -> int:
    """Return how many numbers a layer's keys and values of a token are."""
    heads = getattr(config, "num_attention_heads", None) or 1
    if latent := getattr(config, "kv_lora_rank", None):
        # Multi-head latent attention (DeepSeek): attention gets the keys and values of every head.
        sizes = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        return int(heads * sum(getattr(config, name, None) or latent for name in sizes))
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * key_heads * (getattr(config, "head_dim", None) or config.hidden_size // heads))


def activation_bytes(model: Any) -> int:
    """Return the bytes of a token's activations in its widest layer."""
    layers = _layer_configs(model.config.get_text_config())
    return int(max(map(_activations, layers)) * model.dtype.itemsize)


def _activations(config: Any) -> int:
    """Return how many numbers a token's activations in a layer are."""
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    widest = 3 * (max(inner) if isinstance(inner, (list, tuple)) else inner)
    if experts := getattr(config, "num_experts_per_tok", None):
        # A token's copy for each expert that it is sent to, and what the expert makes of it.
        of_expert = getattr(config, "moe_intermediate_size", None) or widest // 3
        widest = max(widest, experts * 3 * (width + of_expert))
    return int(8 * width + widest)


def free_memory(model: Any) -> int:
    """Return the bytes that are free for a model's tensors, on the fullest of its devices.

    On a GPU that is what the driver has left and what torch's allocator holds without using it.
    """
    devices = {parameter.device for parameter in model.parameters()} or {model.device}
    return min(map(_free_on, devices))


def _free_on(device: torch.device) -> int:
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return int(psutil.virtual_memory().available)
