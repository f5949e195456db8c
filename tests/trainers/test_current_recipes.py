"""The recipes of recipes/current at the checkpoints' shapes, which are written here from memory."""

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    Gemma3Config,
    InternVLConfig,
    LlamaConfig,
    LlavaOnevisionConfig,
    PretrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2Config,
    Qwen3VLConfig,
    SiglipVisionConfig,
    SmolVLMConfig,
)

from tests.conftest import REPOSITORY
from verbalizer_bench.trainers.checkpoints.load import load_shapes
from verbalizer_bench.trainers.checkpoints.trainable import count_parameters
from verbalizer_bench.trainers.recipe import read_recipe

FOLDER = REPOSITORY / "recipes" / "current"
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
MODELS = sorted({name.rpartition("_")[0] for name in NAMES})
TEXT = {"qwen2_5_7b", "llama3_1_8b", "smollm2_1_7b"}
# Parameters of each checkpoint, as the hub shows them (from memory).
SIZES = {
    "qwen2_5_vl_7b": 8_292_166_656,
    "qwen3_vl_8b": 8_767_123_696,
    "internvl3_8b": 7_944_373_760,
    "smolvlm2_2_2b": 2_246_784_880,
    "gemma3_4b": 4_300_079_472,
    "llava_onevision_7b": 8_030_348_832,
    "qwen2_5_7b": 7_615_616_512,
    "llama3_1_8b": 8_030_261_248,
    "smollm2_1_7b": 1_711_376_384,
}
# The arms of a model: what differs between its two recipes.
WAYS = {"output", "lora", "learning_rate", "connector_learning_rate", "trained_parameters"}


def llama(width: int, inner: int, layers: int, words: int, **others: Any) -> LlamaConfig:
    heads = {"num_attention_heads": 32, "num_key_value_heads": 32} | others
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        vocab_size=words,
        **heads,
    )


def siglip(layers: int, pixels: int) -> dict[str, Any]:
    return {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "image_size": pixels,
        "patch_size": 14,
        "vision_use_head": False,
    }


def qwen2(words: int = 152_064) -> dict[str, Any]:
    return {
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": words,
        "tie_word_embeddings": False,
    }


