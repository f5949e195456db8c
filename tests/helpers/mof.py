"""Tiny vision towers of random weights, and LLaVAs that see by two of them."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    BitImageProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

from tests.helpers.toy import TEMPLATE
from verbalizer_bench.models.checkpoints.compose import compose
from verbalizer_bench.models.checkpoints.second_tower import SecondTower

PIXELS, PATCHES = 32, 16
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
WIDE = SIZES | {"intermediate_size": 64}
SETTINGS: dict[str, dict[str, Any]] = {
    "additive": {"alpha": 0.5},
    "interleaved": {},
    "channel": {},
}
# 16 patches of 8 pixels in 32 are what a LLaVA's tower makes; these make others of their own size.
TOWERS: dict[str, Any] = {
    "clip": CLIPVisionConfig(**WIDE, image_size=PIXELS, patch_size=8),
    "dinov2": Dinov2Config(**SIZES, image_size=40, patch_size=8),
    "registers": Dinov2WithRegistersConfig(
        **SIZES, image_size=40, patch_size=8, num_register_tokens=3
    ),
    "dinov3": DINOv3ViTConfig(**WIDE, image_size=48, patch_size=16, num_register_tokens=4),
    "siglip": SiglipVisionConfig(**WIDE, image_size=30, patch_size=6),
    "wide": Dinov2Config(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8
    ),
}


def crop(pixels: int, **kwargs: Any) -> dict[str, Any]:
    size = {"height": pixels, "width": pixels}
    return {"size": {"shortest_edge": pixels}, "crop_size": size, **kwargs}


def save_tower(folder: Path, kind: str, **changes: Any) -> str:
    """Write a tower and its processor; weights are so large that images are told apart."""
    place, config = folder / kind, TOWERS[kind]
    if place.exists():
        return str(place)
    config = type(config)(**config.to_dict() | changes)
    torch.manual_seed(sorted(TOWERS).index(kind))
    tower = AutoModel.from_config(config)
    for weight in tower.parameters():
        if weight.dim() > 1:
            weight.data *= 3
    tower.save_pretrained(place)
    if kind == "clip":
        processor: Any = CLIPImageProcessor(**crop(PIXELS))
    elif kind == "siglip":
        processor = SiglipImageProcessor(size={"height": 30, "width": 30})
    else:
        normal = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
        processor = BitImageProcessor(**crop(config.image_size, **normal))
    processor.save_pretrained(place)
    return str(place)


def save_mof(
    folder: Path, llm: Path, mixture: str, second: str = "dinov2", **settings: Any
) -> Path:
    """Compose a checkpoint before the toy Llama; the connectors are large enough to be seen."""
    towers = folder / "towers"
    tower = SecondTower(save_tower(towers, second), mixture, **SETTINGS[mixture] | settings)
    output = folder / "-".join([mixture, second, *map(str, settings.values())])
    made = compose(
        save_tower(towers, "clip"),
        str(llm),
        "mlp2x_gelu",
        output / "small",
        chat_template=TEMPLATE,
        second=tower,
    )
    return enlarge(made, output / "checkpoint")


def enlarge(made: Path, output: Path) -> Path:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from verbalizer_bench.models.checkpoints.connector import connectors

    model = AutoModelForImageTextToText.from_pretrained(made)
    for connector in connectors(model):
        for weight in connector.parameters():
            weight.data *= 12
    model.save_pretrained(output)
    AutoProcessor.from_pretrained(made).save_pretrained(output)
    return output
