"""Models of real size with random weights, and their prompts as model inputs.

The configurations are those that llava-hf/llava-1.5-7b-hf, Qwen/Qwen2.5-VL-7B-Instruct and
meta-llama/Llama-3.1-8B publish; weights are drawn on the device, so that nothing is downloaded. A
text model's prompt is its text; others have an image of one colour in front, as model inputs:
pixel values as a processor makes them, since some processors need more than transformers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from benchmarks.checkpoints import scale_weights
from verbalizer_bench.models.engine.decoder import EncodedPrompt, PromptHead

Inputs = dict[str, torch.Tensor]
# What a tiny model has in place of the real sizes; its vocabulary is the tokenizer's and more.
_TINY_TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2100,
}
_LLAMA_2_7B: dict[str, Any] = {
    "vocab_size": 32064,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}
_CLIP_L_336: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
_LLAMA_3_1_8B: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
_QWEN_2_5_7B: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128000,
    "rms_norm_eps": 1e-6,
}
_QWEN_TOWER: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "window_size": 112,
    "tokens_per_second": 2,
    "out_hidden_size": 3584,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
_IMAGE_PIXELS, _TINY_PIXELS = 336, 56


class ModelShape(NamedTuple):
    """A kind of model.

    Attributes:
        name: The checkpoint's name.
        make: Its class.
        config: Gives its configuration: tiny or real, special tokens as the tokenizer has them.
        image: Gives an image's tokens and what the model's forward takes beside ids; None for text.
    """

    name: str
    make: Any
    config: Callable[[bool, dict[str, Any]], Any]
    image: Callable[[Any], tuple[list[int], Inputs]] | None


def _llama(tiny: bool, special: dict[str, Any]) -> LlamaConfig:
    return LlamaConfig(**_LLAMA_3_1_8B | (_TINY_TEXT if tiny else {}) | special)


def _llava(tiny: bool, special: dict[str, Any]) -> LlavaConfig:
    tower: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 2, "image_size": _TINY_PIXELS}
    text = _LLAMA_2_7B | (_TINY_TEXT if tiny else {}) | special
    side = (_TINY_PIXELS if tiny else _IMAGE_PIXELS) // _CLIP_L_336["patch_size"]
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**_CLIP_L_336 | (tower if tiny else {})),
        text_config=LlamaConfig(**text),
        image_token_index=text["vocab_size"] - 64,
        image_seq_length=side**2,
        tie_word_embeddings=False,
    )


def _qwen(tiny: bool, special: dict[str, Any]) -> Qwen2_5_VLConfig:
    head = _TINY_TEXT["hidden_size"] // _TINY_TEXT["num_attention_heads"] if tiny else 128
    # Time, height and width share the rotary pairs of a head as 16, 24 and 24 of 64.
    sections = [head // 8, 3 * head // 16, 3 * head // 16]
    rotary = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    text = _QWEN_2_5_7B | (_TINY_TEXT if tiny else {}) | special
    tower: dict[str, Any] = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    tower |= {"out_hidden_size": _TINY_TEXT["hidden_size"], "fullatt_block_indexes": [1]}
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rotary},
        vision_config=_QWEN_TOWER | (tower if tiny else {}),
        tie_word_embeddings=False,
        **{name: text["vocab_size"] - 64 + place for place, name in enumerate(names)},
    )


def _llava_image(config: LlavaConfig) -> tuple[list[int], Inputs]:
    side = config.vision_config.image_size
    tokens = [config.image_token_id] * config.image_seq_length
    return tokens, {"pixel_values": torch.ones(1, 3, side, side)}


def _qwen_image(config: Qwen2_5_VLConfig) -> tuple[list[int], Inputs]:
    vision = config.vision_config
    pixels = _TINY_PIXELS if config.text_config.num_hidden_layers == 2 else _IMAGE_PIXELS
    side, merged = pixels // vision.patch_size, vision.spatial_merge_size**2
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    tokens = [config.vision_start_token_id] + [config.image_token_id] * (side**2 // merged)
    return tokens, {
        "pixel_values": torch.ones(side**2, patch),
        "image_grid_thw": torch.tensor([[1, side, side]]),
    }


SHAPES = {
    shape.name: shape
    for shape in (
        ModelShape("LLaVA-1.5-7B", LlavaForConditionalGeneration, _llava, _llava_image),
        ModelShape("Llama-3.1-8B", LlamaForCausalLM, _llama, None),
        ModelShape("Qwen2.5-VL-7B", Qwen2_5_VLForConditionalGeneration, _qwen, _qwen_image),
    )
}


class RandomModel:
    """A model of random bfloat16 weights, and its prompts as both arms take them."""

    def __init__(
        self, shape: ModelShape, tokenizer: PreTrainedTokenizerFast, device: str, tiny: bool
    ) -> None:
        """Draw the weights on the device, from a fixed seed."""
        self.device, self.tokenizer = torch.device(device), tokenizer
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        config = shape.config(tiny, {name: getattr(tokenizer, name) for name in names})
        torch.manual_seed(0)
        with torch.device(device):
            self.model = shape.make._from_config(config, dtype=torch.bfloat16).eval()
        width = config.get_text_config().hidden_size
        with torch.no_grad():
            scale_weights(self.model.get_decoder(), 128**0.5 * width**-0.5 * 6)
        for name in names:
            setattr(self.model.generation_config, name, getattr(tokenizer, name))
        self.image_ids, self._image = shape.image(config) if shape.image else ([], {})
        self.image_token = int(getattr(config, "image_token_id", None) or -1)

    def ids(self, prompt: str) -> list[int]:
        """Return a prompt's ids: BOS, the image's, the text's."""
        bos, *text = self.tokenizer(prompt)["input_ids"]
        return [bos, *self.image_ids, *text]

    def encoded(self, prompt: str) -> EncodedPrompt:
        """Return a prompt as the engine takes it: an image's tokens are -1."""
        ids = [-1 if token == self.image_token else token for token in self.ids(prompt)]
        if not self.image_ids:
            return EncodedPrompt(ids)
        length = 1 + len(self.image_ids)
        return EncodedPrompt(ids, PromptHead(length, partial(self._head, length, prompt)))

    def _head(self, length: int, prompt: str) -> Inputs:
        return {
            name: value if name in self._image else value[:, :length]
            for name, value in self.inputs([prompt]).items()
        }

    def inputs(self, prompts: Sequence[str]) -> Inputs:
        """Return prompts as `generate` takes them: padded at the left, an image each."""
        rows = [torch.tensor(self.ids(prompt)) for prompt in prompts]
        ids = pad_sequence(rows, True, self.tokenizer.pad_token_id, "left")
        mask = pad_sequence([torch.ones_like(row) for row in rows], True, 0, "left")
        batch = {"input_ids": ids, "attention_mask": mask}
        for name, value in self._image.items():
            value = value.to(self.model.dtype) if value.is_floating_point() else value
            batch[name] = torch.cat([value] * len(prompts))
        if "image_grid_thw" in batch:
            batch["mm_token_type_ids"] = ids.eq(self.image_token).long()
        return {name: value.to(self.device) for name, value in batch.items()}
