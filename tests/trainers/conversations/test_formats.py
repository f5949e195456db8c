"""What a conversation becomes: text to the character, ids and mask to the token."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.toy import TEMPLATE, make_tokenizer
from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message
from verbalizer_bench.trainers.conversations.encoder import Encoder
from verbalizer_bench.trainers.conversations.formats import (
    FORMATS,
    chat_template,
    training_template,
)

OURS = FORMATS[:3]
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@pytest.fixture(scope="session")
def sentencepiece(stories: Path) -> Any:
    """Llama's kind: a space before each text between special tokens, bytes for what is unknown."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(stories)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    return tokenizer


@pytest.fixture(scope="session")
def bytes_bpe() -> Any:
    return make_tokenizer(["x a a a a b b b"], 4 + 256 + 2)


@pytest.fixture(params=["sentencepiece", "bytes_bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def encoder(tokenizer: Any, name: str, image_tokens: int = 4, max_length: int = 4096) -> Encoder:
    image = tokenizer.convert_tokens_to_ids("<image>")
    return Encoder(tokenizer, name, image, image_tokens, max_length)


def record(*texts: str, images: int = 0, system: str | None = None) -> Conversation:
    """Make a record of question, answer, question, …; the first question has the images."""
    first = [Message("system", system)] if system else []
    turns = [
        Message(("user", "assistant")[n % 2], text, 0 if n else images)
        for n, text in enumerate(texts)
    ]
    return Conversation(7, "seven", (*first, *turns), tuple(f"{n}.jpg" for n in range(images)))


def render(tokenizer: Any, name: str, given: Conversation, **options: Any) -> str:
    messages = [{"role": m.role, "content": m.content()} for m in given.messages]
    template = training_template(name, tokenizer)
    return str(
        tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **options)
    )


TEXTS = [
    ("llama-2", {}, "<s>[INST] q [/INST] a </s><s>[INST] r [/INST] b </s>"),
    ("llama-2", {"images": 1}, "<s>[INST] <image>\nq [/INST] a </s><s>[INST] r [/INST] b </s>"),
    (
        "llama-2",
        {"system": "be kind"},
        "<s>[INST] <<SYS>>\nbe kind\n<</SYS>>\n\nq [/INST] a </s><s>[INST] r [/INST] b </s>",
    ),
    ("vicuna-v1", {}, f"<s>{VICUNA} USER: q ASSISTANT: a</s>USER: r ASSISTANT: b</s>"),
    ("vicuna-v1", {"images": 1, "system": "S"}, "<s>S USER: <image>\nq ASSISTANT: a</s>USER: r "),
    ("plain", {"images": 1}, "<s><image>a\nb\n"),
]


@pytest.mark.parametrize(("name", "extra", "expected"), TEXTS)
def test_texts_are_to_the_character(
    bytes_bpe: Any, name: str, extra: dict[str, Any], expected: str
) -> None:
    assert render(bytes_bpe, name, record("q", "a", "r", "b", **extra)).startswith(expected)
    marked = training_template(name, bytes_bpe)
    assert "generation %}" not in chat_template(name, bytes_bpe).replace("generation_prompt", "")
    assert "generation" in marked.replace("generation_prompt", "")


@pytest.mark.parametrize("name", OURS)
def test_a_checkpoint_is_saved_with_the_same_text(tokenizer: Any, name: str) -> None:
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q"}]},
        {"role": "assistant", "content": [{"type": "text", "text": " a "}]},
    ]
    saved, trained = chat_template(name, tokenizer), training_template(name, tokenizer)
    texts = {
        tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
        for template in (saved, trained)
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("name", "images"),
    [("plain", 1), ("llama-2", 0), ("llama-2", 1), ("vicuna-v1", 0), ("vicuna-v1", 1)],
)
def test_a_prompt_is_what_stands_before_the_first_label(
    tokenizer: Any, name: str, images: int
) -> None:
    given = record("what is this", "😀 a cat", images=images)
    encoded = encoder(tokenizer, name).encode(given)
    prompt = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content()} for m in given.messages[:1]],
        chat_template=chat_template(name, tokenizer),
        add_generation_prompt=True,
        return_dict=False,
    )
    assert prompt == encoded.input_ids[: encoded.assistant_mask.index(True)]
    assert encoded.input_ids.count(tokenizer.bos_token_id) == 1


