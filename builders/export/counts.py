"""Counts: what became of the samples, by stage, instruction and reason, and what they cost."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from verbalizer_bench.builders.pipeline.sample import Attempt, TrainingSample
from verbalizer_bench.client.endpoint import Endpoint

EXAMPLES = 3


class Yield(NamedTuple):
    """How many samples came in, and how many went on."""

    samples: int
    kept: int

    @property
    def share(self) -> float:
        """Return the share that went on, 0 if none came in."""
        return self.kept / self.samples if self.samples else 0.0


class RoleUsage(NamedTuple):
    """What the calls of a role cost."""

    calls: int
    input_tokens: int
    output_tokens: int
    money: float


def stage_yields(samples: Sequence[TrainingSample], stages: Sequence[str]) -> dict[str, Yield]:
    """Return, for each stage, how many samples it was given and how many it did not reject."""
    rejected = Counter(sample.rejection.stage for sample in samples if sample.rejection)
    left, yields = len(samples), {}
    for stage in stages:
        yields[stage] = Yield(left, left - rejected[stage])
        left -= rejected[stage]
    return yields


def instruction_yields(samples: Sequence[TrainingSample]) -> dict[str, Yield]:
    """Return the same by the instruction's type, for samples with an instruction and a question."""
    kept: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        if sample.instruction and sample.turns:
            kept[sample.instruction.type].append(sample.rejection is None)
    return {kind: Yield(len(flags), sum(flags)) for kind, flags in sorted(kept.items())}


def first_attempts(samples: Sequence[TrainingSample]) -> dict[str, Yield]:
    """Return, by the instruction's type, how many first answers obeyed it."""
    obeyed: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        first = next((attempt for attempt in sample.attempts if attempt.role == "item"), None)
        if sample.instruction and first:
            obeyed[sample.instruction.type].append(first.problem is None)
    return {kind: Yield(len(flags), sum(flags)) for kind, flags in sorted(obeyed.items())}


def rejections(samples: Sequence[TrainingSample]) -> dict[tuple[str, str], list[TrainingSample]]:
    """Return the rejected samples by stage and reason, the most frequent first."""
    rejected: dict[tuple[str, str], list[TrainingSample]] = defaultdict(list)
    for sample in samples:
        if sample.rejection:
            rejected[sample.rejection.stage, sample.rejection.reason].append(sample)
    return dict(sorted(rejected.items(), key=lambda item: (-len(item[1]), item[0])))


def usage_by_role(
    samples: Sequence[TrainingSample], endpoints: Mapping[str, Endpoint]
) -> dict[str, RoleUsage]:
    """Return what the samples' calls cost, by role; a call that samples share counts once."""
    calls: dict[str, Attempt] = {}
    for sample in samples:
        for attempt in sample.attempts:
            calls.setdefault(attempt.key, attempt)
    usage = {}
    for role in dict.fromkeys(call.role for call in calls.values()):
        of_role = [call for call in calls.values() if call.role == role]
        read = sum(call.input_tokens for call in of_role)
        written = sum(call.output_tokens for call in of_role)
        endpoint = endpoints.get(role) or endpoints.get("default")
        money = endpoint.money(read, written) if endpoint else 0.0
        usage[role] = RoleUsage(len(of_role), read, written, money)
    return usage


def not_taken(samples: Sequence[TrainingSample]) -> Counter[tuple[str, str]]:
    """Return how many responses were not taken, by role and reason; a shared call counts once."""
    calls = {
        attempt.key: (attempt.role, attempt.problem.partition(":")[0])
        for sample in samples
        for attempt in sample.attempts
        if attempt.problem
    }
    return Counter(calls.values())


def lengths(samples: Sequence[TrainingSample]) -> dict[str, list[int]]:
    """Return the numbers of words of captions, questions, answers and completions."""
    turns = [turn for sample in samples for turn in sample.turns]
    texts = {
        "caption": [sample.caption for sample in samples if sample.caption],
        "question": [turn.question for turn in turns],
        "answer": [turn.answer for turn in turns if turn.answer],
        "completion": [
            candidate.text
            for sample in samples
            for candidate in sample.candidates
            if not candidate.problem
        ],
    }
    return {name: [len(text.split()) for text in some] for name, some in texts.items() if some}
