"""A crew of workers: many units at once, with the results in the units' order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from verbalizer_bench.builders.limits import BudgetSpent

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class Unanswered(Exception):
    """Calls failed that may succeed in a later run."""


async def for_each(
    units: Sequence[Unit],
    work: Callable[[Unit], Awaitable[Result]],
    workers: int,
    done: Callable[[Result], None],
) -> list[Result]:
    """Return what work makes of each unit, in the units' order whatever the order of completion.

    All units are worked on even if some fail, so that what was paid for is stored; a budget that
    is spent, or a wrong setting, ends it.

    Raises:
        BudgetSpent: The next call may not fit.
        Unanswered: Calls failed that may succeed another time; says how many.
    """
    results: dict[int, Result] = {}
    failed: list[Unanswered] = []
    ended: list[Exception] = []
    waiting = iter(enumerate(units))

    async def worker() -> None:
        for place, unit in waiting:
            try:
                results[place] = await work(unit)
                done(results[place])
            except Unanswered as error:
                failed.append(error)
            except (BudgetSpent, ValueError, OSError) as error:
                ended.append(error)
            if ended:
                return

    await asyncio.gather(*(worker() for _ in range(min(workers, len(units)))))
    if ended:
        raise ended[0]
    if failed:
        raise Unanswered(f"{len(failed)} of {len(units)} calls failed, the first: {failed[0]}")
    return [results[place] for place in range(len(units))]
