"""Preference optimisation: what is stored is what a live reference gives, and TRL's own loss."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForImageTextToText
from trl import DPOConfig, DPOTrainer

from tests.conftest import PATIENCE, REPOSITORY
from verbalizer_bench.trainers import train
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.checkpoints.trainable import lora_config
from verbalizer_bench.trainers.output.losses import draw_losses
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.training import trainer as trainers
from verbalizer_bench.trainers.training.inputs import encoded_data, sample_order
from verbalizer_bench.trainers.training.preference import PreferenceTrainer

TINY = REPOSITORY / "recipes" / "tiny"
PAIRS, TEXT = TINY / "data" / "pairs.jsonl", TINY / "data" / "pairs_text.jsonl"
LORA = ["lora.r=4", "lora.alpha=8", "connector_learning_rate=1e-3"]
MPO = "dpo={beta: 0.2, loss_type: [sigmoid, bco_pair, sft], loss_weights: [0.8, 0.2, 1.0]}"
Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(cache: Path, tmp_path: Path) -> Make:
    """Return what reads the tiny recipe, on random weights, with overrides."""

    def recipe(*words: str, text: bool = False) -> Recipe:
        base = ["model.path=null", "num_train_epochs=0.25", f"cache={cache}", "warmup_ratio=0"]
        base += [f"output={tmp_path / 'out'}", "trained_parameters=null"]
        base += [f"model.config={TINY / ('llama' if text else 'llava')}"]
        base += [f"data={TEXT}", "images=null"] if text else []
        return read_recipe(TINY / "dpo.yaml", [*base, *words])

    return recipe


def curve(folder: Path) -> list[dict[str, float]]:
    with (folder / "losses.csv").open() as file:
        rows = csv.DictReader(file)
        return [{key: float(value) for key, value in row.items() if value} for row in rows]


def stored(cache: Path, number: int) -> list[dict[str, Any]]:
    """Return the stored lines of the only reference that has so many."""
    files = [file.read_text().splitlines() for file in (cache / "reference").rglob("*.jsonl")]
    (lines,) = [lines for lines in files if len(lines) == number + 1]
    return [json.loads(line) for line in lines[1:]]


def rows(recipe: Recipe, order: list[int]) -> list[dict[str, Any]]:
    """Return the records that stand in some places, as TRL takes them."""
    records = [json.loads(line) for file in recipe.data for line in file.read_text().splitlines()]
    return [{name: records[n][name] for name in ("prompt", "chosen", "rejected")} for n in order]


class Ordered(DPOTrainer):
    """TRL's own trainer, in the order of the rows."""

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def plain_arguments(recipe: Recipe, folder: Path, **more: Any) -> DPOConfig:
    return DPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        num_train_epochs=1,
        beta=recipe.dpo.beta if recipe.dpo else 0.1,
        loss_type=list(recipe.dpo.loss_type) if recipe.dpo else ["sigmoid"],
        max_length=None,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        **more,
    )


@pytest.mark.parametrize("loss", ["sigmoid", pytest.param("ipo", marks=pytest.mark.slow), MPO])
def test_the_loss_curve_is_that_of_plain_trl(loss: str, make: Make, tmp_path: Path) -> None:
    words = [loss if loss == MPO else f"dpo={{beta: 0.1, loss_type: {loss}}}"]
    recipe = make(*words, "num_train_epochs=1", text=True)
    train.train(recipe)
    ours = curve(recipe.output)
    checkpoint = load(recipe)
    data = encoded_data(recipe, checkpoint, recipe.data)
    order = sample_order(recipe, data.lengths, data.has_image).order().tolist()
    weights = [0.8, 0.2, 1.0] if loss == MPO else None
    plain = Ordered(
        model=checkpoint.model,
        ref_model=load(recipe).model,
        args=plain_arguments(recipe, tmp_path / "plain", loss_weights=weights),
        train_dataset=Dataset.from_list(rows(recipe, order)),
        processing_class=checkpoint.processor,
    )
    plain.train()
    theirs = [row for row in plain.state.log_history if "loss" in row]
    assert len(ours) == len(theirs) == 3
    for name in ("loss", "grad_norm", "rewards/chosen", "rewards/rejected", "logps/rejected"):
        found = [row[name] for row in ours]
        assert found == pytest.approx([row[name] for row in theirs], rel=1e-5, abs=2e-6), name
    assert abs(theirs[-1]["rewards/margins"]) > 1e-3, "else nothing was trained"


