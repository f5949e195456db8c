"""Parts of vision-language models are trained for real and saved, and the rest is as it was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.helpers.family_training import RECORDS, BareLoop, as_row, recipe, write_images
from tests.helpers.own_processors import (
    OWN_PROCESSORS,
    TORCHVISION,
    ProcessorFamily,
    without_videos,
)
from tests.helpers.processors import save
from verbalizer_bench.models.checkpoints.language_parts import part_layers
from verbalizer_bench.models.checkpoints.model_parts import (
    LANGUAGE_MODEL,
    MODEL_PARTS,
    parameter_parts,
)
from verbalizer_bench.trainers.train import train

HERE = [one for one in OWN_PROCESSORS if TORCHVISION or not one.needs_torchvision]
# A tower that holds its connector, and one beside it.
KINDS = ("qwen2_5_vl", "smolvlm")
FAMILIES = pytest.mark.parametrize(
    "family",
    [
        pytest.param(one, marks=() if one.make.__name__ in KINDS else pytest.mark.slow)
        for one in HERE
    ],
    ids=lambda family: family.make.__name__,
)
SHOWN = tuple(turns for turns in RECORDS if any(names for _, _, names in turns))


@pytest.fixture(scope="module", autouse=True)
def _processors() -> Iterator[None]:
    with without_videos():
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def made(family: ProcessorFamily, folder: Path, images: Path, **keys: Any) -> tuple[Any, Any]:
    """Train a step; return the weights before and after."""
    save(family.make, folder / "base")
    rows = [as_row(turns) for turns in SHOWN]
    train(recipe(folder / "base", folder / "out", images, rows, **keys))
    return tuple(
        AutoModelForImageTextToText.from_pretrained(folder / name) for name in ("base", "out")
    )


def changed(before: Any, after: Any) -> set[str]:
    old, new = before.state_dict(), after.state_dict()
    assert old.keys() == new.keys()
    names = {name for name, _ in before.named_parameters()}
    return {name for name in old if name in names and not torch.equal(old[name], new[name])}


@FAMILIES
def test_tower_and_connector_without_the_language_model(
    family: ProcessorFamily, images: Path, tmp_path: Path
) -> None:
    keys = {"vision_tower": "all", "language_model": "none"}
    before, after = made(family, tmp_path, images, train=keys)
    found, parts = changed(before, after), parameter_parts(before)
    assert {parts[name] for name in found} == {"vision_tower", "connector"}
    bare = BareLoop(family, tmp_path / "base", images)
    bare.step(SHOWN, 0.1)
    expected, weights = bare.model.state_dict(), after.state_dict()
    for name, part in parts.items():
        if part != LANGUAGE_MODEL:
            torch.testing.assert_close(weights[name], expected[name], rtol=1e-4, atol=1e-6)


@FAMILIES
def test_an_adapter_beside_a_trained_tower_is_merged_and_saved(
    family: ProcessorFamily, images: Path, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"vision_tower": "all", "language_model": "lora"}
    lora = {"r": 2, "alpha": 4}
    before, after = made(family, tmp_path, images, train=keys, lora=lora, precision="bf16")
    found, parts = changed(before, after), parameter_parts(before)
    language = {name for name in found if parts[name] == LANGUAGE_MODEL}
    assert language <= {f"{name}.weight" for name in part_layers(before, "all")}
    assert language and {"vision_tower", "connector"} <= {parts[name] for name in found}


def test_a_connector_inside_a_tower_has_its_own_learning_rate(images: Path, tmp_path: Path) -> None:
    """Qwen's merger; a rate near 0 leaves the rest of the tower as it was."""
    (family,) = (one for one in HERE if one.make.__name__ == "qwen2_5_vl")
    keys: dict[str, Any] = {"vision_tower": "all", "language_model": "lora"}
    keys = {"train": keys, "lora": {"r": 2, "alpha": 4}, "vision_tower_learning_rate": 1e-30}
    before, after = made(family, tmp_path, images, **keys)
    old, new, moved = before.state_dict(), after.state_dict(), dict.fromkeys(MODEL_PARTS, 0.0)
    for name, part in parameter_parts(before).items():
        moved[part] = max(moved[part], float((new[name] - old[name]).abs().max()))
    assert moved["vision_tower"] < 1e-20 < 1e-6 < min(moved["connector"], moved[LANGUAGE_MODEL])
