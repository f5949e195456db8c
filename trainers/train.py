"""Supervised training: `tower`, `pretrain`, `vit` and `sft`: what is trained on what differs.

verbalizer-bench train recipes/tiny/vit.yaml

Loop, loss, distribution and adapters are TRL's, transformers', accelerate's and PEFT's;
`SFTTrainer` is given encoded records, an order of them, and a second learning rate.
"""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer
from trl import SFTConfig, SFTTrainer

from verbalizer_bench.models.checkpoints.strict_loading import load_whole
from verbalizer_bench.trainers.checkpoints.export import export
from verbalizer_bench.trainers.checkpoints.load import Checkpoint, load, lora_config
from verbalizer_bench.trainers.conversations.formats import Encoder
from verbalizer_bench.trainers.data.cache import TrainingData, build
from verbalizer_bench.trainers.data.collator import Collator
from verbalizer_bench.trainers.data.sampler import GroupedSampler, SeededSampler
from verbalizer_bench.trainers.output.folder import Folder, ProgressBar
from verbalizer_bench.trainers.prerequisites import missing_parts
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.training.contrastive import CaptionCollator, ContrastiveTrainer
from verbalizer_bench.trainers.training.non_finite import (
    FiniteTraining,
    check_weights,
    first_not_finite,
)
from verbalizer_bench.trainers.training.resources import lacking_room
from verbalizer_bench.trainers.training.schedule import check_schedule, check_steps, total_steps
from verbalizer_bench.trainers.training.state_saving import (
    Clock,
    SealingTrainer,
    go_on_counting,
    write_or_keep,
)

log = logging.getLogger(__name__)


def train(recipe: Recipe) -> Path:
    """Make a recipe's checkpoint; with torchrun or accelerate launch, on all processes.

    Returns:
        The checkpoint's folder.

    Raises:
        FileNotFoundError: Data or model are not there.
        ValueError: The output folder holds something else, the batch cannot be dealt to the
            processes, a record cannot be trained on, or the model is not the method's.
    """
    check_schedule(recipe)
    arguments = training_arguments(recipe)
    folder = Folder(recipe, main=arguments.process_index == 0)
    if folder.finished:
        return recipe.output
    if missing := missing_files(recipe):
        raise FileNotFoundError(missing[0])
    checkpoint = load(recipe)
    # Buffers too, which a base has and training leaves as they are.
    check_weights(checkpoint.model.state_dict(), "of the base, before training; give another one")
    # Processes wait for the one that encodes, hours if need be: no barrier, which would time out.
    data = training_data(recipe, checkpoint)
    held_out = held_out_data(recipe, checkpoint)
    for kind in (data, held_out) if held_out else (data,):
        for reason, number in kind.skipped.items():
            log.warning("%d records left out: %s; listed in %s", number, reason, kind.folder)
    _check(recipe, data, held_out, folder)
    if folder.main and (lacking := lacking_room(recipe, checkpoint.model)):
        log.warning("%s", lacking)
    with folder.held():
        _train(recipe, checkpoint, data, held_out, folder, arguments)
    return recipe.output


def _check(
    recipe: Recipe, data: TrainingData, held_out: TrainingData | None, folder: Folder
) -> None:
    """Refuse what can be known to go wrong once the records are encoded."""
    folder.check_data(data)
    samples = len(order_of(recipe, data.lengths, data.modalities))
    check_steps(recipe, data.modalities, total_steps(recipe, samples))
    trained = {one.sha256: one.file for one in data.files}
    for one in held_out.files if held_out else ():
        if same := trained.get(one.sha256):
            raise ValueError(f"held_out={one.file}: {same}, which is trained on, has its content")


def _train(
    recipe: Recipe,
    checkpoint: Checkpoint,
    data: TrainingData,
    held_out: TrainingData | None,
    folder: Folder,
    arguments: SFTConfig,
) -> None:
    state = folder.last_state()
    run = folder.run
    if folder.main:
        run = folder.start(checkpoint, data, arguments.world_size)
    trainer = make_trainer(recipe, checkpoint, data, arguments)
    trainer.clock = Clock(run)
    if state:
        trainer.clock = Clock(run, state.record["attempts"], state.step)
        go_on_counting(trainer, state.folder)
    trainer.train(resume_from_checkpoint=str(state.folder) if state else None)
    check_weights(
        dict(trainer.model.named_parameters()),
        f"after step {trainer.state.global_step}; lower learning_rate. No checkpoint was written",
    )
    loss = held_out_loss(trainer, held_out) if held_out else None

    def write() -> None:
        if export(recipe, checkpoint, trainer) is not None:
            folder.finish(checkpoint, trainer, loss)

    write_or_keep(trainer, write, recipe.output, folder.places)


