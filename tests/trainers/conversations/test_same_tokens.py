"""A model is asked with the tokens that it was trained with, whatever format and tokenizer."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.models.hf_vlms import HFMultimodalLM
from lm_eval.models.huggingface import HFLM
from PIL import Image
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from tests.helpers.asking import requests
from tests.helpers.tokenizer_families import FAMILIES, adds_eos, glm, llama_2
from tests.helpers.toy import make_llava, make_llm
from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message, Pair
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.chat import template as chat
from verbalizer_bench.models.chat.bos import adds_bos, append_nothing, bos_note, give_bos_back
from verbalizer_bench.models.checkpoints.compose import extract_llm
from verbalizer_bench.trainers.checkpoints.load import Checkpoint, _set_template
from verbalizer_bench.trainers.conversations.encoder import Encoder
from verbalizer_bench.trainers.conversations.pair_encoder import PairEncoder
from verbalizer_bench.trainers.output.model_card import asking_notes

QUESTION = 'You need to output "positive" or "negative".\n\nMovie review: 12 good ones\nAnswer:'
FORMATS = ("llama-2", "vicuna-v1", "tokenizer")
COMBINATIONS = [
    (family, format)
    for family in FAMILIES
    for format in FORMATS
    if (family, format) != ("vicuna", "tokenizer")
]
LEFT_TO_TOKENIZER = ("no-bos", "adds-eos")
IMAGE_TOKENS = 16
WHITE = Image.new("RGB", (32, 32), "white")
Turns = list[tuple[str, str]]
CONVERSATIONS: dict[str, Turns] = {
    "zero-shot": [("user", QUESTION)],
    "few-shot": [("user", QUESTION), ("assistant", "yes"), ("user", "Is it good?")],
    "system": [("system", "Be brief."), ("user", QUESTION)],
    "odd": [("user", '\n  "a"\r\nb 肯定。\u00a0“q” «e\u0301» 12  c\n\n')],
}


def saved(family: str, format: str, folder: Path, image: bool) -> Any:
    """Save an untrained checkpoint as training does; return the tokenizer that encodes for it."""
    tokenizer = FAMILIES[family]()
    model = make_llm(tokenizer, seed=0)
    processor = tokenizer
    if image:
        model, processor = make_llava(model, tokenizer, seed=0)
        processor.chat_template = tokenizer.chat_template
    _set_template(
        Checkpoint(model, processor), SimpleNamespace(format=format, method="sft", thoughts=None)
    )  # type: ignore[arg-type]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return tokenizer


def trained(tokenizer: Any, format: str, turns: Turns, images: int) -> list[int]:
    """Return the ids that stand before the last answer in training, images expanded."""
    messages = [Message(role, text) for role, text in [*turns, ("assistant", "positive")]]
    if images:
        place = next(i for i, message in enumerate(messages) if message.role == "user")
        messages[place] = messages[place]._replace(images=1)
    record = Conversation(0, "0", tuple(messages), ("x.jpg",) * images)
    image_token = tokenizer.convert_tokens_to_ids("<image>") if images else None
    encoder = Encoder(tokenizer, format, image_token, IMAGE_TOKENS, 4096)
    found = encoder.encode(record)
    start = max(
        i
        for i in range(len(found.assistant_mask))
        if found.assistant_mask[i] and not found.assistant_mask[i - 1]
    )
    ids = found.input_ids[:start]
    if format != "plain":
        chosen = record._replace(last_only=True)
        other = chosen._replace(messages=(*messages[:-1], Message("assistant", "no")))
        pair = PairEncoder(encoder).encode(Pair(0, "0", record.images, chosen, other))
        assert (
            pair.prompt_ids == ids
            and pair.chosen_ids == found.input_ids[start:][: len(pair.chosen_ids)]
        )
    return [one for i in ids for one in [i] * (IMAGE_TOKENS if i == image_token else 1)]


def asked(family: str, format: str) -> list[Turns]:
    """Return the conversations that a family's template takes."""
    no_system = family == "gemma" and format == "tokenizer"
    return [own for name, own in CONVERSATIONS.items() if not (no_system and name == "system")]


