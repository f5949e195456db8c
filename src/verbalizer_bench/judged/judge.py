"""Ask a judge: every verdict is kept; what cannot be read is asked again, then left out, counted.

`calls.jsonl` in the judge's folder has every response, so that a verdict is paid for once;
`verdicts.jsonl` what was read in them. What a command left out the next one asks for again, and
nothing else: the first response that can be read is the verdict. A benchmark of which more than
1 % of the verdicts are missing has no score: the mean of what is left would be another
benchmark's. A budget is for all commands that asked in the folder together.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from verbalizer_bench.client.budget import Budget, BudgetExceeded
from verbalizer_bench.client.chat_client import CallFailed, ChatClient
from verbalizer_bench.client.command_line import endpoint_of
from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.event_loop import run_to_end
from verbalizer_bench.client.protocol import Reply, Request, request_key
from verbalizer_bench.client.response_checks import finish_kind, strip_reasoning
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.jsonl import read_objects

ROLE = "judge"
VERDICTS, RESULT, NO_SCORE = "verdicts.jsonl", "result.json", "no_score.json"
# How often a command asks for a verdict, and which share of them may be missing.
ATTEMPTS = 3
MOST_MISSING = 0.01


class Wanted(NamedTuple):
    """A verdict that is wanted.

    Attributes:
        id: Its name: question and turn.
        messages: What the judge is asked.
        read: Returns what the judge's text says; None if it says none.
        reminder: What stands behind the last message where the verdict is asked for again.
    """

    id: str
    messages: tuple[Mapping[str, Any], ...]
    read: Callable[[str], Any]
    reminder: str = ""

    def request(self, attempt: int) -> Request:
        """Return what the judge is sent, first (0) or after so many responses without a verdict."""
        *before, last = self.messages
        if attempt and self.reminder:
            last = {**last, "content": last["content"] + self.reminder}
        return Request(ROLE, (*before, last), None, attempt)


class Verdict(NamedTuple):
    """A verdict, or why there is none.

    Attributes:
        id: As in `Wanted`.
        value: What the judge said; None: nothing that can be read.
        text: Its last response.
        model: The judge's name as its server gives it.
        attempts: How often it was asked, by all commands that were not stopped.
        problem: Why there is no value.
        key: The response's in `calls.jsonl`.
        asked: The key of what was asked first; another prompt has another.
        input_tokens: Of all prompts that were answered.
        output_tokens: Of all responses.
    """

    id: str
    value: Any
    text: str
    model: str
    attempts: int
    problem: str | None
    key: str
    asked: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class JudgeStopped(ValueError):
    """No other verdict can be had now; what was answered is stored."""


class TooFewVerdicts(ValueError):
    """So many verdicts are missing that there is no score."""


class Judge(NamedTuple):
    """Who judges, and what it may cost.

    Attributes:
        endpoint: The judge.
        budget: For all verdicts in its folder.
    """

    endpoint: Endpoint
    budget: Budget


def make_judge(model: str, overrides: Sequence[str], max_tokens: int) -> Judge:
    """Return a judge: temperature 0, no limit, and what `key=value` replaces.

    Args:
        model: Its name at its server.
        overrides: Keys of its endpoint, `budget.tokens` and `budget.money`.
        max_tokens: The longest verdict.

    Raises:
        ValueError: A key or value is wrong.
    """
    return Judge(*endpoint_of("--judge", model, overrides, max_tokens))


def ask_verdicts(judge: Judge, wanted: Sequence[Wanted], folder: Path) -> list[Verdict]:
    """Return a verdict for each that is wanted, and write them down.

    Args:
        judge: The judge.
        wanted: What is asked.
        folder: The judge's.

    Raises:
        JudgeStopped: The server can answer none of the rest: the key is wrong, the model unknown,
            or the budget is spent.
    """
    # A score that is there is of all the verdicts beside it.
    for name in (RESULT, NO_SCORE):
        (folder / name).unlink(missing_ok=True)
    verdicts = run_to_end(_ask_all(judge, wanted, folder, _attempts_before(folder)))
    write_whole(folder / VERDICTS, jsonl.dumps(verdict._asdict() for verdict in verdicts))
    return verdicts


def _attempts_before(folder: Path) -> dict[str, int]:
    """Return how often earlier commands asked, failed calls too, by the first request's key."""
    file = folder / VERDICTS
    rows = read_objects(file) if file.is_file() else ()
    return {row["asked"]: row["attempts"] for _, row in rows if "asked" in row}


