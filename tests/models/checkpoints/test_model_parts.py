"""What of a model is its vision tower, connector and language model, for all families."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForImageTextToText, IdeficsConfig

from tests.helpers.families import Family, shapes
from tests.helpers.language_families import LANGUAGE_FAMILIES
from tests.helpers.vision_families import VISION_FAMILIES
from verbalizer_bench.models.checkpoints.model_parts import (
    CONNECTOR,
    LANGUAGE_MODEL,
    VISION_TOWER,
    outermost_modules,
    parameter_parts,
)
from verbalizer_bench.models.mof import MofLlavaConfig, MofLlavaForConditionalGeneration

_LLAVA = ({"model.vision_tower"}, {"model.multi_modal_projector"})
_TWO_TOWERS = {"model.vision_tower", "model.second_vision_tower"}
_NEWLINE = (_LLAVA[0], {"model.multi_modal_projector", "model.image_newline"})
_QWEN = ({"patch_embed", "blocks"}, {"merger"})
_QWEN3 = ({"patch_embed", "pos_embed", "blocks"}, {"merger", "deepstack_merger_list"})
_IDEFICS = ({"model.vision_model"}, {"model.connector"})
_GLM_TOWER = {"embeddings", "patch_embed", "blocks", "post_conv_layernorm", "post_layernorm"}
_GLM = (_GLM_TOWER, {"merger", "downsample"})
_BLIP = ({"vision_model"}, {"query_tokens", "qformer", "language_projection"})
# Vision tower and connector: the outermost modules or parameters of each; of Qwen's and GLM's
# those below `model.visual`.
WANTED: dict[str, tuple[set[str], set[str]]] = {
    "llava_next": _NEWLINE,
    "llava_onevision": _NEWLINE,
    "mof_llava": (_TWO_TOWERS, _LLAVA[1]),
    "mof_llava, interleaved features": (
        _TWO_TOWERS,
        _LLAVA[1] | {"model.second_multi_modal_projector"},
    ),
    "video_llava": ({"model.image_tower", "model.video_tower"}, _LLAVA[1]),
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "qwen3_5": (_QWEN3[0], {"merger"}),
    "smolvlm": _IDEFICS,
    "idefics3": _IDEFICS,
    "idefics2": _IDEFICS,
    "gemma4": (_LLAVA[0], {"model.embed_vision"}),
    "glm4v": _GLM,
    "glm4v_moe": _GLM,
    "ovis2": (
        {"model.vision_tower.transformer"},
        {
            *("model.vision_tower.head_linear", "model.vision_tower.head_norm"),
            "model.visual_embeddings_table",
        },
    ),
    "kosmos-2": ({"vision_model"}, {"image_to_text_projection"}),
    "blip-2": _BLIP,
    "instructblip": _BLIP,
    "mllama": ({"model.vision_model"}, _LLAVA[1]),
    "llama4": (
        {f"vision_model.{name}" for name in ("patch_embedding", "model", "class_embedding")}
        | {f"vision_model.layernorm_{name}" for name in ("pre", "post")}
        | {"vision_model.positional_embedding_vlm"},
        {"multi_modal_projector", "vision_model.vision_adapter"},
    ),
    "deepseek_vl": ({"model.vision_model"}, {"model.aligner"}),
    "fuyu": (set(), {"model.vision_embed_tokens"}),
    "lighton_ocr": ({"model.vision_encoder"}, {"model.vision_projection"}),
    "paddleocr_vl": ({"model.visual"}, {"model.projector"}),
    "video_llama_3": ({"model.vision_model"}, {"model.projector"}),
}
LANGUAGE = ("language_model.", "text_model.", "lm_head.")
VISION = [family for family in VISION_FAMILIES if family.model_type != "janus"]
TEXT = [family for family in LANGUAGE_FAMILIES if family.model_type not in ("t5", "bart")]


def part_modules(model: Any, part: str) -> list[str]:
    names = {name for name, kind in parameter_parts(model).items() if kind == part}
    return list(outermost_modules(model, names))


def outermost(model: Any, part: str) -> Iterator[str]:
    """Yield a part's outermost modules, and its parameters that are in none of them."""
    modules = part_modules(model, part)
    yield from modules
    inside = tuple(f"{name}." for name in modules)
    for name, kind in parameter_parts(model).items():
        if kind == part and not name.startswith(inside):
            yield name


@pytest.mark.parametrize("family", VISION, ids=lambda family: family.name)
def test_each_parameter_is_of_one_part(family: Family) -> None:
    model = shapes(family)
    parts = parameter_parts(model)
    assert list(parts) == [name for name, _ in model.named_parameters()]
    tower, connector = WANTED.get(family.name, WANTED.get(family.model_type, _LLAVA))
    found = [set(outermost(model, part)) for part in (VISION_TOWER, CONNECTOR)]
    short = [{name.removeprefix("model.visual.") for name in names} for names in found]
    assert (short if family.model_type.startswith(("qwen", "glm")) else found) == [tower, connector]
    language = {name for name, kind in parts.items() if kind == LANGUAGE_MODEL}
    assert language == {name for name in parts if name.removeprefix("model.").startswith(LANGUAGE)}


@pytest.mark.parametrize("family", TEXT, ids=lambda family: family.name)
def test_all_of_a_text_model_is_the_language_model(family: Family) -> None:
    model = shapes(family)
    assert set(parameter_parts(model).values()) == {LANGUAGE_MODEL}
    assert part_modules(model, CONNECTOR) == []


def test_the_second_tower_and_its_connector() -> None:
    llava = AutoConfig.for_model("llava", **VISION[0].sizes)
    config = MofLlavaConfig(
        text_config=llava.text_config,
        vision_config=llava.vision_config,
        second_vision_config=llava.vision_config,
        mixture="interleaved",
    )
    with torch.device("meta"):
        model = MofLlavaForConditionalGeneration(config)
    assert part_modules(model, VISION_TOWER) == ["model.vision_tower", "model.second_vision_tower"]
    projectors = ["model.multi_modal_projector", "model.second_multi_modal_projector"]
    assert part_modules(model, CONNECTOR) == projectors


def test_what_is_not_known_is_refused_by_name() -> None:
    (janus,) = (family for family in VISION_FAMILIES if family.model_type == "janus")
    with pytest.raises(ValueError, match=r"Janus.*: model\.vqmodel\.\S+ is of no vision tower"):
        parameter_parts(shapes(janus))
    t5 = next(family for family in LANGUAGE_FAMILIES if family.model_type == "t5")
    with pytest.raises(ValueError, match=r"T5.*: (shared|encoder)\.\S+ is of no vision tower"):
        parameter_parts(shapes(t5))


def test_a_decoder_that_holds_the_vision_tower_is_refused() -> None:
    config = IdeficsConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4
    )
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    with pytest.raises(ValueError, match=r"Idefics.* language model from its vision_model"):
        parameter_parts(model)


def test_parts_of_a_model_with_an_adapter_that_holds_modules_whole() -> None:
    """Qwen's tower with the connector in it is one module."""
    (family,) = (family for family in VISION if family.model_type == "qwen2_5_vl")
    model = shapes(family)
    before = parameter_parts(model)
    adapted = get_peft_model(
        model, LoraConfig(target_modules=["q_proj"], modules_to_save=["model.visual"])
    )
    after = parameter_parts(adapted.get_base_model())
    assert len(after) > len(before)
    for name, part in after.items():
        for wrapper in (".modules_to_save.default", ".original_module", ".base_layer"):
            name = name.replace(wrapper, "")
        assert "lora_" in name or before[name] == part
