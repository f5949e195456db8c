"""Agreement, positions and pairs, with numbers worked out by hand."""

from collections.abc import Sequence
from random import Random

import pytest

from verbalizer_bench.builders.export.agreement import asked_twice, kappa, positions
from verbalizer_bench.builders.export.preference_sets import NoPair, Pair, best_and_worst
from verbalizer_bench.builders.pipeline.preference_blocks import Judge, PairRule
from verbalizer_bench.builders.pipeline.sample import Candidate, TrainingSample, Verdict
from verbalizer_bench.io.preferences import ATTRIBUTES


def judged(
    *scores: int, lengths: Sequence[int] = (), order: Sequence[int] = (), name: str = "x"
) -> TrainingSample:
    """Return a sample whose candidates have such scores (0 to 12) and lengths."""
    order = tuple(order or range(len(scores)))
    values = []
    for place in order:
        score = scores[place]
        parts = [min(4, score), min(4, max(0, score - 4)), max(0, score - 8)]
        values.append(dict(zip(ATTRIBUTES, [*parts, 2, 2], strict=True)))
    texts = ["a" * length for length in lengths or [10] * len(scores)]
    return TrainingSample(
        name,
        candidates=tuple(Candidate(text, "stop", 1) for text in texts),
        verdicts=(Verdict(order, tuple(values), ("so",) * len(scores)),),
    )


@pytest.mark.parametrize(
    ("pairs", "weighted"),
    [
        ([(0, 0), (4, 4), (2, 2)], 1.0),
        ([(0, 4), (4, 0)], -1.0),
        # Observed (1 + 0 + 0 + 1) / 4; expected by the margins (0, 1, 2, 3) and (1, 1, 2, 2):
        # 16 pairs with squared differences 1+1+4+4, 0+0+1+1, 1+1+0+0, 4+4+1+1 = 24, of 16.
        ([(0, 1), (1, 1), (2, 2), (3, 2)], 1 - 0.5 / (24 / 16)),
        ([(3, 3), (3, 3)], None),
    ],
)
def test_weighted_kappa(pairs: list[tuple[int, int]], weighted: float | None) -> None:
    found = kappa(pairs)
    assert found and found.answers == len(pairs)
    assert found.weighted == (weighted if weighted is None else pytest.approx(weighted))


def test_without_answers_rated_twice_there_is_no_kappa() -> None:
    assert kappa([]) is None


def test_weighted_kappa_is_that_of_scikit_learn() -> None:
    cohen_kappa_score = pytest.importorskip("sklearn.metrics").cohen_kappa_score
    draw = Random(0)
    pairs = [(draw.randint(0, 4), draw.randint(0, 4)) for _ in range(200)]
    found = kappa(pairs)
    wanted = cohen_kappa_score(*zip(*pairs, strict=True), weights="quadratic")
    assert found and found.weighted == pytest.approx(wanted)


def test_positions_count_the_order_shown_and_share_ties() -> None:
    # Shown as 3, 9, 9: the best is shared by the second and the third place.
    first = judged(9, 3, 9, order=(1, 0, 2))
    second = judged(12, 1, 1)
    two = judged(1, 2)  # about fewer answers than most: not counted
    found = positions([first, second, two])
    assert [one.score for one in found] == [7.5, 5.0, 5.0]
    assert [one.best for one in found] == [1.0, 0.5, 0.5]
    assert found[0].answers == 2 and found[0].expected == pytest.approx(2 / 3)
    # 1.96 times the root of 2 draws with 1/3 and 2/3.
    assert found[0].spread == pytest.approx(1.96 * (4 / 9) ** 0.5)
    assert positions([]) == []


def test_a_share_of_prompts_with_several_answers_is_asked_twice() -> None:
    samples = [judged(1, 2, name=f"s{i}") for i in range(30)] + [judged(1, name="single")]
    chosen = asked_twice(samples, Judge(seed=0, twice=0.05))
    assert len(chosen) == 2 and chosen == asked_twice(samples[::-1], Judge(seed=0, twice=0.05))
    assert chosen != asked_twice(samples, Judge(seed=1, twice=0.05))
    assert len(asked_twice(samples, Judge(twice=1.0))) == 30
    assert not asked_twice(samples, Judge(twice=0.0))


@pytest.mark.parametrize(
    ("sample", "rule", "wanted"),
    [
        (judged(5, 9, 7, 2), PairRule(), Pair(1, 3, 9, 2)),
        (judged(5, 9, 9, 5), PairRule(), Pair(1, 0, 9, 5)),
        (judged(5, 9, 9, 4), PairRule(drop_ties=True), "tie"),
        (judged(5, 9, 8, 4), PairRule(drop_ties=True), Pair(1, 3, 9, 4)),
        (judged(5, 6, 5, 6), PairRule(), "gap"),
        (judged(5, 6, 5, 6), PairRule(minimum_gap=1), Pair(1, 0, 6, 5)),
        (judged(7, 7), PairRule(minimum_gap=1), "gap"),
        (judged(7), PairRule(), "one answer"),
        # The widest gap among those that match: 9 against 5, 110 characters against 100.
        (
            judged(12, 9, 5, 0, lengths=(500, 110, 100, 20)),
            PairRule(length_ratio=1.2),
            Pair(1, 2, 9, 5),
        ),
        (judged(12, 0, lengths=(50, 10)), PairRule(length_ratio=2), "length"),
        (judged(12, 0, lengths=(20, 10)), PairRule(length_ratio=2), Pair(0, 1, 12, 0)),
        # Of equal gaps the nearer lengths.
        (
            judged(9, 9, 1, lengths=(120, 101, 100)),
            PairRule(length_ratio=1.5),
            Pair(1, 2, 9, 1),
        ),
    ],
)
def test_the_pair_of_a_rule(sample: TrainingSample, rule: PairRule, wanted: Pair | str) -> None:
    found = best_and_worst(sample, rule)
    assert (found.reason if isinstance(found, NoPair) else found) == wanted