def qwen2_5_vl() -> PretrainedConfig:
    tower = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
    tower |= {"out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2}
    return Qwen2_5_VLConfig(text_config=qwen2(), vision_config=tower, tie_word_embeddings=False)


def qwen3_vl() -> PretrainedConfig:
    text = {"hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36}
    text |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    text |= {"vocab_size": 151_936, "tie_word_embeddings": False}
    tower = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16}
    tower |= {"out_hidden_size": 4096, "patch_size": 16, "num_position_embeddings": 2304}
    tower["deepstack_visual_indexes"] = [8, 16, 24]
    return Qwen3VLConfig(text_config=text, vision_config=tower, tie_word_embeddings=False)


def internvl3() -> PretrainedConfig:
    tower = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    tower |= {"num_attention_heads": 16, "image_size": [448, 448], "patch_size": [14, 14]}
    tower |= {"attention_bias": True}
    text = Qwen2Config(**qwen2(151_674))
    return InternVLConfig(text_config=text, vision_config=tower, tie_word_embeddings=False)


def smolvlm2() -> PretrainedConfig:
    return SmolVLMConfig(
        text_config=llama(2048, 8192, 24, 49_280, tie_word_embeddings=False),
        vision_config=siglip(27, 384),
        scale_factor=3,
        tie_word_embeddings=False,
    )


def gemma3() -> PretrainedConfig:
    text = {"hidden_size": 2560, "intermediate_size": 10_240, "num_hidden_layers": 34}
    text |= {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
    text["vocab_size"] = 262_208
    return Gemma3Config(text_config=text, vision_config=siglip(27, 896))


def llava_onevision() -> PretrainedConfig:
    return LlavaOnevisionConfig(
        text_config=Qwen2Config(**qwen2()),
        vision_config=SiglipVisionConfig(**siglip(26, 384)),
        tie_word_embeddings=False,
    )


SHAPES = {
    "qwen2_5_vl_7b": qwen2_5_vl,
    "qwen3_vl_8b": qwen3_vl,
    "internvl3_8b": internvl3,
    "smolvlm2_2_2b": smolvlm2,
    "gemma3_4b": gemma3,
    "llava_onevision_7b": llava_onevision,
    "qwen2_5_7b": lambda: Qwen2Config(**qwen2()),
    "llama3_1_8b": lambda: llama(4096, 14_336, 32, 128_256, num_key_value_heads=8),
    "smollm2_1_7b": lambda: llama(2048, 8192, 24, 49_152, tie_word_embeddings=True),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_what_it_says(name: str, tmp_path: Path) -> None:
    model = name.rpartition("_")[0]
    SHAPES[model]().save_pretrained(tmp_path)
    recipe = read_recipe(f"current/{name}", [f"model.config={tmp_path}", "model.path=null"])
    trained, frozen = count_parameters(load_shapes(recipe), recipe)
    assert trained == recipe.trained_parameters
    whole = trained if name.endswith("_full") else 0
    adapter = recipe.lora.r * per_rank(model) if recipe.lora else 0
    assert trained + frozen - adapter == SIZES[model]
    assert bool(whole) == (recipe.lora is None)


def per_rank(model: str) -> int:
    """Return the weights that each rank of an adapter adds, by hand: sums of inputs and outputs."""
    config = SHAPES[model]().get_text_config()
    width, inner = config.hidden_size, config.intermediate_size
    head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    layer = 2 * (width + queries) + 2 * (width + keys) + 3 * (width + inner)
    return int(config.num_hidden_layers * layer)


@pytest.mark.parametrize("model", MODELS)
def test_the_recipes_of_a_model_differ_in_what_is_trained(model: str) -> None:
    full, lora = (read_recipe(f"current/{model}_{way}").as_dict() for way in ("full", "lora"))
    assert {key for key in full if full[key] != lora[key]} <= WAYS
    assert full["method"] == ("sft" if model in TEXT else "vit")
    assert (full["num_train_epochs"], full["global_batch_size"]) == (1, 32)


def test_every_model_has_both_and_stands_in_the_table() -> None:
    assert sorted(f"{model}_{way}" for model in SIZES for way in ("full", "lora")) == NAMES
    page = (FOLDER / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)_full`, `\w+_lora` \| ([^\n]+) \|$", page, re.M))
    assert rows.keys() == SIZES.keys()
    for model, row in rows.items():
        full, lora = (read_recipe(f"current/{model}_{way}") for way in ("full", "lora"))
        assert f"{full.trained_parameters:,} and {lora.trained_parameters:,}" in row
        assert row.startswith(f"{full.model.path} |")
        frozen = [SIZES[model] - int(full.trained_parameters or 0)]
        frozen += [SIZES[model] - int(lora.trained_parameters or 0) + 16 * per_rank(model)]
        trained = (full.trained_parameters or 0, lora.trained_parameters or 0)
        gb = [16 * t + size * f for t, f, size in zip(trained, frozen, (4, 2), strict=True)]
        assert " and ".join(f"{round(value / 1e9)}" for value in gb) in row


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_full")])
def test_a_recipe_names_the_layer_that_fsdp_gathers(name: str, tmp_path: Path) -> None:
    SHAPES[name.rpartition("_")[0]]().save_pretrained(tmp_path)
    recipe = read_recipe(f"current/{name}", [f"model.config={tmp_path}", "model.path=null"])
    layer = type(load_shapes(recipe).get_decoder().layers[0]).__name__
    text = (FOLDER / f"{name}.yaml").read_text()
    named = re.findall(r"--fsdp_transformer_layer_cls_to_wrap (\w+)", text)
    assert named == ([] if layer == "LlamaDecoderLayer" else [layer])
