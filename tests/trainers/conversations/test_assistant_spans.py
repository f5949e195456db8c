"""The tokenizer's own template: whose answers are found, which are refused, and that it trains."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils.chat_template_utils import render_jinja_template

from tests.conftest import REPOSITORY
from tests.helpers.templates import SMOLLM2, TRL, any_tokenizer, make, trl
from tests.helpers.toy import TEMPLATE, make_llm, make_tokenizer
from verbalizer_bench.cli import main
from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message
from verbalizer_bench.models.chat.probes import with_parts
from verbalizer_bench.trainers.conversations.answers import describe_answers, end_generation
from verbalizer_bench.trainers.conversations.encoder import Encoder
from verbalizer_bench.trainers.conversations.formats import chat_template

CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
LLAMA3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
GEMMA = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
# A family's template, the tokens that it has, BOS and EOS; what is trained between ⟦ and ⟧.
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
SMOL_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
FAMILIES: dict[str, tuple[str, tuple[str, ...], str | None, str, str]] = {
    "qwen2.5": (
        trl("qwen2_5"),
        CHATML,
        None,
        "<|im_end|>",
        f"<|im_start|>system\n{QWEN_SYSTEM}<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
        "<|im_start|>assistant\n⟦a b<|im_end|>⟧\n<|im_start|>user\nr<|im_end|>\n"
        "<|im_start|>assistant\n⟦c<|im_end|>⟧\n",
    ),
    "llama-3": (
        trl("llama3"),
        LLAMA3,
        "<|begin_of_text|>",
        "<|eot_id|>",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦a b<|eot_id|>⟧"
        "<|start_header_id|>user<|end_header_id|>\n\nr<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦c<|eot_id|>⟧",
    ),
    # What ends a turn is not the EOS.
    "gemma": (
        trl("gemma"),
        GEMMA,
        "<bos>",
        "<eos>",
        "<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n⟦a b<end_of_turn>⟧\n"
        "<start_of_turn>user\nr<end_of_turn>\n<start_of_turn>model\n⟦c<end_of_turn>⟧\n",
    ),
    # The BOS is what begins a turn.
    "smollm2": (
        SMOLLM2,
        CHATML,
        "<|im_start|>",
        "<|im_end|>",
        f"<|im_start|>system\n{SMOL_SYSTEM}<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
        "<|im_start|>assistant\n⟦a b<|im_end|>⟧\n<|im_start|>user\nr<|im_end|>\n"
        "<|im_start|>assistant\n⟦c<|im_end|>⟧\n",
    ),
}


END = {"qwen2.5": "<|im_end|>", "llama-3": "<|eot_id|>", "smollm2": "<|im_end|>"}
END["gemma"] = "<end_of_turn>"


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """Return a family's tokenizer and the text of `CONVERSATION` with what is trained marked."""
    template, special, bos, eos, text = FAMILIES[request.param]
    return make(template, special, bos, eos), text


def conversation(*texts: str, system: str | None = None) -> Conversation:
    first = [Message("system", system)] if system else []
    turns = [Message(("user", "assistant")[n % 2], text) for n, text in enumerate(texts)]
    return Conversation(7, "seven", (*first, *turns), ())


def encode(tokenizer: Any, record: Conversation) -> Any:
    return Encoder(tokenizer, "tokenizer", None, 0, 4096).encode(record)


def by_hand(tokenizer: Any, marked: str) -> tuple[list[int], list[bool]]:
    """Return ids and mask of a marked text: a special token is one, anything else is of bytes."""
    special = "|".join(map(re.escape, tokenizer.all_special_tokens))
    ids, mask, on = [], [], False
    for piece in re.findall(rf"{special}|.", marked, re.DOTALL):
        if piece in "⟦⟧":
            on = piece == "⟦"
            continue
        piece = {" ": "Ġ", "\n": "Ċ"}.get(piece, piece)
        ids.append(tokenizer.convert_tokens_to_ids(piece))
        mask.append(on)
    return ids, mask


def trained(tokenizer: Any, record: Conversation) -> list[str]:
    """Return the texts that are trained, one for each run of tokens."""
    encoded = encode(tokenizer, record)
    runs, last = [], False
    for token, on in zip(encoded.input_ids, encoded.assistant_mask, strict=True):
        if on and not last:
            runs.append([])
        if on:
            runs[-1].append(token)
        last = on
    return [tokenizer.decode(run) for run in runs]