async def _ask_all(
    judge: Judge, wanted: Sequence[Wanted], folder: Path, before: Mapping[str, int]
) -> list[Verdict]:
    found: dict[str, Verdict] = {}
    waiting = iter(wanted)
    async with ChatClient({ROLE: judge.endpoint}, folder, budget=judge.budget) as client:
        with tqdm(desc="Verdicts", total=len(wanted), unit="verdict") as bar:

            async def work() -> None:
                for one in waiting:
                    asked = request_key(one.request(0), judge.endpoint)
                    found[one.id] = await _verdict(client, one, asked, before.get(asked, 0))
                    bar.update()

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(judge.endpoint.concurrency, len(wanted))):
                        group.create_task(work())
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
    return [found[one.id] for one in wanted]


def stored_replies(
    wanted: Wanted, stored: Callable[[Request], Reply | None]
) -> tuple[list[Reply], Any]:
    """Return the stored replies up to one that can be read, and what that says; None without one.

    Args:
        wanted: The verdict.
        stored: Returns the stored reply to a request; None if there is none.
    """
    replies: list[Reply] = []
    value = None
    while value is None and (reply := stored(wanted.request(len(replies)))):
        replies.append(reply)
        value = wanted.read(strip_reasoning(reply.text))
    return replies, value


async def _verdict(client: ChatClient, wanted: Wanted, asked: str, before: int) -> Verdict:
    replies, value = stored_replies(wanted, client.stored)
    attempts, problem = max(before, len(replies)), None
    for _ in range(ATTEMPTS if value is None else 0):
        attempts += 1
        reply, problem = await _reply(client, wanted.request(len(replies)))
        if reply is None:
            continue
        replies.append(reply)
        value = wanted.read(strip_reasoning(reply.text))
        if value is not None:
            problem = None
            break
    read = sum(reply.input_tokens for reply in replies)
    written = sum(reply.output_tokens for reply in replies)
    text, model, key = next(((r.text, r.model, r.key) for r in reversed(replies)), ("", "", ""))
    return Verdict(wanted.id, value, text, model, attempts, problem, key, asked, read, written)


async def _reply(client: ChatClient, request: Request) -> tuple[Reply | None, str]:
    """Return a reply and why it would hold no verdict, or None and why the call failed."""
    try:
        reply = await client.ask(request)
    except BudgetExceeded as error:
        raise JudgeStopped(f"stopped: {error}") from error
    except CallFailed as error:
        if error.fatal:
            raise JudgeStopped(
                f"{error}; mend what it says and run the same command again: it asks for the "
                f"verdicts that are not stored in {client.folder}"
            ) from error
        return None, str(error)
    kind = finish_kind(reply.finish_reason)
    if kind == "too_long":
        return reply, "cut off before its verdict (max_tokens)"
    refused = reply.refusal or kind == "refused"
    return reply, "a refusal" if refused else "no verdict in the text"


def check_complete(benchmark: str, verdicts: Sequence[Verdict]) -> None:
    """Raise TooFewVerdicts if so many are missing that there is no score."""
    missing = [verdict for verdict in verdicts if verdict.value is None]
    if len(missing) <= MOST_MISSING * len(verdicts):
        return
    raise TooFewVerdicts(
        f"{benchmark}: {len(missing)} of {len(verdicts)} verdicts are missing "
        f"({len(missing) / len(verdicts):.1%}), and with more than {MOST_MISSING:.0%} there is no "
        f"score; the first: {missing[0].id}: {missing[0].problem}; run the same command again, "
        f"which asks up to {ATTEMPTS} times more for these alone, or give another judge"
    )
