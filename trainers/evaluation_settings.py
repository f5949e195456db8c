"""What stands in a recipe below `evaluation` and `early_stopping`, checked before all else."""

import math
from dataclasses import dataclass

from verbalizer_bench.config import OneOrMore, check
from verbalizer_bench.models.images import MODES


@dataclass(frozen=True)
class EvaluationSettings:
    """Evaluations while a model is trained: `curve.csv` and `curve.png` of the output folder.

    Attributes:
        steps: Optimiser steps from one evaluation to the next, or below 1 a share of all steps. The
            last step is evaluated in any case.
        at_start: Whether the model is evaluated before the first step too.
        tasks: Verbalizer tasks, by name, tag or glob, that the model is asked at each evaluation as
            `verbalizer-bench run` would ask the checkpoint that it would be saved as; [] for none.
        limit: Documents of each task, the first ones, the same at every evaluation, as of
            `verbalizer-bench run --limit`; null for all.
        data: Where the documents are: `hub`, `sample` or a folder; null for
            `VERBALIZER_BENCH_DATA`, else the hub.
        held_out: Whether the loss on the recipe's `held_out` is measured each time, if it has any.
        num_beams: Beams of a response; the protocol has 10.
        image: What a vision-language model is shown with every text; None: white, as the protocol.
    """

    steps: float
    at_start: bool = True
    tasks: OneOrMore[str] = ("verbalizer",)
    limit: int | None = 8
    data: str | None = None
    held_out: bool = True
    num_beams: int = 10
    image: str | None = None

    def __post_init__(self) -> None:
        share = 0 < self.steps < 1
        whole = self.steps >= 1 and float(self.steps).is_integer()
        check(
            "evaluation.steps",
            self.steps,
            share or whole,
            "a number of steps, or a share of them above 0 and below 1",
        )
        for name, value in (("limit", self.limit), ("num_beams", self.num_beams)):
            check(f"evaluation.{name}", value, value is None or value >= 1, "at least 1")
        image = self.image
        check("evaluation.image", image, image in (None, *MODES), f"one of {', '.join(MODES)}")

    def every(self, total: int) -> int:
        """Return the steps from one evaluation to the next, of so many steps in all."""
        return int(self.steps) if self.steps >= 1 else max(1, math.ceil(self.steps * total))


# What early stopping may go by: the held-out loss should fall, F1 should rise.
STOPPING_METRICS = ("held_out_loss", "f1_natural", "f1_neutral", "f1_unnatural", "f1_all")


@dataclass(frozen=True)
class EarlyStoppingSettings:
    """When training ends before its last step, judged by the evaluations behind a step.

    An evaluation is better if its metric is better than the best one's by more than `min_delta`.
    The first is the best until then. Of equal ones the earliest is kept, which was trained least;
    but while all are equal the last, for the metric tells no step from another, and training does
    not end by it. What was before the first step does not count.

    Attributes:
        metric: One of `STOPPING_METRICS`.
        patience: Training ends after so many evaluations in a row that are not better; null: never.
        min_delta: In units of the metric; F1 is from 0 to 1.
        keep: Whose weights become the checkpoint: `best` (a state is kept of each best evaluation)
            or `last`. Also where training reaches its last step.
    """

    metric: str
    patience: int | None = 3
    min_delta: float = 0.0
    keep: str = "best"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("metric", self.metric, STOPPING_METRICS),
            ("keep", self.keep, ("best", "last")),
        ):
            check(f"early_stopping.{name}", value, value in known, f"one of {', '.join(known)}")
        patience = self.patience
        check("early_stopping.patience", patience, patience is None or patience >= 1, "at least 1")
        check("early_stopping.min_delta", self.min_delta, self.min_delta >= 0, "at least 0")
