"""Tiny vision-language models of many families, each with its processor and chat template.

The templates write what the families' own do. Where torchvision is not installed, image processors
are transformers' for PIL, and a processor of images and videos is built without its half for
videos, which needs torchvision (`without_videos`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from tests.helpers.processors import TEXT, VISION, tokenizer, tokenizer_naming

TORCHVISION = find_spec("torchvision") is not None
_PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
_POINTS = [[32, 64], [64, 32], [64, 64]]
_SIZE = {"height": 32, "width": 32}
_ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}
_PARTS = (
    "{% macro parts(content, slot) %}{% if content is string %}{{ content }}{% else %}"
    "{% for part in content %}{{ slot if part.type == 'image' else part.text }}{% endfor %}"
    "{% endif %}{% endmacro %}"
)


def chatml(slot: str, system: str = "") -> str:
    """Qwen-VL's and InternVL's."""
    first = f"{{% if messages[0].role != 'system' %}}{system}{{% endif %}}" if system else ""
    return (
        f"{_PARTS}{first}{{% for m in messages %}}<|im_start|>{{{{ m.role ~ '\n' }}}}"
        f"{{{{ parts(m.content, '{slot}') }}}}<|im_end|>\n{{% endfor %}}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


QWEN = chatml(
    "<|vision_start|><image><|vision_end|>",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
)
INTERN = chatml("<IMG_CONTEXT>\n")
# Idefics3's and SmolVLM's: no space before an image, and the answer's space is its own.
SMOL = (
    "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}"
    "{{ ':' if m.content[0].type == 'image' else ': ' }}"
    "{% for part in m.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
# LLaVA-OneVision's: its marks leave out what ends an answer, and have the line break before it.
ONEVISION = (
    "{% for m in messages %}<|im_start|>{{ m.role ~ ' ' }}"
    "{% for part in m.content if part.type == 'image' %}<image>{% endfor %}"
    "{% for part in m.content if part.type == 'text' %}{% if m.role == 'assistant' %}"
    "{% generation %}{{ '\n' + part.text }}{% endgeneration %}"
    "{% else %}{{ '\n' + part.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# LLaVA-NeXT's over Mistral.
MISTRAL = _PARTS + (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ parts(m.content, '<image>\n') }} "
    "[/INST]{% elif m.role == 'system' %}<<SYS>>\n{{ parts(m.content, '') }}\n<</SYS>>\n\n"
    "{% else %} {{ parts(m.content, '') }}</s> {% endif %}{% endfor %}"
)
PIXTRAL = MISTRAL.replace("<image>\n", "[IMG]")
GEMMA = (
    "{{ bos_token }}{% set system = messages[0].content[0].text ~ '\n\n' "
    "if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}"
    "<start_of_turn>{{ ('model' if m.role == 'assistant' else m.role) ~ '\n' }}"
    "{{ system if loop.first else '' }}{% for part in m.content %}"
    "{% if part.type == 'image' %}<start_of_image>{% else %}{{ part.text | trim }}{% endif %}"
    "{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@dataclass(frozen=True)
class ProcessorFamily:
    """A family of vision-language models with its processor.

    Attributes:
        model_type: transformers' name of it.
        known_as: Checkpoints of it that users know.
        make: Builds a random model and its processor.
        ending: The token that ends an answer.
        videos: Whether the processor reads videos too, for which it needs torchvision.
        needs_torchvision: Whether the processor is not there without it.
        last_alone: Whether the template asks with other white space than it writes before an
            answer, so that a conversation's last answer alone is trained.
        batch: Records of a micro-batch; None for any number.
        refusal: Why it is not trained, as the error says it; None where it is.
    """

    model_type: str
    known_as: str
    make: Callable[[], tuple[Any, Any]]
    ending: str
    videos: bool = False
    needs_torchvision: bool = False
    last_alone: bool = False
    batch: int | None = None
    refusal: str | None = None


@contextmanager
def without_videos() -> Iterator[None]:
    """Have processors leave out their half for videos where torchvision is not installed.

    Images are done as ever: the halves have nothing in common.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not TORCHVISION:
            for family in OWN_PROCESSORS:
                if family.videos:
                    _leave_out_videos(patch, _processor_class(family.model_type))
        smolvlm = import_module("transformers.models.smolvlm.processing_smolvlm")
        if not TORCHVISION:
            frames = SimpleNamespace(num_frames=1, fps=1)
            patch.setattr(smolvlm.SmolVLMProcessor, "video_processor", frames, raising=False)
        # Writes the length of a video in words.
        patch.setattr(smolvlm, "num2words", str)
        yield


