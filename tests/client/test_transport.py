"""What goes wrong between us and a server: what is tried again, when, and what is said of it."""

import asyncio
import json
import logging
import os
import socket
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.helpers.calls import ask_all, endpoint, request, requests
from tests.helpers.clock import FAKE_KEY, Moved
from tests.helpers.endpoint_server import Faults, Server, prompt
from verbalizer_bench.client import transport
from verbalizer_bench.client.chat_client import CallFailed, ChatClient
from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.protocol import Reply
from verbalizer_bench.client.transport import retry_after

Serve = Callable[..., Server]


def failure(folder: Path, asked: Endpoint, text: str = "x") -> CallFailed:
    """Return why a call fails for good."""
    with pytest.raises(ExceptionGroup) as error:
        ask_all(folder, [request(text)], asked)
    (failed,) = error.value.exceptions
    assert isinstance(failed, CallFailed)
    assert "\n" not in str(failed) and str(failed).startswith("question: m at http://127.0.0.1:")
    assert (folder / "calls.jsonl").read_bytes().count(b"\n") == 1
    return failed


def starts(server: Server) -> list[float]:
    return [asked.started for asked in server.requests]


@pytest.mark.parametrize("how", ["1", "0.7", "ms"])
def test_retry_after_is_obeyed(how: str, serve: Serve, tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if len(server.requests) > 1:
            return "now"
        headers = {"Retry-After": how}
        if how == "ms":
            headers = {"Retry-After": "60", "Retry-After-Ms": "700"}
        return web.json_response({}, status=429, headers=headers)

    clock = Moved()
    server = serve(answer, clock=clock.now)
    ask_all(tmp_path, [request("x")], endpoint(server), clock=clock)
    first, second = starts(server)
    assert second - first == pytest.approx({"1": 1.0}.get(how, 0.7))


def test_while_it_waits_nobody_else_asks(serve: Serve, tmp_path: Path) -> None:
    clock = Moved()
    faults = Faults(rate_limited=1, at_most=1, retry_after="0.6")
    server = serve(faults=faults, clock=clock.now)
    ask_all(tmp_path, requests(2), endpoint(server, concurrency=1), clock=clock)
    first, second, third, _ = starts(server)
    assert second - first >= 0.6 and third - second >= 0.6


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "3"}, 3),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:20 GMT"}, 10),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
    ],
)
def test_retry_after_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=10) == seconds


def test_backoff_grows(serve: Serve, tmp_path: Path) -> None:
    clock = Moved()
    server = serve(faults=Faults(error=1, at_most=5), clock=clock.now)
    _, usage = ask_all(tmp_path, [request("x")], endpoint(server, backoff=0.05), clock=clock)
    gaps = [later - earlier for earlier, later in pairwise(starts(server))]
    assert usage.retries == {"500": 5} and len(gaps) == 5
    for number, gap in enumerate(gaps):
        assert 0.025 * 2**number <= gap + 1e-9 and gap - 1e-9 <= 0.05 * 2**number


def timed_out(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch, when: Callable[[], bool]
) -> Reply:
    """Ask a server whose first answer takes too long: its time is up when the test says so."""
    limits: list[float] = []

    def within(seconds: float) -> asyncio.Timeout:
        limit = asyncio.timeout(None)
        if not limits:
            tasks.append(asyncio.ensure_future(expire(limit)))
        limits.append(seconds)
        return limit

    async def expire(limit: asyncio.Timeout) -> None:
        while not when():
            await asyncio.sleep(0.001)
        limit.reschedule(asyncio.get_running_loop().time())

    tasks: list[asyncio.Task[None]] = []
    monkeypatch.setattr(transport, "_within", within)
    asked = endpoint(server, timeout=77, parameters={"max_tokens": 7})
    (reply,), usage = ask_all(folder, [request("x")], asked)
    assert limits == [77, 77] and usage.retries == {"timeout": 1}
    # It may have been charged.
    assert (usage.calls, usage.lost.output_tokens) == (1, 7)
    return reply


