"""Direct preference optimisation: TRL's DPOTrainer with stored reference log-probabilities.

TRL 1.16 refuses to store them where a row has images, because it tokenizes these on the fly, and
lets the vision tower see each image twice, for either answer. Our rows are encoded before, and what
a LLaVA's connector makes of an image is used for both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle
from transformers import SchedulerType, Trainer
from trl import DPOTrainer

from verbalizer_bench.models.checkpoints.connector import connectors
from verbalizer_bench.models.checkpoints.image_families import is_llava
from verbalizer_bench.trainers.training.recipe_trainer import NEAR, NEAR_BF16, RecipeTrainer


class PreferenceTrainer(RecipeTrainer, DPOTrainer):
    """DPOTrainer on encoded pairs, whose collator has the reference's log-probabilities."""

    def __init__(self, **kwargs: Any):
        """Set up DPOTrainer; no reference model is loaded."""
        self._checked = False
        super().__init__(**kwargs)
        self._twice = show_images_twice(self.base_model)

    @contextmanager
    def lending(self) -> Iterator[Any]:
        """Yield the model without what only training puts into it."""
        for handle in self._twice:
            handle.remove()
        try:
            yield self.base_model
        finally:
            self._twice = show_images_twice(self.base_model)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *rest: Any) -> Any:
        """Return TRL's loss, and note how long the answers are.

        As long as the weights are the reference's a margin is what rounding leaves of 0, and which
        side of 0 it is on is no accuracy: there is none then.

        Raises:
            ValueError: Training does not begin at the reference.
        """
        mode = "train" if self.model.training else "eval"
        lengths = inputs["completion_mask"].sum(1).float().chunk(2)
        for name, length in zip(("chosen", "rejected"), lengths, strict=True):
            mean = self.accelerator.gather(length).mean().item()
            self._metrics[mode][f"lengths/{name}"].append(mean)
        loss = super()._compute_loss(model, inputs, *rest)
        if mode == "train" and not self._checked:
            self._checked = True
            if self.state.global_step == 0:
                self._check_start(model, inputs, *rest)
        if mode == "train" and not self._has_moved():
            self._metrics[mode].pop("rewards/accuracies")
        return loss

    def _has_moved(self) -> bool:
        """Return whether an optimiser step has changed the weights: a warm-up's first is of 0."""
        constant = self.args.lr_scheduler_type == SchedulerType.CONSTANT
        warms_up = not constant and self.args.get_warmup_steps(self.state.max_steps) > 0
        return bool(self.state.global_step > int(warms_up))

    def _check_start(self, model: Any, inputs: dict[str, torch.Tensor], *rest: Any) -> None:
        """Raise ValueError unless the first answers are as likely as under the reference.

        That is computed by the model's own head, and TRL 1.16 trains with one that it makes. What
        a training pass alone has, dropout and routers' noise, is left out before it is refused.
        """
        if not self._distant(inputs, "train"):
            return
        model.eval()
        with torch.no_grad():
            super()._compute_loss(model, inputs, *rest)
        model.train()
        distant = self._distant(inputs, "eval")
        self._metrics["eval"].clear()
        if distant:
            raise ValueError(
                f"step 1: {distant} under the reference, though nothing is trained yet: TRL "
                "computes it otherwise than this architecture does; give another base"
            )

    def _distant(self, inputs: dict[str, torch.Tensor], mode: str) -> str:
        """Return whose mean log-probability is not the reference's, and both; "" if they are."""
        share, nats = NEAR_BF16 if self.args.bf16 else NEAR
        for name in ("chosen", "rejected"):
            found = self._metrics[mode][f"logps/{name}"][-1]
            wanted = self.accelerator.gather(inputs[f"ref_{name}_logps"]).mean().item()
            if abs(found - wanted) > share * abs(wanted) + nats:
                return f"the {name} answers' log-probability is {found:.3f} and was {wanted:.3f}"
        return ""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate pairs whose reference is stored, which TRL takes for not computed."""
        return Trainer.evaluate(self, *args, **kwargs)


def show_images_twice(model: Any) -> list[RemovableHandle]:
    """Have a LLaVA use what its connectors make of a batch's images for both halves of its rows.

    Returns:
        What undoes it; nothing for other models, whose batches have images for both.
    """
    if not is_llava(model.config):
        return []
    return [connector.register_forward_hook(_twice) for connector in connectors(model)]


def _twice(module: Any, inputs: Any, features: torch.Tensor) -> torch.Tensor:
    return torch.cat([features, features])
