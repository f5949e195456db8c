"""One row's attempts, and many rows at once."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.helpers.calls import PROMPTS
from verbalizer_bench.builders.pipeline.generation import (
    GenerationResult,
    GenerationTask,
    Problem,
    ResponseGenerator,
)
from verbalizer_bench.builders.pipeline.worker_pool import BuildStopped, Unanswered, map_ordered
from verbalizer_bench.client.budget import BudgetExceeded
from verbalizer_bench.client.chat_client import CallFailed
from verbalizer_bench.client.protocol import Reply, Request

SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}}
MESSAGES = ({"role": "user", "content": "Say yes."},)


class Fake:
    """Answer by a function of the attempt's number; keep the requests."""

    def __init__(self, *replies: Any) -> None:
        self.replies, self.requests = replies, list[Request]()

    async def ask(self, request: Request) -> Reply:
        self.requests.append(request)
        scripted = self.replies[len(self.requests) - 1]
        if isinstance(scripted, Exception):
            raise scripted
        text, value, refusal, finish = "", None, None, "stop"
        if isinstance(scripted, dict):
            text, value = str(scripted.get("answer")), scripted
        elif isinstance(scripted, tuple):
            refusal, finish = scripted
            text = "x" if finish == "length" else ""
        else:
            text = scripted
        return Reply(text, value, refusal, finish, "m", 3, 2, f"key{request.n}", False)


def ask(fake: Fake, retries: int = 2, **others: Any) -> GenerationResult:
    def judge(value: Mapping[str, Any]) -> Problem | None:
        said = value.get("answer", value.get("text"))
        return None if said == "yes" else Problem("format", "say yes")

    schema = others.pop("schema", SCHEMA)
    first, so_far = others.pop("first", 0), others.pop("so_far", None)
    generator = ResponseGenerator(fake, PROMPTS, retries, **others)
    question = GenerationTask("item", MESSAGES, schema, judge, first, so_far)
    return asyncio.run(generator.generate(question))


def test_a_failure_is_named_after_the_answer_that_failed() -> None:
    fake = Fake({"answer": "no"}, {"answer": "well"}, {"answer": "yes"})
    result = ask(fake)
    assert result.value == {"answer": "yes"} and result.problem is None
    assert [one.problem for one in result.attempts] == ["format: say yes", "format: say yes", None]
    last = [message["content"] for message in fake.requests[2].messages]
    assert last == ["Say yes.", "no", "Form: say yes.", "well", "Form: say yes."]
    assert [request.n for request in fake.requests] == [0, 1, 2]


def test_of_what_was_no_answer_nothing_is_kept() -> None:
    fake = Fake("", "chatter", {"answer": "yes"})
    assert ask(fake).value
    texts = [[message["content"] for message in request.messages] for request in fake.requests]
    assert texts[1] == ["Say yes.\n\nNothing!"]
    assert texts[2] == ["Say yes.\n\nNot so: no object in the response."]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (("I must not.", "stop"), "refusal"),
        ((None, "content_filter"), "refusal"),
        ((None, "length"), "cut_off"),
        (" \n", "empty"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I cannot assist with identifying people.", "refusal"),
        ("Not an object", "unparsable"),
        ({"answer": "no"}, "format"),
    ],
)
def test_attempts_end_and_the_last_reason_stays(reply: Any, reason: str) -> None:
    fake = Fake(reply, reply, reply)
    result = ask(fake)
    assert result.value is None and result.problem and result.problem.reason == reason
    assert len(result.attempts) == len(fake.requests) == 3


def test_an_answer_that_says_cannot_is_no_refusal() -> None:
    fake = Fake("I cannot tell how many there are.")
    result = ask(fake, retries=0, schema=None)
    assert result.problem and result.problem.reason == "format"


def test_attempts_before_count() -> None:
    so_far = Problem("format", "say yes")
    result = ask(fake := Fake({"answer": "no"}), retries=1, first=1, so_far=so_far)
    assert len(fake.requests) == 1 and fake.requests[0].n == 1 and result.problem == so_far
    assert ask(Fake(), retries=0, first=1, so_far=so_far) == GenerationResult(None, so_far, ())


def test_final_reasons_are_not_asked_about_again() -> None:
    fake = Fake({"answer": "no"})
    result = ask(fake, final=("format",))
    assert result.problem and len(fake.requests) == 1


def test_halves_of_surrogate_pairs_are_no_answer() -> None:
    result = ask(Fake(" \ud83d yes "), retries=0, schema=None)
    assert result.problem and result.problem.reason == "damaged"


@pytest.mark.parametrize(
    ("status", "fatal", "failures", "reason"),
    [
        (400, False, "stop", "rejected"),
        (413, False, "set_aside", "rejected"),
        (405, False, "stop", "rejected"),
        (429, False, "stop", None),
        (500, False, "set_aside", "failed"),
        (None, False, "set_aside", "failed"),
        (500, False, "stop", None),
        (401, True, "set_aside", None),
    ],
)
def test_a_call_that_fails(
    status: int | None, fatal: bool, failures: str, reason: str | None
) -> None:
    fake = Fake(CallFailed("item: it failed", status, fatal))
    if reason is None:
        with pytest.raises(Unanswered, match="it failed"):
            ask(fake, failures=failures)
        return
    result = ask(fake, failures=failures)
    assert result.problem == Problem(reason, "item: it failed")


def run(work: Callable[[int], Any], n: int = 20) -> list[int]:
    async def awaited(unit: int) -> int:
        await asyncio.sleep(0.001 * (unit % 3))
        made: int = work(unit)
        return made

    return asyncio.run(map_ordered(range(n), awaited, 4, lambda place, result: None))


def test_results_come_in_the_units_order() -> None:
    assert run(lambda unit: unit * 2) == [unit * 2 for unit in range(20)]
    assert run(lambda unit: unit, n=0) == []


def test_all_units_are_worked_on_though_some_fail() -> None:
    done = []

    def work(unit: int) -> int:
        if unit in (3, 7):
            raise Unanswered(f"unit {unit}")
        done.append(unit)
        return unit

    with pytest.raises(Unanswered, match="2 of 20 calls failed, the first: unit 3"):
        run(work)
    assert len(done) == 18


@pytest.mark.parametrize(
    "error", [BudgetExceeded("spent"), ValueError("a wrong key"), BuildStopped("gone")]
)
def test_what_every_unit_would_meet_ends_it(error: Exception) -> None:
    done = []

    def work(unit: int) -> int:
        done.append(unit)
        if unit == 5:
            raise error
        return unit

    with pytest.raises(type(error)):
        run(work)
    assert len(done) < 20
