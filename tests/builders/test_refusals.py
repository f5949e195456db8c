"""Requests that are refused one and all, servers that are not there, and runs that stand still."""

import asyncio
import io
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.builders.builder import Model
from tests.builders.conftest import Moved
from tests.builders.recipes import instructions, real_data, recipe
from tests.builders.server import Faults, Server, images, prompt
from tests.builders.test_calls import ask_all, endpoint, has_come, request, requests
from verbalizer_bench.builders.breaker import Breaker
from verbalizer_bench.builders.build import build
from verbalizer_bench.builders.calls import Caller, CallFailed, Endpoint
from verbalizer_bench.builders.crew import Stopped
from verbalizer_bench.builders.progress import Progress
from verbalizer_bench.builders.refusals import Refusals
from verbalizer_bench.builders.rows import Attempt, Row
from verbalizer_bench.builders.transport import Failure

Serve = Callable[..., Server]
CALLS = "endpoints.default.concurrency=1"


def refused(status: int = 400, message: str = "unknown parameter: max_tokens") -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)


@pytest.fixture(scope="module")
def model() -> Model:
    real_data()
    return Model(instructions())


@pytest.mark.parametrize(
    ("status", "failures"),
    [(400, "stop"), (400, "set_aside"), (403, "stop"), (405, "set_aside"), (413, "stop")]
    + [(422, "set_aside"), (401, "stop"), (404, "set_aside")],
)
def test_a_build_whose_requests_are_all_refused_stops_early(
    status: int, failures: str, model: Model, serve: Serve, tmp_path: Path
) -> None:
    server = serve(lambda body: refused(status))
    with pytest.raises(ValueError, match=f"stopped: .*{status}: unknown parameter") as error:
        build(recipe(tmp_path, server.url, f"failures={failures}", CALLS))
    assert "\n" not in str(error.value) and "run the same command again" in str(error.value)
    # Five of 118, and what was begun beside.
    assert len(server.requests) <= 5 + 2 * 1 + 1
    work = tmp_path / "data/format_oriented"
    assert not (work / "2_captions.jsonl").exists() and not (tmp_path / "data/fovit.json").exists()


def test_it_asks_again_when_that_is_mended(model: Model, serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda body: refused(400))
    made = recipe(tmp_path, server.url, "limit=6", "failures=set_aside")
    with pytest.raises(ValueError, match="stopped: "):
        build(made)
    server.answer = model
    built = build(made)
    assert built.sets and len(built.sets.accepted) == 6


def test_a_role_of_its_own_is_refused(model: Model, serve: Serve, tmp_path: Path) -> None:
    """Captions and items are answered; what is refused stands between them."""

    def answer(body: dict[str, Any]) -> Any:
        return refused() if 'the key "question"' in prompt(body) else model(body)

    server = serve(answer)
    with pytest.raises(ValueError, match=r"the first \d+ requests for question were refused"):
        build(recipe(tmp_path, server.url, "limit=60", CALLS))
    asked = [one for one in server.requests if not images(one.body)]
    assert len(asked) < 30


def test_fewer_records_than_it_takes(model: Model, serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda body: refused())
    for _ in range(2):
        with pytest.raises(ValueError, match="all 2 requests for caption were refused"):
            build(recipe(tmp_path, server.url, "limit=2"))
    assert len(server.requests) == 4


def test_money_that_runs_out_on_the_way(model: Model, serve: Serve, tmp_path: Path) -> None:
    """It was answered before: not a record is lost that comes after."""
    server = serve(lambda body: model(body) if server.done < 30 else refused(403, "no credit"))
    with pytest.raises(ValueError, match=r"20 requests in a row for caption .*403: no credit"):
        build(recipe(tmp_path, server.url, CALLS, "captions=null", "failures=set_aside"))
    assert 50 <= len(server.requests) <= 53
    assert not list(tmp_path.rglob("2_captions.jsonl"))


def test_no_record_is_an_error(model: Model, serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda body: "I'm sorry, but I can't help with that.")
    made = recipe(tmp_path, server.url, "limit=3", "retries=0")
    with pytest.raises(ValueError) as error:
        build(made)
    message = str(error.value)
    assert message.startswith("no record was accepted: all 3 are set aside, 3 of them in captions")
    assert "for refusal" in message and "report.md" in message and "\n" not in message
    assert (made.output / "report.md").is_file()


