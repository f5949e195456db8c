"""A LLaVA of two towers is trained as one of one tower is: what changes, and what comes out."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.conftest import REPOSITORY
from tests.helpers.mof import SETTINGS, save_tower
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.train import train
from verbalizer_bench.trainers.training.progress_bar import TrainingProgressBar

TINY = REPOSITORY / "recipes" / "tiny"
FIRST, SECOND = "model.multi_modal_projector.", "model.second_multi_modal_projector."
LORA = ["lora.r=4", "lora.alpha=8", "connector_learning_rate=1e-3"]
Read = Callable[..., Recipe]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def read(folder: Path) -> Read:
    """Return what reads a tiny recipe for few steps, with an output of that name."""

    def recipe(name: str, output: str, *words: str) -> Recipe:
        few = ["num_train_epochs=0.25", "trained_parameters=null", f"cache={folder / 'cache'}"]
        return read_recipe(TINY / f"{name}.yaml", [*few, f"output={folder / output}", *words])

    return recipe


@pytest.fixture(scope="module")
def pretrained(folder: Path, toys: tuple[Path, Path], read: Read) -> dict[str, Recipe]:
    """Return the recipe of each mixture's connectors, which were trained by it."""
    recipes = {}
    for mixture, settings in SETTINGS.items():
        model: dict[str, Any] = {"llm": str(toys[0]), "connector": "mlp2x_gelu"}
        model["vision_tower"] = save_tower(folder / "towers", "clip")
        second = {"tower": save_tower(folder / "towers", "dinov2"), "mixture": mixture}
        model["second"] = second | settings
        recipes[mixture] = read(
            "pretrain", f"pretrain-{mixture}", f"model={json.dumps(model)}", "learning_rate=1e-2"
        )
        train(recipes[mixture])
    return recipes


def weights(place: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = AutoModelForImageTextToText.from_pretrained(place).state_dict()
    return found


def changed(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> set[str]:
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


def losses(place: Path) -> list[float]:
    with (place / "losses.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def layers(*prefixes: str) -> set[str]:
    return {
        f"{p}linear_{n}.{kind}" for p in prefixes for n in (1, 2) for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("mixture", list(SETTINGS))
def test_pretrain_changes_the_connectors_alone(pretrained: dict[str, Recipe], mixture: str) -> None:
    recipe = pretrained[mixture]
    before, after = load(recipe, exact=True).model.state_dict(), weights(recipe.output)
    wanted = layers(FIRST, SECOND) if mixture == "interleaved" else layers(FIRST)
    assert changed(before, after) == wanted
    record = json.loads((recipe.output / "training.json").read_text())
    assert record["parameters"]["trained"] == sum(before[name].numel() for name in wanted)
    assert record["weights"] == checkpoint_sha256(recipe.output)
    card = (recipe.output / "README.md").read_text()
    assert f"clip and {recipe.model.second and recipe.model.second.tower}, {mixture} + " in card
    assert "`trust_remote_code=True`, model and processor" in card
    assert (recipe.output / "modeling_mof_llava.py").is_file()


@pytest.mark.parametrize("words", [[], LORA], ids=["full", "lora"])
def test_vit_leaves_both_towers_alone(
    pretrained: dict[str, Recipe], read: Read, words: list[str]
) -> None:
    base = pretrained["interleaved"].output
    recipe = read("vit", f"vit-{len(words)}", f"model.path={base}", *words)
    train(recipe)
    before, after = weights(base), weights(recipe.output)
    found = changed(before, after)
    assert found >= layers(FIRST, SECOND) and not any("vision_tower" in name for name in found)
    language = {name for name in before if "language_model.layers" in name and "norm" not in name}
    assert found >= language
    if words:
        from peft import PeftModel

        assert found == layers(FIRST, SECOND) | language
        model = AutoModelForImageTextToText.from_pretrained(base)
        adapted = PeftModel.from_pretrained(model, recipe.output / "adapter")
        assert not changed(adapted.merge_and_unload().state_dict(), after)


@pytest.mark.parametrize("words", [pytest.param([], marks=pytest.mark.slow), LORA])
def test_dpo_begins_at_its_stored_reference(
    pretrained: dict[str, Recipe], read: Read, words: list[str]
) -> None:
    """Each image is seen once for both answers of a pair, by both towers."""
    base = pretrained["interleaved"].output
    seen = [f"model.path={base}", f"data={TINY / 'data' / 'pairs.jsonl'}", "warmup_ratio=0"]
    recipe = read("dpo", f"dpo-{len(words)}", *seen, *words)
    train(recipe)
    assert losses(recipe.output)[0] == pytest.approx(math.log(2), abs=1e-4)
    found = changed(weights(base), weights(recipe.output))
    assert found >= layers(FIRST, SECOND) and not any("vision_tower" in name for name in found)


class Stopped(Exception):
    """Stands for a kill."""


def test_what_was_stopped_goes_on_to_the_same_weights(
    pretrained: dict[str, Recipe], read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"model.path={pretrained['interleaved'].output}", "save_steps=1"]
    whole, cut = read("vit", "whole", *words), read("vit", "cut", *words)

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            raise Stopped

    train(whole)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(TrainingProgressBar, "on_step_end", stop)
        train(cut)
    train(read("vit", "cut", *words, "resume=true"))
    assert not changed(weights(whole.output), weights(cut.output))
    assert losses(whole.output) == losses(cut.output)


def test_a_base_in_bfloat16_is_trained_and_keeps_its_types(
    pretrained: dict[str, Recipe], read: Read, folder: Path
) -> None:
    from transformers import AutoProcessor

    base = pretrained["channel"].output
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.bfloat16)
    model.save_pretrained(folder / "bf16")
    AutoProcessor.from_pretrained(base).save_pretrained(folder / "bf16")
    more = ["precision=bf16", "gradient_checkpointing=true", *LORA]
    recipe = read("vit", "vit-bf16", f"model.path={folder / 'bf16'}", *more)
    train(recipe)
    after = weights(recipe.output)
    assert {weight.dtype for weight in after.values()} == {torch.bfloat16}
    assert not any("vision_tower" in n for n in changed(model.state_dict(), after))


def test_parts_that_do_not_go_together() -> None:
    second = {"tower": "d", "mixture": "interleaved"}
    for model, said in (
        ({"path": "p", "second": second}, "model: path and second exclude each other"),
        ({"llm": "l", "second": second}, "missing: model.vision_tower, model.connector"),
        ({"llm": "l", "second": second | {"mixture": "sum"}}, "mixture=sum: one of additive"),
        ({"llm": "l", "second": {"tower": "d"}}, "missing: model.second.mixture"),
        ({"llm": "l", "second": second | {"share": 1}}, "model.second.share: no such key"),
    ):
        with pytest.raises(ValueError, match=said):
            read_recipe(TINY / "pretrain.yaml", [f"model={json.dumps(model)}"])


def test_a_configuration_of_one_tower_is_not_taken_for_two(tmp_path: Path) -> None:
    second = {"tower": "d", "mixture": "interleaved"}
    words = [f"model.second={json.dumps(second)}", f"output={tmp_path}"]
    with pytest.raises(ValueError, match=r"llava has one vision tower, and model.second.mixture="):
        train(read_recipe(TINY / "pretrain.yaml", words))
