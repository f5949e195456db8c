"""What two towers see, and how it is mixed: against the towers and connectors themselves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate, layer_norm
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    LlavaForConditionalGeneration,
)

from tests.helpers.mof import PATCHES, save_tower
from verbalizer_bench.models.checkpoints.compose import load_parts
from verbalizer_bench.models.checkpoints.connector import connectors, fix_identity
from verbalizer_bench.models.checkpoints.second_tower import SecondTower
from verbalizer_bench.models.images import make_image
from verbalizer_bench.models.mof import MofLlavaForConditionalGeneration

RETURN: dict[str, Any] = {"return_tensors": "pt"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("towers")


def parts(folder: Path, toys: tuple[Path, Path], second: SecondTower | None, **kwargs: Any) -> Any:
    return load_parts(
        save_tower(folder, "clip"), str(toys[0]), "mlp2x_gelu", second=second, **kwargs
    )


def image(side: int = 32) -> Image.Image:
    made = make_image("noise", (side, side))
    assert made is not None
    return made


def features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack(model.get_image_features(pixels).pooler_output)


def hidden(tower: Any, pixels: torch.Tensor, layer: int) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = tower(pixels, output_hidden_states=True).hidden_states[layer]
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_alpha_1_is_a_plain_llava_bit_for_bit(
    toys: tuple[Path, Path], folder: Path, tmp_path: Path, dtype: str
) -> None:
    second = SecondTower(save_tower(folder, "dinov2"), "additive", alpha=1)
    models = []
    for number, tower in enumerate((None, second)):
        model, processor = parts(folder, toys, tower, dtype=dtype)
        model.save_pretrained(tmp_path / str(number))
        models.append(AutoModelForImageTextToText.from_pretrained(tmp_path / str(number)))
    assert isinstance(models[0], LlavaForConditionalGeneration)
    assert isinstance(models[1], MofLlavaForConditionalGeneration)
    inputs = processor(text="<image>\nhello", images=[image()], **RETURN).to(models[0].dtype)
    logits = [model(**inputs).logits for model in models]
    assert torch.equal(logits[0].view(torch.uint8), logits[1].view(torch.uint8))
    asked = {"max_new_tokens": 5, "num_beams": 3, "do_sample": False}
    one, other = (model.generate(**inputs, **asked) for model in models)
    assert torch.equal(one, other)


@pytest.mark.parametrize("alpha", [0, 0.25, 0.5])
def test_additive_by_hand(toys: tuple[Path, Path], folder: Path, alpha: float) -> None:
    second = SecondTower(save_tower(folder, "dinov2"), "additive", alpha=alpha)
    model = parts(folder, toys, second).model
    pixels = torch.rand(2, 3, 32, 32)
    one = hidden(model.model.vision_tower, pixels, -2)[:, 1:]
    other = hidden(model.model.second_vision_tower, pixels, -1)[:, 1:]
    mixed = alpha * one + (1 - alpha) * other
    with torch.no_grad():
        expected = model.model.multi_modal_projector(mixed)
    assert torch.allclose(features(model, pixels), expected, atol=1e-6)


def test_normalized_vectors_have_mean_0_and_variance_1(
    toys: tuple[Path, Path], folder: Path
) -> None:
    dino = save_tower(folder, "dinov2")
    model = parts(folder, toys, SecondTower(dino, "additive", alpha=0.5, normalize=True)).model
    pixels = torch.rand(2, 3, 32, 32)
    towers = ((model.model.vision_tower, -2), (model.model.second_vision_tower, -1))
    one, other = (layer_norm(hidden(t, pixels, n)[:, 1:], (32,)) for t, n in towers)
    assert torch.allclose(one.var(-1, correction=0), torch.ones(2, PATCHES), atol=1e-3)
    with torch.no_grad():
        expected = model.model.multi_modal_projector(0.5 * one + 0.5 * other)
    assert torch.allclose(features(model, pixels), expected, atol=1e-6)


def test_tokens_alternate_in_spatial_order(toys: tuple[Path, Path], folder: Path) -> None:
    model = parts(folder, toys, SecondTower(save_tower(folder, "wide"), "interleaved")).model
    pixels = torch.rand(2, 3, 32, 32)
    found, first, second = features(model, pixels), *connectors(model)
    assert found.shape == (2, 2 * PATCHES, 64) and second.linear_1.in_features == 48
    with torch.no_grad():
        one = first(hidden(model.model.vision_tower, pixels, -2)[:, 1:])
        other = second(hidden(model.model.second_vision_tower, pixels, -1)[:, 1:])
    assert torch.allclose(found[:, 0::2], one, atol=1e-6)
    assert torch.allclose(found[:, 1::2], other, atol=1e-6)


def test_a_change_of_a_patch_changes_its_own_tokens_most(
    toys: tuple[Path, Path], folder: Path
) -> None:
    """Both towers' tokens of a patch stand side by side, row by row."""
    model = parts(folder, toys, SecondTower(save_tower(folder, "dinov2"), "interleaved")).model
    plain = torch.zeros(1, 3, 32, 32)
    for patch in (0, 6, 15):
        row, column = divmod(patch, 4)
        marked = plain.clone()
        marked[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 3
        change = (features(model, marked) - features(model, plain)).norm(dim=-1)[0]
        assert {int(change[0::2].argmax()), int(change[1::2].argmax())} == {patch}


def test_channel_is_both_vectors_side_by_side(toys: tuple[Path, Path], folder: Path) -> None:
    model = parts(folder, toys, SecondTower(save_tower(folder, "wide"), "channel")).model
    pixels = torch.rand(2, 3, 32, 32)
    assert model.model.multi_modal_projector.linear_1.in_features == 32 + 48
    one = hidden(model.model.vision_tower, pixels, -2)[:, 1:]
    other = hidden(model.model.second_vision_tower, pixels, -1)[:, 1:]
    with torch.no_grad():
        expected = model.model.multi_modal_projector(torch.cat([one, other], -1))
    assert torch.allclose(features(model, pixels), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("second", "size", "before"), [("dinov2", 32, 1), ("registers", 32, 4), ("dinov3", 64, 5)]
)
def test_what_stands_before_the_patches_goes(
    toys: tuple[Path, Path], folder: Path, second: str, size: int, before: int
) -> None:
    """And pixels are resized where the second tower would make another grid of them."""
    model = parts(folder, toys, SecondTower(save_tower(folder, second), "interleaved")).model
    assert model.config.second_vision_feature_layer == -1
    pixels = torch.rand(1, 3, 32, 32)
    seen = pixels
    if size != 32:
        seen = interpolate(pixels, (size, size), mode="bicubic", antialias=True)
    states = hidden(model.model.second_vision_tower, seen, -1)
    assert states.shape[1] == PATCHES + before
    with torch.no_grad():
        expected = connectors(model)[1](states[:, before:])
    assert torch.allclose(features(model, pixels)[:, 1::2], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["dinov2", "registers", "dinov3"])
def test_the_last_hidden_state_of_a_dino_is_before_its_norm(folder: Path, kind: str) -> None:
    tower = AutoModel.from_pretrained(save_tower(folder, kind))
    output = tower(torch.rand(1, 3, 48, 48), output_hidden_states=True)
    norm = getattr(tower, "layernorm", None) or tower.norm
    assert torch.equal(norm(output.hidden_states[-1]), output.last_hidden_state)
    assert not torch.allclose(output.hidden_states[-1], output.last_hidden_state, atol=1e-3)


def test_features_are_resized_where_a_tower_sees_its_own_size_alone(
    toys: tuple[Path, Path], folder: Path
) -> None:
    siglip = save_tower(folder, "siglip")
    with pytest.raises(
        ValueError, match=r"siglip_vision_model .*32x32 .*give grid=resize_features"
    ):
        parts(folder, toys, SecondTower(siglip, "interleaved"))
    second = SecondTower(siglip, "interleaved", grid="resize_features")
    model = parts(folder, toys, second).model
    pixels = torch.rand(2, 3, 32, 32)
    seen = interpolate(pixels, (30, 30), mode="bicubic", antialias=True)
    states = hidden(model.model.second_vision_tower, seen, -2)
    assert states.shape[1] == 25
    planes = states.transpose(1, 2).reshape(2, 32, 5, 5)
    planes = interpolate(planes, (4, 4), mode="bilinear").flatten(2).transpose(1, 2)
    with torch.no_grad():
        expected = connectors(model)[1](planes)
    assert torch.allclose(features(model, pixels)[:, 1::2], expected, atol=1e-5)


def test_own_pixels_are_those_of_the_second_towers_processor(
    toys: tuple[Path, Path], folder: Path
) -> None:
    dino = save_tower(folder, "dinov2")
    model, processor = parts(folder, toys, SecondTower(dino, "interleaved", pixels="own"))
    pixels = processor.image_processor(image(), **RETURN)["pixel_values"]
    own = AutoImageProcessor.from_pretrained(
        dino, size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    seen = own(image(), **RETURN)["pixel_values"]
    assert not torch.allclose(pixels, seen, atol=0.1)
    states = hidden(model.model.second_vision_tower, seen, -1)
    with torch.no_grad():
        expected = connectors(model)[1](states[:, 1:])
    assert torch.allclose(features(model, pixels)[:, 1::2], expected, atol=1e-4)
    rule = model.config.second_normalization
    assert (rule["mean"], rule["std"]) == ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])


