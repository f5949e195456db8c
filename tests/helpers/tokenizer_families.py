"""Small tokenizers that split, normalise and add BOS as the families' do, with their templates.

What is from the families' files: pre-tokenizer, normalizer, post-processor, decoder, special
tokens, and what the templates do (system turns, trimming, the date). Vocabularies have a few
hundred tokens.
"""

from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

TEXTS = [
    "[INST] Is it good? Say yes or no. [/INST] yes",
    "USER: Is it good? ASSISTANT: positive",
    "<<SYS>> Be brief. <</SYS>> user assistant model system",
    'You need to output "positive" or "negative".\n\nMovie review: a good one\nAnswer:',
] * 4
TEXT = (
    "{% macro text(content) %}{% if content is string %}{{ content }}{% else %}"
    "{% for part in content %}{{ '<image>\n' if part.type == 'image' else part.text }}{% endfor %}"
    "{% endif %}{% endmacro %}"
)
LLAMA_2 = TEXT + (
    "{% set system = '<<SYS>>\n' ~ text(messages[0].content) ~ '\n<</SYS>>\n\n' "
    "if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}"
    "{{ bos_token ~ '[INST] ' ~ (system if loop.first else '') ~ text(m.content) | trim }} [/INST]"
    "{% else %}{{ ' ' ~ text(m.content) | trim ~ ' ' ~ eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = TEXT + (
    "{% macro turn(role, content) %}<|start_header_id|>{{ role }}<|end_header_id|>\n\n"
    "{{ content | trim }}<|eot_id|>{% endmacro %}"
    "{% set system = text(messages[0].content) if messages[0].role == 'system' else '' %}"
    "{{ bos_token }}"
    "{{ turn('system', 'Today Date: ' ~ strftime_now('%d %b %Y') ~ '\n\n' ~ system) }}"
    "{% for m in messages if m.role != 'system' %}{{ turn(m.role, text(m.content)) }}{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = TEXT + (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n"
    "{% endif %}{% for m in messages %}"
    "<|im_start|>{{ m.role ~ '\n' ~ text(m.content) }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = TEXT + (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ ('model' if m.role == 'assistant' else m.role) ~ '\n' }}"
    "{{ text(m.content) | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# A template that leaves BOS to the tokenizer, as llava-hf's.
NO_BOS = TEXT + (
    "{% for m in messages %}{{ m.role | upper }}: {{ text(m.content) ~ ' ' }}"
    "{{ eos_token if m.role == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
GLM = TEXT + (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ text(m.content) }}"
    "{{ '<|end|>' if m.role == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_SPLIT = _LLAMA_3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")


def llama_2(template: str | None = LLAMA_2, **special: Any) -> Any:
    """SentencePiece's kind: transformers 5 loads it as Metaspace, `▁` in front only."""
    trained = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    vocab, merges = _trained(trained, ["<unk>", "<s>", "</s>"], _bytes())
    return _with_image(
        LlamaTokenizer(vocab, merges, legacy=False, add_bos_token=True, **special), template
    )


def vicuna(template: str | None = None) -> Any:
    """As Llama-2's, without a template, padded with `<unk>`."""
    return llama_2(template, pad_token="<unk>")


def llama_2_legacy() -> Any:
    """Older files of Llama's: `▁` before every text between special tokens."""
    tokenizer = _fast(
        llama_2().backend_tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([])
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return _with_image(tokenizer, LLAMA_2)


def llama_3() -> Any:
    """Byte-level, BOS by the last of two post-processors."""
    names = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
    backend = _byte_level(names, _split(_LLAMA_3_SPLIT))
    bos = (names[0], backend.token_to_id(names[0]))
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{names[0]} $A", special_tokens=[bos]),
        ]
    )
    return _with_image(_fast(backend, bos_token=names[0], eos_token=names[1]), LLAMA_3)


def qwen() -> Any:
    """Byte-level, no BOS at all."""
    backend = _byte_level(("<|im_start|>", "<|im_end|>", "<|endoftext|>"), _split(_QWEN_SPLIT))
    backend.normalizer = normalizers.NFC()
    return _with_image(_fast(backend, eos_token="<|im_end|>"), CHATML)


def smollm2() -> Any:
    """Byte-level; the turn marker is called BOS, and added by no post-processor."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    split = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend = _byte_level(("<|im_start|>", "<|im_end|>"), split)
    return _with_image(_fast(backend, bos_token="<|im_start|>", eos_token="<|im_end|>"), CHATML)


def gemma() -> Any:
    """SentencePiece's kind without a prefix: `▁` is a normalised space."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    # As SentencePiece learns: no token holds the end of a word and the start of the next.
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    vocab, merges = _trained(backend, names, _bytes())
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.model = models.BPE(vocab, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])]
    )
    tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return _with_image(_fast(backend, pad_token="<pad>", **tokens), GEMMA)


def glm() -> Any:
    """Two tokens in front of a text, which its template writes too, and no BOS."""
    front = ("[gMASK]", "<sop>")
    backend = _byte_level((*front, "<|user|>", "<|assistant|>", "<|end|>"), _split(_QWEN_SPLIT))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{' '.join(front)} $A", special_tokens=[(t, backend.token_to_id(t)) for t in front]
    )
    return _with_image(_fast(backend, eos_token="<|end|>"), GLM)


def no_bos() -> Any:
    """Llama-2's tokenizer with a template that leaves BOS to it."""
    return llama_2(NO_BOS)


def adds_eos() -> Any:
    """A tokenizer that is saved as it was trained with: `</s>` behind every text."""
    return llama_2(NO_BOS, add_eos_token=True)


FAMILIES = {
    "llama-2": llama_2,
    "llama-2-legacy": llama_2_legacy,
    "vicuna": vicuna,
    "llama-3": llama_3,
    "qwen2.5": qwen,
    "smollm2": smollm2,
    "gemma": gemma,
    "no-bos": no_bos,
    "adds-eos": adds_eos,
}


def _bytes() -> list[str]:
    return [f"<0x{byte:02X}>" for byte in range(256)]


def _split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _trained(tokenizer: Tokenizer, special: list[str], bytes_: list[str]) -> tuple[Any, Any]:
    """Return vocabulary and merges of a tokenizer that is trained on `TEXTS`."""
    import json

    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=[*special, *bytes_], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _byte_level(special: tuple[str, ...], split: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[*special, "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _fast(backend: Tokenizer, **special: str) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(backend.to_str()), **{"pad_token": "<pad>", **special}
    )


def _with_image(tokenizer: Any, template: str | None) -> Any:
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.image_token = "<image>"
    tokenizer.chat_template = template
    if tokenizer.pad_token is None:
        tokenizer.pad_token = "<unk>"
    return tokenizer


def few_words(*words: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer without bytes, which knows these words and writes `<unk>` for others."""
    vocabulary = {word: number for number, word in enumerate(["<unk>", "</s>", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )
