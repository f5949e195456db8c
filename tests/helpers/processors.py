"""Tiny vision-language models with processors of their own, and what is asked of them."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from lm_eval.api.instance import Instance
from PIL import Image

from tests.helpers.toy import make_tokenizer, records

TEXT: dict[str, Any] = {
    **{"vocab_size": 1100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}
VISION: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "image_size": 32, "patch_size": 8},
}
PROMPTS = ["hello there my friend", "x", "a longer prompt than the other two of this test"]
_PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]


def template(slot: str) -> str:
    return (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        + slot
        + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} A:{% endif %}"
    )


def tokenizer(*special: str) -> Any:
    made = make_tokenizer([record.prompt for record in records()])
    made.add_tokens([transformers.AddedToken(token, special=True) for token in special])
    return made


def tokenizer_naming(**tokens: str) -> Any:
    """Return a tokenizer that has these special tokens as attributes, as some processors ask."""
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(*tokens.values()).backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=tokens,
    )


def tiled(kind: str, image_processor: type, *others: Any) -> tuple[Any, Any]:
    """Build an Idefics3 or one of its kin: rows and columns are tokens between image tokens."""
    processor = getattr(transformers, f"{kind}Processor")(
        image_processor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        tokenizer("<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *_PLACES),
        *others,
        image_seq_len=4,
        chat_template=template("<image>"),
    )
    config = getattr(transformers, f"{kind}Config")(
        image_token_id=3,
        scale_factor=2,
        vision_config=VISION | {"num_hidden_layers": 1},
        text_config={"model_type": "llama", **TEXT},
        pad_token_id=0,
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor


def save(make: Callable[[], tuple[Any, Any]], folder: Path) -> Any:
    """Save a model with large weights, and its processor, which is returned."""
    torch.manual_seed(0)
    model, processor = make()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data *= 6
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return processor


def with_images(texts: Iterable[tuple[str, Sequence[Image.Image]]], **changes: Any) -> list[Any]:
    """Return requests of tasks that have images of their own; three beams, six tokens."""
    kwargs = {"until": [], "num_beams": 3, "max_gen_toks": 6} | changes
    return [
        Instance(
            request_type="generate_until",
            doc={},
            arguments=(text, kwargs, {"visual": list(images)}),
            idx=0,
        )
        for text, images in texts
    ]