# Token by token, by hand from the vocabularies; what is trained stands behind a bar. Stories' has
# "▁S", "▁a", "▁b", "▁c"; the toy's merges are " a" and " b".
INST = "[ I N S T ]"
MASKS = {
    "sentencepiece": [
        (
            "llama-2",
            0,
            f"<s> ▁ {INST} ▁ q ▁ [ / I N S T ] |▁a |▁ |</s> "
            f"<s> ▁ {INST} ▁ z ▁ [ / I N S T ] |▁b |▁c |▁ |</s>",
        ),
        (
            "llama-2",
            1,
            f"<s> ▁ {INST} ▁ <image> ▁ <0x0A> q ▁ [ / I N S T ] |▁a |▁ |</s> "
            f"<s> ▁ {INST} ▁ z ▁ [ / I N S T ] |▁b |▁c |▁ |</s>",
        ),
        (
            "vicuna-v1",
            0,
            "<s> ▁S ▁ U S E R : ▁ q ▁ A S S I S T A N T : |▁a |</s> "
            "▁ U S E R : ▁ z ▁ A S S I S T A N T : |▁b |▁c |</s>",
        ),
        (
            "vicuna-v1",
            1,
            "<s> ▁S ▁ U S E R : ▁ <image> ▁ <0x0A> q ▁ A S S I S T A N T : |▁a |</s> "
            "▁ U S E R : ▁ z ▁ A S S I S T A N T : |▁b |▁c |</s>",
        ),
        ("plain", 1, "<s> <image> |▁a |<0x0A>"),
    ],
    "bytes_bpe": [
        (
            "llama-2",
            0,
            f"<s> {INST} Ġ q Ġ [ / I N S T ] |Ġa |Ġ |</s> "
            f"<s> {INST} Ġ z Ġ [ / I N S T ] |Ġb |Ġ |c |Ġ |</s>",
        ),
        (
            "llama-2",
            1,
            f"<s> {INST} Ġ <image> Ċ q Ġ [ / I N S T ] |Ġa |Ġ |</s> "
            f"<s> {INST} Ġ z Ġ [ / I N S T ] |Ġb |Ġ |c |Ġ |</s>",
        ),
        (
            "vicuna-v1",
            0,
            "<s> S Ġ U S E R : Ġ q Ġ A S S I S T A N T : |Ġa |</s> "
            "U S E R : Ġ z Ġ A S S I S T A N T : |Ġb |Ġ |c |</s>",
        ),
        (
            "vicuna-v1",
            1,
            "<s> S Ġ U S E R : Ġ <image> Ċ q Ġ A S S I S T A N T : |Ġa |</s> "
            "U S E R : Ġ z Ġ A S S I S T A N T : |Ġb |Ġ |c |</s>",
        ),
        ("plain", 1, "<s> <image> |a |Ċ"),
    ],
}
CASES = [(kind, *case) for kind, cases in MASKS.items() for case in cases]


def tokens_and_mask(text: str) -> tuple[list[str], list[bool]]:
    words = text.split(" ")
    return [word.removeprefix("|") for word in words], [word.startswith("|") for word in words]


def conversation(name: str, images: int) -> Conversation:
    turns = ("q", "a") if name == "plain" else ("q", "a", "z", "b c")
    return record(*turns, images=images, system="S" if name == "vicuna-v1" else None)


