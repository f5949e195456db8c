"""What a recipe trains of each family: the parts it names, and nothing else bit for bit."""

from typing import Any

import pytest
import torch
from peft import get_peft_model

from tests.helpers.families import Family, build, image_prompts, shapes
from tests.helpers.vision_families import VISION_FAMILIES
from verbalizer_bench.models.checkpoints.language_parts import part_layers
from verbalizer_bench.models.checkpoints.model_parts import MODEL_PARTS, parameter_parts
from verbalizer_bench.trainers.checkpoints.dtypes import merge_adapter
from verbalizer_bench.trainers.checkpoints.trainable import (
    choose_trained,
    count_parameters,
    describe_trained,
    left_out,
    lora_config,
)
from verbalizer_bench.trainers.recipe import Recipe, read_recipe

LORA = ("lora.r=2", "lora.alpha=4")
# Janus is refused, as test_model_parts.py holds.
FAMILIES = [family for family in VISION_FAMILIES if family.model_type != "janus"]


def recipe(*words: str) -> Recipe:
    return read_recipe("tiny/vit", ["trained_parameters=null", *words])


def trained(model: Any) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_part_is_trained_alone(family: Family) -> None:
    model = shapes(family)
    parts = parameter_parts(model)
    for part in MODEL_PARTS:
        others = [f"train.{other}=none" for other in MODEL_PARTS if other != part]
        wanted = {name for name, kind in parts.items() if kind == part}
        if not wanted:
            with pytest.raises(ValueError, match=f"train.{part}=all: Fuyu.* has none; give none"):
                choose_trained(model, recipe(f"train.{part}=all", *others))
            continue
        choose_trained(model, recipe(f"train.{part}=all", *others))
        assert trained(model) == wanted


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_an_adapter_beside_a_trained_tower_and_connector(family: Family) -> None:
    """A step, then the merge: what is not trained is bit for bit what it was."""
    model = build(family)
    tower = () if family.model_type == "fuyu" else ("train.vision_tower=all",)
    asked = recipe(*LORA, *tower)
    choose_trained(model, asked)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    kept = set(left_out(model, asked))
    beside = {name for name, part in parameter_parts(model).items() if part != "language_model"}
    wanted = beside - kept | {f"{layer}.weight" for layer in part_layers(model, "all")}
    if family.model_type == "glm4v_moe":
        with pytest.raises(ValueError, match=r"lora: of Glm4vMoe.* PEFT would adapt the experts'"):
            lora_config(model, asked)
        return
    number = count_parameters(model, asked)[0]
    adapted = get_peft_model(model, lora_config(model, asked))
    assert sum(w.numel() for w in adapted.parameters() if w.requires_grad) == number
    inputs = image_prompts(family)[0].inputs
    step(adapted, inputs)
    with torch.no_grad():
        expected = adapted.eval()(**inputs).logits
        merged, _ = merge_adapter(adapted, {})
        torch.testing.assert_close(merged(**inputs).logits, expected, rtol=1e-3, atol=1e-3)
    after = merged.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed <= wanted
    parts = parameter_parts(merged)
    assert {parts[name] for name in changed} == {parts[name] for name in wanted}


def step(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    """Take two steps: the first one of an adapter moves only its second matrix."""
    optimizer = torch.optim.AdamW((w for w in model.parameters() if w.requires_grad), lr=1e-3)
    for _ in range(2):
        logits = model.train()(**inputs).logits
        ids = inputs["input_ids"]
        torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_what_an_adapter_cannot_hold_is_said() -> None:
    (family,) = (family for family in FAMILIES if family.model_type == "llava_next")
    assert left_out(shapes(family), recipe(*LORA)) == ["model.image_newline"]
    assert left_out(shapes(family), recipe()) == []
    assert left_out(shapes(family), recipe(*LORA, "train.connector=none")) == []


@pytest.mark.parametrize(
    ("words", "described"),
    [
        ((), "the connector and the language model"),
        (("train.connector=none",), "the language model alone"),
        (
            ("train.vision_tower=all", "vision_tower_learning_rate=2e-6"),
            "the vision tower (learning rate 2e-06), the connector and the language model",
        ),
        (("train.language_model=none",), "the connector alone"),
        (("train.language_model=mlp",), "the connector and the language model's MLPs"),
        (
            (*LORA, "train.language_model=lora", "trained_modules=attention"),
            "the connector and a low-rank adapter of the language model's attention, r=2, alpha=4",
        ),
    ],
)
def test_what_is_trained_in_words(words: tuple[str, ...], described: str) -> None:
    assert describe_trained(recipe(*words)) == described


def test_a_batch_norm_is_refused() -> None:
    model = shapes(FAMILIES[0])
    model.model.vision_tower.norm = torch.nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match=r"model\.vision_tower\.norm is a batch norm"):
        choose_trained(model, recipe())
