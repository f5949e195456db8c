"""Evaluate a model every some steps of its training, and write the curve as it goes."""

import logging
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from tqdm import tqdm
from transformers import TrainerCallback

from verbalizer_bench.io.wording import counted
from verbalizer_bench.models.checkpoints.strict_loading import one_line
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.trainers.checkpoints.load import Checkpoint
from verbalizer_bench.trainers.curve.figure import draw_curve
from verbalizer_bench.trainers.curve.lending import evaluating, lent, random_state_kept
from verbalizer_bench.trainers.curve.points import (
    F1,
    HELD_OUT,
    METRICS,
    CurveFiles,
    Point,
    measured,
)
from verbalizer_bench.trainers.curve.stopping import Verdict, judge, kept_record
from verbalizer_bench.trainers.curve.suite import Answer, Suite
from verbalizer_bench.trainers.data.cache import TrainingData
from verbalizer_bench.trainers.evaluation_settings import EvaluationSettings
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.training.memory_errors import (
    EvaluationMemoryError,
    is_memory_error,
)
from verbalizer_bench.trainers.training.resume_states import state_of
from verbalizer_bench.trainers.training.state_saving import on_all_processes
from verbalizer_bench.trainers.training.trainer import held_out_loss

log = logging.getLogger(__name__)


