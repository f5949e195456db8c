"""The tiny recipes are trained for real: what changes, what does not, and what comes out."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from tests.conftest import PATIENCE, REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256
from verbalizer_bench.trainers import train as training
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.training.progress_bar import TrainingProgressBar

TINY = REPOSITORY / "recipes" / "tiny"
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return what trains a tiny recipe once for each set of overrides and returns its folder."""
    folder = tmp_path_factory.mktemp("checkpoints")
    made: dict[tuple[str, ...], Path] = {}

    def train(name: str, *overrides: str) -> Path:
        if (name, *overrides) not in made:
            made[name, *overrides] = place = folder / str(len(made))
            assert main(["train", *command(name, place, folder, overrides)]) == 0
        return made[name, *overrides]

    def command(name: str, place: Path, folder: Path, overrides: tuple[str, ...]) -> list[str]:
        words = [str(TINY / f"{name}.yaml"), f"output={place}", f"cache={folder / 'cache'}"]
        if name.startswith("vit"):
            words.append(f"model.path={train('pretrain')}")
        return words + list(overrides)

    return train


def recipe_of(folder: Path) -> Recipe:
    return read_recipe(folder / "recipe.yaml")


def losses(folder: Path) -> list[float]:
    with (folder / "losses.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def weights(folder: Path, text: bool = False) -> dict[str, torch.Tensor]:
    auto: Any = AutoModelForCausalLM if text else AutoModelForImageTextToText
    found: dict[str, torch.Tensor] = auto.from_pretrained(folder).state_dict()
    return found


def changed(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> set[str]:
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


def assert_identity(found: dict[str, torch.Tensor]) -> None:
    weight = found["model.multi_modal_projector.linear_2.weight"]
    assert torch.equal(weight, torch.eye(len(weight)))
    assert not found["model.multi_modal_projector.linear_2.bias"].any()


LINEAR_1 = {f"model.multi_modal_projector.linear_1.{kind}" for kind in ("weight", "bias")}


@pytest.mark.parametrize("name", ["pretrain", "vit", "vit_lora", "sft", "sft_lora"])
def test_the_loss_falls(make: Make, name: str) -> None:
    found = losses(make(name))
    part = max(1, len(found) // 4)
    assert sum(found[-part:]) < 0.9 * sum(found[:part]), found


def test_pretrain_changes_the_first_layer_of_the_connector_alone(make: Make) -> None:
    folder = make("pretrain")
    before = load(recipe_of(folder)).model.state_dict()
    after = weights(folder)
    assert changed(before, after) == LINEAR_1
    assert_identity(after)


@pytest.mark.parametrize("name", ["vit", "vit_lora"])
def test_vit_leaves_tower_and_identity_alone(make: Make, name: str) -> None:
    before, after = weights(make("pretrain")), weights(make(name))
    found = changed(before, after)
    assert_identity(after)
    assert found >= LINEAR_1 and not any("vision_tower" in key for key in found)
    layers = {key for key in before if ".layers." in key and "language_model" in key}
    linear = {key for key in layers if "norm" not in key}
    if name == "vit":
        assert found >= layers | {"lm_head.weight"}
    else:
        assert found == LINEAR_1 | linear


def test_the_adapter_folder_is_the_merged_checkpoint(make: Make) -> None:
    from peft import PeftModel

    folder = make("vit_lora")
    base = AutoModelForImageTextToText.from_pretrained(make("pretrain"))
    merged = PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload()
    assert not changed(merged.state_dict(), weights(folder))


def test_sft_trains_everything_and_its_adapter_linear_layers_only(make: Make) -> None:
    whole, adapter = make("sft"), make("sft_lora")
    before = load(recipe_of(whole)).model.state_dict()
    assert changed(before, weights(whole, text=True)) == set(before)
    found = changed(before, weights(adapter, text=True))
    assert found == {key for key in before if ".layers." in key and "norm" not in key}


@pytest.mark.parametrize("name", ["vit", "vit_lora"])
def test_what_stands_beside_a_checkpoint(make: Make, name: str) -> None:
    folder = make(name)
    record = json.loads((folder / "training.json").read_text())
    assert record["weights"] == checkpoint_sha256(folder)
    assert record["base_weights"] == checkpoint_sha256(make("pretrain")) != record["weights"]
    assert record["records"] == 96 and record["skipped"] == {}
    assert record["steps"] == len(losses(folder))
    assert record["parameters"]["trained"] == recipe_of(folder).trained_parameters
    assert (folder / "losses.png").stat().st_size > 5000
    card = (folder / "README.md").read_text()
    (command,) = [line for line in card.splitlines() if line.startswith("verbalizer-bench run ")]
    assert f"pretrained={folder},dtype=float32,image=white --apply_chat_template" in command
    assert recipe_of(folder).as_dict() == recipe_of(folder).as_dict() | {"output": str(folder)}


def test_the_cards_command_scores_the_checkpoint(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (make("sft") / "README.md").read_text()
    (command,) = [line for line in card.splitlines() if line.startswith("verbalizer-bench run ")]
    monkeypatch.chdir(tmp_path)
    words = command.replace("--tasks verbalizer ", "--tasks verbalizer_rte ").split()[1:]
    assert main([*words, "--limit", "1", "--data", "sample", "--device", "cpu"]) == 0


class Stopped(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("name", ["vit", "vit_lora"])
def test_resumed_training_ends_at_the_same_weights(
    make: Make, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(name)
    stop_at = json.loads((whole / "training.json").read_text())["steps"] - 3
    words = [str(whole / "recipe.yaml"), f"output={tmp_path / 'out'}", f"save_steps={stop_at - 2}"]

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == stop_at:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(TrainingProgressBar, "on_step_end", stop)
        with pytest.raises(Stopped):
            training.train(read_recipe(words[0], words[1:]))
    assert main(["train", *words, "resume=true"]) == 0
    assert not changed(weights(whole), weights(tmp_path / "out"))
    assert losses(tmp_path / "out") == losses(whole)
    finished = (tmp_path / "out" / "training.json").read_text()
    assert main(["train", *words, "resume=true"]) == 0
    assert (tmp_path / "out" / "training.json").read_text() == finished


@pytest.mark.parametrize("name", ["pretrain", "vit", "vit_lora"])
def test_bfloat16(make: Make, name: str) -> None:
    folder = make(name, "precision=bf16", "num_train_epochs=1", "gradient_checkpointing=true")
    assert losses(folder)[-1] < losses(folder)[0]
    found = weights(folder)
    assert_identity(found)
    assert all(weight.dtype == torch.float32 for weight in found.values())


def test_records_that_are_left_out_are_said(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = json.loads((TINY / "data" / "captions.json").read_text())
    records[3]["image"] = "missing.png"
    (tmp_path / "captions.json").write_text(json.dumps(records))
    folder = make(
        "pretrain", f"data={tmp_path / 'captions.json'}", "bad_records=skip", "num_train_epochs=1"
    )
    record = json.loads((folder / "training.json").read_text())
    assert record["records"] == 63 and record["skipped"] == {"missing image": 1}
    assert "1 record left out: missing image; listed in" in caplog.text
    listing = Path(re.findall("listed in (.*)", caplog.text)[0])
    assert json.loads(listing.read_text())["reason"] == "missing image"
    assert "63 records; 1 left out: missing image." in (folder / "README.md").read_text()


def test_the_language_model_of_a_checkpoint(make: Make, tmp_path: Path) -> None:
    assert main(["extract-llm", str(make("vit")), "-o", str(tmp_path / "llm")]) == 0
    found = weights(tmp_path / "llm", text=True)
    whole = weights(make("vit"))
    assert torch.equal(found["lm_head.weight"], whole["lm_head.weight"])
    assert main(["extract-llm", str(tmp_path / "llm"), "-o", str(tmp_path / "again")]) == 2


def test_the_connector_has_its_own_learning_rate(make: Make) -> None:
    first, second = (make("vit", f"connector_learning_rate={rate}") for rate in (1e-9, 1e-2))
    before = weights(make("pretrain"))
    moved = [
        max(float((weights(folder)[key] - before[key]).abs().max()) for key in LINEAR_1)
        for folder in (first, second)
    ]
    assert moved[0] < 1e-6 < 1e-3 < moved[1]
    assert "lm_head.weight" in changed(before, weights(first))


def test_the_vision_tower_is_trained_at_its_own_learning_rate(make: Make) -> None:
    words = ("num_train_epochs=1", "train.vision_tower=all")
    first, second = (
        make("pretrain", *words, f"vision_tower_learning_rate={rate}") for rate in (1e-9, 1e-3)
    )
    before = load(recipe_of(first)).model.state_dict()
    tower = {key for key in before if "vision_tower" in key}
    moved = [
        max(float((weights(folder)[key] - before[key]).abs().max()) for key in tower)
        for folder in (first, second)
    ]
    assert moved[0] < 1e-6 < 1e-4 < moved[1]
    there = changed(before, weights(second))
    assert there - tower == LINEAR_1
    # No gradient reaches what is behind the layer whose features are taken.
    assert all("layers.1." in key or "post_layernorm" in key for key in tower - there)


def test_an_adapter_with_a_trained_vision_tower_is_merged(make: Make) -> None:
    words = ("num_train_epochs=1", "train.vision_tower=all", "gradient_checkpointing=true")
    folder = make("vit_lora", *words)
    there = changed(weights(make("pretrain")), weights(folder))
    tower, language = (
        {key for key in there if part in key} for part in ("vision_tower", "_proj.weight")
    )
    assert there - tower - language == LINEAR_1
    assert any("patch_embedding" in key for key in tower)
    record = json.loads((folder / "training.json").read_text())
    sizes = weights(folder)
    whole = sum(value.numel() for key, value in sizes.items() if "vision_tower" in key)
    assert record["parameters"]["trained"] == recipe_of(make("vit_lora")).trained_parameters + whole


def test_accumulation_and_checkpointing_change_nothing(make: Make) -> None:
    one = losses(make("vit"))
    other = losses(make("vit", "per_device_batch_size=2", "gradient_checkpointing=true"))
    assert other == pytest.approx(one, abs=1e-4)


def test_two_processes_of_torchrun(make: Make, tmp_path: Path) -> None:
    """With a loss that is a mean over micro-batches: each process has one of a step's two."""
    one = make("vit", "loss=micro_batches", "num_train_epochs=1")
    words = [
        "train",
        str(one / "recipe.yaml"),
        f"output={tmp_path / 'two'}",
        "per_device_batch_size=4",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
        + ["-m", "verbalizer_bench", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path / "two" / "training.json").read_text())
    assert record["processes"] == 2
    assert losses(tmp_path / "two") == pytest.approx(losses(one), abs=1e-4)
    assert done.stderr.count("Training:   0%") == 1
    assert_identity(weights(tmp_path / "two"))


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "sft",
            ["global_batch_size=6", "per_device_batch_size=4"],
            "global_batch_size=6 is no multiple of per_",
        ),
        ("sft", [f"model.config={TINY / 'llava'}"], "method=sft does not train a llava model"),
        ("pretrain", [f"model.config={TINY / 'llama'}"], "compose` makes one), its parts, or"),
        ("sft", ["trained_parameters=5"], "trained_parameters=5, and this model trains"),
        ("sft", ["data=missing.jsonl"], "data=missing.jsonl: no such file"),
        ("vit", ["images=missing"], "images=missing: no such folder"),
        ("vit", [f"images={TINY}"], "64 of 96 records cannot be trained on"),
        ("vit", ["model.path=nowhere"], "model.path=nowhere: no such folder"),
    ],
)
def test_what_is_refused(
    make: Make,
    name: str,
    overrides: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(TINY / f"{name}.yaml"), f"output={tmp_path / 'out'}", f"cache={tmp_path}"]
    if name == "vit":
        words.append(f"model.path={make('pretrain')}")
    assert main(["train", *words, *overrides]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if "error:" in row]
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_output(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="out: is a file; give a folder"):
        training.train(read_recipe(TINY / "sft.yaml", [f"output={tmp_path / 'out'}"]))


def test_another_recipe_does_not_go_on(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("sft")
    words = ["train", str(folder / "recipe.yaml")]
    assert main(words) == 2
    assert "not empty; give another folder, or resume=true" in capsys.readouterr().err
    assert main([*words, "resume=true", "seed=7"]) == 2
    assert "it was started with seed=0, not 7" in capsys.readouterr().err