def _leave_out_videos(patch: pytest.MonkeyPatch, processor: Any) -> None:
    attributes = ["image_processor", "tokenizer"]
    patch.setattr(processor, "get_attributes", classmethod(lambda cls: attributes))
    if len(processor.__init__.__defaults__) < 3:
        # SmolVLM's has no default for it.
        defaults = (None, *processor.__init__.__defaults__)
        patch.setattr(processor.__init__, "__defaults__", defaults)


def _processor_class(model_type: str) -> Any:
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    module = import_module(f"transformers.models.{model_type}")
    return getattr(module, PROCESSOR_MAPPING_NAMES[model_type])


def pil_or_torchvision(kind: str, **settings: Any) -> Any:
    """Return an image processor, of torchvision where it is installed."""
    name = f"{kind}ImageProcessor{'' if TORCHVISION else 'Pil'}"
    return getattr(transformers, name)(**settings)


def _videos(kind: str) -> Any:
    return getattr(transformers, f"{kind}VideoProcessor")() if TORCHVISION else None


def llama_text(tokens: Any) -> dict[str, Any]:
    return {"model_type": "llama", **TEXT, "vocab_size": len(tokens)}


def _qwen(kind: str, **vision: Any) -> tuple[Any, Any]:
    names = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|im_start|>", "<|im_end|>")
    tokens = tokenizer(*names)
    start, end, video, *_ = map(tokens.convert_tokens_to_ids, names)
    processor = getattr(transformers, f"{kind}Processor")(
        pil_or_torchvision("Qwen2VL", patch_size=8, merge_size=2, min_pixels=256, max_pixels=2304),
        tokens,
        _videos("Qwen3VL" if "3" in kind else "Qwen2VL"),
        chat_template=QWEN,
    )
    config = getattr(transformers, f"{kind}Config")(
        text_config=TEXT | _ROPE | {"head_dim": 8, "vocab_size": len(tokens)},
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 8, **vision},
        image_token_id=tokens.image_token_id,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor


_QWEN_SIZES = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32}


def qwen2_vl() -> tuple[Any, Any]:
    return _qwen("Qwen2VL", embed_dim=32, hidden_size=32)


def qwen2_5_vl() -> tuple[Any, Any]:
    return _qwen("Qwen2_5_VL", **_QWEN_SIZES, window_size=32, fullatt_block_indexes=[1])


def qwen3_vl() -> tuple[Any, Any]:
    sizes = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return _qwen("Qwen3VL", **_QWEN_SIZES, **sizes)


