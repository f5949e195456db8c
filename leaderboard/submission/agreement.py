"""How far regenerated responses agree with a submission's, with intervals, and the verdict."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from verbalizer_bench.results.resampling import Z_ALPHA, bootstrap, interval
from verbalizer_bench.results.statistics import RESAMPLES, SEED

# The least share of equal responses that passes: in float32 on one kind of machine none should
# differ. Below float32 a batch of another size alone changes one response in eight.
THRESHOLD, THRESHOLD_LOW = 0.9, 0.75


@dataclasses.dataclass(frozen=True)
class Agreement:
    """What the two sets of responses have in common; F1 and shares are in [0, 1].

    Attributes:
        responses: How many were regenerated.
        equal: How many are the submission's, character for character.
        equal_f1: How many have the submission's F1.
        share: Of equal responses, with its 95 % Wilson interval over responses.
        submitted: The mean F1 of the submission's own responses to these prompts.
        regenerated: The mean F1 of the new ones.
        difference: Submitted minus regenerated, with its 95 % bootstrap interval over documents.
    """

    responses: int
    equal: int
    equal_f1: int
    share: tuple[float, float, float]
    submitted: float
    regenerated: float
    difference: tuple[float, float, float]

    def faults(self, threshold: float) -> list[str]:
        """Say why this does not pass: too few are equal, or the submitted F1 is too high."""
        faults = []
        if self.share[0] < threshold:
            faults.append(
                f"{100 * self.share[0]:.1f} % of the responses agree, below {100 * threshold:g} %"
            )
        if self.difference[1] > 0:
            faults.append("the submitted F1 is above the regenerated, beyond its interval")
        return faults


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927)."""
    share, square = hits / n, Z_ALPHA**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = Z_ALPHA / (1 + square / n)
    half *= math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def agreement(
    equal: Sequence[bool], scores: Mapping[str, Sequence[tuple[float, float]]]
) -> Agreement:
    """Return how two sets of responses agree.

    Args:
        equal: Whether each response is the same text.
        scores: By document the F1 of each of its responses: the submission's and the new one.
    """
    pairs = np.array([pair for f1s in scores.values() for pair in f1s])
    submitted, regenerated = pairs.mean(axis=0)
    # Responses to one document are not independent.
    sums = np.array([np.diff(f1s, axis=1).sum() for f1s in scores.values()]) * -1.0
    values = sums[:, None] * len(sums) / len(pairs)
    low, high = interval(bootstrap({"documents": values}, RESAMPLES, SEED)[:, 0])
    mean = float(submitted - regenerated)
    hits = sum(equal)
    return Agreement(
        responses=len(equal),
        equal=hits,
        equal_f1=int((abs(pairs[:, 0] - pairs[:, 1]) < 1e-9).sum()),
        share=(hits / len(equal), *wilson(hits, len(equal))),
        submitted=float(submitted),
        regenerated=float(regenerated),
        difference=(mean, min(mean, float(low)), max(mean, float(high))),
    )