def history(turns: Turns) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


def with_parts(turns: Turns) -> list[dict[str, Any]]:
    """Return turns as transformers' processors take them, the image in the first user turn."""
    found: list[dict[str, Any]] = []
    first = next(i for i, (role, _) in enumerate(turns) if role == "user")
    for place, (role, text) in enumerate(turns):
        image = [{"type": "image", "image": WHITE}] if place == first else []
        found.append({"role": role, "content": [*image, {"type": "text", "text": text}]})
    return found


@pytest.mark.parametrize(("family", "format"), COMBINATIONS)
def test_a_text_model_is_asked_as_it_was_trained(family: str, format: str, tmp_path: Path) -> None:
    tokenizer = saved(family, format, tmp_path, image=False)
    ours = VerbalizerLLM(pretrained=str(tmp_path), dtype="float32", device="cpu")
    stock = HFLM(pretrained=str(tmp_path), dtype="float32", device="cpu")
    for turns in asked(family, format):
        expected = trained(tokenizer, format, turns, images=0)
        (request,) = requests([ours.apply_chat_template(history(turns))])
        assert ours._prompt(request, 15) == expected
        # Other software writes today's date.
        with chat._fixed_date():
            rendered = stock.apply_chat_template(history(turns))
            assert stock.tok_encode(rendered) == expected
            plain = stock.tokenizer.apply_chat_template(
                history(turns), add_generation_prompt=True, return_dict=False
            )
        front = [tokenizer.bos_token_id] * (format == "tokenizer" and family in LEFT_TO_TOKENIZER)
        assert front + plain == expected
    bos = (1, 1) if tokenizer.bos_token else None
    assert ours.inputs.bos_counts == bos


@pytest.mark.parametrize(("family", "format"), COMBINATIONS)
def test_a_model_with_images_is_asked_as_it_was_trained(
    family: str, format: str, tmp_path: Path
) -> None:
    tokenizer = saved(family, format, tmp_path, image=True)
    ours = VerbalizerLVLM(pretrained=str(tmp_path), dtype="float32", device="cpu")
    bare = VerbalizerLVLM(pretrained=str(tmp_path), dtype="float32", device="cpu", image="none")
    stock = HFMultimodalLM(pretrained=str(tmp_path), dtype="float32", device="cpu")
    for turns in asked(family, format):
        expected = trained(tokenizer, format, turns, images=1)
        (request,) = requests([ours.apply_chat_template(history(turns))])
        prompt = ours._prompt(request, 15)
        assert ours._model_inputs([prompt], "right")["input_ids"][0].tolist() == expected
        encoded = ours._engine_prompt(prompt)
        assert encoded is not None and len(encoded.ids) == len(expected) == prompt.length
        with chat._fixed_date():
            assert plainly(stock.processor, turns) == [expected, expected]
            assert multimodal(stock, turns) == expected
        # A record of text alone, and a prompt without an image.
        (request,) = requests([bare.apply_chat_template(history(turns))])
        assert bare._prompt(request, 15).ids == trained(tokenizer, format, turns, images=0)


def plainly(processor: Any, turns: Turns) -> list[list[int]]:
    """Return the ids of the plain processor, at once and of a rendered text."""
    conversation = with_parts(turns)
    once = processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=True)
    text = processor.apply_chat_template(conversation, add_generation_prompt=True)
    return [list(once[0]), list(processor(text=text, images=[WHITE])["input_ids"][0])]


def multimodal(stock: HFMultimodalLM, turns: Turns) -> list[int]:
    messages = history(turns)
    first = next(message for message in messages if message["role"] == "user")
    first["content"] = f"<image>{first['content']}"
    text = stock.apply_chat_template(messages)
    ids: list[int] = stock.tok_batch_multimodal_encode([text], [[WHITE]])["input_ids"][0].tolist()
    return ids


