"""Intervals at a ceiling, at a floor and between models that agree: by hand and by simulation."""

import math
from dataclasses import astuple

import numpy as np
import pytest

from verbalizer_bench.results.few import FEW, Stratum, differing, interval_of_few
from verbalizer_bench.results.statistics import Interval, estimate

ONE = np.ones((1, 1))


def binary(failures: int, n: int) -> np.ndarray:
    return np.array([[0.0]] * failures + [[1.0]] * (n - failures))


@pytest.mark.parametrize("n", [2, 24, 277, 1000])
def test_all_alike_is_the_exact_bound_of_n_documents(n: int) -> None:
    """(1 - q)^n = 0.025: what share q could fail, and none of n be seen, in 1 of 40 tries."""
    (ceiling,) = estimate({"a": np.ones((n, 1))}, ONE)
    assert astuple(ceiling) == pytest.approx((1.0, 0.025 ** (1 / n), 1.0))
    (floor,) = estimate({"a": np.zeros((n, 1))}, ONE)
    assert astuple(floor) == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / n)))
    (pair,) = estimate({"a": np.zeros((n, 1))}, ONE, lowest=-1.0)
    assert astuple(pair) == pytest.approx((0.0, 0.025 ** (1 / n) - 1, 1 - 0.025 ** (1 / n)))


def test_all_alike_between_the_ends() -> None:
    """A sixth everywhere: a document not seen could lose a sixth, or gain five."""
    (found,) = estimate({"a": np.full((24, 1), 1 / 6)}, ONE)
    unseen = 1 - 0.025 ** (1 / 24)
    assert astuple(found) == pytest.approx((1 / 6, (1 - unseen) / 6, 1 / 6 + unseen * 5 / 6))


def test_verbalizers_of_a_document_are_one_observation() -> None:
    (one,) = estimate({"a": np.ones((50, 1))}, ONE)
    (twelve,) = estimate({"a": np.ones((50, 12))}, np.full((12, 1), 1 / 12))
    assert twelve == pytest.approx(one)


def test_of_data_sets_the_one_whose_documents_weigh_most_sets_the_bound() -> None:
    """Half of the weight on 20 documents: 3.69 of them, 0.5 / 20 each."""
    weights = np.array([[0.5], [0.5]])
    (found,) = estimate({"a": np.ones((20, 1)), "b": np.ones((1000, 1))}, weights)
    assert found.low == pytest.approx(1 + math.log(0.025) * 0.5 / 20)


@pytest.mark.parametrize(("failures", "n"), [(1, 30), (3, 100), (14, 40), (38, 40)])
def test_zeros_and_ones_have_the_binomials_own_interval(failures: int, n: int) -> None:
    """Clopper and Pearson: each end makes what was seen, or more, as rare as 1 in 40."""
    (found,) = estimate({"a": binary(failures, n)}, ONE)

    def at_most(k: int, p: float) -> float:
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))

    assert found.low is not None and found.high is not None
    # Either count is few, of failures or of successes.
    assert at_most(failures, 1 - found.low) == pytest.approx(0.025)
    assert 1 - at_most(failures - 1, 1 - found.high) == pytest.approx(0.025)


def test_equal_counts_have_equal_intervals_whatever_the_data_set_is_called() -> None:
    found = {str(estimate({name: binary(4, 15)}, ONE)[0]) for name in "abcdefghi"}
    assert found == {"73.3 [44.9, 92.2]"}
    # Of a difference that is -1 or 1 too, and of half the weight.
    both = np.array([[-1.0]] * 4 + [[1.0]] * 11)
    (pair,) = estimate({"a": both}, ONE, lowest=-1.0)
    assert pair.low is not None and pair.high is not None
    assert [(end + 1) / 2 for end in (pair.low, pair.high)] == pytest.approx(
        [0.4490, 0.9221], abs=1e-4
    )
    (half,) = estimate({"a": binary(4, 15)}, ONE / 2)
    assert half.high == pytest.approx(0.9221 / 2, abs=1e-4)


def test_seeing_a_document_differ_makes_no_interval_narrower() -> None:
    lows = []
    for failures in range(FEW):
        (found,) = estimate({"a": binary(failures, 60)}, ONE)
        assert found.low is not None
        lows.append(found.low)
    assert lows == sorted(lows, reverse=True)


def test_the_other_way_round_is_the_same_interval() -> None:
    values = np.array([[0.5], [-0.25], [-1.0], [0.125], *([[0.0]] * 30)])
    (one,), (other,) = (estimate({"a": way}, ONE, lowest=-1.0) for way in (values, -values))
    assert one.low is not None and one.high is not None
    assert astuple(other) == pytest.approx((-one.mean, -one.high, -one.low))


def test_where_enough_differ_it_is_the_bootstrap() -> None:
    values = np.array([0.0] * FEW + [1.0] * 40)
    strata = (Stratum("a", values, 0.0, 1.0),)
    assert differing(strata) == FEW
    assert interval_of_few(0.5, 0.9, strata, 10, 0) == (0.5, 0.9)
    assert interval_of_few(0.5, 0.9, (Stratum("a", values[1:], 0.0, 1.0),), 1000, 0) != (0.5, 0.9)


def test_many_that_differ_in_a_large_set_say_nothing_of_a_small_one() -> None:
    """The bootstrap of a set of 24 that are alike is one number, and weighs as much as 500's."""
    small, large = np.ones((24, 1)), np.array([[0.0]] * 25 + [[1.0]] * 475)
    (found,) = estimate({"a": small, "b": large}, np.full((2, 1), 0.5))
    assert found.low is not None and found.low < found.mean - 0.5 * 3 / 24
    (even,) = estimate({"a": large, "b": large}, np.full((2, 1), 0.5))
    assert even.low is not None and even.low > even.mean - 0.02


def covered(found: Interval, truth: float) -> bool:
    assert found.low is not None and found.high is not None
    return found.low - 1e-12 <= truth <= found.high + 1e-12


@pytest.mark.parametrize("share", [0.002, 0.01, 0.03])
def test_coverage_near_the_ceiling_and_between_models_that_agree(share: float) -> None:
    """Nine data sets of 24 documents; one that fails, fails in a part of its verbalizers."""
    generator, weights = np.random.default_rng(3), np.full((36, 1), 1 / 36)
    hits, draws = {0.0: 0, -1.0: 0}, 150
    for _ in range(draws):
        lost = {}
        for dataset in "abcdefghi":
            fails = generator.random((24, 1)) < share
            lost[dataset] = fails * (generator.random((24, 4)) < 0.5)
        for lowest, ceiling in ((0.0, 1.0), (-1.0, 0.0)):
            scores = {name: ceiling - own for name, own in lost.items()}
            (found,) = estimate(scores, weights, 400, lowest=lowest)
            hits[lowest] += covered(found, ceiling - share / 2)
    assert min(hits.values()) / draws >= 0.95
