"""Evaluate a model every some steps of its training, and write the curve as it goes."""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from verbalizer_bench.trainers.checkpoints.load import Checkpoint
from verbalizer_bench.trainers.curve.figure import draw_curve
from verbalizer_bench.trainers.curve.lending import evaluating, lent, random_state_kept
from verbalizer_bench.trainers.curve.points import F1, HELD_OUT, CurveFiles, Point, measured
from verbalizer_bench.trainers.curve.suite import Answer, Suite
from verbalizer_bench.trainers.data.cache import TrainingData
from verbalizer_bench.trainers.evaluation_settings import EvaluationSettings
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.training.trainer import held_out_loss


class Evaluator:
    """What a trainer asks for an evaluation; training goes on as if there had been none.

    Attributes:
        points: What was found so far.
        files: Where it is written.
    """

    def __init__(
        self,
        recipe: Recipe,
        checkpoint: Checkpoint,
        held_out: TrainingData | None,
        last_step: int,
        main: bool,
    ) -> None:
        """Load the tasks, and read what an earlier attempt has found.

        Args:
            recipe: The recipe, with an `evaluation`.
            checkpoint: What is trained.
            held_out: The recipe's held-out records, if any.
            last_step: The step that training goes on from; 0 at the start.
            main: Whether this process writes.
        """
        assert recipe.evaluation
        self.settings: EvaluationSettings = recipe.evaluation
        self._dtype, self._main = checkpoint.saved_dtype, main
        self._held_out = held_out if self.settings.held_out else None
        self._suite: Suite | None = None
        if self.settings.tasks:
            # The saved checkpoint's tokenizer is read from files: so is the one that asks here.
            self._folder = tempfile.TemporaryDirectory(prefix="verbalizer-bench-")
            _save_around(checkpoint, Path(self._folder.name))
            with random_state_kept():
                self._suite = Suite(self.settings, not recipe.text_model, Path(self._folder.name))
        self.files = CurveFiles(recipe.output)
        self.points = self.files.read(last_step) if main else []

    def attach(self, trainer: Any) -> None:
        """Have a trainer evaluate its model.

        Raises:
            ValueError: Its weights are spread over the processes, and the suite is to be asked.
        """
        if self._suite and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
            raise ValueError(
                f"evaluation.tasks={', '.join(self.settings.tasks)}: FSDP and DeepSpeed spread the "
                "weights over the processes, and the suite needs whole layers; give "
                "evaluation.tasks=[] for the held-out loss alone, or spread the recipe by DDP"
            )
        trainer.evaluation = self.measure
        trainer.add_callback(EvaluationSchedule(self, trainer))

    def measure(self, trainer: Any) -> Mapping[str, float]:
        """Evaluate the model as it is now; to be called on all processes, between two steps."""
        started = time.perf_counter()
        scores = loss = answers = None
        with random_state_kept(), evaluating(trainer.model):
            if self._held_out:
                loss = held_out_loss(trainer, self._held_out)["loss"]
            if self._suite:
                answers = self._ask(trainer, self._suite)
                scores = self._suite.scores(answers)
            values = measured(scores, loss)
            # The loss was logged when it was measured.
            trainer.log({f"eval_{n}": value for n, value in values.items() if n != HELD_OUT})
        state, tokens = trainer.state, getattr(trainer, "_total_train_tokens", None)
        seconds = round(time.perf_counter() - started, 2)
        epoch = round(state.epoch or 0.0, 4)
        self._keep(Point(state.global_step, epoch, tokens, values, seconds), answers)
        return values

    def record(self) -> dict[str, Any]:
        """Return what the curve was made of and where it ended, as JSON values."""
        suite = self._suite.record() if self._suite else None
        return {
            "suite": suite and suite | {"weights": str(self._dtype).removeprefix("torch.")},
            "points": len(self.points),
            "first": self.points[0].row() if self.points else None,
            "last": self.points[-1].row() if self.points else None,
            "seconds": round(sum(point.seconds for point in self.points), 1),
        }

    def _ask(self, trainer: Any, suite: Suite) -> list[Answer]:
        with trainer.lending() as model, lent(model, self._dtype, suite.generation_config):
            return suite.ask(model, trainer.args.process_index, trainer.args.world_size)

    def _keep(self, point: Point, answers: Sequence[Answer] | None) -> None:
        self.points.append(point)
        if not self._main:
            return
        self.files.write(self.points)
        draw_curve(self.points, self.files.figure)
        if answers is not None:
            self.files.write_responses(point.step, answers)
        tqdm.write(_line(point, len(answers or ())), file=sys.stderr)


class EvaluationSchedule(TrainerCallback):
    """Says when a trainer evaluates: before the first step, every some steps, after the last."""

    def __init__(self, evaluator: Evaluator, trainer: Any) -> None:
        self._evaluator, self._trainer = evaluator, trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate what is not trained yet."""
        if self._evaluator.settings.at_start and state.global_step == 0:
            self._evaluator.measure(self._trainer)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for an evaluation where one is due."""
        every = self._evaluator.settings.every(state.max_steps)
        if state.global_step % every == 0 or state.global_step == state.max_steps:
            control.should_evaluate = True


def _save_around(checkpoint: Checkpoint, folder: Path) -> None:
    """Write what a saved checkpoint has beside its weights."""
    checkpoint.config.save_pretrained(folder)
    checkpoint.model.generation_config.save_pretrained(folder)
    checkpoint.processor.save_pretrained(folder)


def _line(point: Point, responses: int) -> str:
    parts = []
    if HELD_OUT in point.values:
        parts.append(f"held-out loss {point.values[HELD_OUT]:.4f}")
    scores = [(n, point.values[column]) for n, column in F1.items() if column in point.values]
    if scores:
        shown = ", ".join(f"{name.lower()} {100 * value:.1f}" for name, value in scores)
        parts.append(f"F1 in % {shown} ({responses:,} responses)")
    return f"Step {point.step}: {'; '.join(parts)}; {point.seconds:.1f} s"