def test_slow_answers(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is held back for good.
    server = serve(gate=lambda asked: asked is not server.requests[0])
    reply = timed_out(tmp_path, server, monkeypatch, lambda: bool(server.requests))
    assert reply.text == "echo: x"


def test_answers_that_trickle(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps a connection alive, not a call."""
    sent: list[bytes] = []

    def answer(body: dict[str, Any]) -> Any:
        async def bytes_() -> Any:
            while True:
                sent.append(b" ")
                yield sent[-1]
                await asyncio.sleep(0.001)

        if len(server.requests) > 1:
            return "now"
        return web.Response(body=bytes_(), content_type="application/json")

    server = serve(answer)
    reply = timed_out(tmp_path, server, monkeypatch, lambda: len(sent) > 20)
    assert reply.text == "now"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("rate_limited", "429: too many requests"),
        ("error", "500: internal error"),
        ("unavailable", "503: Service Unavailable (tried"),
        ("cut", "cut off (peer closed connection without sending complete message body ("),
        ("garbled", 'the response is no JSON: {"id"'),
        ("empty", "the response has no choices"),
    ],
)
def test_what_is_tried_again_in_vain(
    fault: str, message: str, serve: Serve, tmp_path: Path
) -> None:
    plan: dict[str, Any] = {fault: 1.0}
    server = serve(faults=Faults(**plan, at_most=99, retry_after="0"))
    error = failure(tmp_path, endpoint(server, retries=2))
    assert message in str(error) and "(tried 3 times)" in str(error) and not error.fatal
    assert len(server.requests) == 3
    server.faults = None
    assert ask_all(tmp_path, [request("x")], endpoint(server))[0][0].text == "echo: x"


HTML = """
<!DOCTYPE html><html><head><title>400 Bad Request</title><style>b { color: red; }</style></head>
<body bgcolor="white"><hr><center>nginx < 1.2</center></body></html>"""


@pytest.mark.parametrize(
    ("status", "body", "headers", "message", "fatal"),
    [
        (401, {"error": {"message": "no such key"}}, {}, "401: no such key", True),
        (402, {"error": "pay\nfirst"}, {}, "402: pay first", True),
        (403, {"detail": "not you"}, {}, "403: not you", False),
        (404, {"message": "no model m"}, {}, "404: no model m", True),
        (422, {"detail": [{"loc": "x"}]}, {}, "422: [{'loc': 'x'}]", False),
        (413, "too " + "long" * 200, {}, "413: too long", False),
        (403, "", {}, "403: Forbidden (", False),
        (403, {"error": None}, {}, "403: Forbidden (", False),
        (400, "null", {}, "400: Bad Request (", False),
        (499, " ", {}, "499: no reason is given (", False),
        (400, HTML, {}, "400: 400 Bad Request nginx < 1.2 (", False),
        (400, {"message": "a < b > c \x1b[2Jx\x07\u202e"}, {}, "400: a < b > c [2Jx (", False),
        (401, "\ufeff" + json.dumps({"error": {"message": "BOM"}}), {}, "401: BOM (", True),
        (429, {}, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}, "it asks to wait 2", True),
        (429, {"error": {"message": "q", "code": "insufficient_quota"}}, {}, "429: q", True),
        (429, {}, {"Retry-After": "7200"}, "it asks to wait 7200 s", True),
    ],
)
def test_what_is_not_tried_again(
    status: int,
    body: Any,
    headers: dict[str, str],
    message: str,
    fatal: bool,
    serve: Serve,
    tmp_path: Path,
) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    server = serve(lambda asked: web.Response(status=status, text=text, headers=headers))
    error = failure(tmp_path, endpoint(server))
    assert message in str(error) and len(str(error)) < 500
    assert (error.status, error.fatal) == (status, fatal)
    assert len(server.requests) == 1 and str(error).endswith("(tried once)")


def test_a_hopeless_endpoint_is_not_asked_again(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda body: web.json_response({"error": "no such key"}, status=401))

    async def run() -> list[Any]:
        async with ChatClient({"default": endpoint(server, concurrency=2)}, tmp_path) as client:
            return await asyncio.gather(*map(client.ask, requests(50)), return_exceptions=True)

    errors = asyncio.run(run())
    assert len(server.requests) <= 2
    assert all(isinstance(error, CallFailed) and error.fatal for error in errors)
    said = [str(error).endswith("(tried once)") for error in errors]
    assert sum(said) == len(server.requests) and str(errors[-1]).endswith("(not tried)")


def reply_to(serve: Serve, folder: Path, response: dict[str, Any]) -> Reply:
    server = serve(lambda body: web.json_response(response))
    (reply,), _ = ask_all(folder, [request("x" * 30)], endpoint(server))
    assert ask_all(folder, [request("x" * 30)], endpoint(server))[0] == [
        reply._replace(cached=True)
    ]
    return reply


@pytest.mark.parametrize(
    ("choice", "text", "refusal", "reason"),
    [
        ({"message": {"content": "cut"}, "finish_reason": "length"}, "cut", None, "length"),
        ({"message": {}, "finish_reason": "content_filter"}, "", None, "content_filter"),
        ({"message": {"content": None, "refusal": "no"}}, "", "no", ""),
        ({"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}, "ab", None, ""),
        (
            {"message": {"content": [{"type": "reasoning", "text": "Hm."}, {"text": "b"}]}},
            "b",
            None,
            "",
        ),
        ({"message": {"content": "half \ud83d"}}, "half \N{REPLACEMENT CHARACTER}", None, ""),
    ],
)
def test_unusual_responses(
    choice: dict[str, Any],
    text: str,
    refusal: str | None,
    reason: str,
    serve: Serve,
    tmp_path: Path,
) -> None:
    reply = reply_to(serve, tmp_path, {"choices": [choice]})
    assert (reply.text, reply.refusal, reply.finish_reason) == (text, refusal, reason)
    # The server counts no tokens and names no model: three bytes a token.
    assert reply.input_tokens == 14 and reply.output_tokens == -(-len(text.encode()) // 3)
    assert reply.model == "m"


@pytest.mark.parametrize(
    ("body", "message"),
    [("", "the response is empty"), ("<html>\n<h1>Hello</h1>", "the response is no JSON: Hello")],
)
def test_a_body_that_is_none(body: str, message: str, serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda asked: web.Response(text=body, content_type="text/html"))
    assert f"{message} (tried once)" in str(failure(tmp_path, endpoint(server, retries=0)))


def test_a_byte_order_mark(serve: Serve, tmp_path: Path) -> None:
    text = json.dumps({"choices": [{"message": {"content": "Yes."}}]})
    server = serve(lambda asked: web.Response(body=f"\ufeff{text}".encode()))
    assert ask_all(tmp_path, [request("x")], endpoint(server))[0][0].text == "Yes."


@pytest.mark.parametrize("count", [-9, True, 9.0, None, 10**30, "9"])
def test_counts_that_are_none_cost_what_is_estimated(
    count: Any, serve: Serve, tmp_path: Path
) -> None:
    """Else a budget would never be reached, or at once."""
    for usage in ({"prompt_tokens": count, "completion_tokens": 5}, {"completion_tokens": count}):
        response = {"choices": [{"message": {"content": "Yes."}}], "usage": usage}
        server = serve(lambda asked, response=response: web.json_response(response))
        folder = tmp_path / str(len(usage))
        (reply,), usage = ask_all(folder, [request("x" * 30)], endpoint(server))
        assert (reply.input_tokens, reply.output_tokens) == (14, 2)
        assert (usage.input_tokens, usage.output_tokens) == (14, 2)


def test_an_error_with_status_200(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda body: web.json_response({"error": {"message": "overloaded"}}))
    error = failure(tmp_path, endpoint(server, retries=1))
    assert "the response says: overloaded (tried 2 times)" in str(error)


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    asked = Endpoint(model="m", base_url=url, retries=1, backoff=0.01)
    assert "no connection (Connection refused) (tried 2 times)" in str(failure(tmp_path, asked))


def test_the_key_is_written_nowhere(
    serve: Serve,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the loudest log level, with servers that repeat it, and with what tracebacks can show."""
    log = logging.FileHandler(tmp_path / "log.txt")
    stderr = logging.StreamHandler()
    root = logging.getLogger()
    level = root.level
    monkeypatch.setenv("OPENAI_API_KEY", f" {FAKE_KEY}\n")
    for handler in (log, stderr):
        root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    texts: list[str] = []
    try:
        for status in (200, 200, 400, 401, 500):
            texts += told(serve, tmp_path / "calls", status)
        server = serve(faults=Faults(cut=0.5, garbled=0.5, at_most=99))
        texts += shown(tmp_path / "calls", server)
        texts += shown(tmp_path / "calls", serve(gate=lambda asked: False), timeout=0.1)
        assert {asked.key for asked in server.requests} == {FAKE_KEY}
    finally:
        root.setLevel(level)
        for handler in (log, stderr):
            root.removeHandler(handler)
        log.close()
    texts += [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    texts += capfd.readouterr()
    assert "httpcore" in (tmp_path / "log.txt").read_text()  # the transport's log is in it
    assert sum(map(len, texts)) > 10_000
    for text in texts:
        assert FAKE_KEY not in text and FAKE_KEY[8:] not in text


def told(serve: Serve, folder: Path, status: int) -> list[str]:
    """Return what is seen of a server that repeats the key."""

    def answer(body: dict[str, Any]) -> Any:
        key = f"Bearer {server.requests[-1].key}"
        if status == 200:
            return f"{prompt(body)} {key}"
        return web.json_response({"error": {"message": f"wrong: {key}"}}, status=status)

    server = serve(answer)
    texts = shown(folder, server)
    assert "Bearer [key]" in " ".join(texts)
    return texts


def shown(folder: Path, server: Server, **changes: Any) -> list[str]:
    """Ask, and return all that can be printed of it."""
    asked = endpoint(server, retries=1, **changes)

    async def run() -> list[str]:
        async with ChatClient({"default": asked}, folder) as client:
            try:
                texts = [repr(await client.ask(request(server.url)))]
            except CallFailed as error:
                shown_by = traceback.TracebackException.from_exception(error, capture_locals=True)
                texts = ["".join(shown_by.format()), repr(error), repr(error.__dict__)]
                assert error.__cause__ is None and error.__context__ is None
            return [*texts, *map(repr, (asked, client, client.__dict__, client.usage))]

    return asyncio.run(run())


def test_a_key_that_is_not_there(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    for value, message in (
        (None, "MY_KEY is not set; http://127.0.0.1"),
        ("  ", "MY_KEY is not set"),
        ("sk-Ä", "MY_KEY: not a key"),
        ("sk-1\n2", "MY_KEY: not a key"),
    ):
        monkeypatch.delenv("MY_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("MY_KEY", value)
        with pytest.raises(ExceptionGroup) as error:
            ask_all(tmp_path, [request("x")], endpoint(server, key_variable="MY_KEY"))
        (failed,) = error.value.exceptions
        assert isinstance(failed, ValueError) and str(failed).startswith(message)
    assert not server.requests
    ask_all(tmp_path, [request("x")], endpoint(server, key_variable=""))
    # What is stored needs no key.
    ask_all(tmp_path, [request("x")], endpoint(server, key_variable="MY_KEY"))
    assert [asked.key for asked in server.requests] == ["none"] and FAKE_KEY in os.environ.values()
