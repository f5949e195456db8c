"""When training stops early, and which step's weights become the checkpoint."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from verbalizer_bench.trainers.curve.points import HELD_OUT, Point
from verbalizer_bench.trainers.evaluation_settings import EarlyStoppingSettings


class Verdict(NamedTuple):
    """What a metric says of the points so far.

    Attributes:
        best: The step of the best one; None before the first.
        waited: How many points in a row did not improve on it.
        stop: Whether that is as many as training waits for.
        reason: Both in words.
    """

    best: int | None
    waited: int
    stop: bool
    reason: str


def judge(settings: EarlyStoppingSettings, points: Sequence[Point]) -> Verdict:
    """Say which point is best and whether training stops, from the points alone.

    The first point after a step is the best; a later one is where it is better than the best by
    more than `min_delta`. Step 0 does not take part: its weights are the base.
    """
    sign = -1 if settings.metric == HELD_OUT else 1
    best: Point | None = None
    waited = 0
    for point in points:
        if point.step == 0:
            continue
        value = sign * point.values[settings.metric]
        if best is None or value > sign * best.values[settings.metric] + settings.min_delta:
            best, waited = point, 0
        else:
            waited += 1
    if best is None:
        return Verdict(None, 0, False, "")
    stop = settings.patience is not None and waited >= settings.patience
    reason = f"{settings.metric} is best at step {best.step}: {best.values[settings.metric]:.4f}"
    if stop:
        last = points[-1].step
        reason += f"; training stopped at step {last}, after {waited} evaluations without a better"
    return Verdict(best.step, waited, stop, reason + _before(settings, points, best, sign))


def _before(
    settings: EarlyStoppingSettings, points: Sequence[Point], best: Point, sign: int
) -> str:
    """Return a clause that the base was better than any point of the training, if it was."""
    before = points[0].values.get(settings.metric) if points[0].step == 0 else None
    if before is None or sign * before <= sign * best.values[settings.metric]:
        return ""
    return f"; before training it was {before:.4f}, better than at any step"


def kept_record(settings: EarlyStoppingSettings, verdict: Verdict, step: int) -> dict[str, Any]:
    """Return which step's weights are the checkpoint's and why, as JSON values."""
    return {
        "step": step,
        "metric": settings.metric,
        "best_step": verdict.best,
        "stopped_early": verdict.stop,
        "reason": verdict.reason,
    }
