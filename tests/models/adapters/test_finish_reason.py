"""An answer that ended and one that did not, and thoughts, are told apart and counted."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.asking import STORY, requests
from tests.helpers.journals import writing
from verbalizer_bench.io.thinking import opened_thought, thought
from verbalizer_bench.models.adapters.finish_reason import finish_reason, turn_end
from verbalizer_bench.models.adapters.journal import Journal, Response
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.chat.template import ChatTemplate
from verbalizer_bench.results.endings import ending_warnings
from verbalizer_bench.results.schema import RunRecord


def said(record: dict[str, Any], limit: int) -> list[str]:
    return ending_warnings(RunRecord.model_validate(record), limit)


@pytest.mark.parametrize(
    ("tokens", "stops", "ended"),
    [
        ([5, 2, 0, 0], (), "eos"),
        ([2], (), "eos"),
        ([5, 6, 7, 8], (), "limit"),
        ([5, 6, 7, 8], ("lo",), "stop"),
        ([5, 6, 2, 2], ("lo",), "stop"),
        ([5, 6, 2, 2], ("x",), "eos"),
    ],
)
def test_what_ended_a_response(tokens: list[int], stops: tuple[str, ...], ended: str) -> None:
    assert finish_reason(tokens, [2, 3], "hello", stops) == ended


def test_padding_that_is_an_eos_ends_nothing(toys: tuple[Path, Path]) -> None:
    lm = VerbalizerLLM(str(toys[0]), dtype="float32", device="cpu", engine="generate")
    lm.tokenizer.pad_token = lm.tokenizer.eos_token
    found = []
    for lm.batch_size_per_gpu in (1, 4):
        lm._start_counts()
        asked = requests([STORY[:end] for end in (5, 30, 52, 90)], num_beams=1, until=["e", "a"])
        lm.generate_until(asked, disable_tqdm=True)
        found.append(lm.get_model_info()["verbalizer_bench"]["endings"])
    assert found[0] == found[1] and found[0]["stop"]


@pytest.mark.parametrize(
    ("response", "opened", "found"),
    [
        ("positive", False, None),
        ("is it a < b > c?", False, None),
        ("<think>\nOkay, the user", False, "open"),
        ("Okay, the user wants", True, "open"),
        ("Sure.</think>positive", True, "closed"),
        ("<think>\n\n</think>\n\npositive", False, "closed"),
        ("<think>a</think><think>b", False, "open"),
        ("[THINK]hm", False, "open"),
        ("<|channel|>analysis<|message|>The user", False, "open"),
        ("<|channel|>analysis<|message|>x<|end|><|channel|>final<|message|>yes", False, "closed"),
        ("<|START_THINKING|>a<|END_THINKING|>b", False, "closed"),
    ],
)
def test_thoughts_are_told(response: str, opened: bool, found: str | None) -> None:
    assert thought(response, opened) == found


@pytest.mark.parametrize(
    ("prompt", "mark"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", None),
        ("write <think> here<|im_start|>assistant\n", None),
        ("", None),
    ],
)
def test_a_prompt_that_opens_a_thought(prompt: str, mark: str | None) -> None:
    assert opened_thought(prompt) == mark


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_the_token_that_closes_turns_is_found_and_so_is_an_opened_thought(
    toys: tuple[Path, Path],
) -> None:
    lm = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu")
    lm.tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    lm.model.resize_token_embeddings(len(lm.tokenizer))
    lm.tokenizer.chat_template = CHATML.replace(
        "assistant\n{% endif", "assistant\n<think>\n{% endif"
    )
    end = lm.tokenizer.convert_tokens_to_ids("<|im_end|>")
    prompt = lm.apply_chat_template([{"role": "user", "content": "hello"}])
    lm.generate_until(requests([prompt], num_beams=1, max_gen_toks=3), disable_tqdm=True)
    record = lm.get_model_info()["verbalizer_bench"]
    assert record["turn_end"] == {"id": end, "token": "<|im_end|>"}
    assert (record["opened_thought"], record["thoughts"]) == ("<think>", {"open": 1})
    text = "\n".join(said(record, 3))
    assert f"'<|im_end|>' (id {end}), which closes turns in the chat template, does not" in text
    assert "opens a thought (<think>) at the end of each prompt" in text
    assert "1 of 1 responses are thoughts that did not end" in text
    lm.model.generation_config.eos_token_id = [2, end]
    record = lm.get_model_info()["verbalizer_bench"]
    assert "does not end a response" not in "\n".join(said(record, 3))


def test_of_tokens_that_close_a_turn_one_is_enough(toys: tuple[Path, Path]) -> None:
    tokenizer = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu").tokenizer
    tokenizer.add_tokens(["<|end_response|>", "<|end_turn|>"], special_tokens=True)
    first, second = tokenizer.convert_tokens_to_ids(["<|end_response|>", "<|end_turn|>"])
    rest = "<|end_response|><|end_turn|>\nUSER: x"
    assert turn_end(rest, tokenizer, [2]) == {"id": first, "token": "<|end_response|>"}
    assert turn_end(rest, tokenizer, [second]) == {"id": second, "token": "<|end_turn|>"}
    assert turn_end("\nUSER: x<|end_turn|>", tokenizer, [second]) is None


def test_a_template_without_answers_closes_nothing() -> None:
    found = ChatTemplate("{{ messages[0]['content'] }}", {}, "DIR")
    assert (found.turn_end(), found.prompt_end()) == ("", "")


def test_a_conversation_may_end_otherwise_than_its_turns() -> None:
    """GPT-OSS closes turns with `<|end|>`, and stops at `<|return|>`."""
    harmony = (
        "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
        "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}{% endfor %}"
    )
    assert ChatTemplate(harmony, {}, "DIR").turn_end() == "<|return|>"
    open_end = harmony.replace("'<|return|>'", "' '")
    assert ChatTemplate(open_end, {}, "DIR").turn_end().startswith("<|end|><|start|>user")


@pytest.mark.parametrize("engine", ["generate", "shared_prefix"])
def test_endings_are_counted(toys: tuple[Path, Path], engine: str) -> None:
    lm = VerbalizerLLM(
        pretrained=str(toys[0]), dtype="float32", device="cpu", engine=engine, batch_size=4
    )
    prompts = [STORY[:end] for end in (5, 17, 30, 52, 71, 90)]

    def responses() -> dict[str, int]:
        lm._start_counts()
        lm.generate_until(requests(prompts, num_beams=1, max_gen_toks=6), disable_tqdm=True)
        ended: dict[str, int] = lm.get_model_info()["verbalizer_bench"]["endings"]
        return ended

    assert responses() == {"limit": 6}
    # A token of some answers and not of others, so that some end there.
    counts: Counter[int] = Counter()
    for prompt in prompts:
        ids = torch.tensor([lm.tok_encode(prompt)])
        output = lm.model.generate(ids, do_sample=False, max_new_tokens=6, pad_token_id=0)
        counts.update(set(output[0, ids.shape[1] :].tolist()))
    token, count = next((t, c) for t, c in counts.most_common() if c < len(prompts))
    lm.model.generation_config.eos_token_id = token
    found = responses()
    assert found["eos"] == count and found["limit"] == 6 - count
    lm.model.generation_config.eos_token_id = 2
    record = lm.get_model_info()["verbalizer_bench"]
    assert record["tokenizer_eos"] == {"id": 2, "token": "</s>"}
    assert "does not end" not in "\n".join(said(record, 6))
    text = "\n".join(said({**record, "eos_token_ids": [7]}, 6))
    assert "'</s>' (id 2), the tokenizer's EOS, does not end a response" in text


def test_the_sentences_name_counts_and_ids() -> None:
    token = {"id": 2, "token": "</s>"}
    record = {
        "endings": {"eos": 1, "limit": 3, "unknown": 2},
        "thoughts": {"open": 1, "closed": 4},
        "eos_token_ids": [3],
        "tokenizer_eos": token,
        "turn_end": token,
    }
    assert said(record, 15) == [
        "3 of 6 responses were cut off at 15 tokens: no EOS ended them",
        "of 2 of 6 responses it is not known what ended them",
        "'</s>' (id 2), the tokenizer's EOS, which closes turns in the chat template, does not end "
        "a response: eos_token_id of generation_config.json is 3",
        "1 of 6 responses are thoughts that did not end",
        "4 of 6 responses hold a thought, which was scored with the answer; give "
        "enable_thinking=False, or think_end_token",
    ]
    assert said({}, 15) == [], "runs of an earlier version say nothing of it"


def test_the_journal_keeps_what_ended_a_response(toys: tuple[Path, Path], tmp_path: Path) -> None:
    lm = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu")
    asked = requests([STORY[:9], STORY[:20]], num_beams=1, max_gen_toks=3)
    for request in asked:
        request.task_name, request.doc_id = "task", 0

    def run(resume: bool) -> dict[str, int]:
        lm._start_counts()
        book = Journal(tmp_path, ["run"], {}, {}, resume)
        with writing(lm, book):
            lm.generate_until(asked, disable_tqdm=True)
        ended: dict[str, int] = lm.get_model_info()["verbalizer_bench"]["endings"]
        return ended

    assert run(resume=False) == run(resume=True) == {"limit": 2}
    file = tmp_path / "journal-0.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    # As an earlier version wrote it: what ended a response is not known, and nothing is made up.
    for row in rows:
        row.pop("ending", None)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(resume=True) == {"unknown": 2}
    assert Response("foo", "generate") == ("foo", "generate", None, None)


def test_a_run_goes_on_only_with_prompts_that_are_rendered_alike(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    lm = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu")

    def run(template: str, resume: bool) -> None:
        lm.tokenizer.chat_template = template
        text = lm.apply_chat_template([{"role": "user", "content": "hello"}])
        (request,) = requests([text], num_beams=1, max_gen_toks=1)
        request.task_name, request.doc_id = "task", 0
        with writing(lm, Journal(tmp_path, ["run"], {}, {}, resume)):
            lm.generate_until([request], disable_tqdm=True)

    run("{{ messages[0]['content'] }}", resume=False)
    run("{{ messages[0]['content'] }}", resume=True)
    with pytest.raises(
        ValueError, match=r"rendering is \{'arguments': .*'2024-07-26'\} here|chat_t"
    ):
        run("{{ strftime_now('%Y') }} {{ messages[0]['content'] }}", resume=True)
