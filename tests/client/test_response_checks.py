"""Which endings are good, and what in a text is more than the answer."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.helpers.calls import PROMPTS, SCHEMA, ask_all, endpoint, request
from tests.helpers.endpoint_server import Server
from verbalizer_bench.builders.pipeline.generation import GenerationTask, ResponseGenerator
from verbalizer_bench.client.chat_client import ChatClient
from verbalizer_bench.client.response_checks import (
    artifact_problem,
    finish_problem,
    first_artifact,
    strip_reasoning,
)

Serve = Callable[..., Server]
WHOLE = "A small boat with a red sail lies beside a wooden pier."


@pytest.mark.parametrize(
    "reason",
    ["", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "STOP", "COMPLETE", "endoftext"]
    + ["FinishReason.STOP"],
)
def test_good_endings(reason: str) -> None:
    assert finish_problem(reason) is None


@pytest.mark.parametrize(
    ("reason", "kind"),
    [(one, "cut_off") for one in ("length", "MAX_TOKENS", "model_length", "max_tokens")]
    + [(one, "refusal") for one in ("content_filter", "SAFETY", "refusal", "RECITATION")]
    + [
        (one, "cut_off")
        for one in ("error", "abort", "insufficient_system_resource", "tool_calls", "load")
        + ("function_call", "tool_use", "pause_turn", "OTHER", "cancelled", "error: not a stop")
    ],
)
def test_all_others_are_named(reason: str, kind: str) -> None:
    problem = finish_problem(reason)
    assert problem and problem.reason == kind and reason in problem.detail


@pytest.mark.parametrize(
    "text",
    [
        f"<think>A boat.</think>\n\n{WHOLE}",
        f"A boat.\n</think>\n\n{WHOLE}",
        f"<think>\n{WHOLE}",
        f"<THINKING>A boat.</THINKING>{WHOLE}",
        f"<thought>A boat.</thought> {WHOLE}",
        f"<seed:think>A boat.</seed:think>{WHOLE}",
        f'<think budget="200">A boat.</think>{WHOLE}',
        f"[THINK]A boat.[/THINK]{WHOLE}",
        f"A boat.[/THINK]{WHOLE}",
        f"\u25c1think\u25b7A boat.\u25c1/think\u25b7{WHOLE}",
        f"<|channel|>analysis<|message|>A boat.<|end|><|start|>assistant<|channel|>final<|message|>"
        f"{WHOLE}",
        f"analysisWe need a boat.assistantfinal{WHOLE}",
        f"<|channel>thought\nA boat.\n<channel|>{WHOLE}",
        f"<|START_THINKING|>A boat.<|END_THINKING|>{WHOLE}",
        f"<|begin_of_thought|>A boat.<|end_of_thought|>{WHOLE}",
        f"<unused94>thought\nA boat.<unused95>{WHOLE}",
        f"<analysis>A boat.</analysis>{WHOLE}",
        f"<inner_monologue>A boat.</inner_monologue>{WHOLE}",
        f"<scratch_pad>A boat.</scratch_pad>{WHOLE}",
        f"&lt;think&gt;A boat.&lt;/think&gt;{WHOLE}",
        f"Thinking...\nA boat.\n...done thinking.\n\n{WHOLE}",
    ],
)
def test_thoughts(text: str) -> None:
    problem = artifact_problem(text)
    assert problem and problem.reason == "thoughts"
    assert strip_reasoning(text).strip() in (WHOLE, "")


@pytest.mark.parametrize(
    "text",
    [
        f"{WHOLE}{token}"
        for token in ("<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<end_of_turn>", "</s>", " </s>")
        + ("\n</s>", "<|end|>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<eos>", "<turn|>")
        + ("[|endofturn|]", "<|END_OF_TURN_TOKEN|>", "<EOT>", "<pad><pad>", "<end_of_utterance>")
        + ("</s><s>[INST] And now?", "[/INST]", "\nUSER: And now?", "\n### Human: And now?")
        + (
            "\nUser: And now?\nAssistant: No.",
            "<unused3>",
            "<0x0A>",
            "<|im_end>",
            "<|im_en",
            "<|",
            "<end_of_tu",
            " </s><s>",
            "</s> <s>Another.</s>",
            "[control_8]",
            "<SPECIAL_12>",
            "<ctrl46>",
            " \u2047",
            "<tool_call>{}</tool_call>",
        )
    ]
    + [
        f"<s> {WHOLE}",
        f"<s>{WHOLE}</s>",
        "red</s>",
        "Her eyes are closed. </s>",
        "A shop with price tags.</s>",
        "A boat.</s> Another boat.",
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{WHOLE}",
        f"<start_of_turn>model\n{WHOLE}",
        f"ASSISTANT: {WHOLE}",
        f"<<SYS>> be brief <</SYS>> {WHOLE}",
        "\u2581A\u2581small\u2581boat",
        "A\u0120small\u0120boat",
    ],
)
def test_control_tokens(text: str) -> None:
    problem = artifact_problem(text)
    assert problem and problem.reason == "control_tokens" and "\n" not in problem.detail


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        "The sign says <b>bold</b>, and <s>old</s> is struck through.",
        "A struck text begins with <s> and is closed with </s>",
        "The tag `</s>` closes it.",
        "Every <b> is closed by its tag. </s> closes a struck text.",
        "The element ends with </s>",
        "In HTML </s> ends what <s> has begun.",
        "The <small>old</small> price is <s>9</s> 5, and <s>8</s> 4 for children.",
        "a <| b and c |> d <",
        "<s> is a tag of HTML.",
        "<p>One</p>\n<div class='x'>two</div>",
        "<table><tr><td>1</td></tr></table> <output>3</output> <video></video>",
        "I think the thinking man thought; his reasoning: [a] > [b] < [c].",
        "f x <| g y and xs |> map; a || b; |x| < 3",
        "<<A boat>>\n\nIt lies [there].",
        "* one\n* two\n\n***\n\nP.S. [address], [name]",
        '{"answer": "a | b", "x": ["<", ">"]}',
        "The user: a man. The assistant helps.",
        "Human hands hold a cup.\nUser friendly: yes.",
        "Analysis of the picture shows a final assistant.",
        "Ra\u0121el u mara",
        "\u2581\u2582\u2583 a bar chart",
        "\u80af\u5b9a\u3002 \u0434\u0430 \U0001f6b2 2 < 3 > 1",
        "### Response\nIt is a boat.\n### Section 2",
        "## Instructions for use",
        "She says: <smile> and </rant>.",
    ],
)
def test_texts_that_only_look_like_it(text: str) -> None:
    assert artifact_problem(text) is None and strip_reasoning(text) == text


def test_half_a_character_and_texts_within_an_object() -> None:
    for text in ("half \ufffd", "half \ud83d", "a\0b", "\x1b[1mbold", "\x7f"):
        problem = artifact_problem(text)
        assert problem and problem.reason == "damaged"
    assert artifact_problem("a\tb\r\nc\x0c") is None
    assert first_artifact(
        {"turns": [{"q": "a", "a": "b"}, {"q": "x<|im_end|>"}], "n": 3, "none": None}
    )
    assert first_artifact({"turns": [{"q": "a", "a": "b"}]}) is None


def replies(
    serve: Serve, folder: Path, choice: dict[str, Any], schema: Any = None, **others: Any
) -> Any:
    """Ask once, and again of what is stored; return what becomes of it."""
    message = {"role": "assistant", "content": WHOLE} | choice.pop("message", {})
    response = {"choices": [{"message": message, **choice}], **others}
    server = serve(lambda body: web.json_response(response))
    asked = endpoint(server, parameters={"max_tokens": 20}, retries=0)

    async def run() -> Any:
        async with ChatClient({"default": asked}, folder) as client:
            generator = ResponseGenerator(client, PROMPTS, 0, "set_aside")
            messages = ({"role": "user", "content": "x"},)
            return await generator.generate(
                GenerationTask("answer", messages, schema, lambda value: None)
            )

    first, second = asyncio.run(run()), asyncio.run(run())
    assert (first.value, first.problem and first.problem.reason) == (
        second.value,
        second.problem and second.problem.reason,
    )
    return first


@pytest.mark.parametrize(
    ("choice", "others", "reason"),
    [
        ({"finish_reason": "stop"}, {}, None),
        ({"finish_reason": None}, {}, None),
        ({}, {}, None),
        ({"finish_reason": {"type": "stop", "matched": 2}}, {}, None),
        ({"finish_reason": {"type": "length"}}, {}, "cut_off"),
        # It gives no reason, and as many tokens as there may be.
        ({"finish_reason": None}, {"usage": {"prompt_tokens": 1, "completion_tokens": 20}}, "cut"),
        ({"finish_reason": None}, {"usage": {"prompt_tokens": 1, "completion_tokens": 19}}, None),
        ({"finish_reason": "stop", "message": {"tool_calls": [{"id": "a"}]}}, {}, "cut_off"),
        ({"finish_reason": "stop", "message": {"tool_calls": []}}, {}, None),
        ({"finish_reason": "stop", "message": {"reasoning_content": "Hm."}}, {}, None),
        ({"finish_reason": "length", "message": {"content": None}}, {}, "cut_off"),
        ({"finish_reason": "error", "error": {"code": 502, "message": "gone"}}, {}, "failed"),
        ({"finish_reason": "stop", "error": {"code": 400, "message": "flagged"}}, {}, "rejected"),
        ({"finish_reason": "stop"}, {"error": {"message": "gone"}}, "failed"),
        ({"finish_reason": "stop"}, {"error": None}, None),
        ({"finish_reason": "stop", "message": {"content": f"{WHOLE}<|im_end|>"}}, {}, "control"),
    ],
)
def test_what_becomes_of_a_response(
    choice: dict[str, Any], others: dict[str, Any], reason: str | None, serve: Serve, tmp_path: Path
) -> None:
    result = replies(serve, tmp_path, choice, **others)
    if reason is None:
        assert result.value == {"text": WHOLE} and result.problem is None
    else:
        assert result.value is None and result.problem.reason.startswith(reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<think>{"word": "draft"}</think>{"word": "yes"}', None),
        ('<think>So: {"word": "draft"}', "unparsable"),
        ('<think>So: {"word": "draft"}</think> I will not.', "unparsable"),
        ('analysisSo {"word": "draft"}assistantfinal{"word": "yes"}', None),
        ('{"word": "yes"}<|im_end|>', None),
        ('{"word": "yes<|im_end|>"}', "control_tokens"),
        ('{"word": "<think>no</think>yes"}', "unparsable"),
    ],
)
def test_an_object_is_taken_from_behind_the_thoughts(
    text: str, reason: str | None, serve: Serve, tmp_path: Path
) -> None:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    result = replies(serve, tmp_path, choice, SCHEMA)
    assert (result.problem and result.problem.reason) == reason
    assert result.value == (None if reason else {"word": "yes"})


def test_what_an_earlier_build_has_stored_is_judged_when_it_is_used(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    ask_all(tmp_path, [request("x")], endpoint(server))
    file = tmp_path / "calls.jsonl"
    head, line = file.read_text().splitlines()
    row = json.loads(line)
    row["response"]["choices"][0] |= {"finish_reason": "error", "error": {"message": "gone"}}
    file.write_text(f"{head}\n{json.dumps(row)}\n")
    (reply,), _ = ask_all(tmp_path, [request("x")], endpoint(server))
    assert reply.cached and reply.finish_reason == "error: gone"
    problem = finish_problem(reply.finish_reason)
    assert problem and problem.reason == "cut_off"
    assert len(server.requests) == 1
