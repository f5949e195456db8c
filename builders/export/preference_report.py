"""What a report says of preference data: the judge's agreement, its scores, pairs and lengths."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from verbalizer_bench.builders.export import agreement
from verbalizer_bench.builders.export.markdown import table
from verbalizer_bench.builders.export.preference_sets import (
    Pair,
    best_and_worst,
    dropped,
    first_scores,
)
from verbalizer_bench.builders.pipeline.preference_blocks import PairRule
from verbalizer_bench.builders.pipeline.recipe import (
    DataRecipe,
    ExistingPairs,
    FormatPairs,
    Preference,
)
from verbalizer_bench.builders.pipeline.sample import Candidate, TrainingSample
from verbalizer_bench.io.preferences import ATTRIBUTES, LENGTH, UNKNOWN

# A sample and the pair that it makes.
Paired = tuple[TrainingSample, Pair]
_REASONS = ("gap", "tie", "one answer", "length")


def sections(samples: Sequence[TrainingSample], recipe: DataRecipe) -> list[str]:
    """Return the report's sections about completions, verdicts and pairs; none for other data."""
    accepted = [sample for sample in samples if not sample.rejection]
    if isinstance(recipe, (ExistingPairs, FormatPairs)):
        ranked = [(one, Pair(0, len(one.candidates) - 1)) for one in accepted]
        arms = sorted({sample.arm for sample in accepted})
        by_arm = {arm: [pair for pair in ranked if pair[0].arm == arm] for arm in arms}
        by_set = {f"pairs_{arm}".removesuffix("_pair"): some for arm, some in by_arm.items()}
        return [_sources(samples, {}), _lengths(by_set)]
    if not isinstance(recipe, Preference):
        return []
    made = {name: _made(accepted, rule) for name, rule in recipe.pairs.items()}
    return [
        _sources(samples, made),
        _completions(samples),
        _agreement(samples, accepted, recipe),
        _positions(accepted),
        _scores(accepted),
        _pairs(accepted, recipe.pairs),
        _lengths(made),
    ]


def _made(accepted: Iterable[TrainingSample], rule: PairRule) -> list[Paired]:
    """Return the samples that make a pair by a rule, with the pair."""
    return [
        (sample, pair)
        for sample in accepted
        if isinstance(pair := best_and_worst(sample, rule), Pair)
    ]


def _sources(samples: Sequence[TrainingSample], made: Mapping[str, Sequence[Paired]]) -> str:
    """Return what became of the records of each source."""
    lines = []
    for source in dict.fromkeys(str(sample.source) for sample in samples):
        own = [sample for sample in samples if str(sample.source) == source]
        accepted = sum(not sample.rejection for sample in own)
        pairs = (sum(str(one.source) == source for one, _ in some) for some in made.values())
        lines.append((source, f"{len(own):,}", f"{accepted:,}", *(f"{n:,}" for n in pairs)))
    return f"## Sources\n\n{table(('source', 'records', 'accepted', *made), lines)}"


def _completions(samples: Sequence[TrainingSample]) -> str:
    """Return how many completions there are, and why some cannot be used."""
    problems = Counter(_fate(candidate) for sample in samples for candidate in sample.candidates)
    lines = [(name, f"{count:,}") for name, count in problems.most_common()]
    note = (
        "Of all that were sampled. `same`: another completion of the prompt has the same text; "
        "`cut_off`: it reached max_tokens and was dropped; `used, cut off`: it did and was kept "
        "(completions.cut_off); `damaged`: it has half a character or one of control. "
        "Only those that are used are judged and written."
    )
    return f"## Completions\n\n{table(('completions', 'n'), lines)}\n\n{note}"


def _fate(candidate: Candidate) -> str:
    if candidate.problem:
        return candidate.problem.partition(":")[0]
    return "used, cut off" if candidate.ending == LENGTH else "used"


def _agreement(
    samples: Sequence[TrainingSample], accepted: Sequence[TrainingSample], recipe: Preference
) -> str:
    kappas = agreement.repeated_kappas(accepted)
    judged = [sample for sample in samples if not _lost_before_judge(sample)]
    wanted = agreement.asked_twice([_open(sample) for sample in judged], recipe.judge)
    twice = [sample for sample in accepted if len(sample.verdicts) > 1]
    note = (
        f"{len(twice):,} prompts were judged twice, the second time with the answers in reverse "
        f"order; {len(wanted) - len(twice):,} more were meant to be, without two verdicts that can "
        "be used. The weighted kappa is Cohen's with quadratic weights: 1 is agreement, 0 is what "
        "chance gives; of the score (the sum of helpfulness, correctness and coherence) too."
    )
    if not kappas:
        return f"## Agreement of the judge with itself\n\n{note}"
    head = ("attribute", "answers rated twice", "same value", "weighted kappa")
    lines = [
        (name, f"{one.answers:,}", f"{one.same:.1%}", _kappa(one.weighted))
        for name, one in kappas.items()
    ]
    return f"## Agreement of the judge with itself\n\n{table(head, lines)}\n\n{note}"