def test_ids_and_mask_are_those_made_by_hand(family: tuple[Any, str]) -> None:
    tokenizer, text = family
    encoded = encode(tokenizer, conversation("q", "a b", "r", "c"))
    assert (encoded.input_ids, encoded.assistant_mask) == by_hand(tokenizer, text)


def test_a_prompt_is_what_stands_before_an_answer(family: tuple[Any, str]) -> None:
    tokenizer, _ = family
    encoded = encode(tokenizer, conversation("q", "a b"))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "q"}], add_generation_prompt=True, return_dict=False
    )
    assert encoded.input_ids[: encoded.assistant_mask.index(True)] == prompt


def test_the_template_is_saved_as_it_is(family: tuple[Any, str]) -> None:
    tokenizer, _ = family
    assert chat_template("tokenizer", tokenizer) == tokenizer.chat_template
    assert "with and without each of them" in describe_answers("tokenizer", tokenizer)
    assert "context" not in describe_answers("tokenizer", tokenizer)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_training_run(name: str, tmp_path: Path) -> None:
    template, special, bos, eos, _ = FAMILIES[name]
    tokenizer = make(template, special, bos, eos)
    make_llm(tokenizer, seed=0).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    words = [str(REPOSITORY / "recipes" / "tiny" / "sft.yaml"), "model.config=null"]
    words += [f"model.path={tmp_path / 'base'}", "format=tokenizer", "trained_parameters=null"]
    words += [f"output={tmp_path / 'out'}", f"cache={tmp_path / 'cache'}", "max_length=512"]
    assert main(["train", *words, "num_train_epochs=0.5"]) == 0
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["steps"] == 4 and record["loss"]["last"] < record["loss"]["first"] < 8
    assert "with and without each of them" in record["answers"]
    assert record["answers"] in (tmp_path / "out" / "README.md").read_text()
    before, after = (
        AutoModelForCausalLM.from_pretrained(tmp_path / part).state_dict()
        for part in ("base", "out")
    )
    assert all(not torch.equal(before[key], after[key]) for key in before)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == template
    # Of Gemma the base's generation config knows <eos> alone.
    stops = GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id
    endings = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END[name])}
    assert endings <= set(stops if isinstance(stops, list) else [stops])


KNOWN = sorted(
    file.name.removesuffix("_training.jinja")
    for file in TRL.iterdir()
    if file.name.endswith("_training.jinja")
)
# Asked for with an opened thought that an answer has not, or without a token that ends an answer.
REFUSED = {"deepseek_r1_distill", "deepseekv3", "glm4moe"}
REFUSED |= {name for name in KNOWN if name.startswith("nemotron")}
# Templates that write a thought, or an ending, for the last answer only.
CONTEXT = {"gptoss", "qwen3", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6"}


@pytest.mark.parametrize("name", KNOWN)
def test_the_answers_are_those_that_trl_marks(name: str) -> None:
    """White space apart, and what the prompt has of them already."""
    tokenizer = any_tokenizer(trl(name))
    record = conversation("ask one", "reply one", "ask two", "reply two")
    encoder = Encoder(tokenizer, "tokenizer", None, 0, 4096)
    if name in REFUSED:
        with pytest.raises(ValueError, match="format 'tokenizer': this chat template"):
            encoder.encode(record)
        return
    runs = ["".join(run.split()) for run in trained(tokenizer, record)]
    messages: Any = [{"role": m.role, "content": m.content()} for m in record.messages]
    if name in ("idefics3", "llava_next", "smolvlm"):
        messages = with_parts(messages)
    (text,), (blocks,) = render_jinja_template(
        conversations=[messages],
        chat_template=trl(f"{name}_training"),
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    marked = "".join("".join(text[start:stop].split()) for start, stop in blocks)
    assert encoder.context_alone() == (name in CONTEXT)
    assert len(runs) == (1 if name in CONTEXT else 2)
    assert all("reply" in run and "ask" not in run for run in runs)
    if name.startswith("qwen3_5") or name == "qwen3_6":
        # TRL writes a thought where the template itself has none, or has it in the prompt.
        runs = [run.removeprefix("</think>") for run in runs]
    assert all(run in marked for run in runs)


def test_thoughts_that_are_dropped_are_not_trained() -> None:
    """Qwen3 writes a thought for the last answer alone: the one before was not given like this."""
    tokenizer = any_tokenizer(trl("qwen3"))
    thought = "<think>\nx\n</think>\n\n"
    runs = trained(tokenizer, conversation("q", f"{thought}one", "r", f"{thought}two"))
    assert runs == [f"{thought}two<|im_end|>"]
    assert trained(tokenizer, conversation("q", "one")) == ["<think>\n\n</think>\n\none<|im_end|>"]
    assert describe_answers("tokenizer", tokenizer).endswith("once more follows are context")


def refused(template: str, record: Conversation, message: str, fault: bool = False) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        encode(make(template, CHATML, None, "<|im_end|>"), record)
    assert isinstance(caught.value, BadRecordError) != fault
    assert "\n" not in str(caught.value)


TURN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ CONTENT }}<|im_end|>\n{% endfor %}"
TURN += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def test_records_that_a_template_does_not_write() -> None:
    gemma = make(*FAMILIES["gemma"][:4])
    with pytest.raises(BadRecordError, match=r"template: .*no system turn \(.*System role not"):
        encode(gemma, conversation("q", "a", system="S"))
    cut = TURN.replace("CONTENT", "m.content[:100]")
    long = "a" * 100
    assert trained(make(cut, CHATML, None, "<|im_end|>"), conversation("q", long)) == [
        f"{long}<|im_end|>"
    ]
    refused(cut, conversation("q", f"{long}b"), r"record 8 .*template: .*'aaa.*\.\.\.' for")
    question = TURN.replace("CONTENT", "m.content if m.role == 'assistant' else ''")
    refused(question, conversation("q", "a"), "template: .*does not write the text of a user turn")
    last = TURN.replace("CONTENT", "m.content.split('</think>')[-1]")
    refused(last, conversation("q", "<think>x</think>y"), "template: .*leave out what it drops")


