"""Agreement: whether a judge says the same twice, and whether the place of an answer counts."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from verbalizer_bench.builders.pipeline.preference_blocks import Judge
from verbalizer_bench.builders.pipeline.sample import TrainingSample, Verdict
from verbalizer_bench.io.preferences import ATTRIBUTES, Scores

LEVELS = 5


def usable(sample: TrainingSample) -> list[int]:
    """Return the places of a sample's candidates that can be used."""
    return [number for number, one in enumerate(sample.candidates) if not one.problem]


def asked_twice(samples: Sequence[TrainingSample], judge: Judge) -> frozenset[str]:
    """Return which samples are judged twice: of those with two answers or more, by their hashes."""
    several = [sample.id for sample in samples if not sample.rejection and len(usable(sample)) > 1]
    several.sort(key=lambda one: hashlib.sha256(f"{judge.seed}\ttwice\t{one}".encode()).hexdigest())
    return frozenset(several[: math.ceil(judge.twice * len(several))])


class Kappa(NamedTuple):
    """How far two ratings of the same answers agree.

    Attributes:
        answers: How many were rated twice.
        same: The share with the same value both times.
        weighted: Cohen's kappa with quadratic weights (Cohen 1968): 1 is agreement, 0 what chance
            gives; None where all values are one, and there is nothing to agree on.
    """

    answers: int
    same: float
    weighted: float | None


def kappa(pairs: Sequence[tuple[int, int]], levels: int = LEVELS) -> Kappa | None:
    """Return how far pairs of values from 0 to `levels` - 1 agree; None without any."""
    if not pairs:
        return None
    total = len(pairs)
    first = Counter(one for one, _ in pairs)
    second = Counter(other for _, other in pairs)
    observed = sum((one - other) ** 2 for one, other in pairs) / total
    expected = sum(
        first[one] * second[other] * (one - other) ** 2
        for one in range(levels)
        for other in range(levels)
    ) / (total * total)
    same = sum(one == other for one, other in pairs) / total
    return Kappa(total, same, 1 - observed / expected if expected else None)


def repeated_kappas(samples: Sequence[TrainingSample]) -> dict[str, Kappa]:
    """Return the agreement of the samples judged twice, by attribute, and of the score."""
    values: dict[str, list[tuple[int, int]]] = {name: [] for name in (*ATTRIBUTES, "score")}
    for sample in samples:
        if len(sample.verdicts) < 2:
            continue
        first, second = (one.by_candidate() for one in sample.verdicts[:2])
        for number, scores in first.items():
            for name in ATTRIBUTES:
                values[name].append((scores[name], second[number][name]))
            both = (Scores(**scores).quality, Scores(**second[number]).quality)
            values["score"].append(both)
    levels = {"score": 3 * (LEVELS - 1) + 1}
    found = {name: kappa(pairs, levels.get(name, LEVELS)) for name, pairs in values.items()}
    return {name: one for name, one in found.items() if one}


class Position(NamedTuple):
    """What answers shown at one place got.

    Attributes:
        answers: How many were shown there.
        score: Their mean score, 0 to 12.
        best: How often the answer there was the best; those that share the best score share it.
        expected: How often it would be if places did not count.
        spread: How far from that chance alone may take it: 1.96 standard deviations of as many
            draws.
    """

    answers: int
    score: float
    best: float
    expected: float
    spread: float


def positions(samples: Sequence[TrainingSample]) -> list[Position]:
    """Return what answers got by the place at which they were shown, in first verdicts.

    Only verdicts about as many answers as most are counted, so that places can be compared.
    """
    first = [sample.verdicts[0] for sample in samples if sample.verdicts]
    if not first:
        return []
    answers = max(Counter(len(one.order) for one in first).items(), key=lambda item: item[::-1])[0]
    counted = [
        [Scores(**scores).quality for scores in one.scores]
        for one in first
        if len(one.order) == answers
    ]
    shares = [[(value == max(row)) / row.count(max(row)) for value in row] for row in counted]
    total, share = len(counted), 1 / answers
    spread = 1.96 * math.sqrt(total * share * (1 - share))
    return [
        Position(
            total,
            sum(row[place] for row in counted) / total,
            sum(row[place] for row in shares),
            total * share,
            spread,
        )
        for place in range(answers)
    ]


def first_scores(verdict: Verdict) -> dict[int, Scores]:
    """Return a verdict's scores by the candidate's place."""
    return {number: Scores(**scores) for number, scores in verdict.by_candidate().items()}
