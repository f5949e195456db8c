"""Time supervised training against plain TRL, and weigh the loader at half a million records.

    python -m benchmarks.trainers                # some fifteen minutes on one core
    python -m benchmarks.trainers --quick        # everything tiny, in less than a minute

Writes `benchmarks/results/trainers.json` and the same as a table, `trainers.md`. Both arms train
the same weights on the same records with the same settings; README.md says what differs.
"""

import argparse
import dataclasses
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.engine import FOLDER, environment
from benchmarks.loader import loader_memory
from benchmarks.measure import Cost, cpu_seconds, spread
from benchmarks.training_data import LARGER, TINY, Shape, write_architecture, write_records
from benchmarks.training_table import render
from verbalizer_bench.io.conversation_files import read_records
from verbalizer_bench.io.conversations import Conversation
from verbalizer_bench.models.chat.probes import with_parts
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.checkpoints.trainable import lora_config
from verbalizer_bench.trainers.conversations.formats import training_template
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.training.inputs import encoded_data, make_collator, sample_order
from verbalizer_bench.trainers.training.progress_bar import TrainingProgressBar
from verbalizer_bench.trainers.training.trainer import make_trainer, training_arguments

OURS, GROUPED, PLAIN = "ours", "ours grouped", "plain"
TEXT, IMAGES, MIXED = "sft, text", "vit, images", "vit, mixed"
ARMS = (PLAIN, OURS, GROUPED)
# Samples a second of ours over plain, from the issue: 1.3 for grouping a mixed set; MiB.
TARGET, MIXED_TARGET, MEMORY_TARGET = 1.0, 1.3, 100.0


class Case(NamedTuple):
    """A model and records to train it on.

    Attributes:
        data: One of the three kinds of records.
        shape: The model's size.
        records: How many.
        epochs: Passes over them.
        global_batch: Records of a step.
        device_batch: Records of a micro-batch.
        repetitions: Runs of each arm, after one that is not counted.
    """

    data: str
    shape: Shape
    records: int
    epochs: int
    global_batch: int
    device_batch: int
    repetitions: int

    @property
    def name(self) -> str:
        """Return the case as the table names it."""
        return f"{self.data}, {self.shape.name}"

    def target(self, arm: str) -> float:
        """Return what samples a second of an arm over those of plain should be."""
        return MIXED_TARGET if self.data == MIXED and arm == GROUPED else TARGET


class Plan(NamedTuple):
    """How much is measured.

    Attributes:
        cases: What is trained.
        sizes: Numbers of records of the loader, the smaller first.
        batches: Random batches drawn there.
    """

    cases: tuple[Case, ...]
    sizes: tuple[int, int]
    batches: int


PLAN = Plan(
    (
        Case(TEXT, TINY, 64, 6, 8, 4, 15),
        Case(IMAGES, TINY, 64, 2, 8, 4, 9),
        Case(MIXED, TINY, 96, 1, 16, 8, 7),
        Case(TEXT, LARGER, 64, 1, 8, 4, 7),
        Case(IMAGES, LARGER, 24, 1, 8, 4, 5),
        Case(MIXED, LARGER, 48, 1, 8, 8, 5),
    ),
    sizes=(1_000, 500_000),
    batches=2_000,
)
QUICK_PLAN = Plan(
    (Case(TEXT, TINY, 16, 1, 8, 4, 2), Case(MIXED, TINY, 24, 1, 8, 8, 2)),
    sizes=(100, 2_000),
    batches=50,
)


class Trained(NamedTuple):
    """One run: what preparing the data and the trainer cost, then training; the losses of steps."""

    preparing: Cost
    training: Cost
    losses: list[float]


def recipe_of(case: Case, folder: Path, group: bool) -> Recipe:
    """Return the tiny recipe of a case on its records."""
    name, model = ("sft", "llama") if case.data == TEXT else ("vit", "llava")
    words = {
        "model.path": "null",
        "model.config": folder / model,
        "data": folder / "records.json",
        "output": folder / "out",
        "cache": folder / "cache",
        "num_train_epochs": case.epochs,
        "global_batch_size": case.global_batch,
        "per_device_batch_size": case.device_batch,
        "max_length": 768,
        "group": "length" if group else "none",
        "trained_parameters": "null",
    }
    if case.data != TEXT:
        words["images"] = folder / "images"
    return read_recipe(f"tiny/{name}", [f"{key}={value}" for key, value in words.items()])