@pytest.mark.parametrize(("kind", "name", "images", "expected"), CASES)
def test_masks_are_those_made_by_hand(
    request: pytest.FixtureRequest, kind: str, name: str, images: int, expected: str
) -> None:
    tokenizer = request.getfixturevalue(kind)
    encoded = encoder(tokenizer, name).encode(conversation(name, images))
    tokens, mask = tokens_and_mask(expected)
    assert tokenizer.convert_ids_to_tokens(encoded.input_ids) == tokens
    assert encoded.assistant_mask == mask
    assert encoded.length == len(tokens) + 3 * images


@pytest.mark.parametrize(("kind", "name", "images", "expected"), CASES)
def test_truncation_at_every_length(
    request: pytest.FixtureRequest, kind: str, name: str, images: int, expected: str
) -> None:
    """In the middle of an answer, of a question, of an image: by the hand-made mask."""
    tokenizer = request.getfixturevalue(kind)
    tokens, mask = tokens_and_mask(expected)
    width = [5 if token == "<image>" else 1 for token in tokens]
    first_answer = mask.index(True)
    for limit in range(1, sum(width) + 2):
        kept = max(n for n in range(len(tokens) + 1) if sum(width[:n]) <= limit)
        encode = encoder(tokenizer, name, image_tokens=5, max_length=limit).encode
        if "<image>" in tokens[kept:]:
            with pytest.raises(BadRecordError, match=r"record 8 .* image cut: .*max_length"):
                encode(conversation(name, images))
        elif kept <= first_answer:
            with pytest.raises(BadRecordError, match=r"record 8 .* answer cut: "):
                encode(conversation(name, images))
        else:
            encoded = encode(conversation(name, images))
            assert tokenizer.convert_ids_to_tokens(encoded.input_ids) == tokens[:kept]
            assert encoded.assistant_mask == mask[:kept]
            assert encoded.length == sum(width[:kept]) <= limit


