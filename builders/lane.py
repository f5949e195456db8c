"""Lanes: what the calls to one model share, which is a connection, its limits and its abilities."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from verbalizer_bench.builders.endpoint import STRUCTURED, Endpoint
from verbalizer_bench.builders.limits import Clock, Cost, Rate
from verbalizer_bench.builders.transport import Failure, Line

log = logging.getLogger(__name__)
_LONGEST_BACKOFF = 60.0

# The response's JSON, or what went wrong.
Outcome = dict[str, Any] | Failure


class Lane:
    """An endpoint's connection, slots and rates.

    Attributes:
        structured: How the server is asked for an object; it turns out while asking.
        hopeless: Why no call can succeed any more; None: one may.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        """Open the connection.

        Args:
            endpoint: Whom it goes to.
            clock: What waits are taken from.

        Raises:
            ValueError: The endpoint's key is not in the environment.
        """
        self.model, self._clock = endpoint.model, clock
        self.line = Line(endpoint)
        self._slots = endpoint.concurrency
        self._workers: list[asyncio.Task[None]] = []
        self._jobs: asyncio.Queue[tuple[Callable[[], Awaitable[Outcome]], asyncio.Future[Outcome]]]
        self._jobs = asyncio.Queue()
        self.requests = _rate(endpoint.requests_per_minute, clock)
        self.tokens = _rate(endpoint.tokens_per_minute, clock)
        auto = endpoint.structured == "auto"
        self.structured = STRUCTURED[0] if auto else endpoint.structured
        self.hopeless: Failure | None = None
        self._closed_until = 0.0

    async def run(self, job: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Run a job in the next free slot.

        A slot is a worker, which sends the next request in the step that ends the last. Around a
        semaphore the responses of a burst would all be read first, while their slots stand empty.
        """
        if len(self._workers) < self._slots:
            self._workers.append(asyncio.create_task(self._work()))
        future = asyncio.get_running_loop().create_future()
        self._jobs.put_nowait((job, future))
        return await future

    async def _work(self) -> None:
        while True:
            job, future = await self._jobs.get()
            if future.done():
                continue
            try:
                outcome = await job()
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(outcome)

    async def close(self) -> None:
        """Stop the workers, which must have nothing to do, and close the connection."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self.line.close()

    async def turn(self, cost: Cost) -> None:
        """Wait until the rates allow a call, and the server does."""
        waits = [self.requests.take(1)] if self.requests else []
        waits += [self.tokens.take(cost.tokens)] if self.tokens else []
        if any(waits):
            await self._clock.sleep(max(waits))
        while (wait := self._closed_until - self._clock.now()) > 0:
            await self._clock.sleep(wait)

    def settle(self, change: int) -> None:
        """Correct the tokens that were taken by estimate."""
        if self.tokens:
            self.tokens.correct(change)

    def note(self, failure: Failure) -> None:
        """Ask nothing more, or for a while, where the server says that it is asked too much."""
        if failure.hopeless:
            self.hopeless = failure
        elif failure.wait and failure.status in (429, 503):
            until = self._clock.now() + failure.wait
            if failure.wait >= 10 and until > self._closed_until + 1:
                log.warning("%s: %s; waiting %.0f s", self.model, failure.message, failure.wait)
            self._closed_until = max(self._closed_until, until)

    def weaken(self, structured: str) -> None:
        """Note how the server takes a schema, once it has refused a better way and taken this."""
        if STRUCTURED.index(structured) > STRUCTURED.index(self.structured):
            self.structured = structured
            how = "json_object" if structured == "json_object" else "without response_format"
            log.warning("%s takes no JSON schema; it is asked %s, in words", self.model, how)


def _rate(per_minute: int | None, clock: Clock) -> Rate | None:
    return Rate(per_minute, clock) if per_minute else None


def pause(failure: Failure, failures: int, backoff: float) -> float:
    """Return the seconds before the next attempt: what the server asks for, or ever longer."""
    longest = min(_LONGEST_BACKOFF, backoff * 2 ** (failures - 1))
    return max(longest * random.uniform(0.5, 1), failure.wait or 0.0)
