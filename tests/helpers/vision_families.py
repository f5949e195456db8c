"""The families of vision-language models that users bring, as tiny configurations.

Images have 32 x 32 pixels in patches of 8 x 8 unless said otherwise: 16 patches. Inputs have the
shapes that the family's processor makes; no processor is needed, as some need torchvision.
"""

from collections.abc import Sequence
from typing import Any

import torch

from tests.helpers.families import (
    ABSENT,
    BEFORE_IMAGE,
    BEHIND_IMAGE,
    IMAGE,
    VIDEO,
    Family,
    Images,
    Inputs,
    noise,
    text_config,
)
from verbalizer_bench.models.mof import MofLlavaConfig

_PLAIN_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
_IMAGE_IDS = {"image_token_id": IMAGE, "image_token_index": IMAGE}
_VIDEO_IDS = {"video_token_id": VIDEO, "video_token_index": VIDEO}
_AROUND = (BEFORE_IMAGE,), (BEHIND_IMAGE,)


def _vision(model_type: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": model_type, **_PLAIN_VISION, **changes}


def _sizes(text: dict[str, Any], vision: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "text_config": text,
        "vision_config": vision,
        **_IMAGE_IDS,
        "tie_word_embeddings": False,
        **changes,
    }


def _squares(images: Sequence[int], name: str = "pixel_values", size: int = 32) -> Inputs:
    return {name: noise(images, 3, size, size)}


def _sized_squares(images: Sequence[int]) -> Inputs:
    return {**_squares(images), "image_sizes": torch.tensor([[32, 32]] * len(images))}


def _tiles(images: Sequence[int]) -> Inputs:
    """Return images of 32 x 64 pixels: the whole, scaled, and two tiles."""
    return {
        "pixel_values": noise(images, 3, 3, 32, 32),
        "image_sizes": torch.tensor([[32, 64]] * len(images)),
    }


def _tiles_of_a_row(images: Sequence[int], tiles: int) -> Inputs:
    pixels = noise(images, tiles, 3, 32, 32).flatten(0, 1)[None]
    return {
        "pixel_values": pixels,
        "pixel_attention_mask": torch.ones_like(pixels[:, :, 0], dtype=torch.long),
    }


def _patches(images: Sequence[int], *shape: int) -> Inputs:
    """Return 4 x 4 patches an image, which a merger makes 4 tokens of."""
    return {
        "pixel_values": noise(images, 16, *shape).flatten(0, 1),
        "image_grid_thw": torch.tensor([[1, 4, 4]] * len(images)),
    }


def _with_types(tokens: int, values: int) -> Images:
    """Return images in patches of so many values, whose tokens are told by a type."""
    return Images(tokens, lambda images: _patches(images, values), "mm_token_type_ids", _AROUND)


_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
_INTERLEAVED = {**_MROPE, "mrope_interleaved": True}
_EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
_EACH_SECOND = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
_EACH = "window 6 in each second layer"
_MISTRAL = text_config("mistral", sliding_window=None)
_CLIP, _SIGLIP = (
    _vision("clip_vision_model", projection_dim=32),
    _vision("siglip_vision_model", vision_use_head=False),
)
_PIXTRAL = _vision("pixtral", head_dim=8)
_ANY_RESOLUTION = {"image_grid_pinpoints": [[32, 64], [64, 32]]}
_QWEN_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "out_hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 4,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
_QWEN3_VISION = {
    **_QWEN_VISION,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
}
_VISION_ENDS = {
    **_VIDEO_IDS,
    "vision_start_token_id": BEFORE_IMAGE,
    "vision_end_token_id": BEHIND_IMAGE,
}
_IMAGE_ENDS = {"image_start_token_id": BEFORE_IMAGE, "image_end_token_id": BEHIND_IMAGE}
_GLM_ENDS = {**_VIDEO_IDS, **_IMAGE_ENDS, "video_start_token_id": 114, "video_end_token_id": 115}
_GLM_VISION = {**_QWEN_VISION, "patch_size": 8, "image_size": 32}
_GLM_ROPE = {**_MROPE, "partial_rotary_factor": 1.0}
_QFORMER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "encoder_hidden_size": 32,
    "vocab_size": 120,
}
_GEMMA = Images(4, _squares, "token_type_ids", _AROUND)
_GEMMA_ENDS = {
    "mm_tokens_per_image": 4,
    "boi_token_index": BEFORE_IMAGE,
    "eoi_token_index": BEHIND_IMAGE,
}
_CODEBOOK = {"latent_channels": 32, "base_channels": 32, "num_res_blocks": 1}


def _instruct_blip(images: Sequence[int]) -> Inputs:
    question = torch.ones(len(images), 3, dtype=torch.long)
    return {
        **_squares(images),
        "qformer_input_ids": question,
        "qformer_attention_mask": question,
    }


