"""Thoughts of answers: in the loss, in the context alone, or left out; and asked for alike."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.helpers.asking import requests
from tests.helpers.chat_families import CHAT_FAMILIES, ChatFamily, qwen_3, smollm_3
from tests.helpers.language_training import recipe_of, save_untrained
from tests.helpers.templates import TRL, any_tokenizer, trl
from tests.helpers.training_table import runs
from verbalizer_bench.cli import main
from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message, conversation
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.conversations.answers import describe_answers
from verbalizer_bench.trainers.conversations.encoder import Encoded, Encoder
from verbalizer_bench.trainers.conversations.thoughts import thinking_note
from verbalizer_bench.trainers.training.inputs import make_encoder

THOUGHT = "<think>\nx y\n</think>\n\n"
EMPTY = "<think>\n\n</think>\n\n"
HEAD, END = "<|im_start|>assistant\n", "<|im_end|>"


def record(*turns: Message) -> Conversation:
    return Conversation(7, "seven", turns, ())


def ask(text: str, thought: str = "") -> tuple[Message, Message]:
    return Message("user", "q"), Message("assistant", text, thought=thought)


def encode(tokenizer: Any, thoughts: str | None, *turns: Message, format: str = "tokenizer") -> Any:
    return Encoder(tokenizer, format, None, 0, 4096, thoughts=thoughts).encode(record(*turns))


def split(tokenizer: Any, found: Encoded) -> tuple[str, list[str]]:
    """Return a conversation as text and what of it is trained."""
    return tokenizer.decode(found.input_ids), [tokenizer.decode(run) for run in runs(found)]


@pytest.mark.parametrize("turns", [ask(f"{THOUGHT}yes"), ask("yes", "x y")])
@pytest.mark.parametrize(
    ("thoughts", "context", "trained"),
    [
        ("train", "", f"{THOUGHT}yes{END}"),
        ("context", THOUGHT, f"yes{END}"),
        # The template writes an empty thought, and asks with one.
        ("drop", EMPTY, f"yes{END}"),
    ],
)
def test_a_thought_of_either_kind(
    turns: tuple[Message, ...], thoughts: str, context: str, trained: str
) -> None:
    tokenizer = qwen_3()
    text, answers = split(tokenizer, encode(tokenizer, thoughts, *turns))
    assert answers == [trained]
    assert text == f"<|im_start|>user\nq{END}\n{HEAD}{context}{trained}\n"


def test_by_default_a_thought_in_the_text_is_trained_and_another_is_refused() -> None:
    tokenizer = qwen_3()
    found = encode(tokenizer, None, *ask(f"{THOUGHT}yes"))
    assert found == encode(tokenizer, "train", *ask(f"{THOUGHT}yes"))
    with pytest.raises(BadRecordError, match="turn 1 has reasoning_content; give thoughts=train"):
        encode(tokenizer, None, *ask("yes", "x y"))


@pytest.mark.parametrize(
    ("thoughts", "turns", "message"),
    [
        ("drop", ask("<think>x yes"), "turn 1 has no </think>; complete it"),
        ("context", ask("x</think>yes"), "turn 1 has </think> and no <think> at its beginning"),
        ("train", ask(f"{THOUGHT}yes", "z"), "turn 1 has reasoning_content and <think>; leave one"),
        ("drop", ask("<think>x</think>"), "turn 1 is a thought and no answer"),
        ("train", ask("<think>x</think>\n"), "turn 1 is a thought and no answer"),
    ],
)
def test_thoughts_that_cannot_be_told(
    thoughts: str, turns: tuple[Message, ...], message: str
) -> None:
    with pytest.raises(BadRecordError, match=message):
        encode(qwen_3(), thoughts, *turns)


def test_earlier_answers_without_their_thoughts_are_context() -> None:
    """Qwen3 leaves out the thoughts of all but the last answer."""
    tokenizer = qwen_3()
    turns = (*ask(f"{THOUGHT}one"), *ask(f"{THOUGHT}two"))
    for thoughts, trained in (("train", f"{THOUGHT}two{END}"), ("context", f"two{END}")):
        text, answers = split(tokenizer, encode(tokenizer, thoughts, *turns))
        assert answers == [trained]
        assert f"{HEAD}one{END}" in text and text.count("x y") == 1
        described = describe_answers("tokenizer", tokenizer, thoughts)
        assert "otherwise once more follows are context; their thoughts" in described


def test_each_answer_is_trained_where_a_template_keeps_thoughts() -> None:
    tokenizer = smollm_3()
    turns = (*ask("one", "x y"), *ask(f"{THOUGHT}two"))
    wanted = {
        "train": [f"{THOUGHT}one{END}", f"{THOUGHT}two{END}"],
        "context": [f"one{END}", f"two{END}"],
        "drop": [f"one{END}", f"two{END}"],
    }
    for thoughts, expected in wanted.items():
        text, answers = split(tokenizer, encode(tokenizer, thoughts, *turns))
        assert answers == expected
        assert ("Reasoning Mode: /no_think" in text) == (thoughts == "drop")
        assert ("x y" in text) == (thoughts != "drop")


@pytest.mark.parametrize("format", ["llama-2", "vicuna-v1"])
def test_our_formats_write_thoughts_as_they_are(format: str) -> None:
    tokenizer = qwen_3()
    turns = ask("yes", "x y")
    for thoughts, trained in (("train", f"{THOUGHT}yes"), ("context", "yes"), ("drop", "yes")):
        text, (answer,) = split(tokenizer, encode(tokenizer, thoughts, *turns, format=format))
        assert answer.strip().removesuffix(END).strip() == trained
        assert (THOUGHT in text) == (thoughts != "drop")


def test_pairs_are_asked_without_what_is_dropped(tmp_path: Path) -> None:
    words = [f"cache={tmp_path}", "format=tokenizer", "thoughts=drop", "trained_parameters=null"]
    from verbalizer_bench.io.conversations import Pair
    from verbalizer_bench.trainers.recipe import read_recipe

    asked = read_recipe("tiny/dpo", ["images=null", *words, "connector_learning_rate=null"])
    tokenizer = qwen_3()
    chosen, rejected = (
        record(*ask(f"{THOUGHT}{text}"))._replace(last_only=True) for text in ("yes", "no")
    )
    pair: Any = make_encoder(asked, tokenizer, None, 0).encode(  # type: ignore[arg-type]
        Pair(0, "0", (), chosen, rejected)  # type: ignore[arg-type]
    )
    assert tokenizer.decode(pair.prompt_ids).endswith(f"{HEAD}{EMPTY}")
    assert tokenizer.decode(pair.chosen_ids) == f"yes{END}"


@pytest.mark.parametrize("thoughts", ["train", "context", "drop"])
def test_a_template_that_begins_a_thought_and_never_writes_one(thoughts: str) -> None:
    """As DeepSeek-R1's."""
    tokenizer = qwen_3()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}"
        "<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    with pytest.raises(ValueError, match=r"this chat template asks for an answer with '<think>"):
        encode(tokenizer, thoughts, *ask("yes", "x y"))


