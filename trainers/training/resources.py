"""Estimate from shapes alone the disk space that training takes."""

import logging
import shutil
from pathlib import Path
from typing import Any

from verbalizer_bench.trainers.checkpoints.trainable import count_parameters
from verbalizer_bench.trainers.optimizers import state_bytes
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.training.memory_estimate import trained_shapes

log = logging.getLogger(__name__)

# States that are there while one more is written, before the oldest is removed.
_STATES = 3
_GIB = 2**30


def disk(recipe: Recipe, model: Any) -> dict[str, float]:
    """Estimate the GiB that training writes into its output folder, by part.

    A state has the weights that a trainer saves (of an adapter only that), and the optimiser's
    moments.
    """
    trained, frozen = count_parameters(model, recipe)
    weights = 4 * trained + (0 if recipe.lora else (2 if recipe.frozen_in_bf16 else 4) * frozen)
    base = sum(weight.numel() for weight in model.parameters())
    saved = getattr(model.config, "dtype", None)
    keeps_best = recipe.early_stopping and recipe.early_stopping.keep == "best"
    moments = state_bytes(recipe.optim, trained_shapes(recipe, model))
    parts = {
        "states": _STATES * (weights + moments) if recipe.save_steps or keeps_best else 0,
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
