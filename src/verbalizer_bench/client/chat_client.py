"""Chat client: calls of language models, none lost, none paid twice, all within the limits.

async with ChatClient({"default": endpoint}, Path("data/foit"), budget=Budget(money=20)) as client:
    reply = await client.ask(Request("caption", ({"role": "user", "content": "…"},)))

A response is stored before it is used: the same request is never sent again, by any later run in
the folder. A call that fails for good stores nothing, so that a later run sends it again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from verbalizer_bench.client.budget import (
    NO_USAGE,
    Budget,
    BudgetExceeded,
    BudgetGuard,
    Usage,
    UsageTotals,
)
from verbalizer_bench.client.channel import Channel, Outcome
from verbalizer_bench.client.endpoint import STRUCTURED, Endpoint, endpoint_for
from verbalizer_bench.client.protocol import (
    Reply,
    Request,
    body,
    estimate,
    reply_of,
    request_key,
    usage_of,
)
from verbalizer_bench.client.rate_limiter import TimeSource
from verbalizer_bench.client.response_store import ResponseStore
from verbalizer_bench.client.retry import retrying
from verbalizer_bench.client.transport import Failure

log = logging.getLogger(__name__)


class CallFailed(Exception):
    """A call has no response; nothing is stored, a later run asks again.

    Attributes:
        status: HTTP's, if there was one.
        fatal: Whether no other call to the endpoint can succeed now: the key is wrong, the quota
            spent, the model unknown.
    """

    def __init__(self, message: str, status: int | None, fatal: bool) -> None:
        super().__init__(message)
        self.status, self.fatal = status, fatal


class ChatClient:
    """Send requests to endpoints by role; see the module.

    Attributes:
        earlier: What earlier runs in the folder have cost.
        usage: What this one has.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        folder: Path,
        *,
        budget: Budget | None = None,
        clock: TimeSource | None = None,
        goes_on: str = "run the same command",
    ) -> None:
        """Check the budget; nothing is opened yet.

        Args:
            endpoints: By role; `default` is for roles without one of their own.
            folder: Where `calls.jsonl` is.
            budget: For all runs in the folder together.
            clock: What waits are taken from; None: time as it passes.
            goes_on: What to do once the budget is raised.

        Raises:
            ValueError: The budget is in money and an endpoint has no prices.
        """
        self.endpoints, self.folder, self.budget = dict(endpoints), folder, budget
        self.earlier, self.usage, self._clock = UsageTotals(), UsageTotals(), clock or TimeSource()
        self._goes_on = goes_on
        for role, endpoint in self.endpoints.items():
            unpriced = endpoint.input_price is None or endpoint.output_price is None
            if budget and budget.money is not None and unpriced:
                raise ValueError(
                    f"budget.money={budget.money:g}: {role} has no input_price and output_price; "
                    "give them, or budget.tokens instead"
                )
        self._channels: dict[tuple[Any, ...], Channel] = {}
        self._running: dict[str, asyncio.Task[Mapping[str, Any]]] = {}
        self._sending: set[str] = set()
        # How often each running call was tried, whether or not the server took it.
        self._tried: Counter[str] = Counter()
        self._closing = False

    async def __aenter__(self) -> "ChatClient":
        self._store = ResponseStore(self.folder)
        self.earlier = self._store.earlier
        self._guard = BudgetGuard(self.budget, self.earlier, self.usage)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Drop calls that wait; store those that were sent, for they are paid."""
        self._closing = True
        try:
            await self._finish()
        finally:
            # An interrupt during the wait must still release the folder.
            self._store.close()

    async def _finish(self) -> None:
        tasks = list(self._running.values())
        for key, task in self._running.items():
            if key not in self._sending:
                task.cancel()
        if self._sending:
            log.warning(
                "waiting for %d calls in flight, to store them; Ctrl-C drops them",
                len(self._sending),
            )
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close()

    @property
    def status(self) -> str:
        """Return what calls wait for; "" while responses come."""
        return "; ".join(filter(None, (channel.status for channel in self._channels.values())))

    def stored(self, request: Request) -> Reply | None:
        """Return the stored response to a request; None if there is none."""
        endpoint = endpoint_for(self.endpoints, request.role)
        row = self._store.known.get(request_key(request, endpoint))
        return reply_of(row, request, True, endpoint.max_tokens) if row else None

    async def ask(self, request: Request) -> Reply:
        """Return the stored response to a request, or the server's once it is stored.

        Raises:
            BudgetExceeded: The call may cost more than is left.
            CallFailed: The server gives no response.
            ValueError: No endpoint, no key in the environment, or a file that is no image.
        """
        endpoint = endpoint_for(self.endpoints, request.role)
        key = request_key(request, endpoint)
        stored, task = self._store.known.get(key), self._running.get(key)
        cached = bool(stored or task)
        if not stored:
            # A task of its own: it goes on if the caller is cancelled, for the response is paid.
            task = task or self._start(request, key)
            stored = await asyncio.shield(task)
        self.usage.cached += cached
        return reply_of(stored, request, cached, endpoint.max_tokens)

    def _start(self, request: Request, key: str) -> asyncio.Task[Mapping[str, Any]]:
        if self._closing:
            raise RuntimeError("ask: the client is closed")
        task = asyncio.create_task(self._call(request, key))
        self._running[key] = task

        def done(task: asyncio.Task[Any]) -> None:
            del self._running[key]
            self._tried.pop(key, None)
            self._sending.discard(key)
            # Otherwise asyncio logs an exception that nobody retrieved.
            _ = task.cancelled() or task.exception()

        task.add_done_callback(done)
        return task

    async def _call(self, request: Request, key: str) -> Mapping[str, Any]:
        """Attempt a call until it is answered or given up, and store the response."""
        endpoint = endpoint_for(self.endpoints, request.role)
        channel = self._channels.get(endpoint.channel_key)
        if channel is None:
            channel = self._channels[endpoint.channel_key] = Channel(endpoint, self._clock)
        attempts = retrying(
            endpoint,
            sleep=channel.sleep,
            closing=lambda: self._closing,
            on_retry=lambda failure: self.usage.retries.update([failure.reason]),
        )
        attempt = partial(self._attempt, request, endpoint, channel, key)
        outcome: Outcome = await attempts(channel.run, attempt)
        if isinstance(outcome, Failure):
            raise _failed(request, endpoint, outcome, self._tried[key])
        usage = usage_of(outcome, request, endpoint)
        return await self._store.add(key, request.role, endpoint.model, outcome, usage)

    async def _attempt(
        self, request: Request, endpoint: Endpoint, channel: Channel, key: str
    ) -> Outcome:
        """Send a call, and again in weaker forms if the server does not take a schema."""
        structured, refusal = channel.structured, None
        while True:
            outcome = await self._send(request, endpoint, channel, key, structured)
            if not isinstance(outcome, Failure):
                if refusal:
                    channel.downgrade(structured)
                return outcome
            self._sending.discard(key)
            if outcome.status not in (400, 422):
                return outcome
            refusal = refusal or outcome
            weaker = _weaker(structured, endpoint, request)
            if weaker is None:
                # It was not the form of the request: the first refusal says more.
                return refusal
            structured = weaker
            self.usage.retries["response_format"] += 1

    async def _send(
        self, request: Request, endpoint: Endpoint, channel: Channel, key: str, structured: str
    ) -> Outcome:
        """Send a call once budget and rates allow, and count its usage."""
        if channel.fatal:
            return channel.fatal
        reserved = estimate(request, endpoint)
        await self._reserve(reserved)
        try:
            await channel.wait_turn(reserved)
            if channel.fatal:
                return channel.fatal
            if self._closing:
                raise RuntimeError("ask: the client is closed")
            self._sending.add(key)
            # Images are read here, so that only calls in flight hold theirs in memory.
            sent = body(request, endpoint, structured)
            self._tried[key] += 1
            outcome = await channel.send(sent, endpoint.timeout, key, len(self._running))
            used = self._count(outcome, reserved, request, endpoint)
            channel.correct_tokens(used.tokens - reserved.tokens)
        finally:
            self._guard.release(reserved)
        return outcome

    async def _reserve(self, estimate: Usage) -> None:
        try:
            await self._guard.reserve(estimate)
        except BudgetExceeded as error:
            raise BudgetExceeded(
                f"{error}; all responses are in {self._store.path}: raise the budget and "
                f"{self._goes_on} to go on"
            ) from None

    def _count(
        self, outcome: Outcome, reserved: Usage, request: Request, endpoint: Endpoint
    ) -> Usage:
        """Count what an attempt used, or may have used."""
        if not isinstance(outcome, Failure):
            usage = usage_of(outcome, request, endpoint)
            self.usage.add(usage)
            return usage
        if outcome.lost:
            self.usage.lose(reserved)
        return reserved if outcome.lost else NO_USAGE


def _failed(request: Request, endpoint: Endpoint, failure: Failure, tried: int) -> CallFailed:
    status = f"{failure.status}: " if failure.status else ""
    asks = f"; it asks to wait {failure.retry_after:.0f} s" if failure.retry_after else ""
    # Another call may be why the endpoint is given up.
    often = {0: "not tried", 1: "tried once"}.get(tried, f"tried {tried} times")
    return CallFailed(
        f"{request.role}: {endpoint.model} at {endpoint.address}: {status}{failure.message}{asks} "
        f"({often})",
        failure.status,
        failure.fatal,
    )


def _weaker(structured: str, endpoint: Endpoint, request: Request) -> str | None:
    """Return the next form to ask for an object in, if the recipe leaves it open."""
    if request.schema is None or endpoint.structured != "auto" or structured == "none":
        return None
    return STRUCTURED[STRUCTURED.index(structured) + 1]
