"""What tests of an endpoint share: a clock that stands still, and a key to be written nowhere."""

import asyncio

from verbalizer_bench.client.rate_limiter import TimeSource

FAKE_KEY = "sk-test-4f9a1c77d2e84b5fa0d3NEVERWRITTEN"


class Moved(TimeSource):
    """A clock that stands still until it is moved, or until somebody waits for it.

    Attributes:
        time: Its seconds.
        waits: All that it was waited for.
    """

    def __init__(self) -> None:
        self.time, self.waits = 1000.0, list[float]()

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time = self.time + seconds
        await asyncio.sleep(0)