def _kappa(value: float | None) -> str:
    return "all one value" if value is None else f"{value:.2f}"


def _lost_before_judge(sample: TrainingSample) -> bool:
    return sample.rejection is not None and sample.rejection.stage != "annotations"


def _open(sample: TrainingSample) -> TrainingSample:
    """Return a sample as it was when the judge was asked."""
    return TrainingSample(sample.id, candidates=sample.candidates)


def _positions(accepted: Sequence[TrainingSample]) -> str:
    found = agreement.positions(accepted)
    if not found:
        return "## Position of an answer\n\nNo verdict."
    lines = [
        (place, f"{one.answers:,}", f"{one.score:.2f}", f"{one.best:.1f}", _chance(one))
        for place, one in enumerate(found, 1)
    ]
    head = ("shown as number", "answers", "mean score", "best", "by chance, 95 %")
    note = (
        "Answers are shown in a shuffled order: without position bias the mean scores are equal "
        "but for chance, and the best answer is as often at one place as at another. Answers that "
        "share the best score share it here. First verdicts, about as many answers as most."
    )
    return f"## Position of an answer\n\n{table(head, lines)}\n\n{note}"


def _chance(one: agreement.Position) -> str:
    low, high = max(0.0, one.expected - one.spread), one.expected + one.spread
    return f"{low:.1f} to {min(high, one.answers):.1f}"


def _scores(accepted: Sequence[TrainingSample]) -> str:
    values: dict[str, Counter[int]] = {name: Counter() for name in ATTRIBUTES}
    for sample in accepted:
        for scores in sample.verdicts[0].scores if sample.verdicts else ():
            for name in ATTRIBUTES:
                values[name][scores[name]] += 1
    lines = [
        (name, *(f"{counted[level]:,}" for level in range(agreement.LEVELS)), _mean(counted))
        for name, counted in values.items()
    ]
    head = ("attribute", *map(str, range(agreement.LEVELS)), "mean")
    return f"## Attributes\n\n{table(head, lines)}"


def _mean(counted: Counter[int]) -> str:
    total = counted.total()
    return f"{sum(level * n for level, n in counted.items()) / total:.2f}" if total else "-"


def _pairs(accepted: Sequence[TrainingSample], rules: dict[str, PairRule]) -> str:
    lines = []
    for name, rule in rules.items():
        lost = {reason: len(some) for reason, some in dropped(accepted, rule).items()}
        made = len(accepted) - sum(lost.values())
        lines.append((name, f"{made:,}", *(f"{lost.get(reason, 0):,}" for reason in _REASONS)))
    head = ("set", "pairs", *(f"dropped: {reason}" for reason in _REASONS))
    gaps = Counter(_gap(sample) for sample in accepted if len(agreement.usable(sample)) > 1)
    spread = ", ".join(f"{gap}: {count:,}" for gap, count in sorted(gaps.items()))
    note = f"Prompts by the gap between their best and worst score: {spread or 'none'}."
    return f"## Pairs\n\n{table(head, lines)}\n\n{note}"


def _gap(sample: TrainingSample) -> int:
    values = [one.quality for one in first_scores(sample.verdicts[0]).values()]
    return max(values) - min(values)


def _lengths(made: Mapping[str, Sequence[Paired]]) -> str:
    lines = [(name, *_length_gap(pairs)) for name, pairs in made.items()]
    head = (
        *("set", "chosen", "rejected", "median difference", "chosen is longer"),
        *("chosen cut off", "rejected cut off"),
    )
    note = (
        "Means in characters. `cut off`: pairs whose answer reached max_tokens, of those of which "
        "it is known; whoever trains on them trains that it may end there. Whoever trains on "
        "pairs whose chosen answers are longer trains length too; `pairs.NAME.length_ratio` of a "
        "judged set matches them."
    )
    return f"## Length of chosen and rejected\n\n{table(head, lines)}\n\n{note}"


def _length_gap(pairs: Sequence[Paired]) -> tuple[str, ...]:
    if not pairs:
        return ("-",) * 6
    texts = [(one.candidates[pair.chosen], one.candidates[pair.rejected]) for one, pair in pairs]
    lengths = [(len(better.text), len(worse.text)) for better, worse in texts]
    chosen, rejected = (statistics.fmean(some) for some in zip(*lengths, strict=True))
    difference = statistics.median(one - other for one, other in lengths)
    longer = sum(one > other for one, other in lengths) / len(lengths)
    return (
        f"{chosen:,.0f}",
        f"{rejected:,.0f}",
        f"{difference:+,.0f}",
        f"{longer:.1%}",
        *_cut_off(texts),
    )


def _cut_off(pairs: Sequence[tuple[Candidate, Candidate]]) -> Iterator[str]:
    """Yield how many chosen answers a limit cut off, and how many rejected ones."""
    for answers in zip(*pairs, strict=True):
        known = [one.ending for one in answers if one.ending != UNKNOWN]
        yield f"{known.count(LENGTH):,} of {len(known):,}" if known else "not known"
