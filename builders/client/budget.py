"""Limits: how much may be asked in a minute, and how much may be spent."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from verbalizer_bench.config import check


class Clock:
    """Time as it passes; a test has one that passes as it is told."""

    def now(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)


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


NOTHING = Usage(0, 0, 0.0)


@dataclass(frozen=True)
class Budget:
    """What a data set may cost, with all earlier runs of its folder.

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
    """What calls have cost.

    Attributes:
        money: By the endpoints' prices.
        input_tokens: Of prompts, as the server counts them.
        output_tokens: Of responses.
        calls: Responses that a server gave.
        cached: Responses that cost nothing: they were stored, or a call under way was shared.
        lost: What attempts may have cost whose response did not arrive whole: by estimate, on the
            side of more. It counts against the budget.
        retries: Attempts that were repeated, by reason.
    """

    money: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    cached: int = 0
    lost: Usage = NOTHING
    retries: Counter[str] = field(default_factory=Counter)

    def add(self, cost: Usage) -> None:
        """Count a response."""
        self.calls += 1
        self.money += cost.money
        self.input_tokens += cost.input_tokens
        self.output_tokens += cost.output_tokens

    def lose(self, estimate: Usage) -> None:
        """Count a response that did not arrive."""
        self.lost = Usage(
            self.lost.input_tokens + estimate.input_tokens,
            self.lost.output_tokens + estimate.output_tokens,
            self.lost.money + estimate.money,
        )


class BudgetGuard:
    """Hold what calls under way may cost, so that together they stay within the budget."""

    def __init__(self, budget: Budget | None, earlier: UsageTotals, usage: UsageTotals) -> None:
        """Begin with what earlier runs have spent."""
        self.budget, self.earlier, self.usage = budget or Budget(), earlier, usage
        self._held: list[Usage] = []
        self._freed = asyncio.Event()

    async def reserve(self, estimate: Usage) -> None:
        """Hold what a call may cost; wait if it fits only once a call under way cost less.

        Raises:
            BudgetSpent: It does not fit, and nothing is under way.
        """
        while problem := self._problem(estimate):
            if not self._held:
                raise BudgetExceeded(problem)
            self._freed.clear()
            await self._freed.wait()
        self._held.append(estimate)

    def release(self, estimate: Usage) -> None:
        """Give back what was held for a call that is over, after its cost was counted."""
        self._held.remove(estimate)
        self._freed.set()

    def _problem(self, estimate: Usage) -> str | None:
        usage, lost = (self.earlier, self.usage), self.usage.lost
        money = sum(part.money for part in usage) + lost.money
        tokens = sum(part.input_tokens + part.output_tokens for part in usage) + lost.tokens
        for name, limit, used, wanted, held in (
            ("money", self.budget.money, money, estimate.money, [c.money for c in self._held]),
            ("tokens", self.budget.tokens, tokens, estimate.tokens, [c.tokens for c in self._held]),
        ):
            if limit is not None and used + wanted + sum(held) > limit:
                return (
                    f"budget.{name}={limit:,.10g}: {used:,.6g} is spent and the next call may need "
                    f"{wanted:,.6g}"
                )
        return None


class RateLimiter:
    """A token bucket: in any minute no more than a number is taken, evenly but for small bursts.

    One call may take more than a second's worth; the calls after it wait for that.
    """

    def __init__(self, per_minute: int, clock: Clock | None = None) -> None:
        """Begin with a second's worth, which is also the most that is kept."""
        self.burst = max(1.0, per_minute / 60)
        # What a minute adds and the burst before it are together what a minute may have.
        self.per_second = (per_minute - self.burst + 1) / 60
        self.clock, self.level = clock or Clock(), self.burst
        self.then = self.clock.now()

    def take(self, amount: float) -> float:
        """Take an amount and return the seconds to wait until it may be used."""
        now = self.clock.now()
        self.level = min(self.burst, self.level + (now - self.then) * self.per_second)
        self.then = now
        wait = max(0.0, (min(amount, self.burst) - self.level) / self.per_second)
        self.level -= amount
        return wait

    def correct(self, amount: float) -> None:
        """Take more, or give back what was taken and not used (a negative amount)."""
        self.level -= amount
