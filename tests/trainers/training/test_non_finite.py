"""NaN and infinity: training stops with step and records, and leaves no checkpoint."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import REPOSITORY
from tests.helpers.training_records import conversation, write
from verbalizer_bench.cli import main
from verbalizer_bench.trainers import train
from verbalizer_bench.trainers.checkpoints.finite_weights import non_finite
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.inputs import encoded_data, sample_order
from verbalizer_bench.trainers.training.supervised import SupervisedTrainer

TINY = REPOSITORY / "recipes" / "tiny"
Fails = Callable[..., str]


@pytest.fixture
def fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Return what trains the tiny Llama, asserts that it fails leaving nothing, and says why."""

    def run(*words: str, recipe: str = "sft") -> str:
        words += (
            f"output={tmp_path / 'out'}",
            f"cache={tmp_path / 'cache'}",
            "num_train_epochs=0.5",
            "warmup_ratio=0",
        )
        assert main(["train", str(TINY / f"{recipe}.yaml"), *words]) == 2
        assert not list((tmp_path / "out").rglob("*.safetensors"))
        assert not (tmp_path / "out" / "README.md").exists()
        record = tmp_path / "out" / "training.json"
        assert not record.exists() or "seconds" not in json.loads(record.read_text())
        (line,) = [row for row in capsys.readouterr().err.splitlines() if "error:" in row]
        return line

    return run


def test_a_loss_that_is_not_finite(fails: Fails) -> None:
    line = fails("learning_rate=1e30")
    assert "step 2: the loss is nan for " in line
    assert "weights are not finite before it" in line or "lower learning_rate (1e+30)" in line
    assert line.endswith("No checkpoint was written")


def test_the_records_of_the_micro_batch_are_named(
    fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the third step's second micro-batch is made NaN."""
    recipe = read_recipe(TINY / "sft.yaml")
    original, calls = SupervisedTrainer.compute_loss, iter(range(100))

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        return loss * math.nan if next(calls) == 5 else loss

    monkeypatch.setattr(SupervisedTrainer, "compute_loss", broken)
    line = fails()
    rows = [json.loads(row) for row in (TINY / "data" / "text.jsonl").read_text().splitlines()]
    checkpoint = load(recipe)
    data = encoded_data(recipe, checkpoint, recipe.data)
    order = sample_order(recipe, data.lengths, data.has_image).order()
    numbers = sorted(int(row) for row in order[20:24])
    (file,) = recipe.data
    named = ", ".join(f"{file}, line {n + 1} (id {rows[n].get('id', '')!r})" for n in numbers)
    assert f"step 3: the loss is nan for {named}; look at these records, lower" in line


def test_a_gradient_that_is_not_finite(fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*args: Any, **kwargs: Any) -> Any:
        found = load(*args, **kwargs)
        found.model.lm_head.weight.register_hook(lambda gradient: gradient * math.inf)
        return found

    monkeypatch.setattr(train, "load", loaded)
    line = fails()
    assert "step 1: the norm of the gradients is nan for " in line
    # Eight records of the step.
    assert line.count("(id ") == 8


def test_weights_that_the_last_step_breaks(fails: Fails) -> None:
    """Neither as a checkpoint nor, with `save_steps`, as a state to go on from."""
    words = ("learning_rate=1e39", "global_batch_size=64", "per_device_batch_size=64")
    for more in ((), ("save_steps=1", "resume=true")):
        line = fails(*words, *more)
        assert "are not finite, such as model.embed_tokens.weight: after step 1; lower" in line


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """Return a tiny Llama in float16."""
    found = load(read_recipe(TINY / "sft.yaml"))
    found.model.half().save_pretrained(tmp_path / "half")
    found.processor.save_pretrained(tmp_path / "half")
    return tmp_path / "half"


def test_weights_that_the_bases_type_cannot_hold(fails: Fails, half: Path) -> None:
    words = (
        "model.config=null",
        f"model.path={half}",
        "global_batch_size=64",
        "per_device_batch_size=64",
    )
    line = fails(*words, "learning_rate=1e6")
    assert "weights are not finite" in line and "in float16, the base's type" in line


def test_a_base_that_is_not_finite(fails: Fails, half: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(half)
    model.model.layers[1].mlp.up_proj.weight.data[3, 3] = math.nan
    model.save_pretrained(half)
    line = fails("model.config=null", f"model.path={half}")
    assert "1 weights are not finite, such as model.layers.1.mlp.up_proj.weight: of the b" in line


def test_a_buffer_of_the_base_that_is_not_finite(
    fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the routing of DeepSeek-V3 has one; before training, not when it is written."""

    def loaded(*args: Any, **kwargs: Any) -> Any:
        found = load(*args, **kwargs)
        found.model.register_buffer("correction", torch.tensor([0.0, math.nan]))
        return found

    monkeypatch.setattr(train, "load", loaded)
    assert "1 weights are not finite, such as correction: of the base, before tr" in fails()


def test_a_held_out_loss_that_is_not_finite(
    fails: Fails, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held_out = tmp_path / "held_out.jsonl"
    write(held_out, *(conversation("Who?", f"{n}") for n in range(3)))

    original, calls = SupervisedTrainer.prediction_step, iter(range(100))

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Break the second record's loss, in the evaluation and when the record is looked for."""
        loss, *rest = original(self, *args, **kwargs)
        return (loss * math.nan if next(calls) % 3 == 1 else loss, *rest)

    monkeypatch.setattr(SupervisedTrainer, "prediction_step", broken)
    second = json.loads(held_out.read_text().splitlines()[1]).get("id", "")
    line = fails(f"held_out={held_out}")
    assert f"the loss is nan for {held_out}, line 2 (id {second!r}); lower learning_rate" in line


def test_large_weights_are_finite() -> None:
    large = torch.full((1000,), torch.finfo(torch.float32).max)
    weights = {"a": large, "b": torch.tensor([math.inf, -math.inf]), "c": torch.tensor([2])}
    assert non_finite(weights.items()) == ["b"]
    half = torch.full((1000,), 65504.0, dtype=torch.float16)
    assert not non_finite([("half", half), ("meta", torch.empty(3, device="meta"))])