# The format writes the BOS, if there is one; of SmolLM2's the tokenizer writes none.
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"smollm2"}))
def test_a_caption_is_trained_behind_what_a_processor_makes_of_an_image(
    family: str, tmp_path: Path
) -> None:
    """Format plain writes no turns: its prompt is the image alone."""
    tokenizer = saved(family, "plain", tmp_path, image=True)
    stock = HFMultimodalLM(pretrained=str(tmp_path), dtype="float32", device="cpu")
    expected = trained(tokenizer, "plain", [("user", "")], images=1)
    assert list(stock.processor(text="<image>", images=[WHITE])["input_ids"][0]) == expected


@pytest.mark.parametrize("image", [False, True])
def test_what_a_template_writes_in_front_is_not_put_there_again(
    image: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GLM's `[gMASK]<sop>`, which is no BOS."""
    monkeypatch.setitem(FAMILIES, "glm", glm)
    tokenizer = saved("glm", "tokenizer", tmp_path, image)
    turns = CONVERSATIONS["zero-shot"]
    expected = trained(tokenizer, "tokenizer", turns, images=int(image))
    assert [tokenizer.decode([i]) for i in expected[:3]] == ["[gMASK]", "<sop>", "<|user|>"]
    adapter = VerbalizerLVLM if image else VerbalizerLLM
    ours = adapter(pretrained=str(tmp_path), dtype="float32", device="cpu")
    chatted, bare = (
        ours._prompt(request, 15)
        for request in requests([ours.apply_chat_template(history(turns)), "hello"])
    )
    if not image:
        assert chatted == expected and bare[:2] == expected[:2]
        return
    assert ours._model_inputs([chatted], "right")["input_ids"][0].tolist() == expected
    assert bare.ids[:2] == expected[:2]


@pytest.mark.parametrize("image", [False, True])
def test_nothing_stands_behind_a_prompt(
    image: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever tuned the checkpoint has saved its tokenizer with `add_eos_token`."""
    tokenizer = adds_eos()
    model, processor = make_llm(tokenizer, seed=0), tokenizer
    if image:
        model, processor = make_llava(model, tokenizer, seed=0)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("hello").tokens()[-1] == "</s>"
    adapter = VerbalizerLVLM if image else VerbalizerLLM
    ours = adapter(pretrained=str(tmp_path), dtype="float32", device="cpu")
    assert "its tokenizer wrote '</s>' behind every text" in caplog.text
    chatted = ours.apply_chat_template(history(CONVERSATIONS["zero-shot"]))
    for request in requests([chatted, "hello"]):
        prompt = ours._prompt(request, 15)
        ids = prompt.ids if image else prompt
        assert (ids[0], ids.count(1), ids.count(2)) == (1, 1, 0)


def test_a_tokenizer_that_cannot_be_kept_from_it_is_refused() -> None:
    tokenizer = glm()
    pair = tuple((token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|end|>", "<sop>"))
    tokenizer.backend_tokenizer.post_processor = processors.BertProcessing(*pair)
    with pytest.raises(ValueError, match=r"DIR: its tokenizer .*'<\|end\|>' behind every text"):
        append_nothing(tokenizer, "DIR")


def test_the_tokenizers_differ_where_the_families_do() -> None:
    """Without these the tests above could not fail."""
    metaspace, legacy = llama_2(), FAMILIES["llama-2-legacy"]()
    assert "prepend_scheme" in metaspace.backend_tokenizer.to_str()
    after = metaspace("<s>[INST] a", add_special_tokens=False).tokens()
    assert after[0] == "<s>" and not after[1].startswith("▁")
    assert metaspace("[INST] a").tokens()[1].startswith("▁")
    assert legacy("<s>[INST] a", add_special_tokens=False).tokens()[1].startswith("▁")
    added = {name: adds_bos(make()) for name, make in FAMILIES.items()}
    assert {name for name, adds in added.items() if not adds} == {"qwen2.5", "smollm2"}
    assert adds_eos()("a").tokens()[-1] == "</s>"


def test_a_processors_tokenizer_adds_no_second_bos_and_its_text_model_has_it_back(
    tmp_path: Path,
) -> None:
    tokenizer = FAMILIES["llama-3"]()
    before = tokenizer("hello")["input_ids"]
    saved("llama-3", "tokenizer", tmp_path / "llava", image=True)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "llava")
    assert loaded("hello")["input_ids"] == before[1:] != before
    ours = VerbalizerLVLM(
        pretrained=str(tmp_path / "llava"), dtype="float32", device="cpu", image="none"
    )
    assert ours._prompt(requests(["hello"])[0], 15).ids == before, "asked without the template"
    extract_llm(str(tmp_path / "llava"), tmp_path / "llm")
    again = AutoTokenizer.from_pretrained(tmp_path / "llm")
    assert again("hello")["input_ids"] == before
    assert "post_processor_with_bos" not in (tmp_path / "llm/tokenizer_config.json").read_text()
    give_bos_back(again)
    assert again("hello")["input_ids"] == before, "nothing is done twice"


@pytest.mark.parametrize(
    ("family", "image", "notes"),
    [
        ("llama-2", True, ["the saved tokenizer adds none"]),
        ("llama-2", False, ["tokenize what the template renders with `add_special_tokens=False`"]),
        ("no-bos", True, ["writes no BOS and the tokenizer adds it"]),
        ("qwen2.5", True, []),
        ("llama-3", True, ["the saved tokenizer adds none", "it was trained with 2024-07-26"]),
    ],
)
def test_the_model_card_says_what_others_must_know(
    family: str, image: bool, notes: list[str]
) -> None:
    tokenizer = FAMILIES[family]()
    processor = tokenizer
    if image:
        _, processor = make_llava(make_llm(tokenizer, seed=0), tokenizer, seed=0)
        processor.chat_template = tokenizer.chat_template
    checkpoint = Checkpoint(SimpleNamespace(config=None), processor)
    recipe: Any = SimpleNamespace(format="tokenizer", method="sft", thoughts=None)
    _set_template(checkpoint, recipe)
    found = asking_notes(checkpoint)
    assert len(found) == len(notes)
    assert all(part in note for part, note in zip(notes, found, strict=True))
    assert bos_note(None, tokenizer, image) is None


STRINGS = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}"
PARTS = (
    "{% for m in messages %}{% for c in m.content %}{{ CONTENT }}{% endfor %}{% endfor %}".replace(
        "CONTENT", "'<image>' if c.type == 'image' else c.text"
    )
)


@pytest.mark.parametrize(
    ("template", "image", "note"),
    [
        (STRINGS, True, "takes contents as strings alone"),
        (STRINGS, False, None),
        (PARTS, True, None),
        (PARTS, False, "takes contents as lists of parts alone"),
        ({"default": PARTS, "rag": STRINGS}, False, "takes contents as lists of parts alone"),
    ],
)
def test_the_model_card_says_how_a_template_takes_contents(
    template: Any, image: bool, note: str | None
) -> None:
    tokenizer = FAMILIES["qwen2.5"]()
    tokenizer.chat_template = template
    processor = SimpleNamespace(tokenizer=tokenizer, chat_template=template) if image else tokenizer
    found = asking_notes(Checkpoint(SimpleNamespace(config=None), processor))
    assert found == [] if note is None else note in found[0]


def test_a_token_of_prompt_and_answer_is_refused() -> None:
    """Asked, the prompt would end in other tokens."""
    tokenizer = FAMILIES["qwen2.5"]()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    vocab = backend["model"]["vocab"]
    vocab["]Ġ"] = tokenizer.convert_tokens_to_ids("<|im_start|>")
    backend["model"]["merges"].insert(0, ["]", "Ġ"])
    backend["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    backend["pre_tokenizer"]["trim_offsets"] = False
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))
    with pytest.raises(BadRecordError, match="answer joined: the token"):
        trained(tokenizer, "llama-2", [("user", "x")], images=0)
