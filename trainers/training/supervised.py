"""Supervised training: TRL's SFTTrainer with a given order of samples and token weights."""

from collections.abc import Mapping
from typing import Any

import torch
from trl import SFTTrainer

from verbalizer_bench.trainers.training.recipe_trainer import NEAR, NEAR_BF16, RecipeTrainer

# By which TRL's head is compared with the model's own.
_PROBE = "A text of some words, by which one head is compared with another."


class SupervisedTrainer(RecipeTrainer, SFTTrainer):
    """SFTTrainer with a given order of samples, weights of tokens, and rates for parts."""

    def __init__(self, learning_rates: Mapping[str, float], micro_batch_loss: bool, **kwargs: Any):
        """Set up SFTTrainer.

        Args:
            learning_rates: Of parts of the model that have their own.
            micro_batch_loss: Whether a step's loss is the mean over its micro-batches' means.
            kwargs: The sampler, and arguments of SFTTrainer.
        """
        self._micro_batch_loss, self._head_is_checked = micro_batch_loss, False
        super().__init__(learning_rates=learning_rates, **kwargs)
        if micro_batch_loss:
            # So that Trainer divides each micro-batch's mean by their number; DDP averages those of
            # the processes.
            self.loss_is_scaled_for_ga = False

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
            if not self._head_is_checked:
                self._head_is_checked = True
                self._check_head(model, inputs["input_ids"].device)
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = {name: value for name, value in inputs.items() if name != "labels"}
        weights = inputs.pop("loss_weights")
        outputs = model(**inputs, use_cache=False)
        loss = weighted_loss(outputs.logits, inputs["input_ids"], weights)
        if model.training:
            # A batch without padding has no mask.
            counted = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
            self._total_train_tokens += int(counted.sum())
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return (loss, outputs) if return_outputs else loss

    @torch.no_grad()
    def _check_head(self, model: Any, device: torch.device) -> None:
        """Raise ValueError unless TRL's head computes what the model's own does.

        TRL 1.16 multiplies by the output layer's weights, and by the scale that the text model's
        configuration states: an Aya Vision has none, though its text model alone has one. To be
        called on all processes, which compare the same text.
        """
        tokenizer: Any = getattr(self.processing_class, "tokenizer", self.processing_class)
        ids = torch.tensor([tokenizer(_PROBE)["input_ids"]], device=device)
        training = model.training
        model.eval()
        try:
            scores = model(input_ids=ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)
            ours = scores.gather(-1, ids[:, 1:, None]).sum()
            trl = model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs.sum()
        finally:
            model.train(training)
        share, nats = NEAR_BF16 if self.args.bf16 else NEAR
        if abs(trl - ours) > share * abs(ours) + nats:
            name = type(self.base_model).__name__
            raise ValueError(
                f"step 1: a text's log-probability is {float(ours):.3f} by {name}, and "
                f"{float(trl):.3f} as TRL computes it from the same output layer: it cannot train "
                "this architecture; give another base"
            )


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