TEMPLATES = sorted(
    file.name.removesuffix(".jinja") for file in TRL.iterdir() if "_training" not in file.name
)
TEMPLATES = [name for name in TEMPLATES if name != "README.md"]
# They ask with a thought that they never write, write none (or only beside calls of tools), or end
# answers with no token.
WITHOUT = {"deepseek_r1_distill", "deepseekv3", "glm4moe", "gemma4", "gemma4_v3", "gemma4_v4"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_families_own_templates(name: str) -> None:
    """A thought is where it is asked for, whoever writes its beginning and in what words."""
    tokenizer = any_tokenizer(trl(name))
    turns = ask("reply", "mull it")
    if name in WITHOUT:
        with pytest.raises(ValueError, match=r"the chat template leaves out|this chat template"):
            encode(tokenizer, "train", *turns)
        return
    for thoughts, trained, there in (
        ("train", True, True),
        ("context", False, True),
        ("drop", False, False),
    ):
        text, (answer,) = split(tokenizer, encode(tokenizer, thoughts, *turns))
        assert ("mull it" in answer, "mull it" in text) == (trained, there)
        assert "reply" in answer and "q" not in answer
        if thoughts == "context":
            assert answer.lstrip().startswith("reply")


def saved(family: ChatFamily, folder: Path, thoughts: str) -> Any:
    """Save an untrained checkpoint as training does; return its recipe."""
    save_untrained(family, folder / "base")
    recipe = recipe_of(folder, *([f"thoughts={thoughts}"] if thoughts else []))
    checkpoint = load(recipe)
    checkpoint.model.save_pretrained(folder / "out")
    checkpoint.processor.save_pretrained(folder / "out")
    return recipe


# What follows the prompt of training; with enable_thinking=false an adapter asks so, or it is said.
CASES = [("Qwen3", "", True), ("Qwen3", "drop", True), ("Qwen3", "context", True)]
CASES += [("SmolLM3", "", False), ("SmolLM3", "drop", True), ("SmolLM3", "train", False)]


@pytest.mark.parametrize(("name", "thoughts", "either"), CASES)
def test_a_checkpoint_is_asked_as_it_was_trained(
    name: str, thoughts: str, either: bool, tmp_path: Path
) -> None:
    (family,) = (family for family in CHAT_FAMILIES if family.name == name)
    recipe = saved(family, tmp_path, thoughts)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    found: Any = make_encoder(recipe, tokenizer, None, 0).encode(record(*ask("yes")))  # type: ignore[arg-type]
    ids, start = found.input_ids, found.assistant_mask.index(True)
    prompts = []
    for arguments in ({}, {"enable_thinking": False}):
        lm = VerbalizerLLM(
            pretrained=str(tmp_path / "out"), dtype="float32", device="cpu", **arguments
        )
        (request,) = requests([lm.apply_chat_template([{"role": "user", "content": "q"}])])
        prompts.append(lm._prompt(request, 15))
    empty = len(tokenizer(EMPTY if name == "Qwen3" else EMPTY[:-1])["input_ids"])
    default, told = (ids[: len(prompt)] == prompt for prompt in prompts)
    assert default and told == either
    # Where an empty thought is no answer, it is asked with one.
    assert start == len(prompts[0]) + (empty if thoughts == "context" and name == "Qwen3" else 0)
    if thoughts == "drop":
        assert prompts[0] == prompts[1]
    note = thinking_note(tokenizer.chat_template, tokenizer)
    if name == "Qwen3" and thoughts != "drop":
        assert note is None
    else:
        value = "true" if thoughts == "drop" else "false"
        assert note is not None and note.startswith(f"`enable_thinking={value}` asks with another")


def test_a_run_without_thoughts_says_so(tmp_path: Path) -> None:
    (family,) = (family for family in CHAT_FAMILIES if family.name == "Qwen3")
    save_untrained(family, tmp_path / "base")
    recipe_of(tmp_path)
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"q{n}"},
                {"role": "assistant", "content": "yes", "reasoning_content": "x y"},
            ]
        }
        for n in range(4)
    ]
    data = tmp_path / "thinking.json"
    data.write_text(json.dumps(rows))
    words = ["tiny/sft", f"model.config={tmp_path / 'base'}", f"data={data}", "format=tokenizer"]
    words += ["global_batch_size=4", "trained_parameters=null", "warmup_ratio=0", "thoughts=drop"]
    words += [f"output={tmp_path / 'out'}", f"cache={tmp_path / 'cache'}"]
    assert main(["train", *words]) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "their thoughts were left out" in card
    assert "`enable_thinking=true` asks with another prompt than" in " ".join(card.split())


def test_reasoning_is_read_from_messages_alone() -> None:
    turns = [
        {"role": "user", "content": "q", "reasoning_content": None},
        {"role": "assistant", "content": "a", "reasoning_content": " x "},
    ]
    (found,) = conversation(0, {"messages": turns})
    assert [message.thought for message in found.messages] == ["", "x"]
    for place, value in ((0, "x"), (1, ["x"])):
        wrong = [dict(turn) for turn in turns]
        wrong[place]["reasoning_content"] = value
        with pytest.raises(
            BadRecordError, match=r"\]\.reasoning_content=.*it is a text, of an answer"
        ):
            conversation(0, {"messages": wrong})
