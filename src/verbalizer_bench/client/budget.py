"""Budget: what calls have cost, and the guard that keeps calls in flight within the limit."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from verbalizer_bench.config import check


class BudgetExceeded(Exception):
    """The next call may not fit into the budget; what was answered is stored."""


class Usage(NamedTuple):
    """What a call costs, or may cost."""

    input_tokens: int
    output_tokens: int
    money: float

    @property
    def tokens(self) -> int:
        """Return the tokens of prompt and response."""
        return self.input_tokens + self.output_tokens


NO_USAGE = Usage(0, 0, 0.0)


@dataclass(frozen=True)
class Budget:
    """What a data set may cost, counting all earlier runs in its folder.

    Attributes:
        money: In the currency of the endpoints' prices; None: no limit.
        tokens: Of prompts and responses; None: no limit.
    """

    money: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("money", "tokens"):
            value = getattr(self, name)
            check(name, value, value is None or value >= 0, "at least 0")


@dataclass
class UsageTotals:
    """What all calls have cost.

    Attributes:
        money: By the endpoints' prices.
        input_tokens: Of prompts, as the server counts them.
        output_tokens: Of responses.
        calls: Responses that a server gave.
        cached: Responses that cost nothing: stored before, or shared with a call in flight.
        lost: What attempts may have cost whose response did not arrive whole: an estimate, rather
            too high than too low. It counts against the budget.
        retries: Attempts that were repeated, by reason.
    """

    money: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    cached: int = 0
    lost: Usage = NO_USAGE
    retries: Counter[str] = field(default_factory=Counter)

    def add(self, usage: Usage) -> None:
        """Count a response."""
        self.calls += 1
        self.money += usage.money
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens

    def lose(self, estimate: Usage) -> None:
        """Count a response that did not arrive."""
        self.lost = Usage(
            self.lost.input_tokens + estimate.input_tokens,
            self.lost.output_tokens + estimate.output_tokens,
            self.lost.money + estimate.money,
        )


class BudgetGuard:
    """Reserve what calls in flight may cost, so that together they stay within the budget."""

    def __init__(self, budget: Budget | None, earlier: UsageTotals, usage: UsageTotals) -> None:
        """Begin with what earlier runs have spent, and the totals of this run."""
        self.budget, self.earlier, self.usage = budget or Budget(), earlier, usage
        self._reserved: list[Usage] = []
        self._released = asyncio.Event()

    async def reserve(self, estimate: Usage) -> None:
        """Reserve what a call may cost; wait if it fits only once a call in flight cost less.

        Raises:
            BudgetExceeded: It does not fit, and nothing is in flight.
        """
        while problem := self._problem(estimate):
            if not self._reserved:
                raise BudgetExceeded(problem)
            self._released.clear()
            await self._released.wait()
        self._reserved.append(estimate)

    def release(self, estimate: Usage) -> None:
        """Release the reservation of a call that is over, after its usage was counted."""
        self._reserved.remove(estimate)
        self._released.set()

    def _problem(self, estimate: Usage) -> str | None:
        totals, lost = (self.earlier, self.usage), self.usage.lost
        money = sum(total.money for total in totals) + lost.money
        tokens = sum(total.input_tokens + total.output_tokens for total in totals) + lost.tokens
        reserved = self._reserved
        for name, limit, used, wanted, held in (
            ("money", self.budget.money, money, estimate.money, [u.money for u in reserved]),
            ("tokens", self.budget.tokens, tokens, estimate.tokens, [u.tokens for u in reserved]),
        ):
            if limit is not None and used + wanted + sum(held) > limit:
                return (
                    f"budget.{name}={limit:,.10g}: {used:,.6g} is spent and the next call may need "
                    f"{wanted:,.6g}"
                )
        return None