def test_the_loss_curve_with_images_is_that_of_plain_trl(make: Make, tmp_path: Path) -> None:
    """Gradients too, of the connector: ours goes through one image for both answers."""
    recipe = make(f"data={PAIRS}", "num_train_epochs=0.6", "group=none")
    train.train(recipe)
    ours = curve(recipe.output)
    checkpoint = load(recipe)
    data = encoded_data(recipe, checkpoint, recipe.data)
    order = sample_order(recipe, data.lengths, data.has_image).order().tolist()[:24]
    plain = Ordered(
        model=checkpoint.model,
        ref_model=load(recipe).model,
        args=plain_arguments(recipe, tmp_path / "plain"),
        train_dataset=Dataset.from_list(with_images(recipe, order)),
        processing_class=checkpoint.processor,
    )
    plain.train()
    theirs = [row for row in plain.state.log_history if "loss" in row]
    assert len(ours) == len(theirs) == 3
    for name in ("loss", "grad_norm", "rewards/chosen", "rewards/rejected", "logps/chosen"):
        found = [row[name] for row in ours]
        assert found == pytest.approx([row[name] for row in theirs], rel=1e-5, abs=2e-6), name


def with_images(recipe: Recipe, order: list[int]) -> list[dict[str, Any]]:
    """Return the tiny pairs in some places with their images, as TRL takes them."""
    names = [json.loads(line)["images"] for line in PAIRS.read_text().splitlines()]
    shown = [[Image.open(TINY / "data" / "images" / name) for name in names[n]] for n in order]
    found = rows(recipe, order)
    return [row | {"images": images} for row, images in zip(found, shown, strict=True)]


