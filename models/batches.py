"""Batches: as many prompts as the memory holds, fewer where it does not."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psutil
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_batches(
    items: Sequence[Item], size: int, run: Callable[[Sequence[Item]], Sequence[Result]]
) -> Iterator[tuple[Item, Result]]:
    """Run items in batches of `size`; on out-of-memory halve the size and go on where it stopped.

    Raises:
        MemoryError: A batch of one does not fit.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + size]
        try:
            results = run(batch)
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
                raise
            if len(batch) == 1:
                raise MemoryError("out of memory with a batch of one prompt") from error
            size = len(batch) // 2
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        else:
            yield from zip(batch, results, strict=True)
            start += len(batch)
            continue
        # Outside the handler: the error's traceback holds the batch's tensors.
        clear_device_cache(garbage_collection=True)
        log.warning("Out of memory (%s); going on with batches of %d", reason, size)


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
    config = model.config.get_text_config()
    width = config.hidden_size
    heads = getattr(config, "num_attention_heads", None) or 1
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    cache = 2 * config.num_hidden_layers * key_heads * (width // heads)
    inner = getattr(config, "intermediate_size", None) or 4 * width
    activations = 8 * width + 3 * (max(inner) if isinstance(inner, (list, tuple)) else inner)
    row = tokens * (cache + activations) * model.dtype.itemsize + 16 * scored * config.vocab_size
    device = model.device
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    return max(1, min(limit, int(free / 2 / (row * beams))))
