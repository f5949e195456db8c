"""Supervised training: TRL's SFTTrainer with a given order of samples and token weights."""

from typing import Any

import torch
from peft import PeftModel
from torch.distributed.fsdp import FSDPModule
from trl import SFTTrainer

from verbalizer_bench.models.checkpoints.strict_loading import load_whole
from verbalizer_bench.trainers.training.non_finite import FiniteTrainer


class SupervisedTrainer(FiniteTrainer, SFTTrainer):
    """SFTTrainer with a given order of samples and a separate learning rate for the connector."""

    def __init__(
        self, connector_learning_rate: float | None, micro_batch_loss: bool, **kwargs: Any
    ):
        """Set up SFTTrainer.

        Args:
            connector_learning_rate: None for that of the other weights.
            micro_batch_loss: Whether a step's loss is the mean over its micro-batches' means.
            kwargs: The sampler, and arguments of SFTTrainer.
        """
        self._connector_learning_rate = connector_learning_rate
        self._micro_batch_loss = micro_batch_loss
        super().__init__(**kwargs)
        if micro_batch_loss:
            # So that Trainer divides each micro-batch's mean by their number; DDP averages those of
            # the processes.
            self.loss_is_scaled_for_ga = False
        base = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        base.register_forward_pre_hook(_gather_output_layer)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights that training goes on from.

        Trainer of transformers 5.23 reads the file's names as they are, but a LLaVA is saved under
        others than its own: with a warning, it would go on from the weights before training.
        """
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        model = self.model if model is None else model
        if sharded or isinstance(model, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        # Not "auto", which is the type of whichever weight comes first.
        what = f"resume_from_checkpoint={resume_from_checkpoint}"
        saved = load_whole(type(model), resume_from_checkpoint, what, dtype=torch.float32)
        model.load_state_dict(saved.state_dict())

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """Return SFTTrainer's loss, or where a batch has weights the weighted mean."""
        if "loss_weights" not in inputs:
            if self._micro_batch_loss:
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
        """Make AdamW, with separate parameter groups for a connector that has its own rate."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        rate = self._connector_learning_rate
        if rate is None:
            return optimizer
        weights = (self.model if model is None else model).named_parameters()
        connector = {id(weight) for name, weight in weights if "multi_modal_projector" in name}
        for group in list(optimizer.param_groups):
            moved = [weight for weight in group["params"] if id(weight) in connector]
            if moved:
                group["params"] = [w for w in group["params"] if id(w) not in connector]
                optimizer.add_param_group(group | {"params": moved, "lr": rate})
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


def _gather_output_layer(model: Any, _: Any) -> None:
    """Have FSDP2 gather the output layer before a forward pass, as if it was called in it.

    TRL 1.16 multiplies by its weights instead, and where they are spread gathers them in a way
    whose gradient is that of one process's samples: in a LLaVA, where accelerate wraps the layer by
    itself.
    """
    layer = model.get_output_embeddings()
    if isinstance(layer, FSDPModule):
        layer.unshard()
