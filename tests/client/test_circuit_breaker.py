"""Servers that are not there or fail, and runs that stand still: it is said, and given up."""

import asyncio
import io
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.helpers.builder import Model
from tests.helpers.calls import ask_all, endpoint, has_come, request, requests
from tests.helpers.clock import Moved
from tests.helpers.data_recipes import instructions, real_data, recipe
from tests.helpers.endpoint_server import Faults, Server
from verbalizer_bench.builders.build import build
from verbalizer_bench.builders.pipeline.progress import StageProgress
from verbalizer_bench.client import transport
from verbalizer_bench.client.budget import UsageTotals
from verbalizer_bench.client.chat_client import CallFailed, ChatClient
from verbalizer_bench.client.circuit_breaker import CircuitBreaker
from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.transport import Failure

Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def model() -> Model:
    real_data()
    return Model(instructions())


def nobody(folder: Path, **changes: Any) -> Endpoint:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    return Endpoint(model="m", base_url=url, **changes)


def test_nobody_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said at once, and given up after some four seconds, by everybody."""
    clock = Moved()

    async def run() -> list[Any]:
        async with ChatClient({"default": nobody(tmp_path)}, tmp_path, clock=clock) as client:
            asks = map(client.ask, requests(200))
            return await asyncio.gather(*asks, return_exceptions=True)

    errors = asyncio.run(run())
    assert all(isinstance(error, CallFailed) and error.fatal for error in errors)
    assert "no connection (Connection refused), 5 times in a row" in str(errors[0])
    assert "is the server running" in str(errors[0])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "m: no connection (Connection refused); trying again"
    assert max(clock.waits) <= 4


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://nowhere.invalid/v1", "no connection ("),
        # What answers there is no server of TLS.
        ("https", "; without TLS it is http://) (tried once)"),
    ],
)
def test_no_name_and_no_certificate(url: str, message: str, serve: Serve, tmp_path: Path) -> None:
    address = serve().url.replace("http:", "https:") if url == "https" else url
    asked = Endpoint(model="m", base_url=address, retries=0)
    with pytest.raises(ExceptionGroup) as error:
        ask_all(tmp_path, [request("x")], asked)
    text = str(error.value.exceptions[0])
    assert message in text and "ConnectError" not in text


def test_a_port_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither TLS nor anything else: each connection takes its time, and three are enough."""
    monkeypatch.setattr(transport, "_CONNECT_TIMEOUT", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(ExceptionGroup) as error:
            ask_all(tmp_path, [request("x")], Endpoint(model="m", base_url=url), clock=Moved())
    text = str(error.value.exceptions[0])
    assert "no connection within 0.05 s, 3 times in a row" in text and "base_url" in text


def test_a_build_without_a_server_stops(model: Model, tmp_path: Path) -> None:
    url = str(nobody(tmp_path).base_url)
    block = ("endpoints.default.retries=0", "failures=set_aside", "limit=40")
    with pytest.raises(ValueError, match=r"stopped: .*no connection \(Connection refused\)"):
        build(recipe(tmp_path, url, *block))
    # One record alone makes no five failures; it is lost all the same, and not for good.
    with pytest.raises(ValueError, match="all 1 requests for caption were refused or failed"):
        build(recipe(tmp_path / "one", url, "endpoints.default.retries=0", "limit=1", block[1]))
    assert not list(tmp_path.rglob("2_captions.jsonl"))


def failure(reason: str) -> Failure:
    return Failure(reason, f"{reason}!", status=500 if reason == "500" else None)


def test_a_breaker_counts_rounds() -> None:
    breaker = CircuitBreaker(Endpoint("m", backoff=1.0, retries=8))
    for number in range(16):  # under way together
        breaker.failed(failure("connection"), f"call {number}", began=0, waiting=9)
    assert breaker.rounds == 1 and breaker.pause == 0 and breaker.verdict is None
    for wait in (1, 2, 4):
        breaker.failed(failure("connection"), "call 1", began=breaker.round, waiting=9)
        assert breaker.pause == wait and breaker.verdict is None
    breaker.failed(failure("connection"), "call 1", began=breaker.round, waiting=9)
    assert breaker.verdict and breaker.verdict.fatal and not breaker.verdict.retryable
    # It had answered before: it may come back for as long as one call would be tried.
    breaker.answered()
    assert breaker.pause == 0 and breaker.verdict is None
    for _ in range(8):
        breaker.failed(failure("connection"), "call 1", began=breaker.round, waiting=9)
        assert breaker.verdict is None
    assert breaker.pause == 60  # of 64
    breaker.failed(failure("connection"), "call 1", began=breaker.round, waiting=9)
    assert breaker.verdict


def test_errors_of_a_server_are_those_of_several_calls() -> None:
    breaker = CircuitBreaker(Endpoint("m", backoff=1.0, retries=2))
    for _ in range(20):
        breaker.failed(failure("500"), "one call", began=breaker.round, waiting=9)
    assert breaker.verdict is None
    for number in range(4):
        breaker.failed(failure("500"), f"call {number}", began=breaker.round, waiting=9)
    assert breaker.verdict and "look at its log" in breaker.verdict.message


def errors(*failures: Failure, calls: int = 1, waiting: int = 1) -> Failure | None:
    """Return a breaker's verdict on failures one after another, by so many calls in turn."""
    breaker = CircuitBreaker(Endpoint("m", backoff=1.0, retries=8))
    for number, one in enumerate(failures):
        breaker.failed(one, f"call {number % calls}", breaker.round, waiting)
    return breaker.verdict


def test_a_server_that_has_only_one_error_to_say_is_given_up_early() -> None:
    same = failure("500")
    assert errors(*[same] * 5) is None
    said = errors(*[same] * 6)
    assert said and said.fatal and "500!, 6 times in a row and no answer since" in said.message
    # One call among others may be at fault itself.
    assert errors(*[same] * 8, calls=4, waiting=9) is None
    assert errors(*[same] * 6, calls=5, waiting=9)
    assert errors(*[same] * 6, calls=3, waiting=3)
    # What changes may change for the better, and a gateway's errors pass.
    assert errors(*[same] * 5, same._replace(message="another")) is None
    assert errors(same._replace(reason="connection", status=None), *[same] * 6) is None
    for status in (429, 502, 503, 504):
        assert errors(*[same._replace(status=status)] * 8) is None


def test_a_server_that_has_answered_is_asked_on() -> None:
    breaker = CircuitBreaker(Endpoint("m", backoff=1.0, retries=8))
    breaker.answered()
    for _ in range(8):
        breaker.failed(failure("500"), "call", breaker.round, waiting=1)
    assert breaker.verdict is None


def test_a_server_that_comes_back_is_asked_on(serve: Serve, tmp_path: Path) -> None:
    """Each call fails three times."""
    clock = Moved()
    server = serve(faults=Faults(unavailable=1, at_most=3))
    replies, usage = ask_all(tmp_path, requests(10), endpoint(server), clock=clock)
    assert len(replies) == 10 and usage.retries == {"503": 30}


@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_an_hour_is_not_waited_for(status: int, serve: Serve, tmp_path: Path) -> None:
    clock = Moved()
    server = serve(
        lambda body: web.json_response({}, status=status, headers={"Retry-After": "3600"})
    )
    with pytest.raises(ExceptionGroup) as error:
        ask_all(tmp_path, [request("x")], endpoint(server), clock=clock)
    failed = error.value.exceptions[0]
    assert isinstance(failed, CallFailed) and failed.fatal and not clock.waits
    assert "it asks to wait 3600 s" in str(failed)


def test_it_says_what_it_waits_for(serve: Serve, tmp_path: Path) -> None:
    opened: list[bool] = []

    class Held(Moved):
        """Waits end when the test says so."""

        async def sleep(self, seconds: float) -> None:
            self.waits.append(seconds)
            while not opened:
                await asyncio.sleep(0.001)

    def answer(body: dict[str, Any]) -> Any:
        if len(server.requests) > 1:
            return "now"
        return web.json_response({"error": "slower"}, status=429, headers={"Retry-After": "300"})

    clock, server = Held(), serve(answer)

    async def run() -> list[str]:
        said = []
        async with ChatClient({"default": endpoint(server)}, tmp_path, clock=clock) as client:
            task = asyncio.create_task(client.ask(request("x")))
            while not clock.waits:
                await asyncio.sleep(0.001)
            said.append(client.status)
            opened.append(True)
            clock.time += 300
            await task
            said.append(client.status)
            server.gate = lambda asked: len(opened) > 1
            task = asyncio.create_task(client.ask(request("y")))
            await has_come(server, 3)
            said.append(client.status)
            clock.time += 3
            said.append(client.status)
            clock.time += 9
            said.append(client.status)
            opened.append(True)
            server.nudge()
            await task
        return said

    assert asyncio.run(run()) == [
        "m: slower; goes on in 300 s",
        "",
        "",
        "",
        "m: 1 call in flight, no response for 12 s (timeout=120)",
    ]


def test_it_says_that_the_recipes_own_limit_is_reached(serve: Serve, tmp_path: Path) -> None:
    said: list[str] = []

    class Listening(Moved):
        async def sleep(self, seconds: float) -> None:
            said.append(callers[0].status)
            await super().sleep(seconds)

    callers: list[ChatClient] = []
    asked = endpoint(serve(), requests_per_minute=1, concurrency=1)

    async def run() -> None:
        async with ChatClient({"default": asked}, tmp_path, clock=Listening()) as client:
            callers.append(client)
            await asyncio.gather(*map(client.ask, requests(2)))

    asyncio.run(run())
    limit = "m: at the recipe's requests_per_minute or tokens_per_minute; goes on in 60 s"
    assert said == [limit]


def test_the_bar_says_it_once_in_a_file() -> None:
    class Client:
        status = ""

    file, client = io.StringIO(), Client()

    async def run() -> None:
        with StageProgress("items", 3, UsageTotals(), file=file) as progress:
            watch = asyncio.create_task(progress.watch(client))
            for wait in (300, 299, 298):
                client.status = f"m: slower; goes on in {wait} s"
                progress.show(client.status)
            while "waiting" not in file.getvalue():
                await asyncio.sleep(0.001)
            watch.cancel()

    asyncio.run(run())
    assert file.getvalue().count("waiting: m: slower; goes on in 300 s") == 1
    assert "299" not in file.getvalue()
