"""The language models that people tune: tiny ones, with tokenizers and chat templates as theirs.

The templates are reconstructions in few words. They do what the families' do with turns: where BOS
and system turns go, what ends an answer and whether it is a token, what is trimmed, the date, and
what becomes of thoughts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken

from tests.helpers import tokenizer_families as base

_CHATML_HEAD, _SEP = "<|im_start|>assistant\n", "<|im_end|>\n"
MISTRAL = (
    "{% set system = messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' %}"
    "{{ bos_token }}{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}"
    "[INST] {{ (system if loop.last else '') ~ m.content }}[/INST]"
    "{% else %} {{ m.content | trim ~ eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_SMALL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]"
    "{% elif m.role == 'user' %}[INST]{{ m.content }}[/INST]"
    "{% else %}{{ m.content ~ eos_token }}{% endif %}{% endfor %}"
)
GEMMA_3 = (
    "{% set system = messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' %}"
    "{{ bos_token }}{% for m in messages if m.role != 'system' %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else 'user' }}\n"
    "{{ (system if loop.first else '') ~ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI_3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{{ '<|assistant|>\n' if add_generation_prompt else eos_token }}"
)
PHI_4_MINI = PHI_3.replace("\n", "")
PHI_4 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
)
OLMO_2 = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{{ eos_token if m.role == 'assistant' else '' }}{{ '' if loop.last and m.role == 'assistant' "
    "else '\n' }}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# The last answer has a thought, if an empty one, and those before it have none.
QWEN_3 = (
    "{% for m in messages %}{% set parts = m.content.split('</think>') %}"
    "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n"
    "{{ m.reasoning_content or (parts[0].split('<think>')[-1] if parts[1:] else '') | trim }}"
    "\n</think>\n\n{% endif %}"
    "{{ parts[-1].lstrip('\n') if m.role == 'assistant' else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
# The marks hold an answer's header and the line break behind it.
SMOLLM_3 = (
    "{%- set thinks = enable_thinking | default(true) -%}<|im_start|>system\n"
    "Today Date: {{ strftime_now('%d %B %Y') }}\nReasoning Mode: "
    "{{ '/think' if thinks else '/no_think' }}\n\n"
    "{{ messages[0].content if messages[0].role == 'system' else 'You are SmolLM.' }}<|im_end|>\n"
    "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}"
    "<|im_start|>user\n{{ m.content }}<|im_end|>\n"
    "{% else %}{% generation %}<|im_start|>assistant\n"
    "{{ '' if thinks else '<think>\n\n</think>\n' }}{{ m.content }}<|im_end|>\n{% endgeneration %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{{ '' if thinks else '<think>\n\n</think>\n' }}{% endif %}"
)


def _sentencepiece(template: str, *special: Any) -> Any:
    """Llama-2's kind with more tokens."""
    tokenizer = base.llama_2(template)
    tokenizer.add_tokens(list(special), special_tokens=True)
    return tokenizer


def mistral() -> Any:
    """Version 0.3: turn marks are tokens, the system turn stands in the last question."""
    return _sentencepiece(MISTRAL, "[INST]", "[/INST]")


