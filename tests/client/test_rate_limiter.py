"""The rate limiter, by a clock that stands still until it is moved."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.clock import Moved
from verbalizer_bench.client.rate_limiter import RateLimiter


def uses(
    limiter: RateLimiter, clock: Moved, amounts: list[float], gaps: list[float]
) -> list[float]:
    """Return when each amount may be used, where one is taken after each gap."""
    times = []
    for amount, gap in zip(amounts, gaps, strict=True):
        clock.time += gap
        times.append(clock.time + limiter.take(amount))
    return times


def test_one_a_minute() -> None:
    clock = Moved()
    limiter = RateLimiter(1, clock)
    assert [limiter.take(1), limiter.take(1), limiter.take(1)] == [0, 60, 120]
    clock.time += 600
    assert [limiter.take(1), limiter.take(1)] == [0, 60]


def test_a_steady_rate_after_a_burst() -> None:
    clock = Moved()
    limiter = RateLimiter(600, clock)  # a burst of 10, then 591 a minute
    waits = [limiter.take(1) for _ in range(12)]
    assert waits[:10] == [0] * 10
    assert waits[10] == pytest.approx(60 / 591) and waits[11] == pytest.approx(120 / 591)


@settings(deadline=None)
@given(
    st.integers(1, 200),
    st.lists(st.floats(0, 3), min_size=1, max_size=150),
)
def test_no_minute_has_more(per_minute: int, gaps: list[float]) -> None:
    clock = Moved()
    times = uses(RateLimiter(per_minute, clock), clock, [1] * len(gaps), gaps)
    assert times == sorted(times)
    for start in times:
        # Half open, less what rounding moves.
        assert sum(start <= time < start + 60 - 1e-6 for time in times) <= per_minute


@settings(deadline=None)
@given(
    st.integers(60, 6000),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3000)), min_size=1, max_size=60),
)
def test_no_minute_has_more_tokens_but_for_one_call(
    per_minute: int, calls: list[tuple[float, int]]
) -> None:
    clock = Moved()
    gaps, amounts = zip(*calls, strict=True)
    times = uses(RateLimiter(per_minute, clock), clock, list(amounts), list(gaps))
    for start in times:
        inside = [a for t, a in zip(times, amounts, strict=True) if start <= t < start + 60 - 1e-6]
        assert sum(inside) <= per_minute + max(inside)


def test_what_was_not_used_is_given_back() -> None:
    clock = Moved()
    limiter = RateLimiter(6000, clock)
    assert limiter.take(5000) == 0
    late = limiter.take(1)
    limiter.correct(-5001)
    assert limiter.take(1) == 0 and late > 40
    limiter.correct(5000)
    assert limiter.take(1) > 40


def test_a_call_that_is_larger_than_a_minute_is_let_through() -> None:
    clock = Moved()
    limiter = RateLimiter(100, clock)
    assert limiter.take(1000) == 0
    assert 540 < limiter.take(1) < 660