def _mllama(images: Sequence[int]) -> Inputs:
    ones = torch.ones(1, len(images), 1, dtype=torch.long)
    return {
        "pixel_values": noise(images, 1, 3, 32, 32)[None],
        "aspect_ratio_ids": ones[:, :, 0],
        "aspect_ratio_mask": ones,
    }


def _gemma4(images: Sequence[int]) -> Inputs:
    places = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    return {
        "pixel_values": noise(images, 16, 192),
        "image_position_ids": places.repeat(len(images), 1, 1),
    }


def _lfm2(images: Sequence[int]) -> Inputs:
    return {
        "pixel_values": noise(images, 16, 192),
        "spatial_shapes": torch.tensor([[4, 4]] * len(images)),
        "pixel_attention_mask": torch.ones(len(images), 16, dtype=torch.long),
    }


VISION_FAMILIES = (
    Family(
        "llava",
        "LLaVA-1.5",
        _sizes(text_config("llama"), _CLIP),
        images=Images(16, _squares),
    ),
    Family(
        "llava",
        "Pixtral 12B",
        _sizes(_MISTRAL, _PIXTRAL, vision_feature_layer=-1, vision_feature_select_strategy="full"),
        "Pixtral's tower",
        Images(16, _sized_squares),
    ),
    *(
        Family(
            MofLlavaConfig.model_type,
            "LLaVA of CLIP and DINOv2, of `compose --second-tower`",
            _sizes(
                text_config("llama"),
                _CLIP,
                second_vision_config=_vision("dinov2"),
                mixture=mixture,
                **({"alpha": 0.5} if mixture == "additive" else {}),
            ),
            f"{mixture} features",
            Images(tokens, _squares),
        )
        for mixture, tokens in (("interleaved", 32), ("additive", 16), ("channel", 16))
    ),
    Family(
        "llava_next",
        "LLaVA-NeXT (1.6)",
        _sizes(_MISTRAL, _CLIP, **_ANY_RESOLUTION),
        "a whole image and two tiles",
        Images(52, _tiles),
    ),
    Family(
        "llava_onevision",
        "LLaVA-OneVision",
        _sizes(text_config("qwen2"), _SIGLIP, **_ANY_RESOLUTION, **_VIDEO_IDS),
        "a whole image and two tiles",
        Images(52, _tiles),
    ),
    Family(
        "vipllava",
        "VipLLaVA",
        _sizes(text_config("llama"), _CLIP, vision_feature_layer=[-1, -2]),
        images=Images(16, _squares),
    ),
    Family(
        "video_llava",
        "Video-LLaVA",
        _sizes(text_config("llama"), _CLIP, **_VIDEO_IDS),
        images=Images(16, lambda images: _squares(images, "pixel_values_images")),
    ),
    Family(
        "qwen2_vl",
        "Qwen2-VL, QVQ",
        _sizes(
            text_config("qwen2_vl_text", rope_parameters=_MROPE),
            {**_QWEN_VISION, "embed_dim": 32},
            **_VISION_ENDS,
        ),
        "M-RoPE",
        _with_types(4, 96),
    ),
    Family(
        "qwen2_5_vl",
        "Qwen2.5-VL",
        _sizes(
            text_config("qwen2_5_vl_text", rope_parameters=_MROPE),
            {**_QWEN_VISION, "window_size": 16, "fullatt_block_indexes": [1]},
            **_VISION_ENDS,
        ),
        "M-RoPE",
        _with_types(4, 96),
    ),
    Family(
        "qwen3_vl",
        "Qwen3-VL",
        _sizes(
            text_config("qwen3_vl_text", rope_parameters=_INTERLEAVED),
            _QWEN3_VISION,
            **_VISION_ENDS,
        ),
        "M-RoPE, image features in several layers",
        _with_types(4, 96),
    ),
    Family(
        "qwen3_vl_moe",
        "Qwen3-VL-30B-A3B",
        _sizes(
            text_config("qwen3_vl_moe_text", rope_parameters=_INTERLEAVED, **_EXPERTS),
            _QWEN3_VISION,
            **_VISION_ENDS,
        ),
        "M-RoPE, image features in several layers",
        _with_types(4, 96),
    ),
    Family(
        "qwen3_5",
        "Qwen3.5",
        _sizes(
            text_config(
                "qwen3_5_text",
                rope_parameters={**_INTERLEAVED, "partial_rotary_factor": 1.0},
                linear_num_value_heads=4,
                linear_num_key_heads=2,
                linear_key_head_dim=8,
                linear_value_head_dim=8,
                layer_types=["linear_attention", "full_attention"],
            ),
            _QWEN3_VISION,
            **_VISION_ENDS,
        ),
        images=_with_types(4, 96),
    ),
    Family(
        "internvl",
        "InternVL 2.5, InternVL 3",
        _sizes(
            text_config("qwen2"), _vision("internvl_vision", image_size=[32, 32], patch_size=[8, 8])
        ),
        images=Images(4, _squares),
    ),
    Family(
        "smolvlm",
        "SmolVLM, SmolVLM2",
        _sizes(text_config("llama"), _vision("smolvlm_vision"), scale_factor=2),
        "three tiles",
        Images(12, lambda images: _tiles_of_a_row(images, 3)),
    ),
    Family(
        "idefics3",
        "Idefics3, Granite Docling",
        _sizes(text_config("llama"), _vision("idefics3_vision"), scale_factor=2),
        "three tiles",
        Images(12, lambda images: _tiles_of_a_row(images, 3)),
    ),
    Family(
        "idefics2",
        "Idefics2",
        _sizes(
            _MISTRAL,
            _vision("idefics2_vision"),
            perceiver_config={
                "hidden_size": 32,
                "resampler_n_latents": 4,
                "resampler_depth": 1,
                "resampler_n_heads": 4,
                "resampler_head_dim": 8,
                "num_key_value_heads": 2,
            },
        ),
        images=Images(4, lambda images: _tiles_of_a_row(images, 1)),
    ),
    Family(
        "gemma3",
        "Gemma 3 4B, 12B, 27B, MedGemma",
        _sizes(
            text_config("gemma3_text", query_pre_attn_scalar=8, **_EACH_SECOND),
            _SIGLIP,
            **_GEMMA_ENDS,
        ),
        f"image tokens see each other, {_EACH}",
        _GEMMA,
    ),
    Family(
        "gemma4",
        "Gemma 4",
        _sizes(
            text_config("gemma4_text", vocab_size_per_layer_input=120, **_EACH_SECOND),
            {
                **_PLAIN_VISION,
                "model_type": "gemma4_vision",
                "num_key_value_heads": 4,
                "head_dim": 8,
                "pooling_kernel_size": 2,
                "position_embedding_size": 16,
            },
            audio_config=None,
            video_token_id=VIDEO,
            audio_token_id=114,
            boi_token_id=BEFORE_IMAGE,
            eoi_token_id=BEHIND_IMAGE,
        ),
        _EACH,
        Images(4, _gemma4, "mm_token_type_ids", _AROUND),
    ),
    Family(
        "paligemma",
        "PaliGemma, PaliGemma 2",
        _sizes(text_config("gemma"), _SIGLIP, projection_dim=32),
        images=Images(16, _squares),
    ),
    Family(
        "mistral3",
        "Mistral Small 3.1, Ministral 3",
        _sizes(_MISTRAL, _PIXTRAL, spatial_merge_size=2),
        images=Images(4, _sized_squares),
    ),
    Family(
        "aya_vision",
        "Aya Vision",
        _sizes(text_config("cohere2", **_EACH_SECOND), _SIGLIP),
        _EACH,
        Images(4, _squares),
    ),
    Family(
        "cohere2_vision",
        "Command A Vision",
        _sizes(text_config("cohere2", **_EACH_SECOND), _SIGLIP, alignment_intermediate_size=48),
        _EACH,
        Images(4, _squares),
    ),
    Family(
        "got_ocr2",
        "GOT-OCR 2.0",
        _sizes(
            text_config("qwen2"),
            {
                "hidden_size": 32,
                "output_channels": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": 64,
                "patch_size": 16,
                "window_size": 2,
                "global_attn_indexes": [1],
                "mlp_dim": 48,
            },
        ),
        images=Images(1, lambda images: _squares(images, size=64)),
    ),
    Family(
        "glm4v",
        "GLM-4.1V",
        _sizes(text_config("glm4v_text", rope_parameters=_GLM_ROPE), _GLM_VISION, **_GLM_ENDS),
        "M-RoPE",
        _with_types(4, 384),
    ),
    Family(
        "glm4v_moe",
        "GLM-4.5V",
        _sizes(
            text_config(
                "glm4v_moe_text", rope_parameters=_GLM_ROPE, first_k_dense_replace=1, **_EXPERTS
            ),
            _GLM_VISION,
            **_GLM_ENDS,
        ),
        "M-RoPE",
        _with_types(4, 384),
    ),
    Family(
        "ovis2",
        "Ovis2",
        _sizes(
            text_config("qwen2"),
            _vision("ovis2_vision", vocab_size=24, hidden_stride=2),
            visual_indicator_token_ids=[BEFORE_IMAGE, BEHIND_IMAGE, 114, 115, 116],
            hidden_size=32,
            vocab_size=120,
        ),
        "indicator tokens around the image",
        Images(4, _squares, None, _AROUND),
    ),
    Family(
        "kosmos-2",
        "Kosmos-2",
        {
            "text_config": {
                "vocab_size": 120,
                "embed_dim": 32,
                "ffn_dim": 48,
                "layers": 2,
                "attention_heads": 4,
            },
            "vision_config": _vision("kosmos_2_vision_model"),
            "latent_query_num": 4,
        },
        images=Images(4, _squares, "image_embeds_position_mask"),
    ),
    Family(
        "blip-2",
        "BLIP-2 (OPT)",
        _sizes(
            text_config("opt", ffn_dim=48, word_embed_proj_dim=32),
            _vision("blip_2_vision_model"),
            qformer_config=_QFORMER,
            num_query_tokens=4,
        ),
        images=Images(4, _squares),
    ),
    Family(
        "instructblip",
        "InstructBLIP (Vicuna)",
        _sizes(
            text_config("llama"),
            _vision("instructblip_vision_model"),
            qformer_config=_QFORMER,
            num_query_tokens=4,
        ),
        images=Images(4, _instruct_blip),
    ),
    Family(
        "mllama",
        "Llama 3.2 Vision",
        _sizes(
            text_config(
                "mllama_text_model",
                cross_attention_layers=[1],
                num_hidden_layers=3,
                head_dim=ABSENT,
            ),
            {
                **_PLAIN_VISION,
                "num_global_layers": 1,
                "attention_heads": 4,
                "max_num_tiles": 1,
                "supported_aspect_ratios": [[1, 1]],
                "intermediate_layers_indices": [0],
                "vision_output_dim": 64,
            },
        ),
        images=Images(1, _mllama),
    ),
    Family(
        "llama4",
        "Llama 4 Scout, Maverick",
        _sizes(
            text_config(
                "llama4_text",
                attention_chunk_size=8,
                intermediate_size_mlp=48,
                no_rope_layers=[1, 0],
                **_EXPERTS,
            ),
            {
                **_PLAIN_VISION,
                "intermediate_size": 128,
                "vision_output_dim": 32,
                "projector_input_dim": 32,
                "projector_output_dim": 32,
            },
        ),
        "chunks of 8, NoPE in the second layer",
        Images(4, _squares),
    ),
    Family(
        "janus",
        "Janus-Pro",
        _sizes(
            text_config("llama"),
            {**_PLAIN_VISION, "projection_dim": 32, "num_image_tokens": 16, "depth": 1},
            vq_config={
                **_CODEBOOK,
                "embed_dim": 8,
                "num_embeddings": 16,
                "channel_multiplier": [1, 1],
                "num_patches": 4,
                "projection_dim": 32,
                "image_token_embed_dim": 32,
            },
        ),
        images=Images(16, _squares),
    ),
    Family(
        "deepseek_vl",
        "DeepSeek-VL 1.3B",
        _sizes(text_config("llama"), _SIGLIP),
        images=Images(16, _squares),
    ),
    Family(
        "lfm2_vl",
        "LFM2-VL",
        _sizes(
            text_config("lfm2", layer_types=["conv", "full_attention"]),
            {
                "model_type": "siglip2_vision_model",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "patch_size": 8,
                "num_patches": 16,
            },
            projector_hidden_size=48,
        ),
        images=Images(4, _lfm2),
    ),
    Family(
        "fuyu",
        "Fuyu 8B",
        {
            "text_config": text_config("persimmon"),
            "image_token_id": IMAGE,
            "image_size": 32,
            "patch_size": 8,
        },
        images=Images(16, lambda images: {"image_patches": noise(images, 16, 192)}),
    ),
    Family(
        "aria",
        "Aria",
        _sizes(
            text_config("aria_text", moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1),
            _vision("idefics3_vision"),
            projector_patch_to_query_dict={16: 4},
            max_value_projector_patch_to_query_dict=4,
        ),
        images=Images(4, _squares),
    ),
    Family(
        "lighton_ocr",
        "LightOnOCR",
        _sizes(text_config("qwen3"), _PIXTRAL),
        images=Images(4, _sized_squares),
    ),
    Family(
        "paddleocr_vl",
        "PaddleOCR-VL",
        _sizes(
            text_config("paddleocr_vl_text", rope_parameters=_MROPE),
            {**_PLAIN_VISION, "spatial_merge_size": 2},
            **_VISION_ENDS,
        ),
        "M-RoPE",
        Images(4, lambda images: _patches(images, 3, 8, 8), "mm_token_type_ids", _AROUND),
    ),
    Family(
        "video_llama_3",
        "VideoLLaMA 3",
        _sizes(
            text_config("qwen2"),
            {name: size for name, size in _PLAIN_VISION.items() if name != "image_size"},
            **_VIDEO_IDS,
        ),
        images=Images(
            4,
            lambda images: {
                **_patches(images, 192),
                "image_merge_sizes": torch.tensor([2] * len(images)),
            },
        ),
    ),
)
