"""Processors that need torchvision (Qwen-VL's and others), in the environment of `make test-lmms`.

Each with a tiny model of its own: the adapter expands their image tokens as they do, and the engine
gives what `generate` gives with their inputs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.helpers.asking import requests
from tests.helpers.processors import (
    PROMPTS,
    TEXT,
    VISION,
    save,
    template,
    tiled,
    tokenizer,
    tokenizer_naming,
    with_images,
)
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.images import make_image

pytest.importorskip("torchvision", reason="`make test-lmms` runs these")
pytestmark = pytest.mark.lmms

ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}


def _qwen(kind: str, **vision: Any) -> tuple[Any, Any]:
    """Build a model of the Qwen-VL family, whose images take fewer positions than tokens."""
    names = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
    tokens = tokenizer(*names)
    start, end, video = map(tokens.convert_tokens_to_ids, names)
    patches = {"patch_size": 8, "merge_size": 2, "min_pixels": 256, "max_pixels": 2304}
    processor = getattr(transformers, f"{kind}Processor")(
        transformers.Qwen2VLImageProcessor(**patches),
        tokens,
        getattr(
            transformers, "Qwen3VLVideoProcessor" if "3" in kind else "Qwen2VLVideoProcessor"
        )(),
        chat_template=template(f"<|vision_start|>{tokens.image_token}<|vision_end|>"),
    )
    config = getattr(transformers, f"{kind}Config")(
        text_config=TEXT | ROPE | {"head_dim": 8},
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 8, **vision},
        image_token_id=tokens.image_token_id,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor


def qwen2_vl() -> tuple[Any, Any]:
    return _qwen("Qwen2VL", embed_dim=32, hidden_size=32)


def qwen2_5_vl() -> tuple[Any, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32}
    return _qwen("Qwen2_5_VL", **sizes, window_size=32, fullatt_block_indexes=[1])


def qwen3_vl() -> tuple[Any, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32}
    return _qwen("Qwen3VL", **sizes, num_position_embeddings=16, deepstack_visual_indexes=[0])


def smolvlm() -> tuple[Any, Any]:
    videos = transformers.SmolVLMVideoProcessor()
    return tiled("SmolVLM", transformers.SmolVLMImageProcessor, videos)


def internvl() -> tuple[Any, Any]:
    names = {"start_image_token": "<img>", "end_image_token": "</img>"}
    names |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokens = tokenizer_naming(**names)
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size={"height": 32, "width": 32}, max_patches=4),
        tokens,
        transformers.InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>"),
    )
    vision = VISION | {"image_size": [32, 32], "patch_size": [8, 8]}
    config = transformers.InternVLConfig(
        vision_config=vision,
        text_config={"model_type": "llama", **TEXT},
        image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    return transformers.InternVLForConditionalGeneration(config), processor


def pixtral() -> tuple[Any, Any]:
    names = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    tokens = tokenizer(*names)
    processor = transformers.PixtralProcessor(
        transformers.PixtralImageProcessor(
            size={"longest_edge": 32}, patch_size={"height": 8, "width": 8}
        ),
        tokens,
        patch_size=8,
        spatial_merge_size=1,
        chat_template=template("[IMG]"),
    )
    config = transformers.LlavaConfig(
        vision_config=transformers.PixtralVisionConfig(
            **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1},
            **{"num_attention_heads": 2, "head_dim": 16, "image_size": 32, "patch_size": 8},
        ),
        text_config=transformers.MistralConfig(**TEXT, sliding_window=8),
        image_token_index=tokens.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return transformers.LlavaForConditionalGeneration(config), processor


def llava_onevision() -> tuple[Any, Any]:
    points = [[32, 64], [64, 32], [64, 64]]
    tokens = tokenizer("<video>")
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(
            size={"height": 32, "width": 32}, image_grid_pinpoints=points
        ),
        tokens,
        transformers.LlavaOnevisionVideoProcessor(),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        chat_template=template("<image>"),
    )
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**VISION),
        text_config=transformers.Qwen2Config(**TEXT),
        image_token_index=3,
        video_token_index=tokens.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=points,
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config), processor


MAKERS = (qwen2_vl, qwen2_5_vl, qwen3_vl, smolvlm, internvl, pixtral, llava_onevision)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_the_engine_gives_what_generate_gives(
    make: Callable[[], tuple[Any, Any]], tmp_path: Path
) -> None:
    save(make, tmp_path)
    white, noise = make_image("white", (32, 32)), make_image("noise", (64, 32))
    two = "look <image> now <image> what?"
    asked = with_images([(two, [white, noise]), (two, [noise, white])])
    answers = []
    for engine in ("shared_prefix", "generate"):
        lm = VerbalizerLVLM(str(tmp_path), dtype="float32", device="cpu", engine=engine)
        blank = [
            lm.generate_until(requests(PROMPTS, num_beams=beams, max_gen_toks=6), disable_tqdm=True)
            for beams in (1, 3)
        ]
        chat = lm.apply_chat_template([{"role": "user", "content": "say <image>"}])
        templated = lm.generate_until(requests([chat], num_beams=3, max_gen_toks=6))
        answers.append((blank, templated, lm.generate_until(asked, disable_tqdm=True)))
        assert set(lm.get_model_info()["verbalizer_bench"]["engine"]) == {engine}
    assert answers[0] == answers[1]
    assert len(set(answers[0][0][1])) > 1, "each prompt has its own response"
    assert torch.isfinite(next(lm.model.parameters())).all()