def rows(role: str, outcomes: str) -> list[tuple[Row, Row]]:
    """Return rows before and after: `a` was answered, `r` refused, `.` not asked."""
    found = []
    for number, outcome in enumerate(outcomes):
        before = after = Row(id=f"{number}")
        if outcome == "a":
            after = Row(id=before.id, attempts=(Attempt(role, "k", "m", 1, 1),))
        elif outcome == "r":
            after = before.put_aside("items", "rejected", f"{role}: m at x: 400: no {number}")
        elif outcome == ".":
            before = after = before.put_aside("images", "image", "damaged")
        found.append((before, after))
    return found


def verdict(outcomes: str, order: list[int] | None = None, failures: str = "stop") -> str:
    """Return what is said of units that end in some order; "" if nothing is."""
    refusals, found = Refusals("items", failures), rows("item", outcomes)
    try:
        for place in order or range(len(found)):
            before, after = found[place]
            refusals.add(place, [before], [after])
        refusals.end()
    except Stopped as error:
        return str(error).partition(" requests")[0]
    return ""


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ("aaaa", ""),
        ("rrrr", "all 4"),
        ("r", "all 1"),
        ("rrrrr", "the first 5"),
        (".r.rr..rraaa", "the first 5"),
        ("rrrraaaa", ""),
        ("arrrraaa", ""),
        ("arrrrr", "the last 5"),
        ("arrrr.r..", "the last 5"),
        ("a" + 20 * "r" + "a", "20"),
        ("a" + 19 * "r" + "a", ""),
        (30 * "ra", ""),
        ("....", ""),
        ("", ""),
    ],
)
def test_refusals_by_the_order_of_records(outcomes: str, said: str) -> None:
    assert verdict(outcomes) == said


def test_the_order_of_answers_does_not_matter() -> None:
    """Refusals are faster than answers, and what is stored is faster than either."""
    mixed = "rrar" * 10 + "a"
    fast = sorted(range(len(mixed)), key=lambda place: mixed[place] != "r")
    assert verdict(mixed, fast) == ""
    # Records that are refused at the end may be lost where the recipe says so.
    assert verdict("arrrrrr", failures="set_aside") == ""
    assert verdict("rrrr", failures="set_aside") == "all 4"


def nobody(folder: Path, **changes: Any) -> Endpoint:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    return Endpoint(model="m", base_url=url, **changes)


