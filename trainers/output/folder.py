"""A recipe's output folder: what is recorded beside the checkpoint, and whether it can go on."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
import yaml

from verbalizer_bench.io.files import try_lock, write_whole
from verbalizer_bench.io.hub_records import is_hub, without_revision
from verbalizer_bench.io.record_files import lacking, records_sha256
from verbalizer_bench.models.adapters.fingerprints import versions
from verbalizer_bench.models.checkpoints.weight_hash import KIND, checkpoint_sha256, weights_sha256
from verbalizer_bench.trainers.checkpoints.load import Checkpoint
from verbalizer_bench.trainers.checkpoints.quantized import quantized_record
from verbalizer_bench.trainers.checkpoints.trainable import count_parameters
from verbalizer_bench.trainers.conversations.answers import describe_answers
from verbalizer_bench.trainers.conversations.preferences import BEST, cut_off_pairs, selection
from verbalizer_bench.trainers.curve.evaluator import Evaluator
from verbalizer_bench.trainers.data.cache import TrainingData
from verbalizer_bench.trainers.output.losses import draw_losses, write_losses
from verbalizer_bench.trainers.output.model_card import asking_notes, model_card, scoring_command
from verbalizer_bench.trainers.recipe import RENAMED, Recipe
from verbalizer_bench.trainers.training.inputs import row_kind, sample_order
from verbalizer_bench.trainers.training.resume_states import ResumeState, newest_whole, state_places

log = logging.getLogger(__name__)

_AT_THE_START = {"recipe.yaml", "training.json", "lock", "state"}
_AT_THE_START |= {"recipe.yaml.part", "training.json.part", "checkpoint.part"}
_AT_THE_START |= {"curve", "curve.csv", "curve.png", "curve.csv.part"}
# What may differ when a run goes on.
_FREE = (
    *("resume", "report_to", "save_steps", "cache", "push_to_hub", "hub_private_repo"),
    *("dataloader_num_workers", "per_device_batch_size"),
)


class OutputFolder:
    """A recipe's output folder.

    Attributes:
        path: The folder.
        main: Whether this process writes.
        finished: Whether it holds the finished checkpoint of this recipe already.
        started: Whether it holds a training of this recipe that goes on.
        places: The folders where its states may be.
        reference: Of `dpo`: what the reference log-probabilities were made of, for the record.
    """

    def __init__(self, recipe: Recipe, main: bool) -> None:
        """Refuse a folder that holds something else.

        Raises:
            ValueError: It is not empty and the recipe does not resume, or resumes another recipe.
        """
        self.recipe, self.path, self.main = recipe, recipe.output, main
        self.places = state_places(recipe.output, recipe.cache)
        self.reference: dict[str, Any] | None = None
        self.finished = self.started = False
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"output={self.path}: is a file; give a folder")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        if self._came_to_nothing():
            if main:
                log.warning("output=%s: a start that came to nothing is begun again", self.path)
            return
        if not recipe.resume:
            if main:
                raise self._not_empty()
            return
        self._check_recipe()
        self._check_files()
        self.started, self.finished = True, "seconds" in self._record()

    def _not_empty(self) -> ValueError:
        return ValueError(
            f"output={self.path}: not empty; give another folder, or resume=true to go on"
        )

    def _came_to_nothing(self) -> bool:
        """Tell whether all that is here is from a start that failed before its first state."""
        names = {entry.name for entry in self.path.iterdir()}
        states = self.path / "state"
        return (
            names <= _AT_THE_START
            and not any(states.glob("checkpoint-*"))
            and "seconds" not in self._record()
            and newest_whole(self.places, self.run).state is None
        )

    @property
    def run(self) -> str:
        """Return the id that tells this training from others into the same folder."""
        return str(self._record().get("run", ""))

    def _check_recipe(self) -> None:
        file = self.path / "recipe.yaml"
        if not file.is_file():
            raise ValueError(f"output={self.path}: no recipe.yaml in it to resume; give another")
        now = self.recipe.as_dict()
        before = self._read_mapping(file, yaml.safe_load)
        before = {RENAMED.get(key, key): value for key, value in before.items()}
        # What there was before there was a choice.
        before.setdefault("loss", "tokens")
        before.setdefault("optim", "adamw_torch_fused")
        before.setdefault("use_liger_kernel", False)
        before.setdefault("packing", False)
        before.setdefault("trained_modules", "all")
        bound = {"per_device_batch_size"} if self.recipe.loss == "micro_batches" else set()
        for key in now:
            # Which commit of a hub's data set it was, the hashes of the data tell.
            same = without_revision(before.get(key)) == without_revision(now[key])
            if key not in {*_FREE} - bound and not same:
                raise ValueError(
                    f"output={self.path}: it was started with {key}={before.get(key)!r}, not "
                    f"{now[key]!r}; give that, or another output"
                )

    def _check_files(self) -> None:
        for one in self._record().get("data", ()):
            file = Path(one["file"])
            if lacking(file) is None and (now := records_sha256(file)) != one["sha256"]:
                raise self._other_data(f"{file} of sha256", one["sha256"], now)

    def check_data(self, data: TrainingData) -> None:
        """Refuse to resume with other data, images or weights than training was started with.

        Raises:
            ValueError: They are others.
        """
        before = self._record() if self.started else {}
        hashes = [one["sha256"] for one in before.get("data", ())]
        now = [one.sha256 for one in data.files]
        if before and hashes != now:
            names, others = (
                [one["file"] for one in before["data"]],
                [one.file for one in data.files],
            )
            # The name of a hub's data set has its commit.
            if names != others and any(is_hub(Path(name)) for name in names):
                raise self._other_data("data", ", ".join(names), ", ".join(others))
            raise self._other_data("data of sha256", ", ".join(hashes), ", ".join(now))
        if before and before.get("images") != data.images:
            what = f"images in {self.recipe.images_folder} of sha256"
            raise self._other_data(what, before["images"], data.images)
        # Gigabytes: one process reads them.
        if not self.main or not before:
            return
        if before.get("base_weights") != (weights := self._base_weights()):
            what = f"{self.recipe.model.path or self.recipe.model.llm}, weights of sha256"
            raise self._other_data(what, before.get("base_weights"), weights)

    def _other_data(self, what: str, before: object, now: object) -> ValueError:
        return ValueError(
            f"output={self.path}: it was started with {what} {before}, now {now}; put back what it "
            "was, or give another output"
        )

    def _record(self) -> dict[str, Any]:
        file = self.path / "training.json"
        return self._read_mapping(file, json.loads) if file.is_file() else {}

    def _read_mapping(self, file: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
        """Read what an earlier attempt recorded; it was written whole, so that no kill breaks it.

        Raises:
            ValueError: It was changed since.
        """
        try:
            mapping = parse(file.read_text(encoding="utf-8"))
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(
                f"output={self.path}: {file.name} in it cannot be read any more "
                f"({' '.join(str(error).split())}); put it back, or give another output"
            ) from error
        if not isinstance(mapping, dict):
            raise ValueError(
                f"output={self.path}: {file.name} in it is {type(mapping).__name__}, no block of "
                "keys; put it back, or give another output"
            )
        return mapping

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training into the folder meanwhile.

        Raises:
            ValueError: One does already.
        """
        if not self.main:
            yield
            return
        with try_lock(self.path / "lock") as mine:
            if not mine:
                number = (self.path / "lock").read_text(encoding="utf-8").strip()
                raise ValueError(
                    f"output={self.path}: process {number} trains into it; wait for it, or give "
                    "another output"
                )
            # Another process may have been faster.
            if not self.started and not self._came_to_nothing():
                raise self._not_empty()
            yield

    def last_state(self) -> ResumeState | None:
        """Return the newest whole state to resume from; warn of newer ones that were cut off."""
        newest = newest_whole(self.places if self.started else (), self.run)
        if self.main and self.recipe.resume:
            for line in newest.passed_over:
                log.warning("Passed over, %s", line)
            if newest.state is None:
                log.warning(
                    "output=%s: NO WHOLE STATE in it: training starts from the BEGINNING", self.path
                )
            else:
                log.warning("Training goes on from step %d, %s", *newest.state[1::-1])
        return newest.state

    def start(self, checkpoint: Checkpoint, data: TrainingData, processes: int) -> str:
        """Write the resolved recipe, and what is known before training; return the run's id."""
        run = self.run if self.started else uuid4().hex
        text = yaml.safe_dump(self.recipe.as_dict(), sort_keys=False, allow_unicode=True)
        write_whole(self.path / "recipe.yaml", text)
        trained, frozen = count_parameters(checkpoint.model, self.recipe)
        self._write(
            {
                "run": run,
                "data": data.record()["files"],
                "images": data.images,
                "records": len(data.dataset),
                "skipped": data.skipped,
                "cut": {"records": data.cut, "tokens": data.lost},
                "seen_twice": sample_order(self.recipe, data.lengths, data.has_image).seen_twice,
                "parameters": {"trained": trained, "frozen": frozen},
                "attn_implementation": checkpoint.model.config._attn_implementation,
                **({"quantization": base} if (base := quantized_record(checkpoint.model)) else {}),
                **_selection(self.recipe),
                "answers": describe_answers(
                    self.recipe.format, checkpoint.tokenizer, self.recipe.thoughts
                ),
                "asking": asking_notes(checkpoint),
                "base_weights": self._base_weights(),
                **({"reference": self.reference} if self.reference else {}),
                "processes": processes,
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
                "versions": versions() | {"trl": version("trl"), "datasets": version("datasets")},
            }
        )
        return run

    def finish(
        self,
        checkpoint: Checkpoint,
        trainer: Any,
        held_out: dict[str, Any] | None,
        evaluator: Evaluator | None,
    ) -> None:
        """Write the losses, the model card and the rest of the record."""
        losses = [row for row in trainer.state.log_history if "loss" in row]
        attempts = trainer.timer.attempts(trainer.state.global_step)
        write_losses(losses, self.path / "losses.csv")
        draw_losses(losses, self.path / "losses.png")
        record = self._record() | {
            "steps": trainer.state.global_step,
            "tokens": losses[-1].get("num_tokens") if losses else 0,
            "loss": _losses(losses, evaluator),
            "held_out": held_out,
            **({"evaluation": evaluator.record()} if evaluator else {}),
            "weights": checkpoint_sha256(self.path),
            "weights_kind": KIND,
            # Of a training that was resumed, the sum; what was trained after a state is lost.
            "seconds": round(sum(one["seconds"] for one in attempts), 1),
            "attempts": attempts,
        }
        card = model_card(self.recipe, record, scoring_command(self.recipe, checkpoint))
        write_whole(self.path / "README.md", card)
        # Last: with it a training is finished.
        self._write(record)
        for place in self.places[1:]:
            shutil.rmtree(place, ignore_errors=True)

    def _base_weights(self) -> str | None:
        """Return the hash of the checkpoint that training starts from; None for random weights."""
        name = self.recipe.model.path or self.recipe.model.llm
        return weights_sha256(name) if name else None

    def _write(self, record: dict[str, Any]) -> None:
        write_whole(self.path / "training.json", json.dumps(record, indent=1) + "\n")


