"""Batches: as many prompts as the memory holds, fewer where it does not."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import psutil
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


class Budget(NamedTuple):
    """Tokens that are worth to have at a time.

    Attributes:
        passing: Going through the model in one pass.
        waiting: Of the prompts of a batch and their beams' first, with keys and values in memory.
        logits: Logits, rows by vocabulary, in memory.
    """

    passing: int
    waiting: int
    logits: int


def in_batches(
    items: Sequence[Item],
    size: int | Callable[[Sequence[Item]], int],
    run: Callable[[Sequence[Item]], Sequence[Result]],
) -> Iterator[tuple[Item, Result]]:
    """Run items in batches; on out-of-memory halve the batch and go on where it stopped.

    Args:
        items: What is run.
        size: Items in a batch, or what says how many of the items still to come are the next one.
        run: Gives a result for each item of a batch.

    Raises:
        MemoryError: A batch of one does not fit.
    """
    start, most = 0, len(items)
    while start < len(items):
        count = size(items[start:]) if callable(size) else size
        batch = items[start : start + min(count, most)]
        try:
            results = run(batch)
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
                raise
            if len(batch) == 1:
                raise MemoryError("out of memory with a batch of one prompt") from error
            most = len(batch) // 2
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        else:
            yield from zip(batch, results, strict=True)
            start += len(batch)
            continue
        # Outside the handler: the error's traceback holds the batch's tensors.
        clear_device_cache(garbage_collection=True)
        log.warning("Out of memory (%s); going on with batches of %d", reason, most)


def auto_batch_size(model: Any, tokens: int, beams: int, limit: int, scored: int = 1) -> int:
    """Estimate how many prompts fit half of the free memory of the model's device.

    Counts keys and values of every beam, a layer's activations and the logits. It need not be
    exact: running out of memory halves it.

    Args:
        model: A transformers model.
        tokens: Length of the longest prompt with its response.
        beams: Rows a prompt takes.
        limit: The most that is returned.
        scored: Positions of a row whose logits are kept.
    """
    cache, activations = _bytes_a_token(model)
    row = tokens * (cache + activations) + 16 * scored * model.config.get_text_config().vocab_size
    return max(1, min(limit, int(_free_memory(model.device) / 2 / (row * beams))))


def shared_batch_size(
    model: Any, lengths: Sequence[int], prefix: int, budget: Budget, new_tokens: int, beams: int
) -> int:
    """Return how many prompts the shared-prefix engine generates together.

    As many as the budget allows, or fewer: what fits half of the free memory, counted as if no beam
    shared a new token with another.

    Args:
        model: A transformers model.
        lengths: Own tokens behind the prefix of the prompts still to come, in their order.
        prefix: Length of the prefix, which is in memory.
        budget: What is worth to have at a time.
        new_tokens: Most tokens of a response.
        beams: Beams of a prompt.
    """
    cache, activations = _bytes_a_token(model)
    config = model.config.get_text_config()
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    free = _free_memory(model.device) / 2
    longest = count = 0
    for length in lengths[: max(1, budget.passing // beams)]:
        longest = max(longest, length)
        own = longest + new_tokens * beams
        # The scores of all heads, before and after the softmax.
        row = activations + 8 * heads * (prefix + own)
        memory = (count + 1) * own * cache + max(budget.passing, longest, beams) * row
        if model.dtype not in (torch.float32, torch.float64):
            # A layer's keys and values once more, the prefix's for every prompt (attention.py).
            memory += (count + 1) * (prefix + own) * cache // layers
        if (count + 1) * (longest + beams) > budget.waiting or memory > free:
            break
        count += 1
    return max(1, count)


def _bytes_a_token(model: Any) -> tuple[int, int]:
    """Return the bytes of a token's keys and values, and of its activations in a layer."""
    config = model.config.get_text_config()
    width = config.hidden_size
    heads = getattr(config, "num_attention_heads", None) or 1
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    cache = 2 * config.num_hidden_layers * key_heads * (width // heads)
    inner = getattr(config, "intermediate_size", None) or 4 * width
    activations = 8 * width + 3 * (max(inner) if isinstance(inner, (list, tuple)) else inner)
    return cache * model.dtype.itemsize, activations * model.dtype.itemsize


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
