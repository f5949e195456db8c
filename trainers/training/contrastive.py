"""Contrastive training of a CLIP (Radford et al. 2021): method `tower`, for a LLaVA's vision tower.

verbalizer-bench train miniature/tower

The records are those of `pretrain`, images with captions. The text half pools at the newline that
ends a caption in the format `plain`: config.json's `text_config.eos_token_id` is its id.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from verbalizer_bench.trainers.data.collator import Collator
from verbalizer_bench.trainers.training.non_finite import FiniteTrainer


class CaptionCollator(Collator):
    """A Collator whose texts hold no image token: a CLIP takes the image beside them."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and `pixel_values`, a caption for each image."""
        batch = super().__call__([self._without_image(row) for row in rows])
        return {name: value for name, value in batch.items() if name != "labels"}

    def _without_image(self, row: Mapping[str, Any]) -> dict[str, Any]:
        kept = [number for number, i in enumerate(row["input_ids"]) if i != self.image_token_id]
        return {**row} | {n: [row[n][i] for i in kept] for n in ("input_ids", "assistant_mask")}


class ContrastiveTrainer(FiniteTrainer):
    """A Trainer with CLIP's loss: each caption finds its image in a batch, and back."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """Return the loss over all pairs of a batch."""
        outputs = model(**inputs, return_loss=True)
        return (outputs.loss, outputs) if return_outputs else outputs.loss