def missing_files(recipe: Recipe) -> list[str]:
    """Return a line for each file and folder that is not there, or that a recipe has to make."""
    found, folder = missing_parts(recipe), images_folder(recipe)
    if folder is not None and not folder.is_dir():
        found.append(f"images={folder}: no such folder; give the records' images")
    for key, files in (("data", recipe.data), ("held_out", recipe.held_out or ())):
        for file in files:
            if not file.is_file():
                found.append(f"{key}={file}: no such file; give a file of records")
    return found


def training_arguments(recipe: Recipe) -> SFTConfig:
    """Return TRL's configuration of a recipe for this process."""
    bf16 = recipe.precision == "bf16"
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return SFTConfig(
        output_dir=str(recipe.output / "state"),
        per_device_train_batch_size=recipe.device_batch,
        per_device_eval_batch_size=1,
        gradient_accumulation_steps=recipe.accumulation(processes),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        adam_beta2=recipe.adam_beta2,
        max_grad_norm=recipe.max_grad_norm,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=recipe.gradient_checkpointing,
        seed=recipe.seed,
        save_strategy="steps" if recipe.save_steps else "no",
        save_steps=recipe.save_steps or 500,
        save_total_limit=2,
        logging_steps=1,
        # It would log a loss that is not finite as 0.0.
        logging_nan_inf_filter=False,
        report_to=list(recipe.report_to),
        disable_tqdm=True,
        dataloader_num_workers=recipe.workers,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        # A LLaVA does not give what its experts' routing was: no term of balance can be had.
        router_aux_loss_coef=None if recipe.method == "sft" else 0.0,
        # Samples are cut when they are encoded.
        max_length=None,
    )


def training_data(recipe: Recipe, checkpoint: Checkpoint) -> TrainingData:
    """Encode a recipe's records, or find them encoded."""
    return _encoded(recipe, checkpoint, recipe.data)


def held_out_data(recipe: Recipe, checkpoint: Checkpoint) -> TrainingData | None:
    """Encode a recipe's held-out records, or find them encoded; None where it has none."""
    return _encoded(recipe, checkpoint, recipe.held_out) if recipe.held_out else None


def held_out_loss(trainer: Trainer, data: TrainingData) -> dict[str, Any]:
    """Return the mean over held-out records of a record's own loss, the recipe's.

    Each record is a batch of its own, so that the mean depends neither on an order nor on padding.
    To be called on all processes.

    Raises:
        ValueError: It is not finite.
    """
    loss = trainer.evaluate(data.dataset, metric_key_prefix="held_out")["held_out_loss"]
    if not math.isfinite(loss):
        raise ValueError(
            f"held_out: the loss is {loss} for {first_not_finite(trainer, data)}; lower "
            "learning_rate, or give precision=fp32. No checkpoint was written"
        )
    return {"loss": loss, "records": len(data.dataset), "data": data.record()["files"]}


def _encoded(recipe: Recipe, checkpoint: Checkpoint, files: Sequence[Path]) -> TrainingData:
    encoder = Encoder(
        checkpoint.tokenizer,
        recipe.format,
        checkpoint.image_token_id,
        checkpoint.image_tokens,
        recipe.max_length,
    )
    for ending in encoder.unknown_endings:
        log.warning("%r, which ends answers, is no token: nothing will stop the model", ending)
    return build(
        files,
        images_folder(recipe),
        encoder,
        on_bad=recipe.bad_records,
        cache=recipe.cache.expanduser(),
    )


