"""Say of an error of too little memory which keys of the recipe take less."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from verbalizer_bench.models.checkpoints.strict_loading import one_line
from verbalizer_bench.trainers.recipe import Recipe

# What torch's allocator for the CPU says; it has no type of its own.
_ON_CPU = ("can't allocate memory", "not enough memory")


class EvaluationMemoryError(MemoryError):
    """There was too little memory to evaluate; the text says which keys take less."""


@contextmanager
def memory_keys_named(recipe: Recipe) -> Iterator[None]:
    """Turn an error of too little memory into one line with what to change.

    Raises:
        MemoryError: There was too little memory.
    """
    try:
        yield
    except EvaluationMemoryError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_memory_error(error):
            raise
        keys = "; or ".join(smaller(recipe))
        raise MemoryError(
            f"out of memory: {one_line(error)}. To take less: {keys}. `--dry-run` estimates each"
        ) from error


def is_memory_error(error: BaseException) -> bool:
    """Tell whether a device or this machine had too little memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ON_CPU)


def smaller(recipe: Recipe) -> list[str]:
    """Return what takes less memory, with the present values, what changes least first."""
    found = []
    size = recipe.per_device_batch_size
    if size > 1 and recipe.method != "tower" and not recipe.loss_weights:
        same = "" if recipe.loss == "tokens" else ", which changes what tokens count"
        found.append(f"per_device_batch_size={size // 2}, it is {size} (more micro-batches{same})")
    if not recipe.gradient_checkpointing:
        found.append("gradient_checkpointing=true, it is false (slower, the same result)")
    if recipe.precision == "fp32" and torch.cuda.is_available():
        found.append("precision=bf16, it is fp32")
    if recipe.lora is None and recipe.method not in ("pretrain", "tower"):
        found.append("lora={r: 64, alpha: 128}, it trains all weights (another method)")
    elif recipe.lora and not recipe.quantization:
        found.append("quantization={load_in_4bit: true}, it has none (the base is rounded)")
    found.append(f"a smaller max_length, it is {recipe.max_length} (longer records are cut)")
    return found
