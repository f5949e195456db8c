"""Lanes: what the calls to one model share, which is a connection, its limits and its abilities."""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any

from verbalizer_bench.builders.client.budget import Clock, RateLimiter, Usage
from verbalizer_bench.builders.client.circuit_breaker import CircuitBreaker
from verbalizer_bench.builders.client.endpoint import STRUCTURED, Endpoint
from verbalizer_bench.builders.client.transport import NO_SERVER, Connection, Failure

log = logging.getLogger(__name__)
_LONGEST_BACKOFF = 60.0
# A server that says nothing for so long is said to be silent.
_SILENCE = 5.0

# The response's JSON, or what went wrong.
Outcome = dict[str, Any] | Failure


class Channel:
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
        self.line = Connection(endpoint)
        self._slots = endpoint.concurrency
        self._workers: list[asyncio.Task[None]] = []
        self._jobs: asyncio.Queue[tuple[Callable[[], Awaitable[Outcome]], asyncio.Future[Outcome]]]
        self._jobs = asyncio.Queue()
        self.requests = _rate(endpoint.requests_per_minute, clock)
        self.tokens = _rate(endpoint.tokens_per_minute, clock)
        auto = endpoint.structured == "auto"
        self.structured = STRUCTURED[0] if auto else endpoint.structured
        self.fatal: Failure | None = None
        self.breaker = CircuitBreaker(endpoint)
        self._given_up = asyncio.Event()
        self._closed_until, self._turns = 0.0, list[float]()
        self._why_closed, self._timeout = "", endpoint.timeout
        self._under_way, self._heard = 0, clock.now()

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

    async def turn(self, cost: Usage) -> None:
        """Wait until the rates allow a call, and the server does."""
        waits = [self.requests.take(1)] if self.requests else []
        waits += [self.tokens.take(cost.tokens)] if self.tokens else []
        if any(waits):
            self._turns.append(turn := self._clock.now() + max(waits))
            try:
                await self.rest(max(waits))
            finally:
                self._turns.remove(turn)
        while (wait := self._closed_until - self._clock.now()) > 0 and not self.fatal:
            await self.rest(wait)

    async def rest(self, seconds: float) -> None:
        """Wait, but no longer than there is hope."""
        both = [
            asyncio.ensure_future(wait)
            for wait in (self._clock.sleep(seconds), self._given_up.wait())
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in both:
                wait.cancel()

    async def send(self, body: dict[str, Any], timeout: float, call: str) -> Outcome:
        """Send a request, and note what comes of it.

        Args:
            body: The request's JSON.
            timeout: Seconds until the whole response is there.
            call: Whose attempt it is.
        """
        began = self.breaker.round
        self._heard = self._clock.now() if not self._under_way else self._heard
        self._under_way += 1
        try:
            outcome = await self.line.send(body, timeout)
        finally:
            self._under_way -= 1
            self._heard = self._clock.now()
        again = isinstance(outcome, Failure) and outcome.again
        if not again:
            self.breaker.answered()
        if isinstance(outcome, Failure):
            self._note(outcome, again and self.breaker.failed(outcome, call, began))
        return outcome

    def settle(self, change: int) -> None:
        """Correct the tokens that were taken by estimate."""
        if self.tokens:
            self.tokens.correct(change)

    def _note(self, failure: Failure, another: bool) -> None:
        """Ask nothing more, or for a while, where nothing would come of it."""
        if self.fatal:
            return
        self.fatal = failure if failure.fatal else self.breaker.verdict
        if self.fatal:
            self._given_up.set()
            return
        asked = (failure.wait or 0.0) if failure.status in (429, 503) else 0.0
        until = self._clock.now() + max(asked, self.breaker.pause)
        if another and failure.reason in NO_SERVER and self.breaker.rounds == 1:
            log.warning("%s: %s; it is tried again", self.model, failure.message)
        elif asked >= 10 and until > self._closed_until + 1:
            log.warning("%s: %s; waiting %.0f s", self.model, failure.message, asked)
        if until > self._closed_until:
            self._closed_until, self._why_closed = until, failure.message

    @property
    def waiting_for(self) -> str:
        """Return what its calls wait for; "" while answers come."""
        now, last = self._clock.now(), self.breaker.last
        if self.fatal:
            return f"{self.model}: {self.fatal.message}"
        if (wait := self._closed_until - now) > 0:
            return f"{self.model}: {self._why_closed}; goes on in {math.ceil(wait)} s"
        if self._under_way and now - self._heard >= _SILENCE:
            calls = f"{self._under_way} calls" if self._under_way > 1 else "1 call"
            return (
                f"{self.model}: {calls} under way, none answered for {now - self._heard:.0f} s "
                f"(timeout={self._timeout:g})"
            )
        if self._turns and not self._under_way and (wait := min(self._turns) - now) > 1:
            return (
                f"{self.model}: at the recipe's requests_per_minute or tokens_per_minute; goes on "
                f"in {math.ceil(wait)} s"
            )
        return f"{self.model}: {last.message}; it is tried again" if last else ""

    def downgrade(self, structured: str) -> None:
        """Note how the server takes a schema, once it has refused a better way and taken this."""
        if STRUCTURED.index(structured) > STRUCTURED.index(self.structured):
            self.structured = structured
            how = "json_object" if structured == "json_object" else "without response_format"
            log.warning("%s takes no JSON schema; it is asked %s, in words", self.model, how)


def _rate(per_minute: int | None, clock: Clock) -> RateLimiter | None:
    return RateLimiter(per_minute, clock) if per_minute else None


def pause(failure: Failure, failures: int, backoff: float) -> float:
    """Return the seconds before the next attempt: what the server asks for, or ever longer."""
    longest = min(_LONGEST_BACKOFF, backoff * 2 ** (failures - 1))
    return max(longest * random.uniform(0.5, 1), failure.wait or 0.0)