class RecipeTrainer(FiniteTraining, SealingTrainer, SFTTrainer):
    """SFTTrainer with an order of the samples and a learning rate of the connector from outside."""

    def __init__(
        self,
        sampler: Sampler[int],
        connector_learning_rate: float | None,
        micro_batches: bool,
        **kwargs: Any,
    ):
        """Take SFTTrainer's arguments, the two, and whether a step's loss is over micro-batches."""
        self._sampler, self._connector_learning_rate = sampler, connector_learning_rate
        self._micro_batches = micro_batches
        super().__init__(**kwargs)
        if micro_batches:
            # So that Trainer divides each micro-batch's mean by their number; DDP averages those of
            # the processes.
            self.loss_is_scaled_for_ga = False
        own = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        own.register_forward_pre_hook(_gather_output_layer)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._sampler

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights that training goes on from.

        Trainer of transformers 5.23 reads the file's names as they are, but a LLaVA is saved under
        others than its own: with a warning, it would go on from the weights before training.
        """
        spread = self.is_fsdp_enabled or self.is_deepspeed_enabled
        own = self.model if model is None else model
        if spread or isinstance(own, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        # Not "auto", which is the type of whichever weight comes first.
        what = f"resume_from_checkpoint={resume_from_checkpoint}"
        saved = load_whole(type(own), resume_from_checkpoint, what, dtype=torch.float32)
        own.load_state_dict(saved.state_dict())

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """Return SFTTrainer's loss, or where a batch has weights the weighted mean."""
        if "loss_weights" not in inputs:
            if self._micro_batches:
                num_items_in_batch = None
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = {name: value for name, value in inputs.items() if name != "labels"}
        weights = inputs.pop("loss_weights")
        outputs = model(**inputs, use_cache=False)
        loss = weighted_loss(outputs.logits, inputs["input_ids"], weights)
        if model.training:
            self._total_train_tokens += int(inputs["attention_mask"].sum())
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make AdamW; the connector's parameters have groups of their own if it has a rate."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        rate = self._connector_learning_rate
        if rate is None:
            return optimizer
        weights = (self.model if model is None else model).named_parameters()
        connector = {id(weight) for name, weight in weights if "multi_modal_projector" in name}
        for group in list(optimizer.param_groups):
            own = [weight for weight in group["params"] if id(weight) in connector]
            if own:
                group["params"] = [w for w in group["params"] if id(w) not in connector]
                optimizer.add_param_group(group | {"params": own, "lr": rate})
        return optimizer


def weighted_loss(
    logits: torch.Tensor, input_ids: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the weighted mean of the next tokens' losses.

    Args:
        logits: (rows, tokens, words).
        input_ids: (rows, tokens).
        weights: (rows, tokens), of the token itself; the first one of a row is not predicted.
    """
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), input_ids[:, 1:].flatten(), reduction="none"
    )
    counted = weights[:, 1:].flatten()
    return (losses * counted).sum() / counted.sum()


def make_trainer(
    recipe: Recipe, checkpoint: Checkpoint, data: TrainingData, arguments: SFTConfig
) -> SealingTrainer:
    """Put a recipe's model, data and order together."""
    common: dict[str, Any] = {
        "sampler": order_of(recipe, data.lengths, data.modalities),
        "model": checkpoint.model,
        "args": arguments,
        "train_dataset": data.dataset,
        "data_collator": collator(recipe, checkpoint),
        "processing_class": checkpoint.processor,
        "callbacks": [ProgressBar()],
    }
    if recipe.method == "tower":
        trainer: SealingTrainer = ContrastiveTrainer(**common)
    else:
        trainer = RecipeTrainer(
            connector_learning_rate=recipe.connector_learning_rate,
            micro_batches=recipe.loss == "micro_batches",
            peft_config=lora_config(checkpoint.model, recipe),
            **common,
        )
    trainer.files = recipe.data
    # transformers prints each step's losses beside our bar.
    trainer.remove_callback(PrinterCallback)
    return trainer


def order_of(recipe: Recipe, lengths: np.ndarray, modalities: np.ndarray) -> SeededSampler:
    """Return the order of a recipe's records."""
    if recipe.group != "none":
        micro_batch = recipe.device_batch if recipe.loss == "micro_batches" else None
        sizes = recipe.global_batch, recipe.seed, recipe.group, micro_batch
        return GroupedSampler(lengths, modalities, *sizes)
    return SeededSampler(len(lengths), recipe.global_batch, recipe.seed)


def images_folder(recipe: Recipe) -> Path | None:
    """Return the folder that image names are relative to; None for a text model."""
    return None if recipe.method == "sft" else recipe.images or recipe.data[0].parent


def collator(recipe: Recipe, checkpoint: Checkpoint) -> Collator:
    """Return what makes batches of encoded records."""
    pad = checkpoint.tokenizer.pad_token_id
    kind = CaptionCollator if recipe.method == "tower" else Collator
    return kind(
        image_processor=getattr(checkpoint.processor, "image_processor", None),
        # Padding is masked: any id does.
        pad_token_id=0 if pad is None else pad,
        image_token_id=checkpoint.image_token_id,
        image_tokens=checkpoint.image_tokens,
        images=images_folder(recipe),
        aspect_ratio=recipe.image_aspect_ratio,
        weights=recipe.loss_weights,
    )


def _gather_output_layer(model: Any, _: Any) -> None:
    """Have FSDP2 gather the output layer before a forward pass, as if it was called in it.

    TRL 1.16 multiplies by its weights instead, and where they are spread gathers them in a way
    whose gradient is that of one process's samples: in a LLaVA, where accelerate wraps the layer by
    itself.
    """
    layer = model.get_output_embeddings()
    if isinstance(layer, FSDPModule):
        layer.unshard()
