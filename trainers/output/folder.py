"""What stands beside a trained checkpoint: recipe, data, versions, losses, how to score it."""

import csv
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
import yaml
from tqdm import tqdm
from transformers import TrainerCallback

from verbalizer_bench.io.files import hold, write_whole
from verbalizer_bench.models.adapters.fingerprints import versions
from verbalizer_bench.models.checkpoints.weight_hash import KIND, checkpoint_sha256, weights_sha256
from verbalizer_bench.trainers.checkpoints.load import Checkpoint, count
from verbalizer_bench.trainers.conversations.formats import answers_found
from verbalizer_bench.trainers.data.cache import TrainingData, file_sha256
from verbalizer_bench.trainers.output.model_card_notes import asking_notes
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.training.resume_states import (
    Found,
    State,
    newest_whole,
    state_places,
)

log = logging.getLogger(__name__)

_AT_THE_START = {"recipe.yaml", "training.json", "lock", "state"}
_AT_THE_START |= {"recipe.yaml.part", "training.json.part", "checkpoint.part"}
# What may differ when a run goes on.
_FREE = ("resume", "workers", "report_to", "save_steps", "cache", "device_batch")


class Folder:
    """A recipe's output folder.

    Attributes:
        path: The folder.
        main: Whether this process writes.
        finished: Whether it holds the finished checkpoint of this recipe already.
        started: Whether it holds a training of this recipe that goes on.
        places: The folders where its states may be.
    """

    def __init__(self, recipe: Recipe, main: bool) -> None:
        """Refuse a folder that holds something else.

        Raises:
            ValueError: It is not empty and the recipe does not resume, or resumes another recipe.
        """
        self.recipe, self.path, self.main = recipe, recipe.output, main
        self.places = state_places(recipe.output, recipe.cache)
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
        """Tell whether nothing is here but what a start leaves that fails before a state."""
        found = {entry.name for entry in self.path.iterdir()}
        states = self.path / "state"
        return (
            found <= _AT_THE_START
            and not any(states.glob("checkpoint-*"))
            and "seconds" not in self._record()
            and newest_whole(self.places, self.run).state is None
        )

    @property
    def run(self) -> str:
        """Return what tells this training from others into the same folder."""
        return str(self._record().get("run", ""))

    def _check_recipe(self) -> None:
        file = self.path / "recipe.yaml"
        if not file.is_file():
            raise ValueError(f"output={self.path}: no recipe.yaml in it to resume; give another")
        before, now = self._read_mapping(file, yaml.safe_load), self.recipe.as_dict()
        # What there was before there was a choice.
        before.setdefault("loss", "tokens")
        bound = {"device_batch"} if self.recipe.loss == "micro_batches" else set()
        for key in now:
            if key not in {*_FREE} - bound and before.get(key) != now[key]:
                raise ValueError(
                    f"output={self.path}: it was started with {key}={before.get(key)!r}, not "
                    f"{now[key]!r}; give that, or another output"
                )

    def _check_files(self) -> None:
        for one in self._record().get("data", ()):
            file = Path(one["file"])
            if file.is_file() and (now := file_sha256(file)) != one["sha256"]:
                raise self._other_data(f"{file} of sha256", one["sha256"], now)

    def check_data(self, data: TrainingData) -> None:
        """Refuse to go on with other data, images or weights than training was started with.

        Raises:
            ValueError: They are others.
        """
        before = self._record() if self.started else {}
        hashes = [one["sha256"] for one in before.get("data", ())]
        now = [one.sha256 for one in data.files]
        if before and hashes != now:
            raise self._other_data("data of sha256", ", ".join(hashes), ", ".join(now))
        if before and before.get("images") != data.images:
            where = self.recipe.images or self.recipe.data[0].parent
            raise self._other_data(f"images in {where} of sha256", before["images"], data.images)
        # They are gigabytes: one process reads them.
        if not self.main or not before:
            return
        own = self.recipe.model
        if before.get("base_weights") != (weights := self._base_weights()):
            what = f"{own.path or own.llm}, weights of sha256"
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
        """Read what an earlier attempt has noted; it is written whole, so that a kill breaks none.

        Raises:
            ValueError: Somebody else has changed it.
        """
        try:
            found = parse(file.read_text(encoding="utf-8"))
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(
                f"output={self.path}: {file.name} in it cannot be read any more "
                f"({' '.join(str(error).split())}); put it back, or give another output"
            ) from error
        if not isinstance(found, dict):
            raise ValueError(
                f"output={self.path}: {file.name} in it is {type(found).__name__}, no block of "
                "keys; put it back, or give another output"
            )
        return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no other process train into the folder meanwhile.

        Raises:
            ValueError: One does.
        """
        if not self.main:
            yield
            return
        with hold(self.path / "lock") as mine:
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

    def last_state(self) -> State | None:
        """Return the newest whole state to go on from; say which newer ones were cut off."""
        found = newest_whole(self.places, self.run) if self.started else Found(None, [])
        if self.main and self.recipe.resume:
            for line in found.passed_over:
                log.warning("Passed over, %s", line)
            if found.state is None:
                log.warning(
                    "output=%s: NO WHOLE STATE in it: training starts from the BEGINNING", self.path
                )
            else:
                log.warning("Training goes on from step %d, %s", *found.state[1::-1])
        return found.state

    def start(self, checkpoint: Checkpoint, data: TrainingData, processes: int) -> str:
        """Write the resolved recipe, and what is known before training; return the run's name."""
        run = self.run if self.started else uuid4().hex
        text = yaml.safe_dump(self.recipe.as_dict(), sort_keys=False, allow_unicode=True)
        write_whole(self.path / "recipe.yaml", text)
        trained, frozen = count(checkpoint.model, self.recipe)
        self._write(
            {
                "run": run,
                "data": data.record()["files"],
                "images": data.images,
                "records": len(data.dataset),
                "skipped": data.skipped,
                "parameters": {"trained": trained, "frozen": frozen},
                "answers": answers_found(self.recipe.format, checkpoint.tokenizer),
                "asking": asking_notes(checkpoint),
                "base_weights": self._base_weights(),
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
    ) -> None:
        """Write the losses, the model card and the rest of the record."""
        losses = [row for row in trainer.state.log_history if "loss" in row]
        attempts = trainer.clock.attempts(trainer.state.global_step)
        _write_losses(losses, self.path / "losses.csv")
        _draw_losses(losses, self.path / "losses.png")
        record = self._record() | {
            "steps": trainer.state.global_step,
            "tokens": losses[-1].get("num_tokens") if losses else 0,
            "loss": {"first": losses[0]["loss"], "last": losses[-1]["loss"]} if losses else {},
            "held_out": held_out,
            "weights": checkpoint_sha256(self.path),
            "weights_kind": KIND,
            # Of a training that was resumed, the sum; what was trained after a state is lost.
            "seconds": round(sum(one["seconds"] for one in attempts), 1),
            "attempts": attempts,
        }
        card = model_card(self.recipe, record, scoring_command(self.recipe, checkpoint))
        (self.path / "README.md").write_text(card, encoding="utf-8")
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


def scoring_command(recipe: Recipe, checkpoint: Checkpoint) -> str:
    """Return the command that scores a checkpoint on the suite."""
    dtype = str(checkpoint.saved_dtype).removeprefix("torch.")
    adapter, image = ("llm", "") if recipe.method == "sft" else ("lvlm", ",image=white")
    template = "--apply_chat_template " if checkpoint.processor.chat_template else ""
    return (
        f"verbalizer-bench run --model verbalizer-{adapter} "
        f"--model_args pretrained={recipe.output},dtype={dtype}{image} {template}"
        f"--tasks verbalizer --batch_size auto --output_path out/{recipe.output.name}"
    )


def model_card(recipe: Recipe, record: dict[str, Any], command: str) -> str:
    """Return a model card: what it was made of and how, and how to score it."""
    own = recipe.model
    made_of = own.config and f"random weights, seed {recipe.seed}, of the architecture {own.config}"
    base = made_of or own.path or f"{own.vision_tower} + {own.llm}, connector {own.connector}"
    data = "\n".join(f"- `{one['file']}`, sha256 {one['sha256']}" for one in record["data"])
    skipped = "".join(f"; {n} left out: {why}" for why, n in record["skipped"].items())
    parameters = record["parameters"]
    held_out = ""
    if found := record["held_out"]:
        held_out = (
            f" Held out: loss {found['loss']:.4f}, the mean over {found['records']:,} records, "
            "each alone."
        )
    asking = "".join(f"\n\n{note}" for note in record.get("asking", ()))
    return f"""---
library_name: transformers
tags: [verbalizer-bench, {recipe.method}]
---
# {recipe.output.name}

Made by verbalizer-bench {record["versions"]["verbalizer-bench"]}, method `{recipe.method}`\
{" with a low-rank adapter" if recipe.lora else ""}, from {base}.
{parameters["trained"]:,} parameters were trained, {parameters["frozen"]:,} were not.

{record["steps"]} steps of {recipe.global_batch} samples, loss {record["loss"].get("first", 0):.4f}
at the first and {record["loss"].get("last", 0):.4f} at the last ([losses.csv](losses.csv)).\
{held_out}
The whole recipe: [recipe.yaml](recipe.yaml); versions and hashes: [training.json](training.json).

![Loss by step](losses.png)

## Data

{record["records"]:,} records{skipped}. Answers were found by {record["answers"]}.

{data}

## Score it

```bash
{command}
```

It loads in plain transformers; licences are those of the base and of the data.\
{asking}
"""


class ProgressBar(TrainerCallback):
    """One bar with loss, tokens a second and time left, on the first process."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar at the step that training goes on from."""
        self._tokens, self._since = None, time.perf_counter()
        self._bar = tqdm(
            desc="Training",
            total=state.max_steps,
            initial=state.global_step,
            unit="step",
            disable=not state.is_world_process_zero,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the loss and the speed since the last time."""
        if not logs or "loss" not in logs:
            return
        now, tokens = time.perf_counter(), logs.get("num_tokens", 0)
        speed = (
            "" if self._tokens is None else f"{(tokens - self._tokens) / (now - self._since):,.0f}"
        )
        self._tokens, self._since = tokens, now
        self._bar.set_postfix_str(f"loss {logs['loss']:.4f}" + (speed and f", {speed} tokens/s"))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self._bar.close()


def _write_losses(losses: list[dict[str, Any]], file: Path) -> None:
    columns = ("step", "epoch", "loss", "learning_rate", "grad_norm", "num_tokens")
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(losses)


def _draw_losses(losses: list[dict[str, Any]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["step"] for row in losses], [row["loss"] for row in losses], linewidth=1)
    axes.set(xlabel="step", ylabel="loss", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