def _tiled(kind: str, *others: Any) -> tuple[Any, Any]:
    marks = ("<fake_token_around_image>", "<end_of_utterance>", "<global-img>", "<|im_start|>")
    tokens = tokenizer(*marks, *_PLACES)
    processor = getattr(transformers, f"{kind}Processor")(
        pil_or_torchvision(kind, size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        tokens,
        *others,
        image_seq_len=4,
        chat_template=SMOL,
    )
    config = getattr(transformers, f"{kind}Config")(
        image_token_id=tokens.image_token_id,
        scale_factor=2,
        vision_config=VISION | {"num_hidden_layers": 1},
        text_config=llama_text(tokens),
        pad_token_id=0,
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor


def smolvlm() -> tuple[Any, Any]:
    return _tiled("SmolVLM", _videos("SmolVLM"))


def idefics3() -> tuple[Any, Any]:
    return _tiled("Idefics3")


def internvl() -> tuple[Any, Any]:
    names = {"start_image_token": "<img>", "end_image_token": "</img>"}
    names |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    names |= {"start": "<|im_start|>", "end": "<|im_end|>"}
    tokens = tokenizer_naming(**names)
    processor = transformers.InternVLProcessor(
        pil_or_torchvision("GotOcr2", size=_SIZE, max_patches=4),
        tokens,
        _videos("InternVL"),
        image_seq_length=4,
        chat_template=INTERN,
    )
    config = transformers.InternVLConfig(
        vision_config=VISION | {"image_size": [32, 32], "patch_size": [8, 8]},
        text_config=llama_text(tokens),
        image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    return transformers.InternVLForConditionalGeneration(config), processor


def llava_onevision() -> tuple[Any, Any]:
    tokens = tokenizer("<video>", "<|im_start|>", "<|im_end|>")
    processor = transformers.LlavaOnevisionProcessor(
        pil_or_torchvision("LlavaOnevision", size=_SIZE, image_grid_pinpoints=_POINTS),
        tokens,
        _videos("LlavaOnevision"),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        chat_template=ONEVISION,
    )
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=transformers.Qwen2Config(**TEXT | {"vocab_size": len(tokens)}),
        image_token_index=tokens.image_token_id,
        video_token_index=tokens.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=_POINTS,
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config), processor


def llava_next() -> tuple[Any, Any]:
    tokens = tokenizer()
    processor = transformers.LlavaNextProcessor(
        pil_or_torchvision(
            "LlavaNext", size={"shortest_edge": 32}, crop_size=_SIZE, image_grid_pinpoints=_POINTS
        ),
        tokens,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=MISTRAL,
    )
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=transformers.LlamaConfig(**TEXT | {"vocab_size": len(tokens)}),
        image_token_index=tokens.image_token_id,
        image_grid_pinpoints=_POINTS,
        image_seq_length=16,
    )
    return transformers.LlavaNextForConditionalGeneration(config), processor


def pixtral() -> tuple[Any, Any]:
    names = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    tokens = tokenizer(*names)
    processor = transformers.PixtralProcessor(
        pil_or_torchvision(
            "Pixtral", size={"longest_edge": 32}, patch_size={"height": 8, "width": 8}
        ),
        tokens,
        patch_size=8,
        spatial_merge_size=1,
        chat_template=PIXTRAL,
    )
    config = transformers.LlavaConfig(
        vision_config=transformers.PixtralVisionConfig(
            **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1},
            **{"num_attention_heads": 2, "head_dim": 16, "image_size": 32, "patch_size": 8},
        ),
        text_config=transformers.MistralConfig(
            **TEXT | {"vocab_size": len(tokens)}, sliding_window=None
        ),
        image_token_index=tokens.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return transformers.LlavaForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    names |= {"image_token": "<image_soft_token>"}
    turns = {"start": "<start_of_turn>", "end": "<end_of_turn>"}
    tokens = tokenizer_naming(**names, **turns)
    ids = {name: tokens.convert_tokens_to_ids(token) for name, token in names.items()}
    processor = transformers.Gemma3Processor(
        pil_or_torchvision("Gemma3", size=_SIZE), tokens, image_seq_length=4, chat_template=GEMMA
    )
    config = transformers.Gemma3Config(
        vision_config=transformers.SiglipVisionConfig(
            **VISION | {"num_hidden_layers": 1}, vision_use_head=False
        ),
        text_config=transformers.Gemma3TextConfig(
            **TEXT | {"vocab_size": len(tokens)}, head_dim=8, query_pre_attn_scalar=8
        ),
        mm_tokens_per_image=4,
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
        image_token_index=ids["image_token"],
    )
    model = transformers.Gemma3ForConditionalGeneration(config)
    # transformers begins with zeros, of which nothing in front of them would learn.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.02)
    return model, processor


_IM_END, _UTTERANCE = "<|im_end|>", "<end_of_utterance>"
OWN_PROCESSORS = (
    ProcessorFamily("llava_next", "LLaVA-NeXT (1.6)", llava_next, "</s>"),
    ProcessorFamily(
        "llava_onevision", "LLaVA-OneVision", llava_onevision, _IM_END, videos=True, last_alone=True
    ),
    ProcessorFamily("llava", "Pixtral 12B", pixtral, "</s>", needs_torchvision=True),
    ProcessorFamily("qwen2_vl", "Qwen2-VL, QVQ", qwen2_vl, _IM_END, videos=True),
    ProcessorFamily("qwen2_5_vl", "Qwen2.5-VL", qwen2_5_vl, _IM_END, videos=True),
    ProcessorFamily("qwen3_vl", "Qwen3-VL", qwen3_vl, _IM_END, videos=True),
    ProcessorFamily("internvl", "InternVL 2.5, InternVL 3", internvl, _IM_END, videos=True),
    ProcessorFamily("smolvlm", "SmolVLM, SmolVLM2", smolvlm, _UTTERANCE, videos=True),
    ProcessorFamily("idefics3", "Idefics3", idefics3, _UTTERANCE),
    ProcessorFamily("gemma3", "Gemma 3 4B, 12B, 27B, MedGemma", gemma3, "<end_of_turn>"),
)
