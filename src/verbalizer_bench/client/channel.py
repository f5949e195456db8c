"""Channel: what all calls to one model share: connection, concurrency, rate limits, abilities."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

from verbalizer_bench.client.budget import Usage
from verbalizer_bench.client.circuit_breaker import CircuitBreaker
from verbalizer_bench.client.endpoint import STRUCTURED, Endpoint
from verbalizer_bench.client.rate_limiter import RateLimiter, TimeSource
from verbalizer_bench.client.transport import NO_SERVER, Connection, Failure

log = logging.getLogger(__name__)
# Seconds without any response after which the status says so.
_SILENCE = 5.0

# The response's JSON, or what went wrong.
Outcome = dict[str, Any] | Failure


class Channel:
    """An endpoint's connection, workers and rate limiters.

    Attributes:
        structured: How the server is asked for an object; found out on the way.
        fatal: Why no call can succeed any more; None: one may.
    """

    def __init__(self, endpoint: Endpoint, clock: TimeSource) -> None:
        """Open the connection.

        Args:
            endpoint: The server and its limits.
            clock: What waits are taken from.

        Raises:
            ValueError: The endpoint's key is not in the environment.
        """
        self.model, self._clock = endpoint.model, clock
        self.connection = Connection(endpoint)
        self._concurrency = endpoint.concurrency
        self._workers: list[asyncio.Task[None]] = []
        self._jobs: asyncio.Queue[tuple[Callable[[], Awaitable[Outcome]], asyncio.Future[Outcome]]]
        self._jobs = asyncio.Queue()
        self.requests = _limiter(endpoint.requests_per_minute, clock)
        self.tokens = _limiter(endpoint.tokens_per_minute, clock)
        auto = endpoint.structured == "auto"
        self.structured = STRUCTURED[0] if auto else endpoint.structured
        self.fatal: Failure | None = None
        self.breaker = CircuitBreaker(endpoint)
        self._gave_up = asyncio.Event()
        self._paused_until, self._turns = 0.0, list[float]()
        self._pause_reason, self._timeout = "", endpoint.timeout
        self._in_flight, self._last_heard = 0, clock.now()

    async def run(self, job: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Run a job on the next free worker.

        A worker sends the next request in the step that ends the last. With a semaphore, all
        responses of a burst would be read first, while nothing is sent.
        """
        if len(self._workers) < self._concurrency:
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
        """Stop the workers, which must be idle, and close the connection."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self.connection.close()

    async def wait_turn(self, estimate: Usage) -> None:
        """Wait until the rate limits allow a call, and the server does."""
        waits = [self.requests.take(1)] if self.requests else []
        waits += [self.tokens.take(estimate.tokens)] if self.tokens else []
        if any(waits):
            self._turns.append(turn := self._clock.now() + max(waits))
            try:
                await self.sleep(max(waits))
            finally:
                self._turns.remove(turn)
        while (wait := self._paused_until - self._clock.now()) > 0 and not self.fatal:
            await self.sleep(wait)

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the moment at which the endpoint is given up."""
        both = [
            asyncio.ensure_future(wait)
            for wait in (self._clock.sleep(seconds), self._gave_up.wait())
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in both:
                wait.cancel()

    async def send(self, body: dict[str, Any], timeout: float, call: str, waiting: int) -> Outcome:
        """Send a request, and draw the consequences of its outcome.

        Args:
            body: The request's JSON.
            timeout: Seconds until the whole response is there.
            call: Which call the attempt belongs to.
            waiting: How many calls have no response yet, this one among them.
        """
        began = self.breaker.round
        self._last_heard = self._last_heard if self._in_flight else self._clock.now()
        self._in_flight += 1
        try:
            outcome = await self.connection.send(body, timeout)
        finally:
            self._in_flight -= 1
            self._last_heard = self._clock.now()
        if isinstance(outcome, Failure) and outcome.retryable:
            self._note(outcome, self.breaker.failed(outcome, call, began, waiting))
            return outcome
        self.breaker.answered()
        if isinstance(outcome, Failure):
            self._note(outcome, False)
        return outcome

    def correct_tokens(self, change: int) -> None:
        """Correct the tokens that were taken by estimate."""
        if self.tokens:
            self.tokens.correct(change)

    def _note(self, failure: Failure, new_round: bool) -> None:
        """Give the endpoint up, or pause, if the next call would fail as well."""
        if self.fatal:
            return
        self.fatal = failure if failure.fatal else self.breaker.verdict
        if self.fatal:
            self._gave_up.set()
            return
        requested = (failure.retry_after or 0.0) if failure.status in (429, 503) else 0.0
        until = self._clock.now() + max(requested, self.breaker.pause)
        if new_round and failure.reason in NO_SERVER and self.breaker.rounds == 1:
            log.warning("%s: %s; trying again", self.model, failure.message)
        elif requested >= 10 and until > self._paused_until + 1:
            log.warning("%s: %s; waiting %.0f s", self.model, failure.message, requested)
        if until > self._paused_until:
            self._paused_until, self._pause_reason = until, failure.message

    @property
    def status(self) -> str:
        """Return what calls wait for; "" while responses come."""
        now, last = self._clock.now(), self.breaker.last
        if self.fatal:
            return f"{self.model}: {self.fatal.message}"
        if (wait := self._paused_until - now) > 0:
            return f"{self.model}: {self._pause_reason}; goes on in {math.ceil(wait)} s"
        if self._in_flight and now - self._last_heard >= _SILENCE:
            calls = f"{self._in_flight} calls" if self._in_flight > 1 else "1 call"
            return (
                f"{self.model}: {calls} in flight, no response for {now - self._last_heard:.0f} s "
                f"(timeout={self._timeout:g})"
            )
        if self._turns and not self._in_flight and (wait := min(self._turns) - now) > 1:
            return (
                f"{self.model}: at the recipe's requests_per_minute or tokens_per_minute; goes on "
                f"in {math.ceil(wait)} s"
            )
        return f"{self.model}: {last.message}; trying again" if last else ""

    def downgrade(self, structured: str) -> None:
        """Note how the server takes a schema, once it has refused a better way and taken this."""
        if STRUCTURED.index(structured) > STRUCTURED.index(self.structured):
            self.structured = structured
            how = "json_object" if structured == "json_object" else "without response_format"
            log.warning("%s takes no JSON schema; asking %s, in words", self.model, how)


def _limiter(per_minute: int | None, clock: TimeSource) -> RateLimiter | None:
    return RateLimiter(per_minute, clock) if per_minute else None