@pytest.mark.parametrize(("height", "width"), [(32, 48), (35, 33)])
@pytest.mark.parametrize("mixture", ["interleaved", "channel"])
def test_grids_that_are_no_squares_and_pixels_that_patches_do_not_divide(
    toys: tuple[Path, Path], folder: Path, tmp_path: Path, height: int, width: int, mixture: str
) -> None:
    dino = save_tower(folder, "dinov2")
    processor = AutoImageProcessor.from_pretrained(
        dino, size={"shortest_edge": 64}, crop_size={"height": height, "width": width}
    )
    AutoModel.from_pretrained(dino).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    second = SecondTower(save_tower(folder, "dinov3"), mixture)
    model, processor = load_parts(str(tmp_path), str(toys[0]), "linear", second=second)
    inputs = processor(text="<image>\nhello", images=[image(70)], **RETURN)
    tokens = (height // 8) * (width // 8) * (2 if mixture == "interleaved" else 1)
    assert model.config.image_seq_length == tokens
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == tokens
    assert torch.isfinite(model(**inputs).logits).all()


@pytest.mark.parametrize(
    ("tower", "settings", "message"),
    [
        (
            "wide",
            {"mixture": "additive", "alpha": 0.5},
            "one width, and these have 32 and 48; take",
        ),
        ("dinov2", {"mixture": "additive", "alpha": 1.5}, r"alpha=1.5: .* a share from 0 to 1"),
        ("dinov2", {"mixture": "additive", "alpha": float("nan")}, "alpha=nan: .*from 0 to 1"),
        ("dinov2", {"mixture": "additive"}, "alpha=None: additive takes alpha"),
        ("dinov2", {"mixture": "channel", "alpha": 0.5}, "alpha=0.5: additive takes alpha"),
        ("dinov2", {"mixture": "sum"}, "mixture=sum: one of additive, interleaved, channel"),
        ("dinov2", {"mixture": "channel", "layer": 9}, "layer=9: dinov2 has hidden states -4 to 3"),
        ("dinov2", {"mixture": "channel", "first_layer": 4}, "vision_feature_layer=4: clip_vision"),
        ("dinov2", {"mixture": "channel", "grid": "crop"}, "grid=crop: one of resize_pixels, res"),
        ("dinov2", {"mixture": "channel", "pixels": "raw"}, "pixels=raw: one of first, own"),
        (None, {"mixture": "channel"}, "second_tower=.*nowhere: cannot be read: .*no such folder"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(
    toys: tuple[Path, Path], folder: Path, tower: str | None, settings: Any, message: str
) -> None:
    place = save_tower(folder, tower) if tower else "./nowhere"
    with pytest.raises(ValueError, match=message) as error:
        parts(folder, toys, SecondTower(place, **settings))
    assert "\n" not in str(error.value)


def test_a_language_model_and_a_swin_are_no_second_tower(
    toys: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    from transformers import SwinConfig

    swin = SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2])
    AutoModel.from_config(swin).save_pretrained(tmp_path)
    for place in (str(tmp_path), str(toys[0])):
        with pytest.raises(ValueError, match="second_tower"):
            parts(folder, toys, SecondTower(place, "channel"))


def test_a_tower_in_float16_and_a_checkpoint_in_bfloat16(
    toys: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    dino = save_tower(folder, "dinov2")
    AutoModel.from_pretrained(dino).half().save_pretrained(tmp_path / "dino")
    AutoImageProcessor.from_pretrained(dino).save_pretrained(tmp_path / "dino")
    second = SecondTower(str(tmp_path / "dino"), "interleaved")
    assert parts(folder, toys, second).model.model.second_vision_tower.dtype == torch.float32
    model, processor = parts(folder, toys, second, dtype="bfloat16")
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.bfloat16}
    inputs = processor(text="<image>\nhello", images=[image()], **RETURN).to(torch.bfloat16)
    assert torch.equal(model(**inputs).logits, loaded(**inputs).logits)
    whole = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    pixels = inputs["pixel_values"].float()
    assert torch.allclose(features(whole, pixels), features(model, pixels).float(), atol=0.05)


def test_towers_are_asked_as_they_are_in_training_too(
    toys: tuple[Path, Path], folder: Path
) -> None:
    """A DINOv3 in training mode scales its positions at random."""
    model = parts(folder, toys, SecondTower(save_tower(folder, "dinov3"), "channel")).model
    pixels = torch.rand(1, 3, 32, 32)
    before = features(model, pixels)
    model.gradient_checkpointing_enable()
    model.train()
    assert model.model.language_model.training and torch.equal(features(model, pixels), before)
    inputs = {"input_ids": torch.tensor([[1, *[3] * PATCHES, 9, 9]]), "pixel_values": pixels}
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(weight.grad is not None for weight in connectors(model)[0].parameters())
    towers = (model.model.vision_tower, model.model.second_vision_tower)
    assert all(weight.grad is None for tower in towers for weight in tower.parameters())


def test_a_linear_connector_of_each_tower(toys: tuple[Path, Path], folder: Path) -> None:
    second = SecondTower(save_tower(folder, "wide"), "interleaved")
    model = load_parts(save_tower(folder, "clip"), str(toys[0]), "linear", second=second).model
    for connector in connectors(model):
        assert torch.equal(connector.linear_2.weight, torch.eye(64))
        assert not any(weight.requires_grad for weight in connector.linear_2.parameters())
    connectors(model)[1].linear_2.weight.data[0] += 1e-7
    with pytest.raises(ValueError, match="linear_2 of this verbalizer_connector=linear"):
        fix_identity(model)