def test_a_block_that_ends_in_bytes_has_them_all(sentencepiece: Any, bytes_bpe: Any) -> None:
    """transformers' own mask stops at the first byte of the last character."""
    marked = (
        "{% for m in messages %}{{ m.role ~ ':' }}{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}{% endgeneration %};{% else %}{{ m.content }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    for tokenizer in (sentencepiece, bytes_bpe):
        own = copy.deepcopy(tokenizer)
        own.chat_template = marked
        encoded = encoder(own, "tokenizer").encode(record("q", "é 😀"))
        trained = [i for i, on in zip(encoded.input_ids, encoded.assistant_mask, strict=True) if on]
        assert own.decode(trained).strip() == "é 😀"
        assert own.decode(encoded.input_ids[-1:]) == ";"


answers = st.text(
    st.characters(codec="utf-8", exclude_characters="<>|", exclude_categories=("Cs", "Cc")),
    min_size=1,
    max_size=12,
).filter(lambda text: text.strip() == text and text)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(turns=st.lists(answers, min_size=2, max_size=6), images=st.integers(0, 2))
def test_what_is_trained_is_the_answers_and_their_ends(
    sentencepiece: Any, bytes_bpe: Any, turns: list[str], images: int
) -> None:
    turns = turns[: len(turns) // 2 * 2]
    for tokenizer in (sentencepiece, bytes_bpe):
        for name, end in (("llama-2", " </s>"), ("vicuna-v1", "</s>")):
            encoded = encoder(tokenizer, name).encode(record(*turns, images=images))
            trained: list[list[int]] = [[]]
            for token, on in zip(encoded.input_ids, encoded.assistant_mask, strict=True):
                if on:
                    trained[-1].append(token)
                if on and token == tokenizer.eos_token_id:
                    trained.append([])
            # A space at the front of a text is the one that sentencepiece's decoder takes away.
            texts = [tokenizer.decode(ids).removeprefix(" ") for ids in trained]
            assert texts == [*(f"{answer}{end}" for answer in turns[1::2]), ""]


def test_the_tokenizers_own_template(bytes_bpe: Any) -> None:
    own = copy.deepcopy(bytes_bpe)
    own.chat_template = TEMPLATE.replace(
        "ASSISTANT: {{ m['content'] if m['content'] is string else m['content'][0]['text'] }}</s>",
        "ASSISTANT:{% generation %} {{ m['content'] if m['content'] is string else "
        "m['content'][0]['text'] }}</s>{% endgeneration %}",
    )
    for template in (TEMPLATE, own.chat_template):
        own.chat_template = template
        assert training_template("tokenizer", own) == chat_template("tokenizer", own) == template
        encoded = encoder(own, "tokenizer").encode(record("q", "a cat", images=1))
        trained = [i for i, on in zip(encoded.input_ids, encoded.assistant_mask, strict=True) if on]
        assert own.decode(trained) == " a cat</s>"
    own.chat_template = None
    with pytest.raises(ValueError, match="no chat template; use llama-2"):
        training_template("tokenizer", own)


def test_templates_that_take_parts_alone_get_parts(bytes_bpe: Any) -> None:
    own = copy.deepcopy(bytes_bpe)
    own.chat_template = (
        "{% for m in messages %}{{ m.role }}:{% for c in m.content %}{% if c.type == 'image' %}"
        "<image>{% elif m.role == 'assistant' %}{% generation %}{{ c.text }}</s>{% endgeneration %}"
        "{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    for images in (0, 1):
        encoded = encoder(own, "tokenizer").encode(record("q", "a", images=images))
        # The BOS is the tokenizer's, as for the adapters.
        text = f"<s>user:{'<image>' * images}qassistant:a</s>"
        assert own.decode(encoded.input_ids) == text
        assert sum(encoded.assistant_mask) == 2


def test_a_template_that_loses_an_image_is_no_records_fault(bytes_bpe: Any) -> None:
    without = Encoder(bytes_bpe, "llama-2", bytes_bpe.eos_token_id + 1000, 4, 64)
    with pytest.raises(ValueError, match="made 0 image tokens") as caught:
        without.encode(record("q", "a", images=1))
    assert not isinstance(caught.value, BadRecordError)


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("plain", record("q", "a"), "not a caption: .* got 0 images, 2 turns"),
        ("plain", record("q", "a", "r", "b", images=1), "not a caption: .* 1 image, 4 turns"),
        ("llama-2", record("q", "a</s>b"), "special token: an? assistant turn holds '</s>'"),
    ],
)
def test_records_that_do_not_fit(
    bytes_bpe: Any, name: str, given: Conversation, reason: str
) -> None:
    with pytest.raises(BadRecordError, match=rf"record 8 \(id 'seven'\): {reason}"):
        encoder(bytes_bpe, name).encode(given)


def test_a_model_of_text_takes_no_images(bytes_bpe: Any) -> None:
    text = Encoder(bytes_bpe, "llama-2", None, 1, 64)
    assert text.encode(record("q", "a")).length == len(text.encode(record("q", "a")).input_ids)
    with pytest.raises(BadRecordError, match=r"images for a model of text: it shows '0\.jpg'"):
        text.encode(record("q", "a", images=1))


def test_wrong_names_and_tokenizers(bytes_bpe: Any) -> None:
    with pytest.raises(ValueError, match="format 'chatml' is not known: it is one of plain, "):
        training_template("chatml", bytes_bpe)
    endless = copy.deepcopy(bytes_bpe)
    endless.eos_token = None
    with pytest.raises(ValueError, match="'llama-2' ends answers with the EOS token"):
        training_template("llama-2", endless)


def test_fingerprints_tell_encoders_apart(bytes_bpe: Any, sentencepiece: Any) -> None:
    made = [
        encoder(bytes_bpe, "llama-2"),
        encoder(bytes_bpe, "vicuna-v1"),
        encoder(bytes_bpe, "llama-2", image_tokens=5),
        encoder(bytes_bpe, "llama-2", max_length=5),
        encoder(sentencepiece, "llama-2"),
    ]
    before = [one.fingerprint() for one in made]
    assert len(set(before)) == 5
    bytes_bpe(["a", "a cat"], padding=True, truncation=True, max_length=3)
    assert [one.fingerprint() for one in made] == before
