"""A served model is asked what the tasks ask, and says what came back."""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from PIL import Image
from pydantic import ConfigDict, TypeAdapter

from tests.helpers.endpoint_server import Faults, Server, images, prompt
from tests.helpers.served import api, asked, completion, likely, refusal, repeated, scored
from verbalizer_bench.io.images import image_sha256
from verbalizer_bench.io.thinking import OPEN
from verbalizer_bench.models.images import make_image
from verbalizer_bench.models.served.adapter import VerbalizerAPI

# What vLLM's ChatCompletionRequest has beside OpenAI's fields, as read in its source at commit
# 002032ee2b18 (vllm/entrypoints/openai/chat_completion/protocol.py).
VLLM = {
    *("use_beam_search", "top_k", "min_p", "repetition_penalty", "length_penalty"),
    *("stop_token_ids", "include_stop_str_in_output", "ignore_eos", "min_tokens"),
    *("skip_special_tokens", "chat_template", "chat_template_kwargs", "add_generation_prompt"),
    *("continue_final_message", "mm_processor_kwargs", "priority", "thinking_token_budget"),
}
# A dictionary takes the configuration of what it stands in.
OPENAI = TypeAdapter(tuple[CompletionCreateParamsNonStreaming], config=ConfigDict(extra="forbid"))


def record_of(model: VerbalizerAPI) -> dict[str, Any]:
    record: dict[str, Any] = model.get_model_info()["verbalizer_bench"]
    return json.loads(json.dumps(record))


def sent(server: Server) -> list[dict[str, Any]]:
    """Return what came besides messages."""
    return [{k: v for k, v in one.body.items() if k != "messages"} for one in server.requests]


def test_greedy_whatever_the_tasks_ask(serve: Callable[..., Server]) -> None:
    """`num_beams: 10` and `until: []` are for `generate`; no provider takes them."""
    server = serve()
    model = api(server)
    assert model.generate_until(asked(["a", "b", "a"])) == ["echo: a", "echo: b", "echo: a"]
    # Two prompts that are the same are paid for once.
    assert sent(server) == [{"model": "m", "temperature": 0, "max_tokens": 15}] * 2
    assert server.requests[0].body["messages"] == [{"role": "user", "content": "a"}]
    record = record_of(model)
    assert record["served"] == {
        "address": server.url,
        "model": "m",
        "protocol": "greedy",
        "beams": 1,
        "conversation": False,
        "reported": {"m-served": 3},
        "system_fingerprints": {},
        "parameters": [{"temperature": 0, "max_tokens": 15}],
        "reasoning": 0,
        "spent": record["served"]["spent"],
    }
    assert record["served"]["spent"]["calls"] == 2
    assert record["engine"] == {"served": 3} and record["endings"] == {"eos": 3}
    assert record["image"] is None and record["first_input_ids"] is None


def test_conversations_go_as_they_are(serve: Callable[..., Server]) -> None:
    server = serve()
    model = api(server)
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "foo"},
        {"role": "user", "content": "2? <image>"},
    ]
    prompts = [model.apply_chat_template(turns)]
    assert model.chat_template(True) == "" and "m" in model.tokenizer_name
    model.generate_until(asked(prompts))
    assert server.requests[0].body["messages"] == turns
    assert record_of(model)["served"]["conversation"] is True
    with pytest.raises(ValueError, match="--apply_chat_template short: the server applies its own"):
        model.chat_template("short")
    with pytest.raises(ValueError, match="begins the answer itself"):
        model.apply_chat_template(turns, add_generation_prompt=False)