def run_arm(arm: str, case: Case, folder: Path) -> Trained:
    """Train once, from the same weights each time."""
    recipe = recipe_of(case, folder, group=arm == GROUPED)
    checkpoint = load(recipe)
    arguments = training_arguments(recipe)
    gc.collect()
    with tempfile.TemporaryDirectory() as cache:
        with _Clock() as preparing:
            if arm == PLAIN:
                trainer = plain_trainer(recipe, checkpoint, arguments)
            else:
                recipe = dataclasses.replace(recipe, cache=Path(cache))
                data = encoded_data(recipe, checkpoint, recipe.data)
                trainer = make_trainer(
                    recipe, checkpoint, data, arguments, make_collator(recipe, checkpoint)
                )
        # Plain has none.
        trainer.remove_callback(TrainingProgressBar)
        with _Clock() as training:
            trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return Trained(preparing.cost, training.cost, losses)


def plain_trainer(recipe: Recipe, checkpoint: Any, arguments: Any) -> Any:
    """Return TRL's trainer with its own preparation and collator, in the order of ours."""
    from transformers import PrinterCallback
    from trl import SFTTrainer

    arguments.dataset_kwargs = None
    arguments.assistant_only_loss = True
    arguments.max_length = recipe.max_length
    for owner in (checkpoint.processor, checkpoint.tokenizer):
        owner.chat_template = training_template(recipe.format, checkpoint.tokenizer)
    dataset = plain_dataset(recipe)
    unused = np.zeros(len(dataset), np.int32)

    class Plain(SFTTrainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return sample_order(recipe, unused, unused)

    trainer = Plain(
        model=checkpoint.model,
        args=arguments,
        train_dataset=dataset,
        processing_class=checkpoint.processor,
        peft_config=lora_config(checkpoint.model, recipe),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def plain_dataset(recipe: Recipe) -> Any:
    """Return the records as TRL documents them: `messages`, and `images` that are decoded late."""
    import datasets

    folder = recipe.images_folder
    rows = []
    for record in read_records(recipe.data[0]):
        assert isinstance(record, Conversation)
        messages: Any = [{"role": turn.role, "content": turn.content()} for turn in record.messages]
        # A column of Arrow has one type.
        messages = with_parts(messages) if folder else messages
        images = {"images": [str(folder / name) for name in record.images]} if folder else {}
        rows.append({"messages": messages} | images)
    dataset = datasets.Dataset.from_list(rows)
    if folder:
        dataset = dataset.cast_column("images", datasets.Sequence(datasets.Image()))
    return dataset


class _Clock:
    """Seconds of the processor and of the clock of a block."""

    def __enter__(self) -> "_Clock":
        self._start = Cost(cpu_seconds(), time.perf_counter())
        return self

    def __exit__(self, *_: object) -> None:
        now = Cost(cpu_seconds(), time.perf_counter())
        self.cost = Cost(now.cpu - self._start.cpu, now.wall - self._start.wall)


def run_case(case: Case, folder: Path) -> dict[str, Any]:
    """Measure all arms on one case, in turning order, after a run of each that is not counted."""
    folder.mkdir()
    write_architecture(case.shape, folder)
    kinds = write_records(case.data, case.shape, case.records, folder)
    first = {arm: run_arm(arm, case, folder) for arm in ARMS}
    runs: dict[str, list[Trained]] = {arm: [] for arm in ARMS}
    for repetition in range(case.repetitions):
        for arm in ARMS[:: -1 if repetition % 2 else 1]:
            runs[arm].append(run_arm(arm, case, folder))
    samples = case.records * case.epochs
    ratios = {
        arm: {
            kind: spread(
                [
                    getattr(a.training, kind) / getattr(b.training, kind)
                    for a, b in zip(runs[PLAIN], runs[arm], strict=True)
                ]
            )
            for kind in Cost._fields
        }
        for arm in ARMS[1:]
    }
    model = load(recipe_of(case, folder, group=False)).model
    return {
        "case": case._asdict() | {"name": case.name, "shape": case.shape._asdict()},
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "records": kinds,
        "steps": len(first[OURS].losses),
        "arms": {
            arm: {
                f"samples_a_{kind}_second": spread(
                    [samples / getattr(run.training, kind) for run in runs[arm]]
                )
                for kind in Cost._fields
            }
            | {
                f"preparing_{kind}_seconds": spread(
                    [getattr(run.preparing, kind) for run in runs[arm]]
                )
                for kind in Cost._fields
            }
            for arm in ARMS
        },
        "ratio": ratios,
        "targets": {arm: case.target(arm) for arm in ratios},
        "verdicts": {arm: verdict(ratios[arm]["cpu"], case.target(arm)) for arm in ratios},
        # The batches are the same ones: so must be the losses.
        "largest_difference_of_losses": max(
            abs(a - b) for a, b in zip(first[OURS].losses, first[PLAIN].losses, strict=True)
        ),
        "first_loss": first[OURS].losses[0],
    }


def verdict(found: Mapping[str, float], target: float) -> str:
    """Say whether a ratio reaches its target; equal costs give a median on either side of it."""
    if found["median"] >= target:
        return "met"
    return "within the range" if found["max"] >= target else "missed"


def run_memory(plan: Plan, folder: Path) -> dict[str, Any]:
    """Measure the loader at both sizes."""
    rows = [loader_memory(size, plan.batches, folder / str(size)) for size in plan.sizes]
    grown = {kind: rows[1][kind] - rows[0][kind] for kind in ("peak_rss_mib", "peak_anonymous_mib")}
    return {
        "sizes": rows,
        "batches": plan.batches,
        "grown": grown,
        "target_mib": MEMORY_TARGET,
        "met": max(grown.values()) <= MEMORY_TARGET,
    }


def not_measured() -> list[str]:
    """Say what the results do not cover."""
    return [
        "not run on a GPU: there the model's part of a step shrinks and the collator's share "
        "grows, or hides behind it with `workers`; no bfloat16, no 7B shapes",
        "packing, Liger and other kernels, with which either could be run",
        "several processes, loader workers, gradient checkpointing, adapters",
        "TRL's own `group_by_length`, which does not know modalities",
        "tokenising 500,000 records: the loader's rows have 400 made ids",
    ]


def run(plan: Plan, threads: int) -> dict[str, Any]:
    """Measure everything in the plan; return what the JSON holds."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    where = environment(threads)
    names = ("torch", "transformers", "trl", "accelerate", "datasets", "tokenizers", "pyarrow")
    where["versions"] = {name: version(name) for name in names}
    result: dict[str, Any] = {
        "environment": where,
        "cases": [],
        "not_measured": not_measured(),
    }
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(plan.cases):
            found = run_case(case, Path(folder) / str(number))
            result["cases"].append(found)
            ratios = {
                arm: f"{ratio['cpu']['median']:.2f}x" for arm, ratio in found["ratio"].items()
            }
            _progress(f"{case.name}: {ratios}", start)
        result["memory"] = run_memory(plan, Path(folder))
        _progress(f"memory: {result['memory']['grown']}", start)
    result["wall_seconds"] = time.perf_counter() - start
    return result


def _progress(text: str, start: float) -> None:
    print(f"{text} ({time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write the JSON and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="everything tiny: is it still whole?")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch's threads, for both arms (default 1: CPU time then holds no waiting)",
    )
    parser.add_argument("--output", type=Path, default=FOLDER / "results", help="folder")
    given = parser.parse_args(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    result = run(QUICK_PLAN if given.quick else PLAN, given.threads)
    given.output.mkdir(parents=True, exist_ok=True)
    name = "trainers-quick" if given.quick else "trainers"
    (given.output / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    table = render(result)
    (given.output / f"{name}.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