def test_templates_that_cannot_be_trained_with() -> None:
    asked = TURN.replace("CONTENT", "m.content").replace("assistant\n{%", "assistant\n<think>\n{%")
    refused(asked, conversation("q", "a"), "asks for an answer with '<think>", fault=True)
    endless = TURN.replace("CONTENT", "m.content").replace("<|im_end|>", ";")
    refused(endless, conversation("q", "a"), "would never learn to stop", fault=True)
    # An ending before the answer is none.
    early = TURN.replace("CONTENT", "'<|im_end|>' ~ m.content").replace("}}<|im_end|>", "}};")
    refused(early, conversation("q", "a"), "would never learn to stop", fault=True)


@pytest.mark.parametrize("marks", ["{% generation %}X{% endgeneration %}", "X"])
def test_a_template_that_asks_with_other_space_trains_the_last_answer(marks: str) -> None:
    """LLaVA-OneVision's: a space before the line break of a turn, but none in a prompt."""
    content = marks.replace("X", "{{ '\n' + m.content }}")
    template = TURN.replace("{{ m.role }}\n{{ CONTENT }}", "{{ m.role }} " + content)
    tokenizer = make(template, CHATML, None, "<|im_end|>")
    record = conversation("q", "a", "r", "b")
    assert trained(tokenizer, record) == ["b<|im_end|>"]
    encoder = Encoder(tokenizer, "tokenizer", None, 0, 4096)
    ids, mask = encoder.whole(record)
    assert ids[: mask.index(True)] == encoder.asked(record)
    assert "assistant \na<|im_end|>" in tokenizer.decode(ids)
    assert describe_answers("tokenizer", tokenizer).endswith("once more follows are context")


def test_an_answer_that_stands_in_its_own_header() -> None:
    """GPT-OSS ends answers in the middle otherwise; its header has the word `final`."""
    tokenizer = any_tokenizer(trl("gptoss"))
    runs = trained(tokenizer, conversation("q", "final", "r", "final"))
    assert runs == ["<|channel|>final<|message|>final<|return|>"]


def test_marks_of_the_templates_own_are_taken() -> None:
    marked = TURN.replace(
        "{{ CONTENT }}<|im_end|>", "{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>"
    )
    tokenizer = make(marked, CHATML, None, "<|im_end|>")
    assert trained(tokenizer, conversation("q", "a", "r", "b")) == ["q", "a", "r", "b"]
    assert chat_template("tokenizer", tokenizer) == marked
    assert describe_answers("tokenizer", tokenizer) == "the marks of the tokenizer's chat template"
    assert "format llama-2" in describe_answers("llama-2", copy.deepcopy(tokenizer))


REFUSED_MARKS = {name for name in REFUSED if name != "glm4moe"}


