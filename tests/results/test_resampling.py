"""The vectorised resampling against plain Python, by hand, and by simulation."""

import random
from statistics import fmean, quantiles

import numpy as np
import pytest

from verbalizer_bench.results.resampling import (
    bootstrap,
    detectable,
    holm,
    interval,
    means,
    p_values,
    sign_flips,
    standard_errors,
)
from verbalizer_bench.results.statistics import estimate


def small() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)
    return {"a": generator.normal(0.2, 1, (12, 3)), "b": generator.normal(0.1, 1, (9, 2))}


WEIGHTS = np.array([[1 / 5], [1 / 5], [1 / 5], [1 / 5], [1 / 5]])


def slow(clusters: dict[str, np.ndarray], flip: bool, resamples: int) -> list[float]:
    """Resample document by document in plain Python; the weighted mean each time."""
    generator, found = random.Random(0), []
    for _ in range(resamples):
        total = 0.0
        for values in clusters.values():
            rows = values.tolist()
            if flip:
                signs = [generator.choice((-1, 1)) for _ in rows]
                drawn = [[s * v for v in row] for s, row in zip(signs, rows, strict=True)]
            else:
                drawn = [generator.choice(rows) for _ in rows]
            total += fmean(sum(row) / 5 for row in drawn)
        found.append(total)
    return found


def test_intervals_are_those_of_a_slow_reference() -> None:
    cuts = quantiles(slow(small(), False, 20_000), n=40)
    low, high = interval(bootstrap(small(), 20_000, seed=1) @ WEIGHTS)
    assert (low[0], high[0]) == pytest.approx((cuts[0], cuts[-1]), abs=0.015)


def test_p_values_are_those_of_a_slow_reference() -> None:
    observed = means(small()) @ WEIGHTS
    flipped = slow(small(), True, 20_000)
    expected = fmean(abs(value) >= abs(observed[0]) for value in flipped)
    (found,) = p_values(observed, sign_flips(small(), 20_000, seed=1) @ WEIGHTS)
    assert 0.02 < expected < 0.98
    assert found == pytest.approx(expected, abs=0.012)


def test_draws_depend_on_the_seed_and_not_on_other_data_sets() -> None:
    alone = {"b": small()["b"]}
    for resample in (bootstrap, sign_flips):
        whole = resample(small(), 50, 3)
        assert np.array_equal(whole, resample(small(), 50, 3))
        assert np.allclose(whole[:, 3:], resample(alone, 50, 3), atol=1e-12)
        assert not np.array_equal(whole, resample(small(), 50, 4))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_detectable_differences_and_errors_that_are_unknown() -> None:
    found = detectable(np.array([0.01, 0.0, np.nan]))
    assert found[0] == pytest.approx(0.0280158, abs=1e-6)
    assert np.isnan(found[1:]).all()
    weights = np.array([[1.0, 0], [0, 1]])
    errors = standard_errors({"a": np.ones((1, 1)), "b": np.array([[0.0], [1]])}, weights)
    assert np.isnan(errors[0]) and errors[1] == pytest.approx(0.5)


def differences(generator: np.random.Generator, shift: float) -> dict[str, np.ndarray]:
    """Draw paired differences: a shift, what a document does in all verbalizers, and noise."""
    return {
        name: shift + generator.normal(0, 0.3, (n, 1)) + generator.normal(0, 0.3, (n, 4))
        for name, n in (("a", 60), ("b", 40))
    }


def test_coverage_and_false_positives_by_simulation() -> None:
    generator, weights = np.random.default_rng(7), np.full((8, 1), 1 / 8)
    hits = rejected = 0
    for _ in range(500):
        (found,) = estimate(differences(generator, 0.05), weights, resamples=1000)
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.05 <= found.high
        null = differences(generator, 0.0)
        (p,) = p_values(means(null) @ weights, sign_flips(null, 999, 0) @ weights)
        rejected += p <= 0.05
    print(f"coverage {hits / 500}, false positives {rejected / 500}")
    assert 0.92 <= hits / 500 <= 0.98
    assert 0.03 <= rejected / 500 <= 0.07
