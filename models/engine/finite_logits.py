"""Stop where logits are NaN or infinite: what is chosen from them is no answer of the model.

A search goes on with such logits without a word (it chooses the first token for ever), and so did
whole runs with weights that hold NaN, or in float16 where a bfloat16 model overflows. Minus
infinity alone is no fault: it is how a token is suppressed.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from transformers import LogitsProcessor


class NotFiniteError(ValueError):
    """Logits that are no numbers."""


def check_finite(best: torch.Tensor, model: Any) -> None:
    """Raise NotFiniteError, a ValueError, unless these are numbers.

    Args:
        best: The highest logit (or log probability) of each row. It is NaN if any of the row is,
            and infinite if one is plus infinity or all are minus infinity.
        model: The model that they come from.
    """
    if not bool(best.isfinite().all()):
        raise NotFiniteError(_message(model))


def check_scores(scores: Iterable[tuple[float, bool]], model: Any) -> None:
    """Raise NotFiniteError unless log probabilities are numbers; one of NaN logits is NaN."""
    if any(math.isnan(score) for score, _ in scores):
        raise NotFiniteError(_message(model))


class FiniteLogits(LogitsProcessor):
    """Raise NotFiniteError within `generate` where logits are not finite; change nothing."""

    def __init__(self, model: Any) -> None:
        """Take the model, for the message."""
        self.model = model

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores`, (rows, V), as they are."""
        check_finite(scores.amax(-1), self.model)
        return scores


def _message(model: Any) -> str:
    """Return the error's line: logits are not finite, why perhaps, and what to do."""
    wrong = [
        name
        for name, weight in model.named_parameters()
        if weight.is_floating_point() and not weight.is_meta and not weight.isfinite().all()
    ]
    device = model.device.type
    mixed = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if mixed else model.dtype
    cause = f"{len(wrong)} of its weights are not either, such as {wrong[0]}; " if wrong else ""
    fix = (
        "float16 ends at 65,504, and many checkpoints need more: "
        f"give {'mixed_precision_dtype' if mixed else 'dtype'}=bfloat16 or float32"
        if dtype == torch.float16
        else "give another checkpoint"
        if wrong
        else "give dtype=float32, or another checkpoint"
    )
    name = str(dtype).removeprefix("torch.")
    return f"the model's logits are not finite (NaN or infinity) in {name}; {cause}{fix}"