@pytest.mark.parametrize("name", KNOWN)
def test_marks_in_a_template_that_asks_otherwise(name: str) -> None:
    """TRL's templates for training, where they are a tokenizer's: GLM's alone has an ending."""
    tokenizer = any_tokenizer(trl(f"{name}_training"))
    if name not in REFUSED_MARKS:
        assert trained(tokenizer, conversation("ask", "reply"))
        return
    with pytest.raises(ValueError, match="format 'tokenizer': this chat template asks for an"):
        encode(tokenizer, conversation("ask", "reply"))


def test_marks_behind_a_header_that_is_not_asked_with() -> None:
    body = "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    marked = TURN.replace("{{ CONTENT }}<|im_end|>", body)
    silent = marked.partition("{% if add_generation_prompt %}")[0]
    assert trained(make(marked, CHATML, None, "<|im_end|>"), conversation("q", "a"))[-1:] == [
        "a<|im_end|>"
    ]
    refused(silent, conversation("q", "a"), "asks for an answer with '' where", fault=True)


# As llava-hf's.
SPACED = (
    "{% for m in messages %}{{ m.role.upper() }}: {% for c in m.content %}"
    "{% if m.role == 'assistant' %}{% generation %}{{ c.text ~ ' ' }}{% endgeneration %}"
    "{% else %}{{ c.text ~ ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def test_a_space_between_prompt_and_marks_is_the_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """` a` is one token, and the prompt ends before it."""
    tokenizer = make_tokenizer(["x a a a a"], 4 + 256 + 1)
    tokenizer.chat_template = SPACED
    assert tokenizer.tokenize("x a") == ["x", "Ġa"]
    assert trained(tokenizer, conversation("q", "a", "r", "b")) == [" a ", " b "]
    end_generation(GenerationConfig(eos_token_id=2), "tokenizer", tokenizer)
    assert "nothing will stop the model after one" in caplog.text
    caplog.clear()
    end_generation(GenerationConfig(eos_token_id=2), "llama-2", tokenizer)
    assert not caplog.text


def test_a_bos_that_a_template_leaves_to_the_tokenizer() -> None:
    """The toy's tokenizer adds one, its template writes none, and the adapters then have one."""
    tokenizer = make_tokenizer(["x"], 4 + 256)
    for template in (TEMPLATE, "{{ bos_token }}" + TEMPLATE):
        tokenizer.chat_template = template
        encoded = encode(tokenizer, conversation("q", "a"))
        assert tokenizer.decode(encoded.input_ids) == "<s>USER: q ASSISTANT: a</s>"
        assert encoded.input_ids.count(tokenizer.bos_token_id) == 1
        assert not encoded.assistant_mask[0]


def test_the_date_is_that_of_evaluation() -> None:
    tokenizer = any_tokenizer(trl("llama3_2"))
    encoded = encode(tokenizer, conversation("q", "a"))
    assert "Today Date: 26 Jul 2024" in tokenizer.decode(encoded.input_ids)


def test_an_ending_that_is_no_token_is_said() -> None:
    tokenizer = make_tokenizer(["x"], 4 + 256)
    tokenizer.chat_template = trl("llama3")
    assert trained(tokenizer, conversation("q", "a <b>", "r", "c")) == [
        "a <b><|eot_id|>",
        "c<|eot_id|>",
    ]
    found = describe_answers("tokenizer", tokenizer)
    assert "<|eot_id|> at their end is no token of the tokenizer: nothing will stop" in found
    tokenizer.chat_template = TURN.replace("CONTENT", "m.content").replace("<|im_end|>", ";")
    with pytest.raises(ValueError, match="would never learn to stop"):
        encode(tokenizer, conversation("q", "a <b>"))


def test_a_prompt_that_ends_inside_a_token() -> None:
    """` a` is one token: the prompt alone ends with a space that no trained prompt has."""
    tokenizer = make_tokenizer(["x a a a a"], 4 + 256 + 1)
    assert tokenizer.tokenize("x a") == ["x", "Ġa"]
    template = TEMPLATE.replace("%}ASSISTANT:{%", "%}ASSISTANT: {%")
    tokenizer.chat_template = template
    with pytest.raises(BadRecordError, match="is of the prompt and of the answer"):
        encode(tokenizer, conversation("q", "a"))
    assert trained(tokenizer, conversation("q", "b")) == ["b</s>"]
    tokenizer.chat_template = TEMPLATE
    assert trained(tokenizer, conversation("q", "a")) == [" a</s>"]
