"""Weights that hold NaN or infinity are neither trained nor written."""

from collections.abc import Iterable, Mapping

import torch


def non_finite(weights: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Return the names of the weights that hold NaN or infinity."""
    return [name for name, weight in weights if not _is_finite(weight)]


def _is_finite(weight: torch.Tensor) -> bool:
    if weight.is_meta or not weight.is_floating_point():
        return True
    local = weight.to_local() if hasattr(weight, "to_local") else weight
    # A sum is finite unless an element is not, or it overflows: no copy of the weights is made.
    return bool(torch.isfinite(local.detach().sum(dtype=torch.float64)))


def check_finite(weights: Mapping[str, torch.Tensor], what: str) -> None:
    """Raise ValueError, in one line, if a weight holds NaN or infinity.

    Args:
        weights: By name.
        what: What they are and what to do, as it stands in the line behind their number.
    """
    if names := non_finite(weights.items()):
        raise ValueError(f"{len(names)} weights are not finite, such as {names[0]}: {what}")