@pytest.mark.parametrize("how", ["full", "lora"])
def test_stored_is_a_live_reference_also_with_images(
    how: str, make: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Live is TRL's own: it tokenizes itself, and gives the tower each image twice."""
    own = tmp_path_factory.mktemp("own")
    recipe = make(f"data={PAIRS}", f"cache={own}", *(LORA if how == "lora" else []))
    train.train(recipe)
    lines = stored(own, 40)
    checkpoint = load(recipe)
    live = DPOTrainer(
        model=checkpoint.model,
        ref_model=None if how == "lora" else load(recipe).model,
        args=plain_arguments(recipe, tmp_path / "plain"),
        train_dataset=Dataset.from_list(with_images(recipe, list(range(40)))),
        processing_class=checkpoint.processor,
        peft_config=lora_config(checkpoint.model, recipe),
    )
    for start in range(0, 40, 8):
        batch = live.data_collator([live.train_dataset[n] for n in range(start, start + 8)])
        chosen, rejected = live.compute_ref_log_probs(live.ref_model or live.model, batch)
        found = torch.tensor([line["logps"] for line in lines[start : start + 8]])
        assert torch.allclose(found[:, 0], chosen, rtol=1e-5, atol=0)
        assert torch.allclose(found[:, 1], rejected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("how", ["full", "lora", "full in bfloat16", "lora in bfloat16"])
def test_training_starts_at_the_reference_and_holds_no_other_model(
    how: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[PreferenceTrainer] = []
    prepare = PreferenceTrainer.__init__

    def keep(self: PreferenceTrainer, **arguments: Any) -> None:
        made.append(self)
        prepare(self, **arguments)

    monkeypatch.setattr(PreferenceTrainer, "__init__", keep)
    words = LORA if how.startswith("lora") else []
    recipe = make(*words, *(["precision=bf16"] if how.endswith("16") else []))
    train.train(recipe)
    first = curve(recipe.output)[0]
    near = 2e-2 if how.endswith("16") else 1e-6
    assert first["loss"] == pytest.approx(math.log(2), abs=near)
    assert abs(first["rewards/margins"]) < near
    (trainer,) = made
    assert trainer.ref_model is None
    assert trainer.precompute_ref_logps


def with_head(recipe: Recipe, folder: Path, **settings: Any) -> Recipe:
    """Return a recipe of a text model whose configuration says this of its head besides."""
    shutil.copytree(TINY / "llama", folder)
    config = json.loads((folder / "config.json").read_text()) | {"initializer_range": 0.5}
    (folder / "config.json").write_text(json.dumps(config | settings))
    return replace(recipe, model=replace(recipe.model, config=str(folder)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_that_does_not_begin_at_its_reference_is_refused(
    precision: str, make: Make, tmp_path: Path
) -> None:
    """TRL reads Granite's key wherever it stands, and a Llama's forward pass does not."""
    recipe = make(f"precision={precision}", text=True)
    with pytest.raises(ValueError, match=r"step 1: the chosen answers' log-probability is .*yet"):
        train.train(with_head(recipe, tmp_path / "llama", logits_scaling=0.05))
    assert not (recipe.output / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("family", "head"),
    [("gemma2", {"final_logit_softcapping": 0.5}), ("granite", {"logits_scaling": 0.05})],
)
def test_heads_that_scale_or_cap_begin_at_the_reference(
    family: str, head: dict[str, Any], make: Make, tmp_path: Path
) -> None:
    recipe = with_head(make(text=True), tmp_path / family, model_type=family, **head)
    train.train(recipe)
    assert curve(recipe.output)[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_dropout_is_no_other_beginning(make: Make, tmp_path: Path) -> None:
    """Of attention's, which is no module, TRL's disable_dropout knows nothing."""
    recipe = with_head(make(text=True), tmp_path / "llama", attention_dropout=0.3)
    train.train(recipe)
    assert curve(recipe.output)[0]["loss"] != pytest.approx(math.log(2), abs=1e-4)


def test_the_tower_sees_an_image_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import CLIPVisionModel

    seen: list[int] = []
    forward = CLIPVisionModel.forward

    def count(self: Any, pixel_values: torch.Tensor, **arguments: Any) -> Any:
        seen.append(len(pixel_values))
        return forward(self, pixel_values=pixel_values, **arguments)

    monkeypatch.setattr(CLIPVisionModel, "forward", count)
    recipe = make(f"data={PAIRS}", "num_train_epochs=1", "seed=3")
    train.train(recipe)
    # Each pair once for the reference, and once in five steps of eight.
    assert sum(seen) == 40 + 40
    assert seen[40:] == [4] * 10


def test_what_is_measured_while_it_trains(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = list(map(json.loads, PAIRS.read_text().splitlines()))
    pairs[0] |= {"ending_chosen": "stop", "ending_rejected": "length"}
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    recipe = make(f"held_out={TEXT}", f"data={file}", "num_train_epochs=1")
    train.train(recipe)
    assert "of 0 pairs the chosen answer and of 1 the rejected one were cut off" in caplog.text
    steps = curve(recipe.output)
    for step in steps:
        assert all(map(math.isfinite, step.values()))
        assert 0 <= step.get("rewards/accuracies", 0.5) <= 1
        assert step["rewards/margins"] == pytest.approx(
            step["rewards/chosen"] - step["rewards/rejected"], abs=1e-5
        )
        assert step["logps/chosen"] < 0 and step["logps/rejected"] < 0
        assert step["lengths/chosen"] >= 2 and step["lengths/rejected"] >= 2
    assert steps[-1]["num_tokens"] > steps[0]["num_tokens"] > 0
    with Image.open(recipe.output / "losses.png") as figure:
        assert figure.height > figure.width / 2
    record = json.loads((recipe.output / "training.json").read_text())
    assert record["cut_off"] == {"chosen": 0, "rejected": 1, "not_known": 39}
    assert record["held_out"]["records"] == 24
    assert 0 <= record["held_out"]["accuracies"] <= 1
    assert record["reference"]["weights"].startswith("random")
    assert record["reference"]["pairs"] >= 60
    shown = f"{record['held_out']['accuracies']:.1%} have the higher reward"
    assert shown in (recipe.output / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["lr_scheduler_type=constant", "warmup_ratio=0"], 2),
        (["warmup_ratio=0.3"], 3),
        (["warmup_ratio=0"], 2),
    ],
)
def test_rounding_is_no_accuracy(words: list[str], first: int, make: Make) -> None:
    """Until the weights have moved the margins are rounding, however many are above 0."""
    recipe = make(*words, "num_train_epochs=1", text=True)
    train.train(recipe)
    steps = curve(recipe.output)
    assert len(steps) >= first
    for step in steps:
        still = abs(step["rewards/margins"]) < 1e-6
        assert still == (step["step"] < first) == ("rewards/accuracies" not in step)


def test_a_dropout_that_the_recipe_states_is_kept(make: Make) -> None:
    given = trainers.training_arguments(make(*LORA, "lora.dropout=0.05"))
    assert not given.disable_dropout
    assert trainers.training_arguments(make(*LORA)).disable_dropout


def test_training_that_was_stopped_ends_as_if_it_was_not(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        """What a kill is here."""

    words = ["num_train_epochs=0.5", "save_steps=1", *LORA]
    whole = make(*words, f"output={tmp_path / 'whole'}")
    train.train(whole)
    step = PreferenceTrainer.training_step

    def stop(self: PreferenceTrainer, *arguments: Any, **more: Any) -> torch.Tensor:
        if self.state.global_step == 2:
            raise Stopped
        return step(self, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(PreferenceTrainer, "training_step", stop)
        with pytest.raises(Stopped):
            train.train(make(*words))
    train.train(make(*words, "resume=true"))
    ours, theirs = curve(tmp_path / "out"), curve(whole.output)
    assert [row["step"] for row in ours] == [1, 2, 3, 4]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-7)


def test_pairs_that_cannot_be_trained_on_stop_it_before_the_first_step(
    make: Make, tmp_path: Path
) -> None:
    lines = TEXT.read_text().splitlines()
    bad = json.loads(lines[1])
    bad["rejected"] = bad["chosen"]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join([*lines, json.dumps(bad)]) + "\n")
    recipe = make(f"data={file}", f"cache={tmp_path / 'cache'}", text=True)
    with pytest.raises(ValueError, match="1 of 25 records cannot be trained on") as raised:
        train.train(recipe)
    (note,) = raised.value.__notes__
    assert note.startswith(f"{file}, line 25 (id ") and ": same answer: " in note
    assert not recipe.output.exists()
    with pytest.raises(ValueError, match="records cannot be trained on") as raised:
        train.train(make("max_length=40", f"cache={tmp_path / 'cache'}", text=True))
    assert "max_length=40 would cut" in raised.value.__notes__[0]


@pytest.mark.parametrize("method", ["rejection", "steerlm"])
@pytest.mark.parametrize("how", ["full", pytest.param("lora", marks=pytest.mark.slow), "text"])
def test_completions_are_trained_on(method: str, how: str, make: Make, tmp_path: Path) -> None:
    file, text = TINY / "data" / "completions.jsonl", how == "text"
    if text:
        lines = [line for line in file.read_text().splitlines() if '"images": []' in line]
        file = tmp_path / "text.jsonl"
        file.write_text("\n".join(lines) + "\n")
    words = [f"method={method}", "dpo=null", "max_length=448", *(LORA if how == "lora" else [])]
    recipe = make(*words, f"data={file}", "learning_rate=5e-3", "num_train_epochs=1", text=text)
    train.train(recipe if not text else replace(recipe, data=(file,)))
    prompts, each = (24 if text else 64), (4 if method == "steerlm" else 1)
    record = json.loads((recipe.output / "training.json").read_text())
    assert record["records"] == prompts * each
    found = [row["loss"] for row in curve(recipe.output)]
    assert len(found) == prompts * each // 8 and found[-1] < found[0]
    template = (recipe.output / "chat_template.jinja").read_text()
    assert ("Helpfulness:4" in template) == (method == "steerlm")
    rule = "of equals the first in the file" if method == "rejection" else "that has scores"
    assert record["selection"].pop("rule").endswith(rule)
    assert record["selection"] == {"unrated": 0, "cut_off": 0, "tied": 0}


@pytest.mark.parametrize("part", ["attention", "mlp_in"])
def test_a_part_of_the_language_model_is_trained_alone(part: str, make: Make) -> None:
    recipe = make(f"trained_modules={part}", f"data={PAIRS}", "gradient_checkpointing=true")
    train.train(recipe)
    before = load(recipe).model.state_dict()
    after = AutoModelForImageTextToText.from_pretrained(recipe.output).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    wanted = ".self_attn." if part == "attention" else ".mlp."
    layers = {name for name in changed if "multi_modal_projector" not in name}
    assert layers and all(wanted in name and "down_proj" not in name for name in layers)
    assert len(changed) == len(layers) + 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "more", [{}, {"rewards/margins": 0.1}, {"rewards/margins": 0.1, "rewards/chosen": 0.2}]
)
def test_losses_are_drawn_also_of_one_step(more: dict[str, float], tmp_path: Path) -> None:
    draw_losses([{"step": 1, "loss": 0.5, **more}], tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 5000
    draw_losses([], tmp_path / "none.png")
    assert (tmp_path / "none.png").is_file()


@pytest.mark.slow
def test_two_processes_share_the_reference_and_give_the_losses_of_one(
    make: Make, tmp_path: Path
) -> None:
    words = [f"data=[{PAIRS},{TEXT}]", "num_train_epochs=0.5"]
    one = make(*words, f"output={tmp_path / 'one'}", f"cache={tmp_path / 'one-cache'}")
    train.train(one)
    changes = [f"output={tmp_path / 'two'}", f"cache={tmp_path / 'cache'}"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
        + ["-m", "verbalizer_bench", "train", str(one.output / "recipe.yaml"), *changes],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (tmp_path / "cache" / "reference").iterdir()
    assert {file.name for file in folder.iterdir()} == {"0.jsonl", "1.jsonl"}
    for ours, theirs in zip(curve(tmp_path / "two"), curve(one.output), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
