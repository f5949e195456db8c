"""The trainer of a recipe: its arguments, and its model, data and order put together."""

import math
import os
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from transformers import PrinterCallback, Trainer
from trl import DPOConfig, SFTConfig

from verbalizer_bench.trainers.checkpoints.load import Checkpoint
from verbalizer_bench.trainers.checkpoints.trainable import lora_config
from verbalizer_bench.trainers.data.cache import TrainingData
from verbalizer_bench.trainers.data.collator import Collator
from verbalizer_bench.trainers.data.flat_batch import FlatCollator
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.recipe_settings import ALL, DpoSettings
from verbalizer_bench.trainers.training.contrastive import ContrastiveTrainer
from verbalizer_bench.trainers.training.inputs import row_kind, sample_order
from verbalizer_bench.trainers.training.non_finite import FiniteTrainer, first_non_finite
from verbalizer_bench.trainers.training.preference import PreferenceTrainer
from verbalizer_bench.trainers.training.progress_bar import TrainingProgressBar
from verbalizer_bench.trainers.training.supervised import SupervisedTrainer


def training_arguments(recipe: Recipe) -> SFTConfig | DPOConfig:
    """Return TRL's configuration of a recipe for this process."""
    common = _common_arguments(recipe)
    if recipe.method != "dpo":
        return SFTConfig(dataset_kwargs={"skip_prepare_dataset": True}, **common)
    settings = recipe.dpo or DpoSettings()
    weights = settings.loss_weights
    return DPOConfig(
        beta=settings.beta,
        loss_type=list(settings.loss_type),
        loss_weights=None if weights is None else list(weights),
        precompute_ref_log_probs=True,
        # TRL's default, but for a dropout that the recipe states.
        disable_dropout=not (recipe.lora and recipe.lora.dropout),
        **common,
    )


def _common_arguments(recipe: Recipe) -> dict[str, Any]:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return dict(
        output_dir=str(recipe.output / "state"),
        per_device_train_batch_size=recipe.per_device_batch_size,
        per_device_eval_batch_size=1,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps(processes),
        num_train_epochs=recipe.num_train_epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        adam_beta2=recipe.adam_beta2,
        optim=recipe.optim,
        use_liger_kernel=recipe.use_liger_kernel,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.precision == "bf16",
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
        # Of a tower whose features are not its last layer's, the layers behind have no gradient.
        ddp_find_unused_parameters=recipe.trained_parts.vision_tower == ALL or None,
        dataloader_num_workers=recipe.dataloader_num_workers,
        remove_unused_columns=False,
        # A LLaVA does not return router logits: no load-balancing loss can be computed.
        router_aux_loss_coef=None if recipe.text_model else 0.0,
        # Samples are cut, or refused, when they are encoded.
        max_length=None,
    )


def check_liger(model: Any) -> None:
    """Refuse a model that liger-kernel has no kernels for: it would pass it over without a word.

    Raises:
        ValueError: It has none.
    """
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    kinds = {model.config.model_type, model.config.get_text_config().model_type}
    if unknown := sorted(kinds - set(MODEL_TYPE_TO_APPLY_LIGER_FN)):
        raise ValueError(
            f"use_liger_kernel: it has no kernels for a model of type {unknown[0]}; leave it out"
        )


def make_trainer(
    recipe: Recipe,
    checkpoint: Checkpoint,
    data: TrainingData,
    arguments: SFTConfig | DPOConfig,
    collator: Collator,
) -> FiniteTrainer:
    """Return the trainer of a recipe's method, with its model, data and order."""
    if recipe.use_liger_kernel:
        check_liger(checkpoint.model)
    common: dict[str, Any] = {
        "sampler": sample_order(recipe, data.lengths, data.has_image),
        "model": checkpoint.model,
        "args": arguments,
        "train_dataset": data.dataset,
        "data_collator": FlatCollator(collator) if recipe.packing else collator,
        "processing_class": checkpoint.processor,
        "callbacks": [TrainingProgressBar()],
    }
    if recipe.method == "tower":
        trainer: FiniteTrainer = ContrastiveTrainer(**common)
    else:
        common["learning_rates"] = recipe.learning_rates
        common["peft_config"] = lora_config(checkpoint.model, recipe)
        if recipe.method == "dpo":
            trainer = PreferenceTrainer(**common)
        else:
            trainer = SupervisedTrainer(micro_batch_loss=recipe.loss == "micro_batches", **common)
    trainer.files, trainer.parse = recipe.files, row_kind(recipe).parse
    # transformers prints each step's losses beside our bar.
    trainer.remove_callback(PrinterCallback)
    return trainer


def held_out_loss(trainer: Trainer, data: TrainingData) -> dict[str, Any]:
    """Return the mean of the held-out records' losses, and of pairs their accuracy and margin.

    Each record is a batch of its own, so that the mean depends neither on an order nor on padding.
    To be called on all processes.

    Raises:
        ValueError: It is not finite.
    """
    loss = trainer.evaluate(data.dataset, metric_key_prefix="held_out")["held_out_loss"]
    for module in trainer.model.modules():
        # FSDP2 leaves a root whole behind a pass without gradients, and states are of its shards.
        if isinstance(module, FSDPModule):
            module.reshard()
    logged = trainer.state.log_history[-1]
    if not math.isfinite(loss):
        raise ValueError(
            f"held_out: the loss is {loss} for {first_non_finite(trainer, data)}; lower "
            "learning_rate, or give precision=fp32. No checkpoint was written"
        )
    found = {"loss": loss, "records": len(data.dataset), "data": data.record()["files"]}
    found["prompts_trained"] = data.prompts_trained
    rewards = ("accuracies", "margins")
    return found | {
        n: logged[f"eval_rewards/{n}"] for n in rewards if f"eval_rewards/{n}" in logged
    }
