"""NaN and infinity are not numbers: training stops where they come up, and saves nothing of them.

transformers logs a loss that is not finite as 0.0, and goes on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from verbalizer_bench.trainers.conversations.records import read_records
from verbalizer_bench.trainers.data.cache import TrainingData

_SHOWN = 8


class FiniteTraining:
    """What stops a Trainer at the first loss or gradient that is not finite, before the update.

    Attributes:
        files: The files of records, where their ids stand.
    """

    files: Sequence[Path] = ()
    _micro_batch = 0

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Make a micro-batch's gradients; its loss must be finite.

        Raises:
            ValueError: It is not; names step and records.
        """
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not math.isfinite(loss.item()):
            self._stop(f"the loss is {loss.item()}", self._rows(self._micro_batch))
        self._micro_batch += 1
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the norm of a step's gradients; transformers calls this before the update."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]
        if norm is not None and not math.isfinite(float(norm)):
            self._stop(f"the norm of the gradients is {float(norm)}", self._rows(None))
        self._micro_batch = 0
        return norm

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a state that training can go on from, unless the last update broke the weights."""
        own: Any = self
        check_weights(
            dict(own.model.named_parameters()),
            f"after step {own.state.global_step}; lower learning_rate. No checkpoint was written",
        )
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]

    def _rows(self, micro_batch: int | None) -> list[int]:
        """Return the rows of this process's micro-batch in the present step, or of all the step."""
        own: Any = self
        size = own.args.per_device_train_batch_size
        count, rank = own.args.world_size, own.args.process_index
        order = own._sampler.order()
        block = size * count * own.args.gradient_accumulation_steps
        start = own.state.global_step * block % len(order)
        if micro_batch is None:
            return list(map(int, order[start : start + block]))
        # accelerate deals micro-batches to the processes in turn.
        start += (micro_batch * count + rank) * size
        return list(map(int, order[start : start + size]))

    def _stop(self, what: str, rows: list[int]) -> None:
        own: Any = self
        weights = not_finite(own.model.named_parameters())
        why = (
            f"weights are not finite before it, such as {weights[0]}"
            if weights
            else "look at these records, lower learning_rate "
            f"({own.args.learning_rate:g}), or give precision=fp32"
        )
        numbers = sorted({int(own.train_dataset[row]["record"]) for row in rows})
        raise ValueError(
            f"step {own.state.global_step + 1}: {what} for {_named(numbers, self.files)}; {why}. "
            "No checkpoint was written"
        )


def _named(numbers: list[int], files: Sequence[Path]) -> str:
    """Return records by number and id."""
    wanted, ids, start = set(numbers[:_SHOWN]), {}, 0
    for file in files:
        for item in read_records(file, start):
            start = item.index + 1
            if item.index in wanted:
                ids[item.index] = item.id
        if len(ids) == len(wanted):
            break
    shown = ", ".join(f"{n} (id {ids.get(n, '')!r})" for n in numbers[:_SHOWN])
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"record{'s' if len(numbers) > 1 else ''} {shown}{more}"


def first_not_finite(trainer: Any, data: TrainingData) -> str:
    """Name the first record whose loss is not finite; to be called on all processes."""
    for row in range(len(data.dataset)):
        record = data.dataset[row]
        batch = trainer.data_collator([record])
        loss = trainer.prediction_step(trainer.model, batch, prediction_loss_only=True)[0]
        if not math.isfinite(loss.item()):
            return _named([int(record["record"])], [Path(one.file) for one in data.files])
    return "records that are finite one by one"


def not_finite(weights: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Return the names of the weights that hold NaN or infinity."""
    return [name for name, weight in weights if not _is_finite(weight)]


def _is_finite(weight: torch.Tensor) -> bool:
    if weight.is_meta or not weight.is_floating_point():
        return True
    local = weight.to_local() if hasattr(weight, "to_local") else weight
    # A sum is finite unless an element is not, or it overflows: no copy of the weights is made.
    return bool(torch.isfinite(local.detach().sum(dtype=torch.float64)))


def check_weights(weights: Mapping[str, torch.Tensor], what: str) -> None:
    """Raise ValueError, in one line, if a weight holds NaN or infinity.

    Args:
        weights: By name.
        what: What they are and what to do, as it stands in the line behind their number.
    """
    if names := not_finite(weights.items()):
        raise ValueError(f"{len(names)} weights are not finite, such as {names[0]}: {what}")
