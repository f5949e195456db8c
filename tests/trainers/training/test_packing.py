"""Training without padding: each step's loss and gradient, and the weights, of training with it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import PATIENCE, REPOSITORY
from tests.helpers.mof import SETTINGS, save_tower
from tests.helpers.training_records import conversation, write
from verbalizer_bench.cli import main

TINY = REPOSITORY / "recipes" / "tiny"
LLAVA = [f"model={{config: {TINY / 'llava'}}}", "num_train_epochs=0.25"]
WEIGHTS = "loss_weights={prompt: 0.1, short_answer: 3}"
CASES = {
    "text": ("sft", []),
    "text, micro-batches": ("sft", ["loss=micro_batches"]),
    "text, weights": ("sft", ["per_device_batch_size=8", WEIGHTS]),
    "adapter, checkpointing": ("sft_lora", ["gradient_checkpointing=true"]),
    "images": ("vit", LLAVA),
    "images and texts in a step": ("vit", [*LLAVA, "group=none"]),
    "images, weights": ("vit", [*LLAVA, "per_device_batch_size=8", WEIGHTS]),
    "captions": ("pretrain", []),
}


def steps(folder: Path) -> list[list[float]]:
    names = ("loss", "grad_norm", "num_tokens")
    with (folder / "losses.csv").open() as file:
        return [[float(row[name]) for name in names if row[name]] for row in csv.DictReader(file)]


def train_both(name: str, words: list[str], folder: Path) -> list[Path]:
    """Return the output folders with and without padding."""
    outputs = []
    for packing in ("false", "true"):
        outputs.append(folder / packing)
        few = ["num_train_epochs=0.5", "trained_parameters=null", "learning_rate=1e-3"]
        few += [f"output={outputs[-1]}", f"cache={folder / 'cache'}", f"packing={packing}"]
        assert main(["train", str(TINY / f"{name}.yaml"), *few, *words]) == 0
    return outputs


def assert_alike(padded: Path, flat: Path) -> None:
    first, second = steps(padded), steps(flat)
    assert len(first) >= 2 and len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    before, after = (load_file(folder / "model.safetensors") for folder in (padded, flat))
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_with_padding(case: str, tmp_path: Path) -> None:
    name, words = CASES[case]
    assert_alike(*train_both(name, words, tmp_path))


def test_two_towers(tmp_path: Path, toys: tuple[Path, Path]) -> None:
    model = {"llm": str(toys[0]), "connector": "mlp2x_gelu"}
    model["vision_tower"] = save_tower(tmp_path / "towers", "clip")
    second = {"tower": save_tower(tmp_path / "towers", "dinov2"), "mixture": "interleaved"}
    words = [f"model={json.dumps(model | {'second': second | SETTINGS['interleaved']})}"]
    assert_alike(*train_both("vit", [*words, "num_train_epochs=0.25"], tmp_path))


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """A step has as many records on two processes as on one."""
    words = [str(TINY / "sft.yaml"), f"cache={tmp_path / 'cache'}", "packing=true"]
    words += ["num_train_epochs=0.5"]
    assert main(["train", *words, f"output={tmp_path / 'one'}"]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
        + ["-m", "verbalizer_bench", "train", *words, f"output={tmp_path / 'two'}"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_alike(tmp_path / "one", tmp_path / "two")


def test_held_out_records(tmp_path: Path) -> None:
    held = write(tmp_path / "held.jsonl", *(conversation("Who?", f"{n}" * n) for n in range(1, 5)))
    padded, flat = train_both("sft", [f"held_out={held}"], tmp_path)
    losses = [
        json.loads((folder / "training.json").read_text())["held_out"]["loss"]
        for folder in (padded, flat)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
