"""Sets of preference data: completions with their scores, and pairs of them.

A set is written as JSON lines of one of the kinds of `io.preferences`, with its provenance beside
it; what makes no pair is counted by its reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from verbalizer_bench.builders.export.agreement import first_scores, usable
from verbalizer_bench.builders.pipeline.preference_blocks import PairRule
from verbalizer_bench.builders.pipeline.prompts import PromptTemplates
from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.io.preferences import (
    Completion,
    PreferencePair,
    RatedCompletions,
    Scores,
    make,
)


class Pair(NamedTuple):
    """The places of the candidates that are chosen and rejected, and their scores if any."""

    chosen: int
    rejected: int
    score_chosen: int | None = None
    score_rejected: int | None = None


class NoPair(NamedTuple):
    """Why a sample makes no pair."""

    reason: str
    detail: str


def best_and_worst(sample: TrainingSample, rule: PairRule) -> Pair | NoPair:
    """Return the pair that a rule makes of a sample's scores, or why there is none."""
    scores = {place: one.quality for place, one in first_scores(sample.verdicts[0]).items()}
    if len(scores) < 2:
        return NoPair("one answer", "only one answer can be used")
    values = [scores[place] for place in sorted(scores)]
    best, worst = max(values), min(values)
    if best - worst < rule.minimum_gap:
        return NoPair("gap", f"scores from {worst} to {best}")
    if rule.drop_ties and (values.count(best) > 1 or values.count(worst) > 1):
        return NoPair("tie", f"{values.count(best)} have {best}, {values.count(worst)} {worst}")
    if rule.length_ratio is not None:
        return _matched(sample, scores, rule)
    chosen = min(place for place, value in scores.items() if value == best)
    rejected = min(place for place, value in scores.items() if value == worst)
    return Pair(chosen, rejected, best, worst)


def _matched(sample: TrainingSample, scores: dict[int, int], rule: PairRule) -> Pair | NoPair:
    """Return the pair with the widest gap of those whose lengths match."""
    assert rule.length_ratio is not None
    lengths = {place: len(sample.candidates[place].text) for place in scores}
    pairs = [
        Pair(one, other, scores[one], scores[other])
        for one in sorted(scores)
        for other in sorted(scores)
        if scores[one] - scores[other] >= rule.minimum_gap
        and max(lengths[one], lengths[other])
        <= rule.length_ratio * min(lengths[one], lengths[other])
    ]
    if not pairs:
        return NoPair("length", f"no two with the gap within {rule.length_ratio:g} times")
    return max(
        pairs,
        key=lambda pair: (
            scores[pair.chosen] - scores[pair.rejected],
            -abs(lengths[pair.chosen] - lengths[pair.rejected]),
        ),
    )


@dataclass(frozen=True)
class CompletionLayout:
    """All completions that can be used, with the scores of the first verdict.

    Attributes:
        name: Of its file.
    """

    name: str = "completions"
    image: bool = True

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return f"{self.name}.jsonl"

    def takes(self, sample: TrainingSample) -> bool:
        """Return whether a sample is in the set."""
        return sample.rejection is None

    def record(self, sample: TrainingSample, prompts: PromptTemplates) -> dict[str, Any]:
        """Return a sample's record."""
        scores = first_scores(sample.verdicts[0]) if sample.verdicts else {}
        record = make(
            RatedCompletions,
            _prompt(sample, self.image)
            | {"completions": [_completion(sample, place, scores) for place in usable(sample)]},
        )
        return record.model_dump()


@dataclass(frozen=True)
class PairLayout:
    """Pairs of the best and the worst completion.

    Attributes:
        name: Of its file.
        rule: Which pairs are made.
    """

    name: str
    rule: PairRule

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return f"{self.name}.jsonl"

    @property
    def image(self) -> bool:
        """Whether records have the image."""
        return self.rule.image

    def takes(self, sample: TrainingSample) -> bool:
        """Return whether a sample is in the set."""
        return sample.rejection is None and isinstance(best_and_worst(sample, self.rule), Pair)

    def record(self, sample: TrainingSample, prompts: PromptTemplates) -> dict[str, Any]:
        """Return a sample's record."""
        pair = best_and_worst(sample, self.rule)
        assert isinstance(pair, Pair)
        return pair_record(sample, pair, self.image)


@dataclass(frozen=True)
class RankedPairLayout:
    """Pairs of samples whose first candidate is chosen and whose last one is rejected.

    Attributes:
        name: Of its file.
        arms: The arms whose samples are in it.
        image: Whether records have the image.
    """

    name: str
    arms: tuple[str, ...]
    image: bool = True

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return f"{self.name}.jsonl"

    def takes(self, sample: TrainingSample) -> bool:
        """Return whether a sample is in the set."""
        return sample.rejection is None and sample.arm in self.arms

    def record(self, sample: TrainingSample, prompts: PromptTemplates) -> dict[str, Any]:
        """Return a sample's record."""
        return pair_record(sample, Pair(0, len(sample.candidates) - 1), self.image)


def pair_record(sample: TrainingSample, pair: Pair, image: bool) -> dict[str, Any]:
    """Return a pair as its record."""
    record = make(
        PreferencePair,
        _prompt(sample, image)
        | {
            "chosen": _answer(sample, pair.chosen),
            "rejected": _answer(sample, pair.rejected),
            "score_chosen": _number(pair.score_chosen),
            "score_rejected": _number(pair.score_rejected),
            "ending_chosen": sample.candidates[pair.chosen].ending,
            "ending_rejected": sample.candidates[pair.rejected].ending,
        },
    )
    return record.model_dump()


def _number(score: int | None) -> float | None:
    return None if score is None else float(score)


def _answer(sample: TrainingSample, place: int) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": sample.candidates[place].text}]


def _completion(sample: TrainingSample, place: int, scores: dict[int, Scores]) -> dict[str, Any]:
    candidate = sample.candidates[place]
    rated = Completion(text=candidate.text, scores=scores.get(place), ending=candidate.ending)
    return rated.model_dump()


def _prompt(sample: TrainingSample, image: bool) -> dict[str, Any]:
    """Return what both kinds have of a sample."""
    turns: list[dict[str, str]] = []
    if sample.system:
        turns.append({"role": "system", "content": sample.system})
    for turn in sample.turns:
        turns.append({"role": "user", "content": turn.question})
        if turn.answer:
            turns.append({"role": "assistant", "content": turn.answer})
    images = [sample.image] if image and sample.image else []
    return {"id": sample.id, "prompt": turns, "images": images, "source": sample.source or ""}


def dropped(samples: Sequence[TrainingSample], rule: PairRule) -> dict[str, list[NoPair]]:
    """Return why accepted samples make no pair, by reason."""
    reasons: dict[str, list[NoPair]] = {}
    for sample in samples:
        if isinstance(one := best_and_worst(sample, rule), NoPair):
            reasons.setdefault(one.reason, []).append(one)
    return reasons
