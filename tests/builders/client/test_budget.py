"""Rates by a clock that stands still until it is moved; budgets that calls under way share."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.clock import Moved
from verbalizer_bench.builders.client.budget import (
    NOTHING,
    Budget,
    BudgetExceeded,
    BudgetGuard,
    RateLimiter,
    Usage,
)
from verbalizer_bench.builders.client.budget import UsageTotals as Spent


def uses(rate: RateLimiter, clock: Moved, amounts: list[float], gaps: list[float]) -> list[float]:
    """Return when each amount may be used, where one is taken after each gap."""
    times = []
    for amount, gap in zip(amounts, gaps, strict=True):
        clock.time += gap
        times.append(clock.time + rate.take(amount))
    return times


def test_one_a_minute() -> None:
    clock = Moved()
    rate = RateLimiter(1, clock)
    assert [rate.take(1), rate.take(1), rate.take(1)] == [0, 60, 120]
    clock.time += 600
    assert [rate.take(1), rate.take(1)] == [0, 60]


def test_a_steady_rate_after_a_burst() -> None:
    clock = Moved()
    rate = RateLimiter(600, clock)  # a burst of 10, then 591 a minute
    waits = [rate.take(1) for _ in range(12)]
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
    rate = RateLimiter(6000, clock)
    assert rate.take(5000) == 0
    late = rate.take(1)
    rate.correct(-5001)
    assert rate.take(1) == 0 and late > 40
    rate.correct(5000)
    assert rate.take(1) > 40


def test_a_call_that_is_larger_than_a_minute_is_let_through() -> None:
    clock = Moved()
    rate = RateLimiter(100, clock)
    assert rate.take(1000) == 0
    assert 540 < rate.take(1) < 660


def test_a_purse_within_its_budget() -> None:
    async def run() -> None:
        usage = Spent()
        guard = BudgetGuard(Budget(tokens=100), Spent(input_tokens=20), usage)
        large = Usage(50, 20, 0)
        await guard.reserve(large)
        # The next may fit once the first turns out to cost less: it waits.
        second = asyncio.create_task(guard.reserve(Usage(10, 5, 0)))
        await asyncio.sleep(0)
        assert not second.done()
        usage.add(Usage(30, 5, 0))
        guard.release(large)
        await second
        guard.release(Usage(10, 5, 0))
        with pytest.raises(BudgetExceeded) as error:
            await guard.reserve(large)
        assert str(error.value) == ("budget.tokens=100: 55 is spent and the next call may need 70")
        usage.lose(Usage(40, 0, 0))  # it may have been charged: it counts
        with pytest.raises(BudgetExceeded, match="95 is spent"):
            await guard.reserve(Usage(6, 0, 0))
        await guard.reserve(Usage(5, 0, 0))

    asyncio.run(run())


def test_a_purse_of_money() -> None:
    async def run() -> None:
        guard = BudgetGuard(Budget(money=1.5), Spent(money=1), usage := Spent())
        await guard.reserve(half := Usage(1, 1, 0.5))
        guard.release(half)
        usage.add(half)
        with pytest.raises(BudgetExceeded, match=r"budget\.money=1\.5: 1\.5 is spent and .* 0\.01"):
            await guard.reserve(Usage(1, 1, 0.01))
        await guard.reserve(NOTHING)

    asyncio.run(run())


def test_all_who_wait_are_told_that_it_is_spent() -> None:
    async def run() -> list[str]:
        usage = Spent()
        guard = BudgetGuard(Budget(tokens=10), Spent(), usage)

        async def call() -> str:
            try:
                await guard.reserve(Usage(6, 0, 0))
            except BudgetExceeded:
                return "spent"
            await asyncio.sleep(0)
            usage.add(Usage(6, 0, 0))
            guard.release(Usage(6, 0, 0))
            return "called"

        return await asyncio.gather(*(call() for _ in range(20)))

    assert sorted(asyncio.run(run())) == ["called"] + ["spent"] * 19


@pytest.mark.parametrize("values", [{"money": -1}, {"tokens": -1}])
def test_wrong_budgets(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="=-1: at least 0"):
        Budget(**values)


def test_no_budget_is_no_limit() -> None:
    asyncio.run(BudgetGuard(None, Spent(), Spent()).reserve(Usage(10**9, 10**9, 1e9)))
