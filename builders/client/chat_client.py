"""Calls: ask language models, so that nothing is lost, nothing is paid twice, and limits are kept.

async with Caller({"default": endpoint}, Path("data/foit"), budget=Budget(money=20)) as caller:
    reply = await caller.ask(Request("caption", ({"role": "user", "content": "…"},)))

A response is stored before it is used: the same request is never asked again, by any later run in
the folder. A call that fails for good stores nothing, so that a later run asks again.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from verbalizer_bench.builders.client.budget import (
    NOTHING,
    Budget,
    BudgetExceeded,
    BudgetGuard,
    Clock,
    Usage,
    UsageTotals,
)
from verbalizer_bench.builders.client.channel import Channel, Outcome, pause
from verbalizer_bench.builders.client.endpoint import STRUCTURED, Endpoint
from verbalizer_bench.builders.client.protocol import (
    Reply,
    Request,
    body,
    cost_of,
    estimate,
    reply_of,
    request_key,
)
from verbalizer_bench.builders.client.response_store import ResponseStore
from verbalizer_bench.builders.client.transport import Failure

__all__ = ["Budget", "BudgetExceeded", "CallFailed", "ChatClient", "Endpoint", "Reply", "Request"]

log = logging.getLogger(__name__)


class CallFailed(Exception):
    """A call has no response; nothing is stored, a later run asks again.

    Attributes:
        status: HTTP's, if there was one.
        hopeless: Whether no other call to the endpoint can succeed now: the key is wrong, the
            quota spent, the model unknown.
    """

    def __init__(self, message: str, status: int | None, fatal: bool) -> None:
        super().__init__(message)
        self.status, self.fatal = status, fatal


class ChatClient:
    """Ask; see the module."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        folder: Path,
        *,
        budget: Budget | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take what a recipe says.

        Args:
            endpoints: By role; `default` is for roles that have none of their own.
            folder: Where `calls.jsonl` is.
            budget: For all runs in the folder together.
            clock: What waits are taken from; None: time as it passes.

        Raises:
            ValueError: The budget is in money and an endpoint has no prices.
        """
        self.endpoints, self.folder, self.budget = dict(endpoints), folder, budget
        self.usage, self._clock = UsageTotals(), clock or Clock()
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
        self._closing = False

    async def __aenter__(self) -> "ChatClient":
        self._store = ResponseStore(self.folder)
        self._guard = BudgetGuard(self.budget, self._store.earlier, self.usage)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stop: calls that wait are dropped, those that are sent are paid and so are stored."""
        self._closing = True
        try:
            await self._finish()
        finally:
            # Whoever is interrupted here as well gives the folder back.
            self._store.close()

    async def _finish(self) -> None:
        tasks = list(self._running.values())
        for key, task in self._running.items():
            if key not in self._sending:
                task.cancel()
        if self._sending:
            log.warning(
                "waiting for %d calls that are under way, to store them; Ctrl-C drops them",
                len(self._sending),
            )
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close()

    @property
    def total(self) -> UsageTotals:
        """Return what all runs in the folder have spent."""
        earlier = self._store.earlier
        return replace(
            self.usage,
            money=earlier.money + self.usage.money,
            input_tokens=earlier.input_tokens + self.usage.input_tokens,
            output_tokens=earlier.output_tokens + self.usage.output_tokens,
            calls=earlier.calls + self.usage.calls,
        )

    @property
    def waiting_for(self) -> str:
        """Return what calls wait for; "" while answers come."""
        return "; ".join(
            waiting_for
            for channel in self._channels.values()
            if (waiting_for := channel.waiting_for)
        )

    def endpoint(self, role: str) -> Endpoint:
        """Return whom calls of a role go to.

        Raises:
            ValueError: There is none, and no `default`.
        """
        found = self.endpoints.get(role) or self.endpoints.get("default")
        if found is None:
            raise ValueError(f"endpoints: none for {role} and no default; give one of them")
        return found

    async def ask(self, request: Request) -> Reply:
        """Return the stored response to a request, or the server's once it is stored.

        Raises:
            BudgetSpent: The call may cost more than is left.
            CallFailed: The server gives no response.
            ValueError: The endpoint's key is not in the environment, or an image is none.
        """
        endpoint = self.endpoint(request.role)
        key = request_key(request, endpoint)
        row, task = self._store.known.get(key), self._running.get(key)
        cached = bool(row or task)
        if not row:
            # A task of its own: it goes on if who asked is cancelled, for the answer is paid.
            task = task or self._start(request, key)
            row = await asyncio.shield(task)
        self.usage.cached += cached
        return reply_of(row, request, cached, endpoint.max_tokens)

    def _start(self, request: Request, key: str) -> asyncio.Task[Mapping[str, Any]]:
        if self._closing:
            raise RuntimeError("ask: the caller is closed")
        task = asyncio.create_task(self._call(request, key))
        self._running[key] = task

        def done(task: asyncio.Task[Any]) -> None:
            del self._running[key]
            self._sending.discard(key)
            # Else asyncio would log an error that nobody waits for any more.
            _ = task.cancelled() or task.exception()

        task.add_done_callback(done)
        return task

    async def _call(self, request: Request, key: str) -> Mapping[str, Any]:
        """Attempt a call until it is answered or given up, and store the response."""
        endpoint = self.endpoint(request.role)
        channel = self._channels.get(endpoint.channel)
        if channel is None:
            channel = self._channels[endpoint.channel] = Channel(endpoint, self._clock)
        job = partial(self._attempt, request, endpoint, channel, key)
        failures = 0
        while isinstance(outcome := await channel.run(job), Failure):
            failures += 1
            if not outcome.again or failures > endpoint.retries or self._closing:
                raise _failed(request, endpoint, outcome, failures)
            self.usage.retries[outcome.reason] += 1
            await channel.rest(pause(outcome, failures, endpoint.backoff))
        cost = cost_of(outcome, request, endpoint)
        return await self._store.add(key, request.role, endpoint.model, outcome, cost)

    async def _attempt(
        self, request: Request, endpoint: Endpoint, channel: Channel, key: str
    ) -> Outcome:
        """Send a call, and again where the server does not take the way an object is asked for."""
        structured, refused = channel.structured, None
        while True:
            outcome = await self._send(request, endpoint, channel, key, structured)
            if not isinstance(outcome, Failure):
                if refused:
                    channel.downgrade(structured)
                return outcome
            self._sending.discard(key)
            if outcome.status not in (400, 422):
                return outcome
            refused = refused or outcome
            weaker = _weaker(structured, endpoint, request)
            if weaker is None:
                # It was not the way of asking: the first refusal says more.
                return refused
            structured = weaker
            self.usage.retries["response_format"] += 1

    async def _send(
        self, request: Request, endpoint: Endpoint, channel: Channel, key: str, structured: str
    ) -> Outcome:
        """Send a call once, when budget and rates allow, and count what it cost."""
        if channel.fatal:
            return channel.fatal
        held = estimate(request, endpoint)
        await self._reserve(held)
        try:
            await channel.turn(held)
            if channel.fatal:
                return channel.fatal
            if self._closing:
                raise RuntimeError("ask: the caller is closed")
            self._sending.add(key)
            # Images are read here, where there are no more than the slots.
            sent = body(request, endpoint, structured)
            outcome = await channel.send(sent, endpoint.timeout, key)
            channel.settle(self._count(outcome, held, request, endpoint).tokens - held.tokens)
        finally:
            self._guard.release(held)
        return outcome

    async def _reserve(self, held: Usage) -> None:
        try:
            await self._guard.reserve(held)
        except BudgetExceeded as error:
            raise BudgetExceeded(
                f"{error}; all responses are in {self._store.path}: raise the budget and run the "
                "same command to go on"
            ) from None

    def _count(self, outcome: Outcome, held: Usage, request: Request, endpoint: Endpoint) -> Usage:
        """Count what an attempt cost, or may have cost."""
        if not isinstance(outcome, Failure):
            cost = cost_of(outcome, request, endpoint)
            self.usage.add(cost)
            return cost
        if outcome.lost:
            self.usage.lose(held)
        return held if outcome.lost else NOTHING


def _failed(request: Request, endpoint: Endpoint, failure: Failure, attempts: int) -> CallFailed:
    status = f"{failure.status}: " if failure.status else ""
    asks = f"; it asks to wait {failure.wait:.0f} s" if failure.wait else ""
    return CallFailed(
        f"{request.role}: {endpoint.model} at {endpoint.address}: {status}{failure.message}{asks} "
        f"(attempt {attempts})",
        failure.status,
        failure.fatal,
    )


def _weaker(structured: str, endpoint: Endpoint, request: Request) -> str | None:
    """Return the next way to ask for an object, where the recipe leaves it to us."""
    if request.schema is None or endpoint.structured != "auto" or structured == "none":
        return None
    return STRUCTURED[STRUCTURED.index(structured) + 1]