@pytest.mark.parametrize("mode", ["white", "gray", "black", "noise", "file"])
def test_the_image_goes_in_front_of_the_first_user_turn(
    mode: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    """The server sees the pixels that `verbalizer-lvlm` shows."""
    given = mode
    if mode == "file":
        given = str(tmp_path / "a.png")
        Image.new("RGBA", (5, 3), (200, 10, 10, 255)).save(given)
    server = serve()
    model = api(server, image=given)
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "say <image>"}]
    more = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "u"}]
    model.generate_until(asked([model.apply_chat_template(turns + more), "text"]))
    (first, second) = sorted(server.requests, key=lambda one: -len(one.body["messages"]))
    system, user, *rest = first.body["messages"]
    assert system == turns[0] and rest == more
    assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    # A literal mark is no image.
    assert user["content"][1]["text"] == "say < image>"
    shown = [Image.open(io.BytesIO(images(one.body)[0])) for one in (first, second)]
    wanted = make_image(given, (336, 336))
    assert wanted and all(image_sha256(one) == image_sha256(wanted) for one in shown)
    record = record_of(model)
    size = [5, 3] if mode == "file" else [336, 336]
    assert record["image"] == {"mode": given, "sha256": image_sha256(wanted), "size": size}
    assert record["escaped_prompts"] == 1
    OPENAI.validate_python([first.body])


def test_a_tasks_own_images_go_where_it_says(serve: Callable[..., Server]) -> None:
    server = serve()
    model = api(server, image="white")
    reds = [Image.new("RGB", (4, 4), (level, 0, 0)) for level in (10, 20)]
    text = "Is <image> as <image> is?"
    model.generate_until(asked([(text, reds)]))
    content = server.requests[0].body["messages"][0]["content"]
    assert [part.get("text") for part in content] == ["Is ", None, " as ", None, " is?"]
    found = [Image.open(io.BytesIO(data)) for data in images(server.requests[0].body)]
    assert list(map(image_sha256, found)) == list(map(image_sha256, reds))
    assert record_of(model)["image"] == {"mode": "own", "prompts": 1, "images": 2}
    model.generate_until(asked(["Is it?"]))
    assert record_of(model)["image"]["mode"] == "white" and record_of(model)["task_images"]
    with pytest.raises(ValueError, match="task, document 0: a prompt says <image> 2 times and has"):
        model.generate_until(asked([(text, reds[:1])]))


