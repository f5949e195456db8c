"""Tiny vision towers and models of images and texts, random, as checkpoints with processors."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

PIXELS = 32
_VISION: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "image_size": PIXELS, "patch_size": 8},
}
_TEXT: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64},
    **{"num_attention_heads": 4, "max_position_embeddings": 16, "projection_dim": 24},
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
}
_SENTENCE = "a photo of the red blue green square circle left right no one two dog cat with and"
WORDS = _SENTENCE.split()


def processor() -> Any:
    size = {"height": PIXELS, "width": PIXELS}
    return transformers.CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size=size)


def tokenizer(longest: int = 16) -> Any:
    """Return a tokenizer of whole words, which ends texts as CLIP's does."""
    vocabulary = {word: n for n, word in enumerate(["<s>", "</s>", "<unk>", *WORDS])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        model_max_length=longest,
    )


def clip(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = transformers.CLIPConfig(
        text_config=dict(_TEXT), vision_config={**_VISION, "projection_dim": 24}, projection_dim=24
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPProcessor(processor(), tokenizer()).save_pretrained(folder)
    return folder


def siglip(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = transformers.SiglipConfig(text_config=dict(_TEXT), vision_config=dict(_VISION))
    transformers.SiglipModel(config).save_pretrained(folder)
    size = {"height": PIXELS, "width": PIXELS}
    images = transformers.SiglipImageProcessor(size=size)
    transformers.SiglipProcessor(images, tokenizer()).save_pretrained(folder)
    return folder


def dinov2(folder: Path, registers: int = 0, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    more = {"num_register_tokens": registers} if registers else {}
    config = getattr(transformers, f"{kind}Config")(**_VISION, mlp_ratio=2, **more)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    _bit().save_pretrained(folder)
    return folder


def _bit() -> Any:
    size = {"height": PIXELS, "width": PIXELS}
    return transformers.BitImageProcessor(size={"shortest_edge": PIXELS}, crop_size=size)


def dinov3(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = transformers.DINOv3ViTConfig(**_VISION, num_register_tokens=4)
    transformers.DINOv3ViTModel(config).save_pretrained(folder)
    # Its own processor needs torchvision.
    _bit().save_pretrained(folder)
    return folder


def siglip2(folder: Path, seed: int = 0) -> Path:
    """Make a SigLIP 2 that is given patches of images of any shape."""
    torch.manual_seed(seed)
    vision = {key: value for key, value in _VISION.items() if key != "image_size"}
    config = transformers.Siglip2Config(
        text_config=dict(_TEXT), vision_config={**vision, "num_patches": 16}
    )
    transformers.Siglip2Model(config).save_pretrained(folder)
    images = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    transformers.Siglip2Processor(images, tokenizer()).save_pretrained(folder)
    return folder
