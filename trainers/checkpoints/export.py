"""Write what was trained as a stock checkpoint: all of it, or nothing."""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from verbalizer_bench.models.checkpoints.peft_adapter import add_adapter
from verbalizer_bench.trainers.checkpoints.dtypes import holds_all, merged, put_into
from verbalizer_bench.trainers.checkpoints.load import Checkpoint, load, save
from verbalizer_bench.trainers.recipe import Recipe

log = logging.getLogger(__name__)
# Of an update that is merged; 8 bits of bfloat16 keep small ones by chance only.
_LOST = 0.05


def export(
    recipe: Recipe, checkpoint: Checkpoint, trainer: Trainer
) -> Mapping[str, torch.Tensor] | None:
    """Write the checkpoint, from all processes; the main one gets the weights.

    An adapter is written to `adapter`, and merged into a checkpoint of its own: the base is loaded
    again for that, since the one that was trained may be spread over processes.
    """
    accelerator, state, written = trainer.accelerator, None, None
    if recipe.lora:
        trainer.save_model(str(recipe.output / "adapter"))
    elif trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        state = accelerator.get_state_dict(trainer.model_wrapped)
    if accelerator.is_main_process:
        model = None if recipe.lora else accelerator.unwrap_model(trainer.model_wrapped)
        if recipe.lora or not holds_all(model, checkpoint.dtypes):
            model, state = _put_together(recipe, model, state), None
        with whole_folder(recipe.output) as part:
            written = save(checkpoint._replace(model=model), state, part)
    return written


def _put_together(recipe: Recipe, model: Any, state: Mapping[str, torch.Tensor] | None) -> Any:
    """Return the base as it was, with what was trained in it.

    Args:
        recipe: The recipe.
        model: What was trained; None for an adapter, which is in the output folder.
        state: Its weights, where they were gathered from all processes.
    """
    found = load(recipe, exact=True)
    base = found.model
    if recipe.lora:
        folder = recipe.output / "adapter"
        adapted = add_adapter(base, str(folder), f"adapter={folder}")
        base, lost = merged(adapted, found.dtypes)
        if lost > _LOST:
            log.warning(
                "the merged checkpoint is %s like its base: the rounding takes away %.0f %% of the "
                "adapter's update (by its norm); %s has all of it: score the base with peft=DIR",
                str(found.saved_dtype).removeprefix("torch."),
                100 * lost,
                folder,
            )
        return base
    trained = {name for name, weight in base.named_parameters() if weight.requires_grad}
    weights = dict(model.named_parameters()) if state is None else state
    put_into(base, {name: weights[name].detach() for name in trained})
    return base


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder whose files go to another one, all of them or none."""
    part = folder / "checkpoint.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        # What tells a library that there is a checkpoint comes last.
        for file in sorted(part.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
