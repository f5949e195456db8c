"""How values of several checkpoints become one: the sum of task vectors, and TIES.

A task vector is tuned - base (Ilharco et al. 2023). TIES (Yadav et al. 2023, arXiv 2306.01708)
trims each to its largest values, elects for each place the sign of their sum, and takes the mean of
those that have it. The paper trims a task vector as a whole; here each tensor of it is trimmed by
itself, so that no checkpoint is in memory. Where the sum is 0 nothing is elected and the base's
value stays; their code then takes the sign that most values have.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch

Point = tuple[float, ...]
# Bits of a float32 that are counted at once, of the 31 besides the sign.
_HALF = 16


def add(base: torch.Tensor, tuned: Sequence[torch.Tensor], point: Point) -> torch.Tensor:
    """Return base + sum of coefficient * (tuned - base), in the type of the first tuned one.

    Args:
        base: Values of the base.
        tuned: The same values of each tuned checkpoint.
        point: The coefficients.

    Returns:
        The merged values: the base's own where all coefficients are 0, and a tuned one's own where
        its coefficient is 1 and the others are 0, as float arithmetic alone would not have it.
    """
    dtype = tuned[0].dtype
    used = [(share, values) for share, values in zip(point, tuned, strict=True) if share]
    if not used:
        return base.to(dtype)
    if len(used) == 1 and used[0][0] == 1:
        return used[0][1].to(dtype)
    total = _wide(base).clone()
    for share, values in used:
        total += share * task_vector(base, values)
    return total.to(dtype)


def add_ties(
    base: torch.Tensor, tuned: Sequence[torch.Tensor], least: Sequence[float], coefficient: float
) -> torch.Tensor:
    """Return base + coefficient * TIES of the task vectors, in the type of the first tuned one.

    Args:
        base: Values of the base.
        tuned: The same values of each tuned checkpoint.
        least: The smallest magnitude that is kept of each one's task vector, by `least_kept`.
        coefficient: The paper's lambda.
    """
    dtype = tuned[0].dtype
    if not coefficient:
        return base.to(dtype)
    vectors = torch.stack([task_vector(base, values) for values in tuned])
    limits = torch.tensor(least)[:, None]
    vectors = torch.where(vectors.float().abs() >= limits, vectors, 0)
    agree = (vectors.sign() == vectors.sum(0).sign()) & (vectors != 0)
    mean = (vectors * agree).sum(0) / agree.sum(0).clamp(min=1)
    return (_wide(base) + coefficient * mean).to(dtype)


def task_vector(base: torch.Tensor, tuned: torch.Tensor) -> torch.Tensor:
    """Return tuned - base in float32, or in the base's type where that is wider."""
    start = _wide(base)
    return tuned.to(start.dtype) - start


def least_kept(vector: Callable[[], Iterable[torch.Tensor]], density: float) -> float:
    """Return the smallest magnitude that is kept of a task vector's values.

    The values are gone through twice, and counted by the upper and then by the lower half of their
    bits as float32, which are in the order of magnitudes: they need not be in memory together.

    Args:
        vector: Gives the values, a piece at a time, each time that it is called.
        density: The share that is kept, above 0; those that are equal to the last one are too.

    Returns:
        The magnitude; 0 where there are no values.
    """
    counts = sum(_counted(_bits(piece) >> _HALF) for piece in vector())
    if isinstance(counts, int) or not counts.sum():
        return 0.0
    kept = math.ceil(density * int(counts.sum()))
    upper, above = _reached(counts, kept)
    pieces = (bits[bits >> _HALF == upper] for bits in map(_bits, vector()))
    lower = sum(_counted(bits - (upper << _HALF)) for bits in pieces)
    assert isinstance(lower, torch.Tensor)
    found = (upper << _HALF) + _reached(lower, kept - above)[0]
    return float(torch.tensor(found, dtype=torch.int32).view(torch.float32))


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.promote_types(torch.float32, values.dtype))


def _bits(values: torch.Tensor) -> torch.Tensor:
    """Return the bits of magnitudes as float32, as integers in their order."""
    return values.float().abs().view(torch.int32)


def _counted(halves: torch.Tensor) -> torch.Tensor:
    return torch.bincount(halves, minlength=1 << _HALF)


def _reached(counts: torch.Tensor, wanted: int) -> tuple[int, int]:
    """Return the greatest number down to which so many were counted, and how many are above it."""
    down = counts.flip(0).cumsum(0)
    place = int((down >= wanted).nonzero()[0])
    return len(counts) - 1 - place, int(down[place - 1]) if place else 0
