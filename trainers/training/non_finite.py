"""Training stops at a loss or gradient that is NaN or infinite, and saves nothing of it.

transformers logs a loss that is not finite as 0.0, and goes on.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler

from verbalizer_bench.io.conversation_files import AnyParse, named
from verbalizer_bench.io.conversations import conversation
from verbalizer_bench.trainers.checkpoints.finite_weights import check_finite, non_finite
from verbalizer_bench.trainers.data.cache import TrainingData
from verbalizer_bench.trainers.training.state_saving import SealingTrainer

_SHOWN = 8


class FiniteTrainer(SealingTrainer):
    """A Trainer with a given order of samples, which names those whose loss is not finite.

    Attributes:
        files: The files of records, where their ids stand.
        parse: Makes records of what they hold.
    """

    files: Sequence[Path] = ()
    parse: AnyParse = staticmethod(conversation)
    _micro_batch = 0

    def __init__(self, sampler: Sampler[int], **kwargs: Any):
        """Take the order of the samples and the arguments of the Trainer."""
        self._sampler: Any = sampler
        super().__init__(**kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._sampler

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute a micro-batch's gradients; its loss must be finite.

        Raises:
            ValueError: It is not; names the step and the records.
        """
        loss = super().training_step(*args, **kwargs)
        if not math.isfinite(loss.item()):
            self._stop(f"the loss is {loss.item()}", self._rows(self._micro_batch))
        self._micro_batch += 1
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the norm of a step's gradients; transformers calls this before the update."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not math.isfinite(float(norm)):
            self._stop(f"the norm of the gradients is {float(norm)}", self._rows(None))
        self._micro_batch = 0
        return norm

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a resume state, unless the last update broke the weights."""
        self.check_weights()
        super()._save_checkpoint(*args, **kwargs)

    def check_weights(self) -> None:
        """Raise ValueError if a weight is not finite."""
        step = self.state.global_step
        check_finite(
            dict(self.model.named_parameters()),
            f"after step {step}; lower learning_rate. No checkpoint was written",
        )

    def _rows(self, micro_batch: int | None) -> list[int]:
        """Return the rows of this process's micro-batch in the present step, or of the step."""
        size = self.args.per_device_train_batch_size
        count, rank = self.args.world_size, self.args.process_index
        order = self._sampler.order()
        block = size * count * self.args.gradient_accumulation_steps
        start = self.state.global_step * block % len(order)
        if micro_batch is None:
            return list(map(int, order[start : start + block]))
        # accelerate deals micro-batches to the processes in turn.
        start += (micro_batch * count + rank) * size
        return list(map(int, order[start : start + size]))

    def _stop(self, what: str, rows: list[int]) -> None:
        weights = non_finite(self.model.named_parameters())
        why = (
            f"weights are not finite before it, such as {weights[0]}"
            if weights
            else "look at these records, lower learning_rate "
            f"({self.args.learning_rate:g}), or give precision=fp32"
        )
        dataset: Any = self.train_dataset
        records = _named(
            sorted({int(dataset[row]["record"]) for row in rows}), self.files, self.parse
        )
        raise ValueError(
            f"step {self.state.global_step + 1}: {what} for {records}; {why}. "
            "No checkpoint was written"
        )


def _named(numbers: list[int], files: Sequence[Path], parse: AnyParse) -> str:
    """Return records by place and id."""
    found = named(files, parse, numbers[:_SHOWN])
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"{', '.join(found[number] for number in numbers[:_SHOWN])}{more}"


def first_non_finite(trainer: Any, data: TrainingData) -> str:
    """Name the first record whose loss is not finite; to be called on all processes."""
    for row in range(len(data.dataset)):
        record = data.dataset[row]
        batch = trainer.data_collator([record])
        loss = trainer.prediction_step(trainer.model, batch, prediction_loss_only=True)[0]
        if not math.isfinite(loss.item()):
            files = [Path(file.file) for file in data.files]
            return _named([int(record["record"])], files, trainer.parse)
    return "records that are finite one by one"
