"""Budgets that calls in flight share."""

import asyncio

import pytest

from verbalizer_bench.client.budget import (
    NO_USAGE,
    Budget,
    BudgetExceeded,
    BudgetGuard,
    Usage,
    UsageTotals,
)


def test_a_guard_keeps_within_its_budget() -> None:
    async def run() -> None:
        usage = UsageTotals()
        guard = BudgetGuard(Budget(tokens=100), UsageTotals(input_tokens=20), usage)
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


def test_a_budget_of_money() -> None:
    async def run() -> None:
        guard = BudgetGuard(Budget(money=1.5), UsageTotals(money=1), usage := UsageTotals())
        await guard.reserve(half := Usage(1, 1, 0.5))
        guard.release(half)
        usage.add(half)
        with pytest.raises(BudgetExceeded, match=r"budget\.money=1\.5: 1\.5 is spent and .* 0\.01"):
            await guard.reserve(Usage(1, 1, 0.01))
        await guard.reserve(NO_USAGE)

    asyncio.run(run())


def test_all_who_wait_are_told_that_it_is_spent() -> None:
    async def run() -> list[str]:
        usage = UsageTotals()
        guard = BudgetGuard(Budget(tokens=10), UsageTotals(), usage)

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
    asyncio.run(BudgetGuard(None, UsageTotals(), UsageTotals()).reserve(Usage(10**9, 10**9, 1e9)))
