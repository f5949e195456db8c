"""Dry run: how many verdicts a command would ask for, and what they would cost; asks nobody."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.client.budget import Usage
from verbalizer_bench.client.protocol import (
    Reply,
    Request,
    estimate,
    reply_of,
    request_key,
)
from verbalizer_bench.client.response_store import NAME as CALLS
from verbalizer_bench.io.jsonl import read_objects
from verbalizer_bench.judged.judge import ATTEMPTS, Judge, Wanted, stored_replies
from verbalizer_bench.judged.questions import Answer, Question, missing_images
from verbalizer_bench.judged.record import TITLES, JudgedBenchmark, judge_folder, part_of


class _Stored(NamedTuple):
    """What earlier commands have in a judge's folder."""

    rows: Mapping[str, Mapping[str, Any]]
    tokens: int
    money: float


def describe(
    bench: JudgedBenchmark,
    answers: Mapping[str, Answer] | None,
    judge: Judge,
    output: Path,
    max_tokens: int,
) -> str:
    """Return what a command would ask of the judge, in lines.

    Args:
        bench: The benchmark's files.
        answers: To all of its questions; None: not there yet.
        judge: Who would judge.
        output: The folder of the answers.
        max_tokens: The longest answer, which each is counted as that is not there.
    """
    stored = _stored(judge_folder(output, judge.endpoint.model))
    wanted = bench.wanted(answers or _unwritten(bench.questions, max_tokens))
    left = [request for one in wanted if (request := _next_request(one, stored, judge))]
    costs = [estimate(request, judge.endpoint) for request in left]
    read = sum(cost.input_tokens for cost in costs)
    written = sum(cost.output_tokens for cost in costs)
    money = sum(cost.money for cost in costs)
    priced = None not in (judge.endpoint.input_price, judge.endpoint.output_price)
    price = f"at most {money:,.2f} in money" if priced else "no price without input_price"
    lines = [
        f"{TITLES[bench.name]}, judge {judge.endpoint.model} at {judge.endpoint.address}: "
        f"{len(wanted):,} verdicts, {len(wanted) - len(left):,} of them stored, {len(left):,} left",
        f"about {read:,} tokens of prompts, at most {written:,} of verdicts; {price}",
        "A verdict that cannot be had or read is asked for again, "
        f"up to {ATTEMPTS - 1} times; what is stored costs nothing.",
    ]
    if answers is None:
        turns = sum(len(question.turns) for question in bench.questions)
        lines.append(
            f"The {turns:,} answers are not there yet: each is counted as {max_tokens:,} tokens "
            "(--max-tokens), the most that it can have."
        )
    if missing := missing_images(bench.questions):
        lines.append(f"{missing}: the command will need them.")
    if part := part_of(bench.name, len(bench.questions)):
        lines.insert(1, part)
    return "\n".join([*lines, *_beyond(judge, stored, read + written, money)])


def _unwritten(questions: Sequence[Question], tokens: int) -> dict[str, Answer]:
    """Return answers as long as they can be: an estimate counts a token for three letters."""
    return {
        one.id: Answer(("abc" * tokens,) * len(one.turns), (None,) * len(one.turns))
        for one in questions
    }


def _stored(folder: Path) -> _Stored:
    if not (folder / CALLS).is_file():
        return _Stored({}, 0, 0.0)
    rows = {row["key"]: row for _, row in read_objects(folder / CALLS, torn=True) if "key" in row}
    used = [Usage(**row["usage"]) for row in rows.values()]
    return _Stored(rows, sum(one.tokens for one in used), sum(one.money for one in used))


def _next_request(wanted: Wanted, stored: _Stored, judge: Judge) -> Request | None:
    """Return what would be asked for a verdict; None where it is there."""

    def reply(request: Request) -> Reply | None:
        row = stored.rows.get(request_key(request, judge.endpoint))
        return reply_of(row, request, True) if row else None

    replies, value = stored_replies(wanted, reply)
    return wanted.request(len(replies)) if value is None else None


def _beyond(judge: Judge, stored: _Stored, tokens: int, money: float) -> list[str]:
    """Return a line for each limit of the budget that may be passed."""
    limits = (
        ("tokens", judge.budget.tokens, stored.tokens, tokens),
        ("money", judge.budget.money, stored.money, money),
    )
    return [
        f"That may be more than budget.{name}={limit:,} ({spent:,.6g} are spent): the command "
        "would stop there, and go on once it is raised."
        for name, limit, spent, needed in limits
        if limit is not None and spent + needed > limit
    ]
