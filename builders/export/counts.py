"""Counts: what became of the rows, by stage, instruction and reason, and what they have cost."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from verbalizer_bench.builders.client.endpoint import Endpoint
from verbalizer_bench.builders.pipeline.sample import Attempt, Row

EXAMPLES = 3


class Yield(NamedTuple):
    """How many rows came in, and how many went on."""

    rows: int
    kept: int

    @property
    def share(self) -> float:
        """Return the share that went on; of none, nothing."""
        return self.kept / self.rows if self.rows else 0.0


class Cost(NamedTuple):
    """What the calls of a role have cost."""

    calls: int
    input_tokens: int
    output_tokens: int
    money: float


def stage_yields(rows: Sequence[Row], stages: Sequence[str]) -> dict[str, Yield]:
    """Return, for each stage, how many rows it was given and how many it did not set aside."""
    aside = Counter(row.set_aside.stage for row in rows if row.set_aside)
    left, found = len(rows), {}
    for stage in stages:
        found[stage] = Yield(left, left - aside[stage])
        left -= aside[stage]
    return found


def instruction_yields(rows: Sequence[Row]) -> dict[str, Yield]:
    """Return the same by the instruction's type, for rows that have one and a question."""
    asked = [row for row in rows if row.instruction and row.turns]
    of_type = Counter(row.instruction.type for row in asked if row.instruction)
    kept = Counter(
        row.instruction.type for row in asked if row.instruction and row.set_aside is None
    )
    return {kind: Yield(of_type[kind], kept[kind]) for kind in sorted(of_type)}


def first_attempts(rows: Sequence[Row]) -> dict[str, Yield]:
    """Return, by the instruction's type, how many first answers obeyed it."""
    found: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        items = [attempt for attempt in row.attempts if attempt.role == "item"]
        if row.instruction and items:
            found[row.instruction.type].append(items[0].problem is None)
    return {kind: Yield(len(taken), sum(taken)) for kind, taken in sorted(found.items())}


def reasons(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Return the rows that were set aside, by stage and reason, the most frequent first."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.set_aside:
            found[row.set_aside.stage, row.set_aside.reason].append(row)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def costs(rows: Sequence[Row], endpoints: Mapping[str, Endpoint]) -> dict[str, Cost]:
    """Return what the rows' calls have cost, by role; a call that rows share counts once."""
    calls: dict[str, Attempt] = {}
    for row in rows:
        for attempt in row.attempts:
            calls.setdefault(attempt.key, attempt)
    found = {}
    for role in dict.fromkeys(call.role for call in calls.values()):
        of_role = [call for call in calls.values() if call.role == role]
        given = sum(call.input_tokens for call in of_role)
        taken = sum(call.output_tokens for call in of_role)
        endpoint = endpoints.get(role) or endpoints.get("default")
        money = endpoint.money(given, taken) if endpoint else 0.0
        found[role] = Cost(len(of_role), given, taken, money)
    return found


def lengths(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Return the words of captions, questions and answers."""
    found: dict[str, list[int]] = {"caption": [], "question": [], "answer": []}
    for row in rows:
        if row.caption:
            found["caption"].append(len(row.caption.split()))
        for turn in row.turns:
            found["question"].append(len(turn.question.split()))
            found["answer"].append(len(turn.answer.split()))
    return {name: values for name, values in found.items() if values}
