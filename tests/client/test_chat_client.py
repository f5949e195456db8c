"""Calls against a server that misbehaves: nothing is lost, nothing asked twice, limits kept."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.helpers.calls import SCHEMA, ask, ask_all, endpoint, has_come, request, requests
from tests.helpers.clock import Moved
from tests.helpers.endpoint_server import Asked, Faults, Server, images, prompt
from tests.helpers.kills import killed_at
from verbalizer_bench.client.budget import Budget, BudgetExceeded
from verbalizer_bench.client.chat_client import ChatClient
from verbalizer_bench.client.protocol import Reply, Request
from verbalizer_bench.client.response_store import ResponseStore

Serve = Callable[..., Server]
BAD = Faults(
    0, 0.15, error=0.1, unavailable=0.05, cut=0.1, garbled=0.1, empty=0.05, retry_after="0.05"
)


def uncached(replies: Sequence[Reply]) -> list[Reply]:
    return [reply._replace(cached=False) for reply in replies]


def undated(replies: Sequence[Reply]) -> list[Reply]:
    return [reply._replace(response={}) for reply in replies]


def test_nothing_is_asked_twice(serve: Serve, tmp_path: Path) -> None:
    server = serve(faults=BAD)
    wanted = requests(60)
    first, usage = ask_all(tmp_path, wanted, endpoint(server))
    assert [reply.text for reply in first] == [f"echo: prompt {n}" for n in range(60)]
    assert first[0].model == "m-served" and not first[0].cached
    assert (usage.calls, usage.cached) == (60, 0)
    assert usage.input_tokens == sum(reply.input_tokens for reply in first)
    assert set(usage.retries) == {"429", "500", "503", "connection", "malformed"}
    assert set(server.answered.values()) == {1} and len(server.answered) == 60
    count = len(server.requests)
    assert usage.retries.total() == count - 60
    again, usage = ask_all(tmp_path, wanted, endpoint(server))
    assert len(server.requests) == count
    assert uncached(again) == first and all(reply.cached for reply in again)
    assert (usage.calls, usage.cached, usage.money) == (0, 60, 0)


def test_ten_kills(serve: Serve, tmp_path: Path) -> None:
    wanted = requests(80)
    undisturbed, disturbed = (serve(faults=BAD) for _ in range(2))
    whole, _ = ask_all(tmp_path / "whole", wanted, endpoint(undisturbed))
    folder, moments = tmp_path / "killed", random.Random(1)
    for _ in range(10):
        before, mark = stored(folder), len(disturbed.requests)
        at = moments.randint(1, 20)
        assert killed_at(disturbed, at, lambda: ask_all(folder, wanted, endpoint(disturbed)))
        assert not before & {prompt(asked.body) for asked in disturbed.requests[mark:]}
        assert before <= stored(folder)
    before, mark = stored(folder), len(disturbed.requests)
    assert 0 < len(before) < 80
    replies, _ = ask_all(folder, wanted, endpoint(disturbed))
    # Two servers, whose responses say when they were made.
    assert undated(uncached(replies)) == undated(whole)
    assert not before & {prompt(asked.body) for asked in disturbed.requests[mark:]}
    assert len(stored(folder)) == 80 == (folder / "calls.jsonl").read_bytes().count(b"\n") - 1


def stored(folder: Path) -> set[str]:
    """Return the prompts whose responses are stored whole, from what the server echoes."""
    import json

    file = folder / "calls.jsonl"
    lines = file.read_bytes().split(b"\n")[1:-1] if file.is_file() else []
    contents = (json.loads(line)["response"]["choices"][0]["message"] for line in lines)
    return {content["content"].removeprefix("echo: ") for content in contents}


def test_all_slots_are_used_and_no_more(serve: Serve, tmp_path: Path) -> None:
    """Nobody is answered before 16 are under way at once."""
    server = serve(gate=lambda asked: server.peak >= 16)
    ask_all(tmp_path, requests(100), endpoint(server, concurrency=16))
    assert server.peak == 16 and len(server.requests) == 100


def test_a_slot_waits_for_no_other(serve: Serve, tmp_path: Path) -> None:
    """15 of 16 answers are held back until the last slot alone has had 60."""
    held: list[Asked] = []

    def gate(asked: Asked) -> bool:
        if len(held) < 15 and asked not in held:
            held.append(asked)
        return asked not in held or server.done >= 60

    server = serve(gate=gate)
    ask_all(tmp_path, requests(90), endpoint(server, concurrency=16))
    assert server.peak == 16 and len(server.requests) == 90


def test_concurrency_with_faults(serve: Serve, tmp_path: Path) -> None:
    server = serve(faults=BAD, gate=lambda asked: server.peak >= 5)
    ask_all(tmp_path, requests(50), endpoint(server, concurrency=5))
    assert server.peak == 5


def test_blocks_of_one_model_share_its_limits(serve: Serve, tmp_path: Path) -> None:
    server = serve(gate=lambda asked: server.peak >= 3)
    blocks = {
        "question": endpoint(server, concurrency=3),
        "answer": endpoint(server, concurrency=3, parameters={"temperature": 0.5}),
    }

    async def run() -> None:
        async with ChatClient(blocks, tmp_path) as client:
            both = (Request(role, r.messages) for r in requests(10) for role in blocks)
            await ask(client, list(both))

    asyncio.run(run())
    assert server.peak == 3 and len(server.answered) == 20


def test_identical_requests_are_one_call(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    replies, usage = ask_all(tmp_path, [request("same")] * 20, endpoint(server))
    assert len(server.requests) == 1 and uncached(replies) == uncached(replies[:1]) * 20
    assert (usage.calls, usage.cached) == (1, 19)
    assert sum(not reply.cached for reply in replies) == 1


def test_another_attempt_or_parameter_is_another_call(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    wanted = [request("same", n=n) for n in range(3)]
    for parameters in ({}, {"temperature": 0}, {"temperature": 0, "top_k": 4}):
        ask_all(tmp_path, wanted, endpoint(server, parameters=parameters))
    assert len(server.requests) == 9
    assert {"model", "messages", "temperature", "top_k"} == set(server.requests[-1].body)


def test_who_is_cancelled_takes_nobody_along(serve: Serve, tmp_path: Path) -> None:
    opened: list[bool] = []
    server = serve(gate=lambda asked: bool(opened))

    async def run() -> None:
        async with ChatClient({"default": endpoint(server)}, tmp_path) as client:
            first, second = (asyncio.create_task(client.ask(request("same"))) for _ in "ab")
            await has_come(server, 1)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            opened.append(True)
            server.nudge()
            assert (await second).text == "echo: same"

    asyncio.run(run())
    assert len(server.requests) == 1


def test_calls_under_way_are_stored_at_the_end(serve: Serve, tmp_path: Path) -> None:
    opened: list[bool] = []
    server = serve(gate=lambda asked: bool(opened))

    async def run() -> None:
        async with ChatClient({"default": endpoint(server, concurrency=4)}, tmp_path) as client:
            tasks = [asyncio.create_task(client.ask(one)) for one in requests(10)]
            await has_come(server, 4)
            for task in tasks:
                task.cancel()
            opened.append(True)
            server.nudge()

    asyncio.run(run())
    assert len(server.requests) == 4 == len(stored(tmp_path))
    replies, _ = ask_all(tmp_path, requests(10), endpoint(server))
    assert len(server.requests) == 10 and sum(reply.cached for reply in replies) == 4


def test_images(serve: Serve, tmp_path: Path) -> None:
    from PIL import Image

    server = serve(lambda body: f"{len(images(body))} images")
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "copy")]
    for path, format_ in zip(paths, ("PNG", "JPEG", "PNG"), strict=True):
        Image.new("RGB", (4, 4), "red").save(path, format=format_)

    def wanted(path: Path) -> Request:
        text = {"type": "text", "text": "Describe it."}
        image = {"type": "image_file", "path": str(path), "detail": "low"}
        return Request("caption", ({"role": "user", "content": [text, image]},))

    replies, usage = ask_all(tmp_path, [wanted(path) for path in paths], endpoint(server))
    # What counts is what is in a file, not its name.
    assert {reply.text for reply in replies} == {"1 images"} and usage.calls == 2
    sent = [asked.body["messages"][0]["content"][1]["image_url"] for asked in server.requests]
    assert {images(asked.body)[0] for asked in server.requests} == {
        path.read_bytes() for path in paths
    }
    assert {url["url"].split(";")[0] for url in sent} == {"data:image/png", "data:image/jpeg"}
    assert {url["detail"] for url in sent} == {"low"}
    Image.new("RGB", (4, 4), "blue").save(paths[0])
    _, usage = ask_all(tmp_path, [wanted(path) for path in paths], endpoint(server))
    assert (usage.calls, usage.cached) == (1, 2)
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(ExceptionGroup) as error:
        ask_all(tmp_path, [wanted(tmp_path / "x.png")], endpoint(server))
    assert "x.png: no JPEG, PNG, GIF or WebP image" in str(error.value.exceptions[0])


@pytest.mark.parametrize(
    ("formats", "way"),
    [
        (("json_schema", "json_object", "text"), None),
        (("json_object", "text"), "json_object"),
        (("text",), "without response_format"),
    ],
)
def test_structured_output_as_the_server_has_it(
    formats: tuple[str, ...],
    way: str | None,
    serve: Serve,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = serve(lambda body: 'Here: {"word": "yes",}', Faults(formats=formats))
    wanted = [request(f"prompt {number}", schema=SCHEMA) for number in range(30)]
    replies, usage = ask_all(tmp_path, wanted, endpoint(server, concurrency=2))
    assert {(reply.text, reply.problem) for reply in replies} == {('Here: {"word": "yes",}', None)}
    assert all(reply.value == {"word": "yes"} for reply in replies)
    refused = [asked for asked in server.requests if asked.outcome == "400"]
    assert len(refused) == usage.retries["response_format"] <= 2 * (3 - len(formats))
    lines = [record.getMessage() for record in caplog.records if record.levelno >= 30]
    assert lines == ([f"m takes no JSON schema; asking {way}, in words"] if way else [])
    last = server.requests[-1].body
    assert ("follows this JSON schema" in prompt(last)) == bool(way)
    count = len(server.requests)
    assert uncached(ask_all(tmp_path, wanted, endpoint(server))[0]) == replies
    assert len(server.requests) == count


def test_a_400_that_has_other_reasons(serve: Serve, tmp_path: Path) -> None:
    """The endpoint is asked as before: it was this prompt that it did not like."""

    def answer(body: dict[str, Any]) -> Any:
        if "bad" in prompt(body):
            return web.json_response({"error": {"message": "prompt too long"}}, status=400)
        return {"word": "yes"}

    server = serve(answer)
    asked = endpoint(server)
    with pytest.raises(ExceptionGroup) as error:
        ask_all(tmp_path, [request("bad", schema=SCHEMA)], asked)
    assert "400: prompt too long (tried 3 times)" in str(error.value.exceptions[0])
    ask_all(tmp_path, [request("good", schema=SCHEMA)], asked)
    assert server.requests[-1].body["response_format"]["json_schema"]["strict"] is True


def test_answers_that_break_the_format(serve: Serve, tmp_path: Path) -> None:
    texts = {"a": "I cannot.", "b": '{"word": "cut o', "c": '{"word": 3}'}
    server = serve(lambda body: texts[prompt(body)])
    wanted = [request(text, schema=SCHEMA) for text in texts]
    replies, _ = ask_all(tmp_path, wanted, endpoint(server))
    assert [reply.value for reply in replies] == [None] * 3
    problems = ["no JSON object in it", "its JSON object is cut off", "word is no string"]
    assert [reply.problem for reply in replies] == problems


def test_refusals_are_answers(serve: Serve, tmp_path: Path) -> None:
    server = serve(faults=Faults(refused=0.5))
    for _ in range(2):
        replies, _ = ask_all(tmp_path, requests(20), endpoint(server))
        refused = [reply for reply in replies if reply.refusal]
        assert 3 < len(refused) < 17 and {reply.text for reply in refused} == {""}
    assert len(server.requests) == 20


def test_the_budget_stops(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    prices = {"input_price": 100.0, "output_price": 1000.0, "parameters": {"max_tokens": 10}}
    asked = endpoint(server, concurrency=4, **prices)
    with pytest.raises(ExceptionGroup) as error:
        ask_all(tmp_path, requests(100), asked, budget=Budget(money=0.2))
    message = str(error.value.exceptions[0])
    assert isinstance(error.value.exceptions[0], BudgetExceeded)
    assert message.startswith("budget.money=0.2: 0.1") and "\n" not in message
    assert message.endswith(
        f"all responses are in {tmp_path}/calls.jsonl: raise the budget and run the same command "
        "to go on"
    )
    before = stored(tmp_path)
    assert 0 < len(before) < 100 and len(server.requests) == len(before)
    # A later run in the folder has the same budget, not another one.
    with pytest.raises(ExceptionGroup):
        ask_all(tmp_path, requests(100), asked, budget=Budget(money=0.2))
    assert len(server.requests) == len(before)
    replies, usage = ask_all(tmp_path, requests(100), asked, budget=Budget(money=2))
    assert sum(reply.cached for reply in replies) == len(before)
    assert len(server.requests) == 100 and usage.calls == 100 - len(before)


def test_a_budget_in_money_needs_prices(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"budget\.money=1: default has no input_price"):
        ChatClient({"default": endpoint(serve())}, tmp_path, budget=Budget(money=1))


def test_tokens_a_minute(serve: Serve, tmp_path: Path) -> None:
    """The first call is free; before each other one, a second has 20 tokens of those before it."""
    clock = Moved()
    server = serve(clock=clock.now)
    rates = {"tokens_per_minute": 1200, "parameters": {"max_tokens": 10}, "concurrency": 1}
    replies, _ = ask_all(tmp_path, requests(3), endpoint(server, **rates), clock=clock)
    first, second, third = (asked.started for asked in server.requests)
    # 4 of the message and 3 of its 8 letters, and 10 that the answer may have: 17 by estimate. Of
    # the bucket of 20 that leaves 3; what the answers had less is given back.
    counted = [reply.input_tokens + reply.output_tokens for reply in replies]
    a_second = (1200 - 20 + 1) / 60
    assert first == 1000 and second - first == pytest.approx((counted[0] - 3) / a_second, abs=1e-9)
    assert third - second == pytest.approx(counted[1] / a_second, abs=1e-9)


def test_a_role_without_an_endpoint(serve: Serve, tmp_path: Path) -> None:
    async def run() -> None:
        async with ChatClient({"caption": endpoint(serve())}, tmp_path) as client:
            await client.ask(request("x"))

    with pytest.raises(
        ValueError, match=r"endpoints\.question: missing, and no endpoints\.default"
    ):
        asyncio.run(run())


def test_what_runs_in_one_folder_adds_up(serve: Serve, tmp_path: Path) -> None:
    asked = endpoint(serve(), input_price=1e6, output_price=0)
    runs = [ask_all(tmp_path, requests(count), asked)[1] for count in (2, 5)]
    assert [(run.calls, run.cached) for run in runs] == [(2, 0), (3, 2)]
    store = ResponseStore(tmp_path)
    store.close()
    assert store.earlier.calls == 5 and store.earlier.money == sum(run.money for run in runs)
    assert store.earlier.money == store.earlier.input_tokens > runs[0].money