class Evaluator:
    """What a trainer asks for an evaluation; training goes on as if there had been none.

    Attributes:
        points: What was found so far.
        files: Where it is written.
        kept_step: The step whose weights the model has after training.
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
        base = ", the base quantised as it is trained" if recipe.quantization else ""
        self._weights = checkpoint.saved_dtype_name + base
        self._held_out = held_out if self.settings.held_out else None
        self._suite: Suite | None = None
        if self.settings.tasks:
            # The saved checkpoint's tokenizer is read from files: so is the one that asks here.
            self._folder = tempfile.TemporaryDirectory(prefix="verbalizer-bench-")
            _save_around(checkpoint, Path(self._folder.name))
            with random_state_kept():
                self._suite = Suite(self.settings, not recipe.text_model, Path(self._folder.name))
        self._stopping = recipe.early_stopping
        # Known when training begins.
        self._last_planned: int | None = None
        if self._stopping:
            self._check_metric(self._stopping.metric)
        self.files = CurveFiles(recipe.output)
        found = [self.files.read(last_step) if main else []]
        self.points: list[Point] = broadcast_object_list(found)[0]
        self.kept_step = last_step

    def attach(self, trainer: Any) -> None:
        """Have a trainer evaluate its model.

        Raises:
            ValueError: Its weights are spread over the processes, and the suite is to be asked.
        """
        spread = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        if spread and self._keeps_best:
            raise ValueError(
                "early_stopping.keep=best: weights that FSDP or DeepSpeed spreads cannot be taken "
                "back from a state here; give early_stopping.keep=last, or spread by DDP"
            )
        if spread and self._suite:
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
            told = {name: values[name] for name in METRICS if name in values and name != HELD_OUT}
            trainer.log({f"eval_{name}": value for name, value in told.items()})
        state, tokens = trainer.state, getattr(trainer, "_total_train_tokens", None)
        seconds = round(time.perf_counter() - started, 2)
        epoch = round(state.epoch or 0.0, 4)
        self._keep(Point(state.global_step, epoch, tokens, values, seconds), answers)
        self._control(trainer)
        return values

    @property
    def verdict(self) -> Verdict | None:
        """Return what early stopping says of the points so far; None without it."""
        if not self._stopping:
            return None
        return judge(self._stopping, self.points, self._last_planned)

    @property
    def _keeps_best(self) -> bool:
        return self._stopping is not None and self._stopping.keep == "best"

    def _control(self, trainer: Any) -> None:
        """Have a best step's state kept, and training end where it is to."""
        verdict, step = self.verdict, trainer.state.global_step
        if verdict is None or step == 0:
            return
        if self._keeps_best and verdict.best == step:
            # transformers rotates it away with the oldest but for this.
            trainer.state.best_model_checkpoint = str(
                Path(trainer.args.output_dir) / f"checkpoint-{step}"
            )
            trainer.control.should_save = True
        if verdict.stop:
            trainer.control.should_training_stop = True

    def settle(self, trainer: Any) -> None:
        """Put the weights into the model that become the checkpoint, after the last step."""
        self._last_planned = trainer.state.max_steps
        verdict, self.kept_step = self.verdict, trainer.state.global_step
        if self._main and verdict:
            log.warning("early stopping: %s", verdict.reason)
        if not self._keeps_best or not verdict or verdict.best in (None, self.kept_step):
            return
        state = state_of(Path(trainer.args.output_dir), verdict.best, trainer.timer.run)
        if not on_all_processes(trainer, state is not None):
            log.error(
                "early_stopping.keep=best: the state of step %d could not be kept; the checkpoint "
                "has the weights of the last step, %d",
                verdict.best,
                self.kept_step,
            )
            return
        trainer._load_from_checkpoint(str(state))
        self.kept_step = verdict.best
        if self._main:
            draw_curve(self.points, self.files.figure, self.kept_step)

    def record(self) -> dict[str, Any]:
        """Return what the curve was made of and where it ended, as JSON values."""
        suite = self._suite.record() if self._suite else None
        verdict = self.verdict
        return {
            "suite": suite and suite | {"weights": self._weights},
            "points": len(self.points),
            "first": self.points[0].row() if self.points else None,
            "last": self.points[-1].row() if self.points else None,
            "kept": self._stopping
            and verdict
            and kept_record(self._stopping, verdict, self.kept_step),
            "seconds": round(sum(point.seconds for point in self.points), 1),
        }

    def _ask(self, trainer: Any, suite: Suite) -> list[Answer]:
        try:
            with trainer.lending() as model, lent(model, self._dtype, suite.generation_config):
                return suite.ask(model, trainer.args.process_index, trainer.args.world_size)
        except (RuntimeError, MemoryError) as error:
            if not is_memory_error(error):
                raise
            raise EvaluationMemoryError(
                f"evaluation at step {trainer.state.global_step}: out of memory: "
                f"{one_line(error)}; give evaluation.num_beams=1, it is {self.settings.num_beams}, "
                "or evaluation.tasks=[] for the held-out loss alone"
            ) from error

    def _keep(self, point: Point, answers: Sequence[Answer] | None) -> None:
        self.points.append(point)
        if not self._main:
            return
        tqdm.write(_line(point, len(answers or ())), file=sys.stderr)
        try:
            self.files.write(self.points)
            draw_curve(self.points, self.files.figure)
            if answers is not None:
                self.files.write_responses(point.step, answers)
        except OSError as error:
            # The next point's table has this one too.
            log.error("%s: not all of step %d is written: %s", self.files.table, point.step, error)

    def _check_metric(self, metric: str) -> None:
        """Raise ValueError where the tasks cannot give what early stopping goes by."""
        types = {task.verbalizer.type for task in self._suite.tasks.values()} if self._suite else ()
        wanted = {F1[name]: {name} for name in LABEL_TYPES} | {F1["All"]: set(LABEL_TYPES)}
        if missing := sorted(wanted.get(metric, set()) - set(types)):
            raise ValueError(
                f"early_stopping.metric={metric}: evaluation.tasks has no task with "
                f"{' and '.join(missing)} label words; give more tasks, or another metric"
            )


class EvaluationSchedule(TrainerCallback):
    """Says when a trainer evaluates: before the first step, every some steps, after the last."""

    def __init__(self, evaluator: Evaluator, trainer: Any) -> None:
        self._evaluator, self._trainer = evaluator, trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate what is not trained yet, and make up for what an interruption left out."""
        found = {point.step for point in self._evaluator.points}
        if state.global_step not in found and self._is_due(state):
            self._evaluator.measure(self._trainer)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for an evaluation where one is due."""
        if self._is_due(state):
            control.should_evaluate = True

    def _is_due(self, state: Any) -> bool:
        settings, step = self._evaluator.settings, state.global_step
        if step == 0:
            return settings.at_start
        return step % settings.every(state.max_steps) == 0 or step == state.max_steps


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
        parts.append(f"F1 in % {shown} ({counted(responses, 'response')})")
    return f"Step {point.step}: {'; '.join(parts)}; {point.seconds:.1f} s"
