"""Drafts of a form's questions by a vision model: each row that it writes says that it is a draft.

Rows that a person has begun are left alone. Responses are stored in `calls.jsonl` of the form, so
that the same command pays for none twice. What cannot be had after three attempts stays empty, and
is said.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from verbalizer_bench.client.budget import Budget, BudgetExceeded
from verbalizer_bench.client.chat_client import CallFailed, ChatClient
from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.event_loop import run_to_end
from verbalizer_bench.client.protocol import Request, estimate, request_key
from verbalizer_bench.client.response_store import NAME as CALLS
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.io.jsonl import read_objects
from verbalizer_bench.tasks.mmvp.patterns import PATTERNS
from verbalizer_bench.tasks.mmvp.questions import FILE
from verbalizer_bench.vision.pair_form import (
    HEADER,
    RECORD,
    FormRow,
    image_of,
    read_form,
    write_rows,
)

ROLE, ATTEMPTS, MAX_TOKENS = "question", 3, 512
_ASKED = (
    "Here are two images. Write one short question about something that is plainly different "
    "between them, such that one image's answer is not the other's. Give the answer for the first "
    "image and for the second image, {words} each, and the kind of difference: "
)
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "question": {"type": "string"},
        "first_answer": {"type": "string"},
        "second_answer": {"type": "string"},
        "pattern": {"type": "string", "enum": [*PATTERNS.values()]},
    },
    "required": ["question", "first_answer", "second_answer", "pattern"],
    "additionalProperties": False,
}


class Drafted(NamedTuple):
    """What came of asking.

    Attributes:
        written: How many pairs have a draft now that had none.
        failed: Why a pair has none, by its number.
        stopped: Why no more could be asked; "" if all were.
    """

    written: int
    failed: Mapping[int, str]
    stopped: str

    def lines(self, form: Path) -> list[str]:
        """Return what is printed of it."""
        lines = [f"Pair {number}: no draft: {why}" for number, why in self.failed.items()]
        lines.append(
            f"{self.written} pairs drafted in {form / FILE}: look at each, and empty its Draft"
        )
        return lines


def draft_form(form: Path, endpoint: Endpoint, budget: Budget, words: int = 1) -> Drafted:
    """Have a vision model write the questions of pairs that are empty.

    Args:
        form: The form.
        endpoint: The model.
        budget: For all drafts of the form.
        words: The most words of an answer.

    Raises:
        ValueError: It is no form, or the key is missing.
    """
    endpoint.key()
    pairs = read_form(form)
    empty = [pair for pair in pairs if all(row.is_empty for row in pair)]
    found, failed, stopped = run_to_end(_ask_all(form, empty, endpoint, budget, words))
    rows: list[Mapping[str, str]] = []
    for pair in pairs:
        drafts = found.get(pair[0].number)
        rows += drafts or [row.cells for row in pair]
    if found:
        record = read_record(form / RECORD)
        record["drafts"] = {
            "model": endpoint.model,
            "address": endpoint.address,
            "parameters": endpoint.parameters,
            "prompt_sha256": hashlib.sha256(_prompt(words).encode()).hexdigest(),
            "date": datetime.now(UTC).date().isoformat(),
        }
        write_whole(form / RECORD, json.dumps(record, indent=1) + "\n")
        write_rows(form / FILE, HEADER, rows)
    return Drafted(len(found), dict(sorted(failed.items())), stopped)


def dry_run(form: Path, endpoint: Endpoint, words: int = 1) -> str:
    """Return how many drafts would be asked for and what they would cost; asks nobody.

    Args:
        form: The form.
        endpoint: The model.
        words: The most words of an answer.

    Raises:
        FileNotFoundError: It is no form.
        ValueError: Its table is none, or an image is not there.
    """
    pairs = read_form(form)
    wanted = [_request(form, pair, words, 0) for pair in pairs if all(r.is_empty for r in pair)]
    calls = form / CALLS
    stored = (
        {row.get("key") for _, row in read_objects(calls, torn=True)} if calls.is_file() else ()
    )
    left = [request for request in wanted if request_key(request, endpoint) not in stored]
    costs = [estimate(request, endpoint) for request in left]
    money = f"at most {sum(cost.money for cost in costs):,.2f} in money"
    priced = None not in (endpoint.input_price, endpoint.output_price)
    return "\n".join(
        [
            f"{len(pairs):,} pairs, {len(wanted):,} of them empty; {len(left):,} drafts left to "
            f"ask {endpoint.model} at {endpoint.address} for",
            f"about {sum(cost.input_tokens for cost in costs):,} tokens of prompts and images, at "
            f"most {sum(cost.output_tokens for cost in costs):,} of drafts; "
            + (money if priced else "no price without input_price and output_price"),
            f"A draft that cannot be read is asked for again, up to {ATTEMPTS - 1} times.",
        ]
    )


def _request(form: Path, pair: tuple[FormRow, FormRow], words: int, number: int) -> Request:
    images = [{"type": "image_file", "path": str(image_of(form, row.number))} for row in pair]
    text = {"type": "text", "text": _prompt(words)}
    return Request(ROLE, ({"role": "user", "content": [*images, text]},), SCHEMA, number)


async def _ask_all(
    form: Path,
    pairs: Sequence[tuple[FormRow, FormRow]],
    endpoint: Endpoint,
    budget: Budget,
    words: int,
) -> tuple[dict[int, list[dict[str, str]]], dict[int, str], str]:
    found: dict[int, list[dict[str, str]]] = {}
    failed: dict[int, str] = {}
    stopped: list[str] = []
    waiting = iter(pairs)
    async with ChatClient({ROLE: endpoint}, form, budget=budget) as client:
        with tqdm(desc="Drafts", total=len(pairs), unit="pair") as bar:

            async def work() -> None:
                for pair in waiting:
                    if stopped:
                        return
                    try:
                        await _draft(client, form, pair, words, found, failed)
                    except BudgetExceeded as error:
                        stopped.append(str(error))
                    except CallFailed as error:
                        if error.fatal:
                            stopped.append(str(error))
                        failed[pair[1].number // 2] = str(error)
                    bar.update()

            async with asyncio.TaskGroup() as group:
                for _ in range(min(endpoint.concurrency, len(pairs))):
                    group.create_task(work())
    return found, failed, stopped[0] if stopped else ""


async def _draft(
    client: ChatClient,
    form: Path,
    pair: tuple[FormRow, FormRow],
    words: int,
    found: dict[int, list[dict[str, str]]],
    failed: dict[int, str],
) -> None:
    problem = ""
    for number in range(ATTEMPTS):
        reply = await client.ask(_request(form, pair, words, number))
        if reply.value is None:
            problem = reply.refusal or reply.problem or "no answer"
            continue
        try:
            found[pair[0].number] = _cells(pair, reply.value, words, reply.model)
        except ValueError as error:
            problem = str(error)
            continue
        return
    failed[pair[1].number // 2] = problem


def _prompt(words: int) -> str:
    asked = _ASKED.format(words="one word" if words == 1 else f"at most {words} words")
    return asked + "; ".join(PATTERNS.values()) + "."


def _cells(
    pair: tuple[FormRow, FormRow], value: Mapping[str, str], words: int, model: str
) -> list[dict[str, str]]:
    """Return the rows of a draft.

    Raises:
        ValueError: An answer is too long, or both are the same.
    """
    question = " ".join(value["question"].split())
    answers = [
        " ".join(value[name].split()).strip(".") for name in ("first_answer", "second_answer")
    ]
    for answer in answers:
        if not question or not 0 < len(answer.split()) <= words or "(" in answer:
            raise ValueError(f"its answer {answer!r} has not one to {words} words")
    if answers[0].casefold() == answers[1].casefold():
        raise ValueError(f"both its answers are {answers[0]!r}")
    # So that the first image's answer is not always (a).
    turned = hashlib.sha256(question.encode()).digest()[0] % 2 == 1
    first, second = reversed(answers) if turned else answers
    letters = ("(b)", "(a)") if turned else ("(a)", "(b)")
    return [
        {
            **row.cells,
            "Question": question,
            "Options": f"(a) {first} (b) {second}",
            "Correct Answer": letter,
            "Pattern": value["pattern"],
            "Draft": model,
        }
        for row, letter in zip(pair, letters, strict=True)
    ]
