"""Each embedding is the vector that a plain loop over transformers takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from transformers import LlavaConfig

from tests.helpers import towers
from verbalizer_bench.models.images import make_image
from verbalizer_bench.vision.embedding import Embedding, parse_embedding
from verbalizer_bench.vision.towers import check_tower, load_tower


def images() -> list[Any]:
    return [make_image("noise", (40, 40)), Image.new("RGB", (20, 60), "red")]


def features(folder: Path, embedding: str) -> torch.Tensor:
    tower = load_tower(str(folder), parse_embedding(embedding, "--similar"), "--similar")
    return tower.features(tower.inputs(images()))


def plain(folder: Path, take: Callable[[Any, Any], torch.Tensor]) -> torch.Tensor:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(images(), return_tensors="pt")
    with torch.no_grad():
        return take(model, pixels["pixel_values"])


def test_clip(clip: Path) -> None:
    def vision(name: str) -> Any:
        return lambda model, pixels: model.vision_model(pixels)[name]

    projected = plain(clip, lambda model, pixels: model.get_image_features(pixels).pooler_output)
    assert projected.shape == (2, 24)
    assert torch.equal(features(clip, "projected"), projected)
    assert torch.equal(features(clip, "pooled"), plain(clip, vision("pooler_output")))
    states = plain(clip, vision("last_hidden_state"))
    assert torch.equal(features(clip, "cls"), states[:, 0])
    assert torch.equal(features(clip, "patches"), states[:, 1:].mean(dim=1))


def test_clip_s_vision_half_with_its_projection(clip: Path, tmp_path: Path) -> None:
    half = transformers.CLIPVisionModelWithProjection.from_pretrained(clip)
    half.save_pretrained(tmp_path)
    towers.processor().save_pretrained(tmp_path)
    for embedding in ("projected", "pooled", "patches"):
        assert torch.equal(features(tmp_path, embedding), features(clip, embedding))


def test_siglip_has_no_class_token(siglip: Path) -> None:
    pooled = plain(siglip, lambda model, pixels: model.vision_model(pixels).pooler_output)
    assert torch.equal(features(siglip, "projected"), pooled)
    states = plain(siglip, lambda model, pixels: model.vision_model(pixels).last_hidden_state)
    assert torch.equal(features(siglip, "patches"), states.mean(dim=1))
    with pytest.raises(
        ValueError, match="embedding cls: SiglipModel has no such vector: it has 16 "
    ):
        features(siglip, "cls")


@pytest.mark.parametrize(("make", "before"), [("dinov2", 1), ("registers", 5), ("dinov3", 5)])
def test_dino_s_patches_are_without_class_and_register_tokens(
    tmp_path: Path, make: str, before: int
) -> None:
    if make == "registers":
        towers.dinov2(tmp_path, registers=4)
    else:
        getattr(towers, make)(tmp_path)
    states = plain(tmp_path, lambda model, pixels: model(pixels).last_hidden_state)
    assert states.shape[1] == before + 16
    assert torch.equal(features(tmp_path, "cls"), states[:, 0])
    assert torch.equal(features(tmp_path, "patches"), states[:, before:].mean(dim=1))
    with pytest.raises(ValueError, match="has no such vector: not one of each image"):
        features(tmp_path, "projected")


def test_a_layer_is_a_hidden_state(dinov2: Path) -> None:
    states = plain(dinov2, lambda model, pixels: model(pixels, output_hidden_states=True)[2][-2])
    assert torch.equal(features(dinov2, "cls@-2"), states[:, 0])
    assert torch.equal(features(dinov2, "patches@1"), states[:, 1:].mean(dim=1))
    with pytest.raises(ValueError, match="it has hidden states 0 to 2; give another"):
        features(dinov2, "cls@7")


def test_names_are_read_or_refused() -> None:
    assert parse_embedding("patches@-2", "") == Embedding("patches", -2)
    assert str(Embedding("patches", -2)) == "patches@-2" and str(Embedding("cls")) == "cls"
    for text in ("CLS", "pooled@3", "cls@", "cls@x", ""):
        with pytest.raises(ValueError, match=r"^--different-embedding .*: give one of projected"):
            parse_embedding(text, "--different-embedding")


def test_what_is_no_tower_is_one_line(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--similar .*nowhere: cannot be read: no such folder"):
        load_tower(str(tmp_path / "nowhere"), Embedding("cls"), "--similar")


def test_what_has_no_projected_vector_is_said_before_weights_are_loaded(
    clip: Path, dinov2: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"the type dinov2 is no CLIP or SigLIP, and has no proj"):
        check_tower(str(dinov2), Embedding("projected"), "--similar")
    check_tower(str(dinov2), Embedding("cls"), "--similar")
    check_tower(str(clip), Embedding("projected"), "--similar")
    LlavaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"the type llava is no CLIP or SigLIP, and no vision"):
        check_tower(str(tmp_path), Embedding("cls"), "--different")
