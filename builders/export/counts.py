"""Counts: what became of the rows, by stage, instruction and reason, and what they have cost."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from verbalizer_bench.builders.client.endpoint import Endpoint
from verbalizer_bench.builders.pipeline.sample import Attempt, Sample

EXAMPLES = 3


class Yield(NamedTuple):
    """How many rows came in, and how many went on."""

    samples: int
    kept: int

    @property
    def share(self) -> float:
        """Return the share that went on; of none, nothing."""
        return self.kept / self.samples if self.samples else 0.0


class RoleUsage(NamedTuple):
    """What the calls of a role have cost."""

    calls: int
    input_tokens: int
    output_tokens: int
    money: float


def stage_yields(samples: Sequence[Sample], stages: Sequence[str]) -> dict[str, Yield]:
    """Return, for each stage, how many rows it was given and how many it did not set aside."""
    aside = Counter(sample.rejection.stage for sample in samples if sample.rejection)
    left, found = len(samples), {}
    for stage in stages:
        found[stage] = Yield(left, left - aside[stage])
        left -= aside[stage]
    return found


def instruction_yields(samples: Sequence[Sample]) -> dict[str, Yield]:
    """Return the same by the instruction's type, for rows that have one and a question."""
    asked = [sample for sample in samples if sample.instruction and sample.turns]
    of_type = Counter(sample.instruction.type for sample in asked if sample.instruction)
    kept = Counter(
        sample.instruction.type
        for sample in asked
        if sample.instruction and sample.rejection is None
    )
    return {kind: Yield(of_type[kind], kept[kind]) for kind in sorted(of_type)}


def first_attempts(samples: Sequence[Sample]) -> dict[str, Yield]:
    """Return, by the instruction's type, how many first answers obeyed it."""
    found: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        items = [attempt for attempt in sample.attempts if attempt.role == "item"]
        if sample.instruction and items:
            found[sample.instruction.type].append(items[0].problem is None)
    return {kind: Yield(len(taken), sum(taken)) for kind, taken in sorted(found.items())}


def reasons(samples: Sequence[Sample]) -> dict[tuple[str, str], list[Sample]]:
    """Return the rows that were set aside, by stage and reason, the most frequent first."""
    found: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.rejection:
            found[sample.rejection.stage, sample.rejection.reason].append(sample)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def costs(samples: Sequence[Sample], endpoints: Mapping[str, Endpoint]) -> dict[str, RoleUsage]:
    """Return what the rows' calls have cost, by role; a call that rows share counts once."""
    calls: dict[str, Attempt] = {}
    for sample in samples:
        for attempt in sample.attempts:
            calls.setdefault(attempt.key, attempt)
    found = {}
    for role in dict.fromkeys(call.role for call in calls.values()):
        of_role = [call for call in calls.values() if call.role == role]
        given = sum(call.input_tokens for call in of_role)
        taken = sum(call.output_tokens for call in of_role)
        endpoint = endpoints.get(role) or endpoints.get("default")
        money = endpoint.money(given, taken) if endpoint else 0.0
        found[role] = RoleUsage(len(of_role), given, taken, money)
    return found


def lengths(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Return the words of captions, questions and answers."""
    found: dict[str, list[int]] = {"caption": [], "question": [], "answer": []}
    for sample in samples:
        if sample.caption:
            found["caption"].append(len(sample.caption.split()))
        for turn in sample.turns:
            found["question"].append(len(turn.question.split()))
            found["answer"].append(len(turn.answer.split()))
    return {name: values for name, values in found.items() if values}
