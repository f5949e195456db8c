"""Requests that are refused one and all, and records that are refused alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.helpers.builder import Model
from tests.helpers.data_recipes import instructions, real_data, recipe
from tests.helpers.endpoint_server import Server, images, prompt
from verbalizer_bench.builders.build import build
from verbalizer_bench.builders.pipeline.failure_monitor import FailureMonitor
from verbalizer_bench.builders.pipeline.sample import Attempt, TrainingSample
from verbalizer_bench.builders.pipeline.worker_pool import BuildStopped

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
    # All items and their questions are 120.
    assert len(asked) < 60


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
    assert message.startswith("no record was accepted: all 3 are rejected, 3 of them in captions")
    assert "for refusal" in message and "report.md" in message and "\n" not in message
    assert message.endswith("change the endpoint's parameters, or give another output")
    assert (made.output / "report.md").is_file()


THOUGHT = "<think>A boat.</think> A boat lies there."


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda body: THOUGHT, "thoughts: <think> is in it: switch thinking off"),
        (lambda body: "", "empty: the response is empty"),
        (
            lambda body: web.json_response(
                {"choices": [{"message": {"content": "A"}, "finish_reason": "length"}]}
            ),
            "cut_off: the response is longer than max_tokens",
        ),
    ],
)
def test_a_server_whose_answers_cannot_be_used_stops_early(
    answer: Any, said: str, model: Model, serve: Serve, tmp_path: Path
) -> None:
    """It is paid for each of them: 118 images, and two attempts each."""
    server = serve(answer)
    more = ("captions=null", "retries=1", "failures=set_aside", CALLS)
    for _ in range(2):  # what is stored is not asked for again
        with pytest.raises(ValueError) as error:
            build(recipe(tmp_path, server.url, *more))
        message = str(error.value)
        assert message.startswith("stopped: none of the first 2") and "\n" not in message
        assert f" answers for caption can be used, the first: {said}" in message
        assert "change the endpoint's parameters" in message
        assert 40 <= len(server.requests) <= 46
    assert not list(tmp_path.rglob("2_captions.jsonl"))
    server.answer = model
    asked = "endpoints.default.parameters={enable_thinking: false}"
    built = build(recipe(tmp_path, server.url, "limit=6", *more, asked))
    assert built.sets and len(built.sets.accepted) == 6


@pytest.mark.parametrize(
    ("outcomes", "before", "stops"),
    [
        (20 * "u", False, True),
        (19 * "u", False, False),
        (19 * "u" + "au", False, False),
        ("..." + 10 * "u." + 10 * "u", False, True),
        (20 * "u", True, False),
    ],
)
def test_answers_that_cannot_be_used(outcomes: str, before: bool, stops: bool) -> None:
    """`u` cannot be used, `a` can, `.` is not asked."""
    refusals = FailureMonitor("set_aside")
    attempt = Attempt("item", "k", "m", 1, 1)
    try:
        for place, outcome in enumerate(outcomes):
            old = TrainingSample(id=f"{place}", attempts=(attempt,) if before else ())
            new = TrainingSample(id=old.id, attempts=(*old.attempts, attempt))
            rejected = new.reject("items", "unparsable", "no JSON object in it")
            refusals.add(place, [old], [{"u": rejected, "a": new, ".": old}[outcome]])
        refusals.end()
    except BuildStopped as error:
        assert stops and str(error).startswith("none of the first 20 answers for item")
    else:
        assert not stops


def samples(role: str, outcomes: str) -> list[tuple[TrainingSample, TrainingSample]]:
    """Return rows before and after: `a` was answered, `r` refused, `.` not asked."""
    pairs = []
    for number, outcome in enumerate(outcomes):
        before = after = TrainingSample(id=f"{number}")
        if outcome == "a":
            after = TrainingSample(id=before.id, attempts=(Attempt(role, "k", "m", 1, 1),))
        elif outcome == "r":
            after = before.reject("items", "rejected", f"{role}: m at x: 400: no {number}")
        elif outcome == ".":
            before = after = before.reject("images", "image", "damaged")
        pairs.append((before, after))
    return pairs


def verdict(outcomes: str, order: list[int] | None = None, failures: str = "stop") -> str:
    """Return what is said of units that end in some order; "" if nothing is."""
    refusals, pairs = FailureMonitor(failures), samples("item", outcomes)
    try:
        for place in order or range(len(pairs)):
            before, after = pairs[place]
            refusals.add(place, [before], [after])
        refusals.end()
    except BuildStopped as error:
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


@pytest.mark.parametrize(
    ("outcomes", "failures", "said"),
    [
        # `a` was answered by an earlier stage and is not asked now, `r` is asked again and refused.
        ("aaaraar", "stop", ""),
        ("rarararar", "stop", "the first 5"),
        ("rarararar", "set_aside", ""),
        ("rrrr", "stop", ""),
        ("a" + 20 * "r", "set_aside", "20"),
    ],
)
def test_requests_that_follow_answered_ones_are_longer(
    outcomes: str, failures: str, said: str
) -> None:
    refusals = FailureMonitor(failures)
    try:
        for place, outcome in enumerate(outcomes):
            sample = TrainingSample(id=f"{place}", attempts=(Attempt("item", "k", "m", 1, 1),))
            rejected = sample.reject("check", "rejected", "item: m at x: 400: too long")
            refusals.add(place, [sample], [rejected if outcome == "r" else sample])
        refusals.end()
    except BuildStopped as error:
        assert said and str(error).startswith(f"{said} requests")
    else:
        assert not said


def test_the_order_of_answers_does_not_matter() -> None:
    """Refusals are faster than answers, and what is stored is faster than either."""
    mixed = "rrar" * 10 + "a"
    fast = sorted(range(len(mixed)), key=lambda place: mixed[place] != "r")
    assert verdict(mixed, fast) == ""
    # Records that are refused at the end may be lost where the recipe says so.
    assert verdict("arrrrrr", failures="set_aside") == ""
    assert verdict("rrrr", failures="set_aside") == "all 4"


def test_a_single_record_that_is_refused_is_its_own(
    model: Model, serve: Serve, tmp_path: Path
) -> None:
    """It is rejected for good: a later run does not ask again."""
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
    (sample,) = built.sets.rejected
    assert sample.rejection and sample.rejection.reason == "rejected"
    mark = len(server.requests)
    build(made)
    assert len(server.requests) == mark
    assert "content policy" in (made.output / "report.md").read_text()
    assert json.loads((made.work / "set_aside.jsonl").read_text())["id"] == sample.id
