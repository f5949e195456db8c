"""Count a recipe's steps, and check that its schedule works in them."""

import logging
import math

import numpy as np
import torch
from transformers import get_scheduler

from verbalizer_bench.io.wording import counted
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.recipe_settings import NONE

log = logging.getLogger(__name__)

# They need evaluations during training; the held-out loss is measured at the end alone.
_NEVER = ("reduce_lr_on_plateau", "greedy")


def total_steps(recipe: Recipe, samples: int) -> int:
    """Return the optimiser's steps, as transformers counts them.

    Args:
        recipe: The recipe.
        samples: Of an epoch, in whole global batches.
    """
    return math.ceil(recipe.num_train_epochs * (samples // recipe.global_batch_size))


def check_schedule(recipe: Recipe, steps: int = 1000) -> None:
    """Refuse a schedule that transformers cannot make, or whose learning rate is never reached.

    Raises:
        ValueError: It cannot work.
    """
    warmup = math.ceil(recipe.warmup_ratio * steps)
    if recipe.warmup_ratio and warmup >= steps:
        raise ValueError(
            f"warmup_ratio={recipe.warmup_ratio:g} of {steps} steps is {warmup}: the learning rate "
            "would not be reached; give warmup_ratio=0, or more epochs"
        )
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], recipe.learning_rate)
    try:
        if recipe.lr_scheduler_type in _NEVER:
            raise ValueError("it needs evaluations during training")
        get_scheduler(
            recipe.lr_scheduler_type, optimizer, num_warmup_steps=warmup, num_training_steps=steps
        )
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"lr_scheduler_type={recipe.lr_scheduler_type}: cannot be used here ({reason}); give "
            "cosine, linear or constant_with_warmup, for instance"
        ) from error


def check_steps(recipe: Recipe, has_image: np.ndarray, steps: int) -> None:
    """Refuse what cannot work with so many records and steps; warn of what hardly can.

    Args:
        recipe: The recipe.
        has_image: Of each record, bool.
        steps: Of the optimiser.

    Raises:
        ValueError: A step would show records several times or train nothing, or the schedule cannot
            work.
    """
    batch, records = recipe.global_batch_size, len(has_image)
    if records < batch:
        there = "is 1 record" if records == 1 else f"are {records} records"
        raise ValueError(
            f"global_batch_size={batch}: there {there}, so that a step would show some of them "
            f"several times; give at most {records}"
        )
    check_schedule(recipe, steps)
    with_images = int(has_image.sum())
    if recipe.trained_parts.language_model == NONE and with_images < records:
        raise ValueError(
            f"{records - with_images} of {records} records have no image, and train neither vision "
            "tower nor connector; leave them out, or train the language model too "
            "(train.language_model)"
        )
    if recipe.warmup_ratio and recipe.lr_scheduler_type == "constant":
        log.warning(
            "warmup_ratio=%g: lr_scheduler_type=constant has none; give constant_with_warmup, or "
            "warmup_ratio=0",
            recipe.warmup_ratio,
        )
    kinds = (("with", with_images), ("without", records - with_images))
    few = [
        counted(number, f"record {kind} images", f"records {kind} images")
        for kind, number in kinds
        if 0 < number < batch
    ]
    if few and recipe.group != "none":
        log.warning(
            "%s: fewer than global_batch_size=%d, and a step has records of one kind alone, so "
            "that some are seen several times in it; group=none mixes the kinds",
            " and ".join(few),
            batch,
        )
    if recipe.save_steps and recipe.save_steps > steps:
        log.warning(
            "save_steps=%d, and training has %s: no state is kept before the last one",
            recipe.save_steps,
            counted(steps, "step"),
        )