def mistral_small() -> Any:
    """Byte-level; the template and the tokenizer both write BOS."""
    names = ("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = _byte_level(MISTRAL_SMALL, *names, split=base._LLAMA_3_SPLIT, **special)
    tokenizer.backend_tokenizer.post_processor = base.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


def phi_3() -> Any:
    """Turn marks swallow the space behind them; no BOS is added."""
    names = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>")
    marks = [AddedToken(name, rstrip=True, normalized=False, special=True) for name in names]
    tokenizer = _sentencepiece(PHI_3, *marks)
    tokenizer.eos_token = "<|endoftext|>"
    backend = tokenizer.backend_tokenizer
    backend.post_processor = base.processors.TemplateProcessing(single="$A", special_tokens=[])
    object.__setattr__(tokenizer, "_add_bos_token", False)
    return tokenizer


def _byte_level(template: str, *names: str, split: str = base._QWEN_SPLIT, **special: str) -> Any:
    backend = base._byte_level(names, base._split(split))
    return base._with_image(base._fast(backend, **special), template)


def phi_4() -> Any:
    """Byte-level, no BOS."""
    names = ("<|im_start|>", "<|im_sep|>", "<|im_end|>", "<|endoftext|>")
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    return _byte_level(PHI_4, *names, split=base._LLAMA_3_SPLIT, **special)


def phi_4_mini() -> Any:
    """Byte-level; what ends an answer is not the EOS that stands behind the last one."""
    names = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>")
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    return _byte_level(PHI_4_MINI, *names, split=base._LLAMA_3_SPLIT, **special)


def olmo_2() -> Any:
    """Byte-level; BOS and EOS are one token, and the turn marks are none."""
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    return _byte_level(OLMO_2, "<|endoftext|>", split=base._LLAMA_3_SPLIT, **special)


def _with_thoughts(tokenizer: Any, template: str) -> Any:
    """Have the marks of a thought be tokens, though not special ones."""
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = template
    return tokenizer


def qwen_3() -> Any:
    """Qwen2.5's tokens, and those of a thought."""
    return _with_thoughts(base.qwen(), QWEN_3)


def smollm_3() -> Any:
    """Llama 3's kind of tokens with other turn marks."""
    names = ("<|begin_of_text|>", "<|im_start|>", "<|im_end|>")
    special = {"bos_token": names[0], "eos_token": "<|im_end|>"}
    made = _byte_level(SMOLLM_3, *names, split=base._LLAMA_3_SPLIT, **special)
    return _with_thoughts(made, SMOLLM_3)


def gemma_3() -> Any:
    """Gemma's tokenizer; a system turn stands in the first question."""
    tokenizer = base.gemma()
    tokenizer.chat_template = GEMMA_3
    return tokenizer


@dataclass(frozen=True)
class ChatFamily:
    """A family of language models with its chat.

    Attributes:
        name: What people call it.
        model_type: transformers' name of the model.
        tokenizer: Makes its tokenizer, with its template.
        text: The conversation q, "a b", r, "c" as it is trained, what the loss is on between ⟦ and
            ⟧.
        takes_system: Whether a conversation with a system turn can be trained.
        sizes: Its configuration where it is not `TEXT_SIZES`.
    """

    name: str
    model_type: str
    tokenizer: Callable[[], Any]
    text: str
    takes_system: bool = True
    sizes: dict[str, Any] = field(default_factory=dict)


def _chatml(front: str, *texts: str) -> str:
    """Return ChatML's text of q, an answer, r, an answer."""
    first, last = texts
    return (
        f"{front}<|im_start|>user\nq{_SEP}{_CHATML_HEAD}{first}\n"
        f"<|im_start|>user\nr{_SEP}{_CHATML_HEAD}{last}\n"
    )


_ENDED = ("⟦a b<|im_end|>⟧", "⟦c<|im_end|>⟧")
_HEADER = "<|start_header_id|>assistant<|end_header_id|>\n\n"
_LLAMA_3_SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024<|eot_id|>"
_GEMMA_TEXT = (
    "<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n⟦a b<end_of_turn>⟧\n"
    "<start_of_turn>user\nr<end_of_turn>\n<start_of_turn>model\n⟦c<end_of_turn>⟧\n"
)
_WINDOW = {
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 8,
}
CHAT_FAMILIES = (
    ChatFamily(
        "Llama 2",
        "llama",
        base.llama_2,
        "<s>[INST] q [/INST]⟦ a b </s>⟧<s>[INST] r [/INST]⟦ c </s>⟧",
    ),
    ChatFamily(
        "Llama 3, 3.1, 3.2",
        "llama",
        base.llama_3,
        f"<|begin_of_text|>{_LLAMA_3_SYSTEM}"
        f"<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>{_HEADER}⟦a b<|eot_id|>⟧"
        f"<|start_header_id|>user<|end_header_id|>\n\nr<|eot_id|>{_HEADER}⟦c<|eot_id|>⟧",
    ),
    ChatFamily(
        "Mistral 7B v0.3",
        "mistral",
        mistral,
        "<s>[INST] q[/INST]⟦ a b</s>⟧[INST] r[/INST]⟦ c</s>⟧",
        takes_system=False,
        sizes={"sliding_window": None},
    ),
    ChatFamily(
        "Mistral Small 3",
        "mistral",
        mistral_small,
        "<s>[INST]q[/INST]⟦a b</s>⟧[INST]r[/INST]⟦c</s>⟧",
        sizes={"sliding_window": None},
    ),
    ChatFamily(
        "Qwen2.5",
        "qwen2",
        base.qwen,
        _chatml("<|im_start|>system\nYou are helpful.<|im_end|>\n", *_ENDED),
    ),
    ChatFamily(
        "Qwen3",
        "qwen3",
        qwen_3,
        _chatml("", "a b<|im_end|>", "⟦<think>\n\n</think>\n\nc<|im_end|>⟧"),
    ),
    ChatFamily(
        "Gemma 2",
        "gemma2",
        base.gemma,
        _GEMMA_TEXT,
        takes_system=False,
        sizes={**_WINDOW, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
    ),
    ChatFamily("Gemma 3 1B", "gemma3_text", gemma_3, _GEMMA_TEXT, "in the first question", _WINDOW),
    ChatFamily(
        "SmolLM2",
        "llama",
        base.smollm2,
        _chatml("<|im_start|>system\nYou are helpful.<|im_end|>\n", *_ENDED),
        sizes={"tie_word_embeddings": True},
    ),
    ChatFamily(
        "SmolLM3",
        "smollm3",
        smollm_3,
        _chatml(
            "<|im_start|>system\nToday Date: 26 July 2024\nReasoning Mode: /think\n\n"
            "You are SmolLM.<|im_end|>\n",
            *_ENDED,
        ),
        sizes={"no_rope_layers": [1, 0]},
    ),
    ChatFamily(
        "Phi-3 mini, Phi-3.5",
        "phi3",
        phi_3,
        "<|user|>\nq<|end|>\n<|assistant|>\n⟦a b<|end|>⟧\n<|user|>\nr<|end|>\n<|assistant|>\n"
        "⟦c<|end|>\n<|endoftext|>⟧",
        sizes={"sliding_window": None},
    ),
    ChatFamily(
        "Phi-4",
        "phi3",
        phi_4,
        "<|im_start|>user<|im_sep|>q<|im_end|><|im_start|>assistant<|im_sep|>⟦a b<|im_end|>⟧"
        "<|im_start|>user<|im_sep|>r<|im_end|><|im_start|>assistant<|im_sep|>⟦c<|im_end|>⟧",
        sizes={"sliding_window": None},
    ),
    ChatFamily(
        "Phi-4 mini",
        "phi3",
        phi_4_mini,
        "<|user|>q<|end|><|assistant|>⟦a b<|end|>⟧<|user|>r<|end|><|assistant|>"
        "⟦c<|end|><|endoftext|>⟧",
        sizes={"sliding_window": None, "partial_rotary_factor": 0.75},
    ),
    ChatFamily(
        "OLMo 2",
        "olmo2",
        olmo_2,
        "<|endoftext|><|user|>\nq\n<|assistant|>\n⟦a b<|endoftext|>⟧\n"
        "<|user|>\nr\n<|assistant|>\n⟦c<|endoftext|>⟧",
    ),
)
