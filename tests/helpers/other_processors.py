"""Families with processors of their own beside those of `own_processors`, some of them refused."""

from typing import Any

import torch
import transformers

from tests.helpers.own_processors import (
    MISTRAL,
    SMOL,
    ProcessorFamily,
    chatml,
    pil_or_torchvision,
)
from tests.helpers.processors import TEXT, VISION, tokenizer, tokenizer_naming

_SIZE = {"height": 32, "width": 32}


def vipllava() -> tuple[Any, Any]:
    tokens = tokenizer()
    processor = transformers.LlavaProcessor(
        pil_or_torchvision("CLIP", size={"shortest_edge": 32}, crop_size=_SIZE),
        tokens,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=MISTRAL,
    )
    config = transformers.VipLlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=transformers.LlamaConfig(**TEXT | {"vocab_size": len(tokens)}),
        image_token_index=tokens.image_token_id,
        vision_feature_layers=[-1, -2],
    )
    return transformers.VipLlavaForConditionalGeneration(config), processor


def aya_vision() -> tuple[Any, Any]:
    marks = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>")
    tiles = ("TILE_GLOBAL", *(f"TILE_{number}" for number in range(1, 5)))
    tokens = tokenizer(*marks, *tiles, "<|im_start|>", "<|im_end|>")
    processor = transformers.AyaVisionProcessor(
        pil_or_torchvision("GotOcr2", size=_SIZE, max_patches=4),
        tokens,
        patch_size=8,
        img_size=32,
        downsample_factor=2,
        chat_template=chatml("<image>"),
    )
    config = transformers.AyaVisionConfig(
        vision_config=transformers.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=transformers.Cohere2Config(**TEXT | {"vocab_size": len(tokens)}),
        image_token_index=tokens.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    return transformers.AyaVisionForConditionalGeneration(config), processor


def idefics2() -> tuple[Any, Any]:
    """Its processor joins the marks of images that stand side by side."""
    tokens = tokenizer_naming(
        image_token="<image>",
        image_boundary_token="<fake_token_around_image>",
        start="<|im_start|>",
    )
    processor = transformers.Idefics2Processor(
        pil_or_torchvision("Idefics2", size={"shortest_edge": 16, "longest_edge": 32}),
        tokens,
        image_seq_len=4,
        chat_template=SMOL,
    )
    config = transformers.Idefics2Config(
        vision_config=VISION,
        text_config=transformers.MistralConfig(**TEXT | {"vocab_size": len(tokens)}).to_dict(),
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        perceiver_config={
            **{"hidden_size": 32, "resampler_n_latents": 4, "resampler_depth": 1},
            **{"resampler_n_heads": 4, "resampler_head_dim": 8, "num_key_value_heads": 2},
        },
    )
    return transformers.Idefics2ForConditionalGeneration(config), processor


def mllama() -> tuple[Any, Any]:
    tokens = tokenizer_naming(image_token="<|image|>", start="<|im_start|>", end="<|im_end|>")
    processor = transformers.MllamaProcessor(
        pil_or_torchvision("Mllama", size=_SIZE, max_image_tiles=1),
        tokens,
        chat_template="{{ bos_token }}" + chatml("<|image|>"),
    )
    text = TEXT | {"vocab_size": len(tokens), "num_hidden_layers": 3}
    config = transformers.MllamaConfig(
        vision_config={
            **VISION,
            **{"num_global_layers": 1, "attention_heads": 4, "max_num_tiles": 1},
            **{"supported_aspect_ratios": [[1, 1]], "intermediate_layers_indices": [0]},
            "vision_output_dim": 64,
        },
        text_config={"model_type": "mllama_text_model", **text, "cross_attention_layers": [1]},
        image_token_index=tokens.convert_tokens_to_ids("<|image|>"),
    )
    model = transformers.MllamaForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if name.endswith("_gate"):
            # transformers begins with zeros, behind which nothing would learn.
            torch.nn.init.constant_(weight, 0.5)
    return model, processor


def paligemma() -> tuple[Any, Any]:
    """Its processor writes BOS behind the images and a line break behind the text."""
    tokens = tokenizer_naming(image_token="<image>")
    processor = transformers.PaliGemmaProcessor(
        pil_or_torchvision("Siglip", size=_SIZE, image_seq_length=16),
        tokens,
        chat_template=MISTRAL,
    )
    config = transformers.PaliGemmaConfig(
        vision_config=transformers.SiglipVisionConfig(**VISION, vision_use_head=False).to_dict(),
        text_config=transformers.GemmaConfig(
            **TEXT | {"vocab_size": len(tokens)}, head_dim=8
        ).to_dict(),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        projection_dim=32,
    )
    torch.manual_seed(0)
    return transformers.PaliGemmaForConditionalGeneration(config), processor


_CHANGES = "its processor, {}, changes the text around images"
OTHER_PROCESSORS = (
    ProcessorFamily("vipllava", "VipLLaVA", vipllava, "</s>"),
    ProcessorFamily("mllama", "Llama 3.2 Vision", mllama, "<|im_end|>", batch=1),
    ProcessorFamily(
        "aya_vision",
        "Aya Vision",
        aya_vision,
        "<|im_end|>",
        refusal="as TRL computes it from the same output layer",
    ),
    ProcessorFamily(
        "idefics2",
        "Idefics2",
        idefics2,
        "<end_of_utterance>",
        refusal=_CHANGES.format("Idefics2Processor"),
    ),
    ProcessorFamily(
        "paligemma",
        "PaliGemma, PaliGemma 2",
        paligemma,
        "</s>",
        refusal=_CHANGES.format("PaliGemmaProcessor"),
    ),
)
