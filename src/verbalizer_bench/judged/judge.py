"""Ask a judge: every verdict is kept; what cannot be read is asked again, then left out, counted.

`calls.jsonl` in the judge's folder has every response, so that a verdict is paid for once;
`verdicts.jsonl` what was read in them. A benchmark of which more than 1 % of the verdicts are
missing has no score: the mean of what is left would be another benchmark's. A budget is for all
commands that asked in the folder together.
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
from verbalizer_bench.client.protocol import Request
from verbalizer_bench.client.response_checks import finish_kind, strip_reasoning
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole

ROLE = "judge"
VERDICTS, RESULT = "verdicts.jsonl", "result.json"
# How often a verdict is asked for, and which share of them may be missing.
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
        """Return what the judge is sent, at the first attempt (0) or a further one."""
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
        attempts: How often it was asked.
        problem: Why there is no value.
        key: The response's in `calls.jsonl`.
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
    input_tokens: int = 0
    output_tokens: int = 0


class JudgeStopped(ValueError):
    """No other verdict can be had now; what was answered is stored."""


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
    (folder / RESULT).unlink(missing_ok=True)
    verdicts = run_to_end(_ask_all(judge, wanted, folder))
    write_whole(folder / VERDICTS, jsonl.dumps(verdict._asdict() for verdict in verdicts))
    return verdicts


async def _ask_all(judge: Judge, wanted: Sequence[Wanted], folder: Path) -> list[Verdict]:
    found: dict[str, Verdict] = {}
    waiting = iter(wanted)
    async with ChatClient({ROLE: judge.endpoint}, folder, budget=judge.budget) as client:
        with tqdm(desc="Verdicts", total=len(wanted), unit="verdict") as bar:

            async def work() -> None:
                for one in waiting:
                    found[one.id] = await _verdict(client, one)
                    bar.update()

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(judge.endpoint.concurrency, len(wanted))):
                        group.create_task(work())
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
    return [found[one.id] for one in wanted]


async def _verdict(client: ChatClient, wanted: Wanted) -> Verdict:
    text = model = key = problem = ""
    read = written = 0
    for number in range(ATTEMPTS):
        try:
            reply = await client.ask(wanted.request(number))
        except BudgetExceeded as error:
            raise JudgeStopped(f"stopped: {error}") from error
        except CallFailed as error:
            if error.fatal:
                raise JudgeStopped(
                    f"{error}; mend what it says and run the same command again: it asks for the "
                    f"verdicts that are not stored in {client.folder}"
                ) from error
            problem = str(error)
            continue
        text, model, key = reply.text, reply.model, reply.key
        read, written = read + reply.input_tokens, written + reply.output_tokens
        value = wanted.read(strip_reasoning(reply.text))
        if value is not None:
            return Verdict(wanted.id, value, text, model, number + 1, None, key, read, written)
        kind = finish_kind(reply.finish_reason)
        problem = "a refusal" if reply.refusal or kind == "refused" else "no verdict in the text"
        if kind == "too_long":
            problem = "cut off before its verdict (max_tokens)"
    return Verdict(wanted.id, None, text, model, ATTEMPTS, problem, key, read, written)


def check_complete(benchmark: str, verdicts: Sequence[Verdict]) -> None:
    """Raise ValueError if so many verdicts are missing that there is no score."""
    missing = [verdict for verdict in verdicts if verdict.value is None]
    if len(missing) <= MOST_MISSING * len(verdicts):
        return
    raise ValueError(
        f"{benchmark}: {len(missing)} of {len(verdicts)} verdicts are missing "
        f"({len(missing) / len(verdicts):.1%}), and with more than {MOST_MISSING:.0%} there is no "
        f"score; the first: {missing[0].id}: {missing[0].problem}; run the same command again, "
        "which asks once more for what failed, or give another judge"
    )
