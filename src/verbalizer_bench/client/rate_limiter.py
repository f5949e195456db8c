"""Rate limiter: a token bucket that lets one large call through and takes corrections afterwards.

Libraries (aiolimiter, throttled-py, pyrate-limiter) refuse a call that is larger than the bucket
for good, and none gives back what an estimate took too much: tokens are only counted afterwards.
"""

import asyncio
import time


class TimeSource:
    """Time as it passes; tests replace it with one that they move."""

    def now(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)


class RateLimiter:
    """A token bucket: in any minute no more than the limit is taken, evenly but for small bursts.

    A single call may take more than the bucket holds; the calls after it wait for that.
    """

    def __init__(self, per_minute: int, clock: TimeSource | None = None) -> None:
        """Begin with a second's worth, which is also the most that is kept."""
        self.burst = max(1.0, per_minute / 60)
        # What a minute adds and the burst before it are together what a minute may have.
        self.per_second = (per_minute - self.burst + 1) / 60
        self.clock, self.level = clock or TimeSource(), self.burst
        self.updated = self.clock.now()

    def take(self, amount: float) -> float:
        """Take an amount and return the seconds to wait until it may be used."""
        now = self.clock.now()
        self.level = min(self.burst, self.level + (now - self.updated) * self.per_second)
        self.updated = now
        wait = max(0.0, (min(amount, self.burst) - self.level) / self.per_second)
        self.level -= amount
        return wait

    def correct(self, amount: float) -> None:
        """Take more, or give back what was taken and not used (a negative amount)."""
        self.level -= amount
