"""Direct preference optimisation: TRL's DPOTrainer with stored reference log-probabilities.

TRL 1.16 refuses to store them where a row has images, because it tokenizes these on the fly, and
lets the vision tower see each image twice, for either answer. Our rows are encoded before, and what
the connector makes of an image is used for both.
"""

from typing import Any

import torch
from torch.utils.hooks import RemovableHandle
from transformers import Trainer
from trl import DPOTrainer

from verbalizer_bench.trainers.training.recipe_trainer import RecipeTrainer


class PreferenceTrainer(RecipeTrainer, DPOTrainer):
    """DPOTrainer on encoded pairs, whose collator has the reference's log-probabilities."""

    def __init__(self, **kwargs: Any):
        """Set up DPOTrainer; no reference model is loaded."""
        super().__init__(**kwargs)
        show_images_twice(self.base_model)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *rest: Any) -> Any:
        """Return TRL's loss, and note how long the answers are."""
        mode = "train" if self.model.training else "eval"
        lengths = inputs["completion_mask"].sum(1).float().chunk(2)
        for name, length in zip(("chosen", "rejected"), lengths, strict=True):
            mean = self.accelerator.gather(length).mean().item()
            self._metrics[mode][f"lengths/{name}"].append(mean)
        return super()._compute_loss(model, inputs, *rest)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate pairs whose reference is stored, which TRL takes for not computed."""
        return Trainer.evaluate(self, *args, **kwargs)


def show_images_twice(model: Any) -> RemovableHandle | None:
    """Have a LLaVA use what its connector makes of a batch's images for both halves of its rows.

    Returns:
        What undoes it; None for a text model.
    """
    modules = model.named_modules()
    connector = next((m for name, m in modules if name.endswith("multi_modal_projector")), None)
    return connector.register_forward_hook(_twice) if connector is not None else None


def _twice(module: Any, inputs: Any, features: torch.Tensor) -> torch.Tensor:
    return torch.cat([features, features])
