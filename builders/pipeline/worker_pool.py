"""Worker pool: many units at once, with the results in the units' order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from verbalizer_bench.client.budget import BudgetExceeded

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class Unanswered(Exception):
    """Calls failed that may succeed in a later run."""


class BuildStopped(Unanswered):
    """All other calls would fail as well.

    Attributes:
        fix: What to do about it.
    """

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(message)
        self.fix = fix or (
            "mend what it names (server, key, model, parameters) and run the same command again: "
            "it asks for what is not stored"
        )


async def map_ordered(
    units: Sequence[Unit],
    work: Callable[[Unit], Awaitable[Result]],
    workers: int,
    done: Callable[[int, Result], None],
) -> list[Result]:
    """Return the results of work on each unit, in the units' order.

    All units are worked on even if some fail, so that what was paid for is stored; an exceeded
    budget, or a wrong setting, ends it.

    Args:
        units: What is worked on.
        work: Makes a result of a unit.
        workers: How many units are worked on at once.
        done: Called with the place and the result of each unit.

    Raises:
        BudgetExceeded: The next call may not fit.
        BuildStopped: No call can succeed now.
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
                done(place, results[place])
            except (BudgetExceeded, BuildStopped, ValueError, OSError) as error:
                ended.append(error)
            except Unanswered as error:
                failed.append(error)
            if ended:
                return

    await asyncio.gather(*(worker() for _ in range(min(workers, len(units)))))
    if ended:
        raise ended[0]
    if failed:
        raise Unanswered(f"{len(failed)} of {len(units)} calls failed, the first: {failed[0]}")
    return [results[place] for place in range(len(units))]
