"""Chat templates of families, which TRL ships, and tokenizers that have their tokens."""

import re
from importlib.resources import files
from typing import Any

from tokenizers.processors import TemplateProcessing

from tests.helpers.toy import make_tokenizer

TRL = files("trl") / "chat_templates"
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def trl(name: str) -> str:
    return (TRL / f"{name}.jinja").read_text(encoding="utf-8")


def make(template: str, special: tuple[str, ...], bos: str | None, eos: str) -> Any:
    """Make a tokenizer of single bytes and special tokens."""
    tokenizer = make_tokenizer(["x"], 4 + 256)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.bos_token, tokenizer.eos_token = bos, eos
    front = [(bos, tokenizer.bos_token_id)] if bos and template != SMOLLM2 else []
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A" if front else "$A", special_tokens=front
    )
    tokenizer.chat_template = template
    return tokenizer


def any_tokenizer(template: str) -> Any:
    """Make a tokenizer that has every special token that a template writes."""
    found = set(re.findall(r"<[^\w\s/]?[\w\u2581]+[^\w\s]?>|<\|[\w\uff5c\u2581]+\|>", template))
    special = sorted(found - {"<think>", "</think>", "<tool_call>", "</tool_call>", "<tools>"})
    return make(template, tuple(special), "<s>", "</s>")
