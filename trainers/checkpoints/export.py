"""Write what was trained as a stock checkpoint: all of it, or nothing."""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, Trainer

from verbalizer_bench.models.checkpoints.connector import fix_identity
from verbalizer_bench.models.checkpoints.peft_adapter import add_adapter
from verbalizer_bench.trainers.checkpoints import dtypes
from verbalizer_bench.trainers.checkpoints.finite_weights import check_finite
from verbalizer_bench.trainers.checkpoints.load import Checkpoint, load
from verbalizer_bench.trainers.recipe import Recipe

log = logging.getLogger(__name__)
# Of an update that is merged; 8 bits of bfloat16 keep small ones by chance only.
_LOST = 0.05


def export(recipe: Recipe, checkpoint: Checkpoint, trainer: Trainer) -> None:
    """Write the checkpoint; to be called on all processes.

    An adapter is written to `adapter`, and merged into a checkpoint of its own: the base is loaded
    again for that, because the trained one may be sharded over processes, or in few bits.
    """
    accelerator, state = trainer.accelerator, None
    if recipe.lora:
        trainer.save_model(str(recipe.output / "adapter"))
    elif trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        state = accelerator.get_state_dict(trainer.model_wrapped)
    if accelerator.is_main_process:
        model = None if recipe.lora else accelerator.unwrap_model(trainer.model_wrapped)
        if recipe.lora or not dtypes.holds_frozen_exactly(model, checkpoint.dtypes):
            checkpoint, state = _put_together(recipe, model, state), None
        else:
            checkpoint = checkpoint._replace(model=model)
        with whole_folder(recipe.output) as part:
            save(checkpoint, state, part)


def _put_together(
    recipe: Recipe, model: Any, state: Mapping[str, torch.Tensor] | None
) -> Checkpoint:
    """Return the base as it was, with the trained weights in it.

    Args:
        recipe: The recipe.
        model: What was trained; None for an adapter, which is in the output folder.
        state: Its weights, where they were gathered from all processes.
    """
    checkpoint = load(recipe, exact=True)
    base = checkpoint.model
    if recipe.lora:
        folder = recipe.output / "adapter"
        adapted = add_adapter(base, str(folder), f"adapter={folder}")
        base, lost = dtypes.merge_adapter(adapted, checkpoint.dtypes)
        if lost > _LOST:
            log.warning(
                "the merged checkpoint is %s like its base: the rounding takes away %.0f %% of the "
                "adapter's update (by its norm); %s has all of it: score the base with peft=DIR",
                checkpoint.saved_dtype_name,
                100 * lost,
                folder,
            )
        return checkpoint._replace(model=base)
    trained = {name for name, weight in base.named_parameters() if weight.requires_grad}
    weights = dict(model.named_parameters()) if state is None else state
    dtypes.put_trained(base, {name: weights[name].detach() for name in trained})
    return checkpoint


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder whose files are moved to another one, all of them or none."""
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


def save(checkpoint: Checkpoint, state: Mapping[str, torch.Tensor] | None, folder: Path) -> None:
    """Write a folder that transformers loads by itself, each weight in the base's type.

    Args:
        checkpoint: The model and its processor.
        state: Its weights gathered from all processes, in place of the model's own.
        folder: Where to write.

    Raises:
        ValueError: The fixed layer of a linear connector was changed, or weights are not finite.
    """
    model = checkpoint.model if state is None else _assemble(checkpoint, state)
    fix_identity(model)
    dtypes.round_weights(model, checkpoint.dtypes)
    fix = f"in {checkpoint.saved_dtype_name}, the base's type; give a base in another one"
    check_finite(model.state_dict(), f"{fix}. No checkpoint was written")
    model.config = checkpoint.config
    model.save_pretrained(folder)
    if model.config.dtype != checkpoint.saved_dtype:
        # transformers writes the type of whichever weight comes first.
        model.config.dtype = checkpoint.saved_dtype
        model.config.save_pretrained(folder)
    checkpoint.processor.save_pretrained(folder)


def _assemble(checkpoint: Checkpoint, state: Mapping[str, torch.Tensor]) -> Any:
    """Return a model of the stock class with weights that were gathered from all processes.

    FSDP2 gives the one that was trained a class of its own: saved from that, transformers 5.23
    gives a LLaVA's weights names that no LLaVA has.
    """
    config = checkpoint.model.config
    sees = checkpoint.image_tokens or checkpoint.texts
    auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    model.generation_config = checkpoint.model.generation_config
    return model
