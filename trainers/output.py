"""What stands beside a trained checkpoint: recipe, data, versions, losses, how to score it."""

import csv
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from verbalizer_bench.files import write_whole
from verbalizer_bench.models.provenance import versions
from verbalizer_bench.models.stored import KIND, checkpoint_sha256, weights_sha256
from verbalizer_bench.trainers.checkpoint import Checkpoint, count
from verbalizer_bench.trainers.data import TrainingData
from verbalizer_bench.trainers.formats import answers_found
from verbalizer_bench.trainers.recipe import Recipe

# What may differ when a run goes on.
_FREE = ("resume", "workers", "report_to", "save_steps", "cache", "device_batch")


class Folder:
    """A recipe's output folder.

    Attributes:
        path: The folder.
        main: Whether this process writes.
        finished: Whether it holds the finished checkpoint of this recipe already.
    """

    def __init__(self, recipe: Recipe, main: bool) -> None:
        """Refuse a folder that holds something else.

        Raises:
            ValueError: It is not empty and the recipe does not resume, or resumes another recipe.
        """
        self.recipe, self.path, self.main = recipe, recipe.output, main
        self.finished = False
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        if not recipe.resume:
            if main:
                raise ValueError(
                    f"output={self.path}: not empty; give another folder, or resume=true to go on"
                )
            return
        self._check_recipe()
        self.finished = "seconds" in self._record()

    def _check_recipe(self) -> None:
        file = self.path / "recipe.yaml"
        if not file.is_file():
            raise ValueError(f"output={self.path}: no recipe.yaml in it to resume; give another")
        before, now = yaml.safe_load(file.read_text(encoding="utf-8")), self.recipe.as_dict()
        for key in now:
            if key not in _FREE and before.get(key) != now[key]:
                raise ValueError(
                    f"output={self.path}: it was started with {key}={before.get(key)!r}, not "
                    f"{now[key]!r}; give that, or another output"
                )

    def _record(self) -> dict[str, Any]:
        file = self.path / "training.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
        return found

    def last_state(self) -> str | None:
        """Return the folder of the last optimiser state that training can go on from."""
        state = self.path / "state"
        found: str | None = get_last_checkpoint(str(state)) if state.is_dir() else None
        return found if self.recipe.resume else None

    def start(self, checkpoint: Checkpoint, data: TrainingData, processes: int) -> None:
        """Write the resolved recipe, and what is known before training."""
        text = yaml.safe_dump(self.recipe.as_dict(), sort_keys=False, allow_unicode=True)
        write_whole(self.path / "recipe.yaml", text)
        trained, frozen = count(checkpoint.model, self.recipe)
        self._write(
            {
                "data": data.record()["files"],
                "images": data.images,
                "records": len(data.dataset),
                "skipped": data.skipped,
                "parameters": {"trained": trained, "frozen": frozen},
                "answers": answers_found(self.recipe.format, checkpoint.tokenizer),
                "base_weights": self._base_weights(),
                "processes": processes,
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
                "versions": versions() | {"trl": version("trl"), "datasets": version("datasets")},
            }
        )
        self._started = time.perf_counter()

    def finish(
        self,
        checkpoint: Checkpoint,
        trainer: Any,
        held_out: dict[str, Any] | None,
    ) -> None:
        """Write the losses, the model card and the rest of the record."""
        losses = [row for row in trainer.state.log_history if "loss" in row]
        _write_losses(losses, self.path / "losses.csv")
        _draw_losses(losses, self.path / "losses.png")
        self._write(
            self._record()
            | {
                "steps": trainer.state.global_step,
                "tokens": losses[-1].get("num_tokens") if losses else 0,
                "loss": {"first": losses[0]["loss"], "last": losses[-1]["loss"]} if losses else {},
                "held_out": held_out,
                "weights": checkpoint_sha256(self.path),
                "weights_kind": KIND,
                "seconds": round(time.perf_counter() - self._started, 1),
            }
        )
        card = model_card(self.recipe, self._record(), scoring_command(self.recipe, checkpoint))
        (self.path / "README.md").write_text(card, encoding="utf-8")

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

It loads in plain transformers; licences are those of the base and of the data.
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
