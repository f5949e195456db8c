"""Write resume states and checkpoints such that a full disk costs no trained step."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import Trainer

from verbalizer_bench.trainers.training.resume_states import clear, newest_whole, seal

log = logging.getLogger(__name__)


class AttemptTimer:
    """Seconds of training, counted over all attempts that went into the weights."""

    def __init__(self, run: str, earlier: Sequence[dict[str, Any]] = (), step: int = 0):
        self.run, self.earlier, self.step = run, list(earlier), step
        self.started = time.perf_counter()

    def attempts(self, step: int) -> list[dict[str, Any]]:
        """Return from which step to which each attempt went, and how long it took."""
        seconds = round(time.perf_counter() - self.started, 1)
        return [*self.earlier, {"from_step": self.step, "to_step": step, "seconds": seconds}]


class SealingTrainer(Trainer):
    """A Trainer that seals its states; a full disk costs a state, not the training.

    Attributes:
        timer: Times the attempts, which are sealed with a state.
    """

    timer: AttemptTimer

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if self.accelerator.is_main_process:
            clear(folder)
        self.accelerator.wait_for_everyone()
        problem: Exception | None = None
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            # Sharded weights are gathered in between: other processes would wait for this one.
            if not is_disk_error(error) or self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise
            problem = error
        if not on_all_processes(self, problem is None):
            self._give_up(folder, problem)
        elif self.accelerator.is_main_process:
            attempts = self.timer.attempts(self.state.global_step)
            try:
                seal(folder, {"run": self.timer.run, "attempts": attempts})
            except OSError as error:
                self._give_up(folder, error)

    def _give_up(self, folder: Path, problem: Exception | None) -> None:
        if self.accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
            log.error("%s: this state could not be written (%s), and was left out", folder, problem)


def is_disk_error(error: Exception) -> bool:
    """Tell whether an error is the disk's: torch and safetensors have types of their own."""
    return isinstance(error, (OSError, SafetensorError)) or (
        isinstance(error, RuntimeError)
        and any(word in str(error) for word in ("PytorchStreamWriter", "inline_container"))
    )


def on_all_processes(trainer: Trainer, condition: bool) -> bool:
    """Tell whether a condition holds on all processes; to be called on all of them."""
    if trainer.accelerator.num_processes == 1:
        return condition
    count = torch.tensor(int(condition), device=trainer.accelerator.device)
    total = int(trainer.accelerator.reduce(count, reduction="sum"))
    return total == trainer.accelerator.num_processes


def write_or_keep(
    trainer: SealingTrainer, write: Callable[[], None], output: Path, places: Sequence[Path]
) -> None:
    """Write a checkpoint, or keep what was trained if the disk is full, to write it later.

    Older states make room for it, once what was trained is kept. To be called on all processes.

    Args:
        trainer: After its last step.
        write: Writes the checkpoint.
        output: Where.
        places: Folders of states, from which training would go on.

    Raises:
        OSError: It could not be written; says where what was trained is.
    """
    if (problem := _attempt(trainer, write)) is None:
        return
    kept = keep_trained(trainer, places)
    if kept and _remove_older(trainer, places[0], kept):
        log.warning("%s: %s; older states are removed, and it is tried again", output, problem)
        if (problem := _attempt(trainer, write)) is None:
            return
    where = f"{output}: the checkpoint could not be written ({problem})"
    if kept is None:
        raise OSError(f"{where}, and what was trained could be kept nowhere else: it is lost")
    raise OSError(
        f"{where}; what was trained is kept in {kept}: make room, and the same command with "
        "resume=true writes it"
    )


def _attempt(trainer: SealingTrainer, write: Callable[[], None]) -> Exception | None:
    """Write, and return the error of this or another process, None if all went well."""
    problem: Exception | None = None
    try:
        write()
    except Exception as error:
        if not is_disk_error(error):
            raise
        problem = error
    if on_all_processes(trainer, problem is None):
        return None
    return problem or OSError("another process could not write")


def _remove_older(trainer: SealingTrainer, place: Path, kept: Path) -> bool:
    """Remove states that the kept one supersedes; tell whether there were any."""
    main = trainer.accelerator.is_main_process
    # A resumed training takes the best step's weights from its state.
    best = trainer.state.best_model_checkpoint
    states = place.glob("checkpoint-*") if main else ()
    older = [one for one in states if one != kept and str(one) != best]
    for folder in older:
        shutil.rmtree(folder, ignore_errors=True)
    return on_all_processes(trainer, not main or bool(older))


def keep_trained(trainer: SealingTrainer, places: Sequence[Path]) -> Path | None:
    """Return where what was trained is kept; write it to the first place that takes it.

    To be called on all processes, after the last step.
    """
    for place in places:
        if _is_kept(trainer, place):
            return _last(place, trainer)
        trainer.args.output_dir = str(place)
        # The optimiser's state is for further steps, and there are none.
        trainer.args.save_only_model = True
        try:
            trainer._save_checkpoint(trainer.model, None)
        except OSError as error:
            log.error("%s: %s", place, error)
        if _is_kept(trainer, place):
            return _last(place, trainer)
    return None


def _last(place: Path, trainer: SealingTrainer) -> Path:
    return place / f"checkpoint-{trainer.state.global_step}"


def _is_kept(trainer: SealingTrainer, place: Path) -> bool:
    """Tell whether the state of the last step is there; only the main process looks."""
    state = newest_whole([place], trainer.timer.run).state
    main = trainer.accelerator.is_main_process
    return on_all_processes(
        trainer, not main or (state is not None and state.folder == _last(place, trainer))
    )


def restore_token_count(trainer: Trainer, state: Path) -> None:
    """Have TRL count tokens from where a state was: it would start at zero."""
    history = json.loads((state / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    counts = [row["num_tokens"] for row in history if "num_tokens" in row]
    if counts and hasattr(trainer, "_total_train_tokens"):
        trainer._total_train_tokens = int(counts[-1])