def test_nobody_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said at once, and given up after some four seconds, by everybody."""
    clock = Moved()

    async def run() -> list[Any]:
        async with Caller({"default": nobody(tmp_path)}, tmp_path, clock=clock) as caller:
            asks = map(caller.ask, requests(200))
            return await asyncio.gather(*asks, return_exceptions=True)

    errors = asyncio.run(run())
    assert all(isinstance(error, CallFailed) and error.hopeless for error in errors)
    assert "no connection (Connection refused), 5 times in a row" in str(errors[0])
    assert "is the server running" in str(errors[0])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "m: no connection (Connection refused); it is tried again"
    assert max(clock.waits) <= 4


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://nowhere.invalid/v1", "no connection ("),
        # What answers there is no server of TLS.
        ("https", "no connection ("),
    ],
)
def test_no_name_and_no_certificate(url: str, message: str, serve: Serve, tmp_path: Path) -> None:
    address = serve().url.replace("http:", "https:") if url == "https" else url
    asked = Endpoint(model="m", base_url=address, retries=0)
    with pytest.raises(ExceptionGroup) as error:
        ask_all(tmp_path, [request("x")], asked)
    text = str(error.value.exceptions[0])
    assert message in text and "ConnectError" not in text


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
    breaker = Breaker(Endpoint("m", backoff=1.0, retries=8))
    for number in range(16):  # under way together
        breaker.failed(failure("connection"), f"call {number}", began=0)
    assert breaker.rounds == 1 and breaker.pause == 0 and breaker.verdict is None
    for wait in (1, 2, 4):
        breaker.failed(failure("connection"), "call 1", began=breaker.round)
        assert breaker.pause == wait and breaker.verdict is None
    breaker.failed(failure("connection"), "call 1", began=breaker.round)
    assert breaker.verdict and breaker.verdict.hopeless and not breaker.verdict.again
    # It had answered before: it may come back for as long as one call would be tried.
    breaker.answered()
    assert breaker.pause == 0 and breaker.verdict is None
    for _ in range(8):
        breaker.failed(failure("connection"), "call 1", began=breaker.round)
        assert breaker.verdict is None
    assert breaker.pause == 60  # of 64
    breaker.failed(failure("connection"), "call 1", began=breaker.round)
    assert breaker.verdict


def test_errors_of_a_server_are_those_of_several_calls() -> None:
    breaker = Breaker(Endpoint("m", backoff=1.0, retries=2))
    for _ in range(20):
        breaker.failed(failure("500"), "one call", began=breaker.round)
    assert breaker.verdict is None
    for number in range(4):
        breaker.failed(failure("500"), f"call {number}", began=breaker.round)
    assert breaker.verdict and "look at its log" in breaker.verdict.message


def test_a_server_that_comes_back_is_asked_on(serve: Serve, tmp_path: Path) -> None:
    """Each call fails three times."""
    clock = Moved()
    server = serve(faults=Faults(unavailable=1, at_most=3))
    replies, spent = ask_all(tmp_path, requests(10), endpoint(server), clock=clock)
    assert len(replies) == 10 and spent.retries == {"503": 30}


@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_an_hour_is_not_waited_for(status: int, serve: Serve, tmp_path: Path) -> None:
    clock = Moved()
    server = serve(
        lambda body: web.json_response({}, status=status, headers={"Retry-After": "3600"})
    )
    with pytest.raises(ExceptionGroup) as error:
        ask_all(tmp_path, [request("x")], endpoint(server), clock=clock)
    found = error.value.exceptions[0]
    assert isinstance(found, CallFailed) and found.hopeless and not clock.waits
    assert "it asks to wait 3600 s" in str(found)


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
        async with Caller({"default": endpoint(server)}, tmp_path, clock=clock) as caller:
            task = asyncio.create_task(caller.ask(request("x")))
            while not clock.waits:
                await asyncio.sleep(0.001)
            said.append(caller.why)
            opened.append(True)
            clock.time += 300
            await task
            said.append(caller.why)
            server.gate = lambda asked: len(opened) > 1
            task = asyncio.create_task(caller.ask(request("y")))
            await has_come(server, 3)
            said.append(caller.why)
            clock.time += 3
            said.append(caller.why)
            clock.time += 9
            said.append(caller.why)
            opened.append(True)
            server.nudge()
            await task
        return said

    assert asyncio.run(run()) == [
        "m: slower; goes on in 300 s",
        "",
        "",
        "",
        "m: 1 call under way, none answered for 12 s (timeout=120)",
    ]


def test_it_says_that_the_recipes_own_limit_is_reached(serve: Serve, tmp_path: Path) -> None:
    said: list[str] = []

    class Listening(Moved):
        async def sleep(self, seconds: float) -> None:
            said.append(callers[0].why)
            await super().sleep(seconds)

    callers: list[Caller] = []
    asked = endpoint(serve(), requests_per_minute=1, concurrency=1)

    async def run() -> None:
        async with Caller({"default": asked}, tmp_path, clock=Listening()) as caller:
            callers.append(caller)
            await asyncio.gather(*map(caller.ask, requests(2)))

    asyncio.run(run())
    limit = "m: at the recipe's requests_per_minute or tokens_per_minute; goes on in 60 s"
    assert said == [limit]


def test_the_bar_says_it_once_in_a_file() -> None:
    file, why = io.StringIO(), [""]

    async def run() -> None:
        with Progress("items", 3, lambda: _Spent(), file=file) as progress:
            watch = asyncio.create_task(progress.watch(lambda: why[0]))
            for wait in (300, 299, 298):
                why[0] = f"m: slower; goes on in {wait} s"
                progress.say_why(why[0])
            while "waiting" not in file.getvalue():
                await asyncio.sleep(0.001)
            watch.cancel()

    asyncio.run(run())
    assert file.getvalue().count("waiting: m: slower; goes on in 300 s") == 1
    assert "299" not in file.getvalue()


class _Spent:
    money, input_tokens, output_tokens = 0.0, 0, 0


def test_a_single_record_that_is_refused_is_its_own(
    model: Model, serve: Serve, tmp_path: Path
) -> None:
    """It is set aside for good: a later run does not ask again."""
    bad = [None]

    def answer(body: dict[str, Any]) -> Any:
        if images(body):
            bad[0] = bad[0] or images(body)[0]
            if images(body)[0] == bad[0]:
                return refused(400, "content policy")
        return model(body)

    server = serve(answer)
    made = recipe(tmp_path, server.url, "limit=12")
    built = build(made)
    assert built.sets and len(built.sets.accepted) == 11
    (row,) = built.sets.set_aside
    assert row.set_aside and row.set_aside.reason == "rejected"
    mark = len(server.requests)
    build(made)
    assert len(server.requests) == mark
    assert "content policy" in (made.output / "report.md").read_text()
    assert json.loads((made.work / "set_aside.jsonl").read_text())["id"] == row.id
