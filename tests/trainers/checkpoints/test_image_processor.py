"""`image_aspect_ratio: pad` stands in the saved checkpoint: evaluation sees what training saw."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.models.hf_vlms import HFMultimodalLM
from PIL import Image
from transformers import (
    AutoProcessor,
    BitImageProcessor,
    CLIPImageProcessor,
    ConvNextImageProcessor,
    LlavaImageProcessor,
    SiglipImageProcessor,
)

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.images import make_image
from verbalizer_bench.trainers.checkpoints.image_processor import with_aspect_ratio
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.inputs import make_collator

TINY = REPOSITORY / "recipes" / "tiny"
QUESTION = "<image>\nWhat is this?"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return LLaVAs trained with padding, without, and without from the one with padding."""
    root = tmp_path_factory.mktemp("made")
    places = {}
    for name, words in {
        "pad": ["image_aspect_ratio=pad"],
        "square": [],
        "again": ["model.config=null", f"model.path={root / 'pad'}"],
    }.items():
        places[name] = root / name
        words += [
            f"output={root / name}",
            f"cache={root / 'cache'}",
            "num_train_epochs=0.1",
            "warmup_ratio=0",
        ]
        assert main(["train", str(TINY / "pretrain.yaml"), *words]) == 0
    return places


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a 2:1 image."""
    path = tmp_path_factory.mktemp("images") / "wide.png"
    image = make_image("noise", (80, 40))
    assert image is not None
    image.save(path)
    return path


def pad_to_square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """Return the image in the middle of a square of a mean colour, three levels from 0 to 1."""
    side = max(image.size)
    red, green, blue = (int(level * 255) for level in mean)
    square = Image.new("RGB", (side, side), (red, green, blue))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def trained_pixels(folder: Path, image: Path) -> torch.Tensor:
    recipe = read_recipe(folder / "recipe.yaml", [f"images={image.parent}"])
    checkpoint = load(recipe)
    row = {"record": 0, "input_ids": [1, checkpoint.image_token_id, 2], "assistant_mask": [0, 0, 1]}
    batch = make_collator(recipe, checkpoint)([row | {"images": [image.name]}])
    return batch["pixel_values"]


@pytest.mark.parametrize("name", ["pad", "square", "again"])
def test_evaluation_sees_the_pixels_of_training(
    made: dict[str, Path], wide: Path, name: str
) -> None:
    folder = made[name]
    expected = trained_pixels(folder, wide)
    with Image.open(wide) as image:
        shown = image.convert("RGB")
    stock = AutoProcessor.from_pretrained(folder)
    assert torch.equal(
        stock(images=shown, text=QUESTION, return_tensors="pt").pixel_values, expected
    )
    arguments: dict[str, Any] = {"pretrained": str(folder), "device": "cpu", "dtype": "float32"}
    ours = VerbalizerLVLM(**arguments)
    assert torch.equal(ours._process([QUESTION], [[shown]], "right")["pixel_values"], expected)
    plain = HFMultimodalLM(**arguments)
    found = plain.tok_batch_multimodal_encode([QUESTION], [[shown]])
    assert torch.equal(found["pixel_values"], expected)


def test_padding_shows_all_of_an_image(made: dict[str, Path], wide: Path) -> None:
    padded, cut, again = (trained_pixels(made[name], wide) for name in ("pad", "square", "again"))
    assert torch.equal(cut, again) and not torch.equal(padded, cut)
    # Bars above and below of one colour, the mean: near zero once it is subtracted.
    assert padded[0, :, :7].abs().max() < 0.1 and padded[0, :, 25:].abs().max() < 0.1


@pytest.mark.parametrize(("size", "box"), [((8, 4), (0, 2, 8, 6)), ((3, 6), (1, 0, 4, 6))])
def test_pad_puts_the_image_in_the_middle(size: tuple[int, int], box: tuple[int, ...]) -> None:
    steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
    stock = LlavaImageProcessor(
        do_pad=True, image_mean=(0.5, 0.25, 0.0), **dict.fromkeys(steps, False)
    )
    side = max(size)
    expected = np.full((side, side, 3), (127, 63, 0), np.uint8)
    left, top, right, bottom = box
    expected[top:bottom, left:right] = (1, 2, 3)
    image = Image.new("RGB", size, (1, 2, 3))
    np.testing.assert_array_equal(np.asarray(pad_to_square(image, stock.image_mean)), expected)
    (pixels,) = stock(images=[image], return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(pixels, expected.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (CLIPImageProcessor, {}),
        (BitImageProcessor, {}),
        (SiglipImageProcessor, {}),
        # It crops nothing, and says nothing of it.
        (SiglipImageProcessor, {"size": {"height": 32, "width": 32}}),
        (CLIPImageProcessor, {"size": {"shortest_edge": 300}, "do_normalize": False}),
    ],
)
def test_padding_is_that_of_llava(kind: Any, settings: dict[str, Any]) -> None:
    image, before = make_image("noise", (90, 60)), kind(**settings)
    assert image is not None
    square = pad_to_square(image, before.image_mean)
    expected = before(images=[square], return_tensors="np")["pixel_values"]
    padding = with_aspect_ratio(before, "pad")
    np.testing.assert_array_equal(
        padding(images=[image], return_tensors="np")["pixel_values"], expected
    )
    back = with_aspect_ratio(padding, "square")
    for first, second in ((before, back), (padding, with_aspect_ratio(padding, "pad"))):
        one, other = (p(images=[image], return_tensors="np") for p in (first, second))
        np.testing.assert_array_equal(one["pixel_values"], other["pixel_values"])


def test_processors_that_no_stock_class_pads_like() -> None:
    """ConvNext's resizes to more than it crops, by a rule of its own."""
    processor = ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.5)
    with pytest.raises(ValueError, match=r"pad: ConvNextImageProcessor.* does other things"):
        with_aspect_ratio(processor, "pad")