def _losses(losses: list[dict[str, Any]], evaluator: Evaluator | None) -> dict[str, float]:
    """Return the first and the last step's loss and, where its weights are kept, another's."""
    if not losses:
        return {}
    found = {"first": losses[0]["loss"], "last": losses[-1]["loss"]}
    if evaluator and evaluator.kept_step != losses[-1]["step"]:
        # None where a resumed training has no log of that step.
        kept = next((row["loss"] for row in losses if row["step"] == evaluator.kept_step), None)
        found |= {} if kept is None else {"kept": kept}
    return found


def _selection(recipe: Recipe) -> dict[str, Any]:
    """Return how completions were chosen, or which pairs were cut off; warn of the latter."""
    if recipe.method == "dpo":
        return {"cut_off": _cut_off(recipe)}
    if recipe.method not in ("rejection", "steerlm"):
        return {}
    found = selection(recipe.files, row_kind(recipe).parse)
    if found.cut_off:
        log.warning(
            "%d of the completions that are trained on were cut off by a limit of tokens, and the "
            "model learns to stop there; build them with completions.cut_off=drop",
            found.cut_off,
        )
    rule = BEST if recipe.method == "rejection" else "every completion that has scores"
    return {"selection": {"rule": rule, **found._asdict()}}


def _cut_off(recipe: Recipe) -> dict[str, int]:
    """Return how many pairs have an answer that a limit cut off; warn of them."""
    found = cut_off_pairs(recipe.files)
    if found.chosen or found.rejected:
        log.warning(
            "of %d pairs the chosen answer and of %d the rejected one were cut off by a limit of "
            "tokens, and they are trained as if they ended there; build them with "
            "completions.cut_off=drop",
            found.chosen,
            found.rejected,
        )
    return found._asdict()
