"""When training stops early, and which step's weights become the checkpoint."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from verbalizer_bench.io.wording import counted
from verbalizer_bench.trainers.curve.points import HELD_OUT, Point
from verbalizer_bench.trainers.evaluation_settings import EarlyStoppingSettings


class Verdict(NamedTuple):
    """What a metric says of the points so far.

    Attributes:
        best: The step of the best one; None before the first.
        waited: How many points in a row did not improve on it.
        stop: Whether that is as many as training waits for, and there were steps left.
        reason: Both in words.
    """

    best: int | None
    waited: int
    stop: bool
    reason: str


def judge(
    settings: EarlyStoppingSettings, points: Sequence[Point], last_step: int | None = None
) -> Verdict:
    """Say which point is best and whether training stops, from the points alone.

    A point is best where it is better than the best before it by more than `min_delta`: of equals
    the earliest, which was trained least. As long as all are equal they tell no step from another:
    then the last is kept, and none is waited for. Step 0 takes no part: its weights are the base.

    Args:
        settings: By which metric, and for how long to wait.
        points: In the order of their steps.
        last_step: Where training was to end, if that is known: an end there is not early.
    """
    sign = -1 if settings.metric == HELD_OUT else 1
    trained = [point for point in points if point.step > 0]
    if not trained:
        return Verdict(None, 0, False, "")
    values = [point.values[settings.metric] for point in trained]
    best, waited = 0, 0
    for place in range(1, len(trained)):
        gain = sign * (values[place] - values[best])
        if gain > settings.min_delta or len(set(values[: place + 1])) == 1:
            best, waited = place, 0
        else:
            waited += 1
    reason = f"{settings.metric} is best at step {trained[best].step}: {values[best]:.4f}"
    if len(trained) > 1 and len(set(values)) == 1:
        reason = (
            f"{settings.metric} is the same at every step: it says nothing; the weights of the "
            "last step are kept"
        )
    now = trained[-1].step
    stop = settings.patience is not None and waited >= settings.patience and now != last_step
    if stop:
        waits = counted(waited, "evaluation")
        reason += f"; training stopped at step {now}, after {waits} without a better"
    before = _before(settings, points, trained[best], sign)
    return Verdict(trained[best].step, waited, stop, reason + before)


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
