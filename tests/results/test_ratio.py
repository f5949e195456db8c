"""Shares and their intervals: by hand, at the ends, and by simulation."""

import math

import numpy as np
import pytest

from verbalizer_bench.results.ratio import ratios

ONE = np.ones((1, 1))
Made = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def documents(*groups: tuple[int, float, float]) -> Made:
    """Return one data set: so many documents, of which so much came back and so much was lost."""
    rows = np.array([row for n, *row in groups for _ in range(n)])
    return {"a": rows[:, :1]}, {"a": rows[:, 1:]}


def test_a_share_is_the_means_ratio_with_the_percentiles_of_the_same_draws() -> None:
    """Half of 40 lost documents came back; the reference draws documents one by one."""
    back, lost = documents((20, 1, 1), (20, 0, 1), (40, 0, 0))
    (found,) = ratios(back, lost, ONE, resamples=4000)
    assert found is not None and found.value == 0.5
    generator = np.random.default_rng(5)
    drawn = generator.integers(80, size=(4000, 80))
    shares = back["a"][drawn, 0].sum(axis=1) / lost["a"][drawn, 0].sum(axis=1)
    ends = np.quantile(shares, (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx(ends, abs=0.012)
    # Not the ratio of ends, nor of draws of their own: half of 40, binomial.
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 40), abs=0.02)


def test_data_sets_weigh_as_they_are_told() -> None:
    """Lost 0.75 of a and 0.25 of b, 0.25 of each came back.

    Alike: 0.25 / 0.5. Three to one: (3 x 0.25 + 0.25) / (3 x 0.75 + 0.25) = 1 / 2.5.
    """
    a, b = documents((20, 1, 1), (40, 0, 1), (20, 0, 0)), documents((20, 1, 1), (60, 0, 0))
    back, lost = ({"a": one["a"], "b": other["a"]} for one, other in zip(a, b, strict=True))
    weights = np.array([[0.5, 0.75, 1.0], [0.5, 0.25, 0.0]])
    found = ratios(back, lost, weights, resamples=200)
    assert [one and one.value for one in found] == pytest.approx([0.5, 0.4, 1 / 3])


def test_all_that_came_back_leaves_room_for_documents_that_were_not_seen() -> None:
    """Of 100 lost, 100 came back: with one that was not seen, 3.6 of 100 might not have."""
    back, lost = documents((100, 1, 1), (100, 0, 0))
    (found,) = ratios(back, lost, ONE, resamples=4000)
    assert found is not None and found.value == 1
    assert found.low == pytest.approx(0.025 ** (1 / 100), abs=0.006)
    # And a document could be better than it was.
    assert found.high == pytest.approx(2 - 0.025 ** (1 / 100), abs=0.006)


def test_the_same_share_of_every_document_is_not_certain() -> None:
    back, lost = documents((50, 0.5, 1), (50, 0.2, 0.4))
    (found,) = ratios(back, lost, ONE, resamples=1000)
    assert found is not None and found.value == pytest.approx(0.5)
    assert found.low < 0.49 and found.high > 0.51


def test_nothing_came_back_and_more_was_lost() -> None:
    back, lost = documents((60, 0, 1), (60, 0, 0))
    (none,) = ratios(back, lost, ONE, resamples=1000)
    assert none is not None and none.value == 0 and none.low < 0 < none.high < 0.1
    back, lost = documents((30, -1, 0), (60, 0, 1), (30, 0, 0))
    (less,) = ratios(back, lost, ONE, resamples=1000)
    assert less is not None and less.value == -0.5 and less.high < -0.25
    back, lost = documents((30, 1, 0), (60, 1, 1), (30, 0, 0))
    (more,) = ratios(back, lost, ONE, resamples=1000)
    assert more is not None and more.value == 1.5 and more.low > 1.2
    # Both turned round is the same share.
    turned = ({name: -own for name, own in table.items()} for table in (back, lost))
    (same,) = ratios(*turned, ONE, resamples=1000)
    assert same is not None and same.value == 1.5
    assert (same.low, same.high) == pytest.approx((more.low, more.high), abs=1e-3)


@pytest.mark.parametrize(
    "groups",
    [
        [(40, 1, 1), (40, 1, -1), (40, 0, 0)],  # lost as often as won
        [(3, 1, 1), (97, 0, 0)],  # three documents
        [(40, 0, 0), (40, 1, 0)],  # nothing lost
        [(22, 1, 1), (20, 0, -1), (40, 0, 0)],  # hardly more lost than won
        [(1, 1, 1)],  # one document
    ],
)
def test_a_cost_that_could_be_none_has_no_share(groups: list[tuple[int, float, float]]) -> None:
    assert ratios(*documents(*groups), ONE, resamples=500) == [None]


def made(generator: np.random.Generator, share: float, lost: float, n: int, noise: float) -> Made:
    """Draw three runs over two data sets: documents lose by chance, and what is lost may return."""
    back, cost = {}, {}
    for dataset in "ab":
        base = generator.random((n, 3)) < 0.9
        tuned = base & (generator.random((n, 1)) >= lost)
        now = np.where(base & ~tuned, generator.random((n, 1)) < share, tuned)
        flips = generator.random((2, n, 3)) < noise
        tuned, now = tuned ^ flips[0], now ^ flips[1]
        back[dataset], cost[dataset] = now * 1.0 - tuned, base * 1.0 - tuned
    return back, cost


@pytest.mark.parametrize(
    ("share", "lost", "n", "noise"),
    [(0.5, 0.3, 100, 0.05), (0.9, 0.2, 60, 0.0), (1.0, 0.4, 60, 0.0), (0.0, 0.3, 60, 0.03)],
)
def test_coverage(share: float, lost: float, n: int, noise: float) -> None:
    """95 % of the intervals hold the true share; where few documents differ, more."""
    generator, weights = np.random.default_rng(11), np.full((6, 1), 1 / 6)
    # What is expected: noise flips a label, whichever it is.
    before = 0.9
    after, now = 0.9 * (1 - lost), 0.9 * (1 - lost + lost * share)
    after, now = (value * (1 - noise) + (1 - value) * noise for value in (after, now))
    truth, hits, draws = (now - after) / (before - after), 0, 120
    for _ in range(draws):
        (found,) = ratios(*made(generator, share, lost, n, noise), weights, resamples=200)
        assert found is not None
        hits += found.low <= truth <= found.high
    assert hits / draws >= 0.91