def test_beams_where_the_server_searches(serve: Callable[..., Server]) -> None:
    server = serve(lambda body: completion(*(f"beam {n}" for n in range(body["n"]))))
    model = api(server, beams=10)
    assert model.generate_until(asked(["a"])) == ["beam 0"]
    (body,) = sent(server)
    assert body == {
        **{"model": "m", "temperature": 0, "max_tokens": 15},
        **{"use_beam_search": True, "n": 10},
    }
    assert record_of(model)["served"]["protocol"] == "vllm-beams"
    # vLLM's own field beside OpenAI's, and nothing else.
    assert set(body) - set(CompletionCreateParamsNonStreaming.__annotations__) <= VLLM
    OPENAI.validate_python([{k: v for k, v in server.requests[0].body.items() if k not in VLLM}])


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["x"], "it answers with 1 of 3 beams"),
        (["x"] * 3, "its 3 answers are the same, as those of greedy search are"),
    ],
)
def test_a_server_that_ignores_beams_is_not_believed(
    texts: list[str], said: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(lambda body: completion(*texts))
    model = api(server, beams=3, store=str(tmp_path))
    with pytest.raises(ValueError, match=f"beams=3: m at .* has no beam search: {said}"):
        model.generate_until(asked(list("abcdef")))
    assert len(server.requests) == 1
    # Nor what it sent in an earlier attempt.
    with pytest.raises(ValueError, match="has no beam search"):
        api(server, beams=3, store=str(tmp_path)).generate_until(asked(["a"]))
    assert len(server.requests) == 1


def test_stop_strings_cut_here_too(serve: Callable[..., Server]) -> None:
    """A server takes four; the text ends at the first of all, as with the other adapters."""
    server = serve(lambda body: "one two three four five")
    model = api(server)
    stops = ["nine", "eight", "seven", "six", " three"]
    assert model.generate_until(asked(["a"], until=stops)) == ["one two"]
    assert sent(server)[0]["stop"] == stops[:4]
    assert record_of(model)["endings"] == {"stop": 1}
    OPENAI.validate_python([server.requests[0].body])
    # Named by the server, as vLLM does, which leaves it out.
    server = serve(lambda body: completion("one two", choice={"stop_reason": " three"}))
    model = api(server)
    assert model.generate_until(asked(["a"], until=stops)) == ["one two"]
    assert record_of(model)["endings"] == {"stop": 1}


def test_a_parameter_that_is_refused_is_renamed_or_left_out(
    serve: Callable[..., Server], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """OpenAI's reasoning models take neither `max_tokens` nor `stop`."""

    def answer(body: dict[str, Any]) -> Any:
        for name in ("max_tokens", "stop"):
            if name in body:
                instead = "Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
                said = (
                    f"Unsupported parameter: '{name}' is not supported with this model. {instead}"
                )
                return refusal(400, said, code="unsupported_parameter", param=name)
        return "yes. And more"

    server = serve(answer)
    model = api(server, store=str(tmp_path))
    prompts = [f"p{n}" for n in range(12)]
    assert model.generate_until(asked(prompts, until=["."])) == ["yes"] * 12
    expected = {"model": "m", "temperature": 0, "max_completion_tokens": 15}
    assert sent(server)[2:] == [expected] * 12
    told = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    assert len(told) == 2
    assert "max_completion_tokens is sent in place of max_tokens" in told[0]
    assert "stop strings are left out, and cut here" in told[1]
    expected.pop("model")
    assert record_of(model)["served"]["parameters"] == [expected]
    # Another attempt finds what is stored, without asking what is refused.
    asked_before, model = len(server.requests), api(server, store=str(tmp_path))
    assert model.generate_until(asked(prompts, until=["."])) == ["yes"] * 12
    assert len(server.requests) == asked_before


def test_what_a_task_must_not_ask(serve: Callable[..., Server]) -> None:
    model = api(serve())
    with pytest.raises(ValueError, match=r"do_sample=True: verbalizer-api decodes greedily"):
        model.generate_until(asked(["a"], do_sample=True, temperature=0.7))
    with pytest.raises(ValueError, match=r"repetition_penalty=1.2: is an argument of `generate`"):
        model.generate_until(asked(["a"], repetition_penalty=1.2))
    with pytest.raises(ValueError, match="cannot score whole texts"):
        model.loglikelihood_rolling(scored([("a", "")]))


@pytest.mark.parametrize(
    ("said", "text", "ending", "thought"),
    [
        (completion, "echo", "eos", None),
        (lambda t: completion(t, choice={"finish_reason": "length"}), "echo", "limit", None),
        (lambda t: completion(t, choice={"finish_reason": None}), "echo", "unknown", None),
        (lambda t: completion(t, choice={"finish_reason": "weird"}), "echo", "unknown", None),
        (lambda t: completion(t, choice={"finish_reason": "refusal"}), "echo", "filtered", None),
        (lambda t: completion(None, message={"refusal": "No!"}), "No!", "filtered", None),
        (lambda t: completion(""), "", "eos", None),
        (
            lambda t: completion(
                None, message={"reasoning": "hm"}, choice={"finish_reason": "length"}
            ),
            *("", "limit", OPEN),
        ),
        (lambda t: completion(t, message={"reasoning_content": "hm"}), "echo", "eos", None),
        (lambda t: completion(f"<think>hm</think>{t}"), "<think>hm</think>echo", "eos", "closed"),
        (lambda t: completion("<think>hm"), "<think>hm", "eos", "open"),
    ],
)  # fmt: skip
def test_what_ended_a_response_and_thoughts(
    said: Any, text: str, ending: str, thought: str | None, serve: Callable[..., Server]
) -> None:
    model = api(serve(lambda body: said("echo")))
    assert model.generate_until(asked(["a"])) == [text]
    record = record_of(model)
    assert record["endings"] == {ending: 1}
    assert record["thoughts"] == ({thought: 1} if thought else {})


def test_a_thought_in_the_text_is_cut_as_elsewhere(serve: Callable[..., Server]) -> None:
    server = serve(lambda body: "<think>is it. foo?</think>\n bar. No")
    model = api(server, think_end_token="</think>")
    assert model.generate_until(asked(["a"], until=["."])) == ["bar"]
    # In a thought a stop string ends nothing.
    assert "stop" not in sent(server)[0]
    assert record_of(model)["thoughts"] == {}


def test_empty_answers_are_said_early(
    serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    empty = completion(None, message={"reasoning": "hm"}, choice={"finish_reason": "length"})
    model = api(serve(repeated(empty)))
    assert model.generate_until(asked([str(n) for n in range(24)])) == [""] * 24
    (told,) = [one.message for one in caplog.records if "are empty" in one.message]
    assert "the first 20 responses are empty (finish_reason=length: its tokens go into th" in told


def test_other_names_of_the_model_are_told(
    serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        number = prompt(body)
        return completion("x", model=f"m-{number}", system_fingerprint=f"fp_{number}")

    model = api(serve(answer))
    model.generate_until(asked(["1", "2"]))
    served = record_of(model)["served"]
    assert served["reported"] == {"m-1": 1, "m-2": 1}
    assert served["system_fingerprints"] == {"fp_1": 1, "fp_2": 1}
    assert "m: the server gave it several names: m-1 (1), m-2 (1)" in caplog.text


def test_one_token_continuations_are_scored(serve: Callable[..., Server]) -> None:
    server = serve(lambda body: likely(yes=-0.1, no=-2.5, **{" no": -9.0}))
    model = api(server)
    found = model.loglikelihood(scored([("Is it?", " yes"), ("Is it?", " no"), ("Is it?", "no")]))
    # The continuation as it stands before the one without its space.
    assert found == [(-0.1, True), (-9.0, False), (-2.5, False)]
    assert sent(server) == [
        {"model": "m", "temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20}
    ]
    OPENAI.validate_python([server.requests[0].body])


def test_scores_are_paid_for_once(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(lambda body: likely(yes=-0.1, no=-2.5))
    pairs = scored([("Is it?", " yes"), ("Is it?", " no"), ("Is it not?", " no")])
    for _ in range(2):
        found = api(server, store=str(tmp_path)).loglikelihood(pairs)
        assert found == [(-0.1, True), (-2.5, False), (-2.5, False)]
        assert len(server.requests) == 2


def test_what_cannot_be_scored_is_refused(serve: Callable[..., Server]) -> None:
    model = api(serve(lambda body: likely(yes=-0.1, no=-2.5)))
    with pytest.raises(
        ValueError,
        match=r"task, document 1: the continuation ' positive' is no single token among the 2 most",
    ):
        model.loglikelihood(scored([("Is it?", " yes"), ("Is it?", " positive")]))
    for answer in (completion("yes"), completion("yes", choice={"logprobs": {"content": []}})):
        with pytest.raises(ValueError, match="document 0: the server gives no log probabilities"):
            api(serve(repeated(answer))).loglikelihood(scored([("Is it?", " yes")]))
    server = serve(lambda body: refusal(400, "logprobs is not supported by this model"))
    with pytest.raises(ValueError, match="the server gives no log probabilities: score with"):
        api(server).loglikelihood(scored([("Is it?", " yes")]))


ERRORS: dict[str, tuple[Any, str]] = {
    "wrong key": (refusal(401, "Incorrect API key"), "401: .*key_variable=NAME names the env"),
    "unknown model": (
        refusal(404, "The model `m` does not exist"),
        "404: The model `m` does not exist .*give base_url=… up to its /v1",
    ),
    "too long": (
        refusal(400, "This model's maximum context length is 512 tokens. However, you requested"),
        r"400: .*give the server a larger context \(vLLM: --max-model-len\)",
    ),
    "quota": (
        refusal(429, "You exceeded your current quota", code="insufficient_quota"),
        "429: You exceeded your current quota",
    ),
    "no images": (
        refusal(400, "m is not a multimodal model"),
        "400: m is not a multimodal model .*image=none asks without one",
    ),
    "reasoning": (
        refusal(400, "'temperature' does not support 0 with this model."),
        "cannot be asked greedily",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_refusal_is_one_line(
    name: str, serve: Callable[..., Server], tmp_path: Path, key: str
) -> None:
    answer, said = ERRORS[name]
    refused = repeated(answer)
    server = serve(lambda body: "fine" if prompt(body) in "abc" else refused(body))
    model = api(
        server, image="white", store=str(tmp_path), key_variable="OPENAI_API_KEY", concurrency=1
    )
    with pytest.raises(ValueError, match=f"(?s)^task, document 3: m at http.*{said}") as raised:
        model.generate_until(asked(["a", "b", "c", "d", "e"]))
    text = str(raised.value)
    assert "\n" not in text and key not in text
    assert f"; 3 responses are kept in {tmp_path}, the same command goes on" in text
    assert all(key not in file.read_text() for file in tmp_path.iterdir())


def test_a_server_that_is_not_there() -> None:
    with Server(lambda body: "x") as gone:
        pass
    with pytest.raises(
        ValueError, match=r"no connection \(Connection refused\).*is the server run"
    ):
        api(gone).generate_until(asked(["a"]))


def test_a_server_that_has_one_error_to_say(serve: Callable[..., Server]) -> None:
    """As `transformers serve` answers where it has no such model."""
    server = serve(lambda body: web.Response(text="Internal Server Error", status=500))
    said = (
        r"500: Internal Server Error, 6 times in a row and no answer since; look at its log "
        r"\(tried 6 times\).*where model=NAME is none that they have"
    )
    with pytest.raises(ValueError, match=f"^task, document 0: m at http.*{said}") as raised:
        api(server, backoff=0.001).generate_until(asked(["a", "b"]))
    assert "\n" not in str(raised.value) and len(server.requests) == 6


def test_a_response_that_is_none(serve: Callable[..., Server]) -> None:
    server = serve(faults=Faults(empty=1.0, at_most=99))
    with pytest.raises(ValueError, match=r"document 0: m at .*the response has no choices"):
        api(server, retries=1).generate_until(asked(["a"]))


def test_the_budget_ends_a_run_and_keeps_what_it_has(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(lambda body: completion("x"))
    prompts = [f"prompt {n}" for n in range(40)]
    small = {"store": str(tmp_path), "concurrency": 1, "max_gen_toks": 15}
    with pytest.raises(ValueError, match=r"stopped: budget.tokens=100: .*run the same command to"):
        api(server, budget_tokens=100, **small).generate_until(asked(prompts))
    paid = len(server.requests)
    assert 0 < paid < 40
    assert api(server, **small).generate_until(asked(prompts)) == ["x"] * 40
    assert len(server.requests) == 40


def test_faults_change_nothing(serve: Callable[..., Server]) -> None:
    faults = Faults(
        rate_limited=0.1, error=0.1, unavailable=0.05, cut=0.1, garbled=0.1, retry_after="0.01"
    )
    server = serve(faults=faults)
    model = api(server, concurrency=16, backoff=0.001, retries=20)
    prompts = [f"prompt {n}" for n in range(150)]
    assert model.generate_until(asked(prompts)) == [f"echo: {one}" for one in prompts]
    assert max(server.answered.values()) == 1
    assert 1 < server.peak <= 16


def test_the_key_of_openai_is_for_openai_alone(
    serve: Callable[..., Server], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    api(server).generate_until(asked(["a"]))
    assert server.requests[0].key == "none"
    api(server, key_variable="OPENAI_API_KEY").generate_until(asked(["b"]))
    assert server.requests[1].key == key
    assert VerbalizerAPI(model="m", image="none").settings.endpoint.key() == key
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match=r"OPENAI_API_KEY is not set; https://api\.openai\.com"):
        VerbalizerAPI(model="m", image="none")


def test_the_published_schemas_are_those_that_are_tested() -> None:
    """A payload with a field of `generate` does not pass."""
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "num_beams": 10}
    with pytest.raises(ValueError, match="num_beams"):
        OPENAI.validate_python([body])
    assert not VLLM & set(CompletionCreateParamsNonStreaming.__annotations__)
