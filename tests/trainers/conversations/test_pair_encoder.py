"""A pair's tokens: the prompt that is asked, answers that are trained whole; what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tokenizer_families import FAMILIES
from tests.helpers.toy import make_tokenizer
from verbalizer_bench.io.conversation_files import read_as
from verbalizer_bench.io.conversations import BadRecordError
from verbalizer_bench.trainers.conversations.assistant_spans import TemplateFaultError
from verbalizer_bench.trainers.conversations.encoder import Encoder
from verbalizer_bench.trainers.conversations.pair_encoder import EncodedPair, PairEncoder
from verbalizer_bench.trainers.conversations.preferences import pair

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is on the paper?"},
    {"role": "assistant", "content": "A shape."},
    {"role": "user", "content": "Which shape is it?"},
]


def row(chosen: str = "a circle", rejected: str = "a red square", **more: Any) -> dict[str, Any]:
    answers = {
        name: [{"role": "assistant", "content": text}]
        for name, text in (("chosen", chosen), ("rejected", rejected))
    }
    numbers = {"score_chosen": None, "score_rejected": None}
    return {"id": "7", "prompt": TURNS, "images": [], "source": "made", **answers, **numbers} | more


def encode(value: Any, max_length: int = 256, image_tokens: int = 16) -> EncodedPair:
    tokenizer = make_tokenizer([json.dumps(row())], 4 + 256 + 64)
    image = tokenizer.convert_tokens_to_ids("<image>")
    encoder = Encoder(tokenizer, "vicuna-v1", image, image_tokens, max_length)
    return PairEncoder(encoder).encode(pair(3, value)[0])


def test_a_pair_is_a_prompt_and_two_answers_with_what_ends_them() -> None:
    tokenizer = make_tokenizer([json.dumps(row())], 4 + 256 + 64)
    found = PairEncoder(Encoder(tokenizer, "vicuna-v1", None, 0, 256)).encode(pair(3, row())[0])
    prompt = "<s>Be brief. USER: What is on the paper? ASSISTANT: A shape.</s>"
    prompt += "USER: Which shape is it? ASSISTANT:"
    assert tokenizer.decode(found.prompt_ids) == prompt
    assert tokenizer.decode(found.chosen_ids) == " a circle</s>"
    assert tokenizer.decode(found.rejected_ids) == " a red square</s>"
    longest = max(len(found.chosen_ids), len(found.rejected_ids))
    assert found.length == len(found.prompt_ids) + longest
    assert found.trained == len(found.chosen_ids) + len(found.rejected_ids)
    assert found.tokens == 2 * len(found.prompt_ids) + found.trained
    assert tokenizer.decode(found.shown[0].input_ids) == f"{prompt} a circle</s>"


def test_images_stand_before_the_first_question_and_count_whole() -> None:
    text, shown = encode(row()), encode(row(images=["a.png", "b.png"]))
    tokenizer = make_tokenizer([json.dumps(row())], 4 + 256 + 64)
    assert "USER: <image>\n<image>\nWhat is on the paper?" in tokenizer.decode(shown.prompt_ids)
    assert shown.prompt_ids.count(tokenizer.convert_tokens_to_ids("<image>")) == 2
    added = len(shown.prompt_ids) - len(text.prompt_ids)
    assert shown.length == text.length + added + 2 * 15


def test_the_length_that_is_refused_is_the_first_that_would_be_cut() -> None:
    whole = encode(row(images=["a.png"])).length
    assert encode(row(images=["a.png"]), max_length=whole).length == whole
    with pytest.raises(
        BadRecordError,
        match=rf"record 4 \(id '7'\): answer cut: {whole} tokens with the rejected answer, which "
        rf"max_length={whole - 1} would cut; raise it",
    ):
        encode(row(images=["a.png"]), max_length=whole - 1)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (row(chosen=" "), "empty text: chosen: it has no text; leave the record out"),
        (row(chosen="a red square\n"), "same answer: chosen and rejected are both"),
        (row(rejected="an <image>"), "image token: rejected: <image> stands in 'an <image>'"),
        (row(rejected="no</s>"), "special token: a assistant turn holds '</s>'; take it out"),
        (row(prompt=TURNS[:3]), "turn order: prompt: system, user, assistant"),
        (row() | {"imagez": []}, "unknown key: imagez"),
    ],
)
def test_what_cannot_be_a_pair_is_refused_by_record(value: Any, fault: str) -> None:
    with pytest.raises(BadRecordError, match=rf"^record 4 \(id '7'\): {fault}"):
        encode(value)


def test_answers_that_become_the_same_tokens_are_refused() -> None:
    """The template trims them more than Python does."""
    tokenizer = FAMILIES["qwen2.5"]()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.replace(' ', '') }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    value = row("a b", "ab", prompt=[{"role": "user", "content": "x"}])
    encoder = PairEncoder(Encoder(tokenizer, "tokenizer", None, 0, 256))
    with pytest.raises(BadRecordError, match="same answer: chosen and rejected are the same token"):
        encoder.encode(pair(3, value)[0])


def test_a_bos_that_is_asked_with_and_not_trained_with_is_refused() -> None:
    tokenizer = FAMILIES["llama-2"]()
    tokenizer.chat_template = (
        "{{ bos_token if add_generation_prompt else '' }}{% for m in messages %}"
        "{{ m.role }}: {{ m.content }}{{ eos_token if m.role == 'assistant' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    encoder = PairEncoder(Encoder(tokenizer, "tokenizer", None, 0, 256))
    with pytest.raises(TemplateFaultError, match="asks for an answer with '<s>"):
        encoder.encode(pair(3, row(prompt=TURNS[1:]))[0])


def test_a_prompt_that_is_asked_in_other_tokens_is_refused() -> None:
    """GPT-2's pattern splits two line breaks where a text follows them, and not at the end."""
    tokenizer = make_tokenizer(["assistant:\n\n", "\n\n"] * 9, 4 + 256 + 32)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:\n\n{{ m.content }}"
        "{{ eos_token if m.role == 'assistant' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:\n\n{% endif %}"
    )
    ends = [tokenizer(f"x:\n\n{text}")["input_ids"] for text in ("", "a")]
    assert ends[1][: len(ends[0])] != ends[0], "else the test could not fail"
    encoder = PairEncoder(Encoder(tokenizer, "tokenizer", None, 0, 256))
    with pytest.raises(BadRecordError, match="prompt differs: asked, the prompt has"):
        encoder.encode(pair(3, row(prompt=TURNS[1:2]))[0])


def test_a_file_of_pairs_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, (row(), row("x", "x")))) + "\n")
    good, bad = read_as(pair, file, 5)
    assert not isinstance(good, BadRecordError) and good.index == 5
    assert str(bad).startswith(f"{file}, line 2 (id '7'): same answer: ")
