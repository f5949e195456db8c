"""A chat-completions server on the loopback address that misbehaves as it is told.

It answers by a function of the request's JSON, so that a test knows every answer; it counts what it
is asked. A test that cares for order holds answers back until something has happened, and one that
cares for time gives it a clock of its own: no test waits for this machine's.
"""

import asyncio
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KINDS = ("rate_limited", "error", "unavailable", "slow", "cut", "garbled", "empty")


@dataclass(frozen=True)
class Faults:
    """Shares of requests that go wrong, drawn by seed, request and attempt, in whatever order.

    Attributes:
        seed: Another one, another plan.
        rate_limited: 429 with `Retry-After`.
        error: 500.
        unavailable: 503 without a word.
        slow: The answer comes after `slow_seconds`.
        cut: The connection ends in the middle of the body.
        garbled: The body is no JSON.
        empty: The body has no choices.
        refused: A refusal, which is an answer: by request only, so that it is the same each time.
        at_most: Faults of one request; then it is answered.
        retry_after: What `Retry-After` says.
        slow_seconds: Beside the server's delay.
        formats: Kinds of response_format that are not answered with 400.
    """

    seed: int = 0
    rate_limited: float = 0.0
    error: float = 0.0
    unavailable: float = 0.0
    slow: float = 0.0
    cut: float = 0.0
    garbled: float = 0.0
    empty: float = 0.0
    refused: float = 0.0
    at_most: int = 3
    retry_after: str = "0.2"
    slow_seconds: float = 1.0
    formats: tuple[str, ...] = ("json_schema", "json_object", "text")

    def draw(self, body_hash: str, attempt: int) -> str | None:
        """Return what goes wrong with an attempt."""
        if attempt >= self.at_most:
            return None
        value = random.Random(f"{self.seed} {body_hash} {attempt}").random()
        for kind in KINDS:
            value -= getattr(self, kind)
            if value < 0:
                return kind
        return None

    def refuses(self, body_hash: str) -> bool:
        return random.Random(f"{self.seed} {body_hash} refusal").random() < self.refused


@dataclass
class Asked:
    """A request that came: `outcome` is a kind of fault, a status, `ok`, or "" under way."""

    hash: str
    body: dict[str, Any]
    key: str
    started: float
    outcome: str = ""


@dataclass
class Server:
    """Run while a `with` lasts, in a thread of its own.

    Attributes:
        answer: Returns the response's text, an object that becomes its text, or a `web.Response`.
        faults: What goes wrong; None: nothing.
        delay: Seconds that each answer takes.
        gate: Whether a request may be answered now; asked again whenever another one comes or is
            done, and when a test calls `nudge`. None: at once.
        watch: Told of every request that came, before it is answered.
        clock: What `Asked.started` is read from.
        requests: All that came, in their order.
        peak: The most that were under way at once.
        done: How many were answered, in whatever way.
    """

    answer: Callable[[dict[str, Any]], Any]
    faults: Faults | None = None
    delay: float = 0.0
    gate: Callable[[Asked], bool] | None = None
    watch: Callable[[], None] | None = None
    clock: Callable[[], float] = time.monotonic
    requests: list[Asked] = field(default_factory=list, repr=False)
    url: str = ""
    peak: int = 0
    done: int = 0

    def __enter__(self) -> "Server":
        self._attempts: Counter[str] = Counter()
        self._under_way = 0
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(60), "the server did not start"
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

    def nudge(self) -> None:
        """Have the gate asked again, from another thread."""
        asyncio.run_coroutine_threadsafe(self._notify(), self._loop).result()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _run(self, ready: threading.Event) -> None:
        self._loop, self._ends = asyncio.get_running_loop(), asyncio.Event()
        self._changed = asyncio.Condition()
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._completions)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()
        await self._ends.wait()
        await runner.cleanup()

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        started = self.clock()
        data = await request.read()
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        asked = Asked(hashlib.sha256(data).hexdigest(), json.loads(data), key, started)
        self.requests.append(asked)
        self._under_way += 1
        self.peak = max(self.peak, self._under_way)
        if self.watch:
            self.watch()
        try:
            await self._pass(asked)
            return await self._respond(request, asked)
        finally:
            self._under_way -= 1
            self.done += 1
            await self._notify()

    async def _pass(self, asked: Asked) -> None:
        """Hold a request back until it may be answered."""
        if gate := self.gate:
            await self._notify()
            async with self._changed:
                await self._changed.wait_for(lambda: gate(asked))

    async def _respond(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        faults = self.faults or Faults()
        wanted = asked.body.get("response_format", {}).get("type", "text")
        if wanted not in faults.formats:
            asked.outcome = "400"
            return _error(400, f"response_format.type: {wanted} is not supported")
        kind = faults.draw(asked.hash, self._attempts[asked.hash])
        self._attempts[asked.hash] += 1
        if kind in ("rate_limited", "error", "unavailable"):
            asked.outcome = kind
            return _refusal(kind, faults)
        await asyncio.sleep(self.delay + (faults.slow_seconds if kind == "slow" else 0))
        answer = self.answer(asked.body)
        if isinstance(answer, web.StreamResponse):
            asked.outcome = str(answer.status)
            return answer
        text = answer if isinstance(answer, str) else json.dumps(answer)
        completion = _completion(asked, text, faults.refuses(asked.hash))
        asked.outcome = kind or "ok"
        if kind == "empty":
            completion["choices"] = []
        data = json.dumps(completion).encode()
        if kind == "cut":
            return await _cut(request, data)
        if kind == "garbled":
            data = data[: len(data) // 2]
        return web.Response(body=data, content_type="application/json")

    def since(self, mark: int) -> list[Asked]:
        """Return the requests after the first `mark`."""
        return self.requests[mark:]

    @property
    def answered(self) -> Counter[str]:
        """Return how often each request, by its body's hash, was answered as it should be."""
        return Counter(asked.hash for asked in self.requests if asked.outcome == "ok")


def prompt(body: dict[str, Any]) -> str:
    """Return the text of a request's last message."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def images(body: dict[str, Any]) -> list[bytes]:
    """Return the images of a request, which must be data URLs."""
    import base64

    pictures = []
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "image_url":
                head, comma, data = part["image_url"]["url"].partition(";base64,")
                assert comma and head.startswith("data:image/"), head
                pictures.append(base64.b64decode(data, validate=True))
    return pictures


def _completion(asked: Asked, text: str, refused: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if refused:
        message |= {"content": None, "refusal": "I cannot help with that."}
    words = sum(len(json.dumps(message["content"])) // 4 for message in asked.body["messages"])
    usage = {"prompt_tokens": words + 1, "completion_tokens": len(text) // 4 + 1}
    return {
        "id": f"chatcmpl-{asked.hash[:12]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": f"{asked.body['model']}-served",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"message": message, "type": "test", "code": None}
    return web.json_response({"error": error}, status=status, headers=headers)


def _refusal(kind: str, faults: Faults) -> web.Response:
    if kind == "rate_limited":
        return _error(429, "too many requests", {"Retry-After": faults.retry_after})
    return _error(500, "internal error") if kind == "error" else web.Response(status=503)


async def _cut(request: web.Request, data: bytes) -> web.StreamResponse:
    headers = {"Content-Length": str(len(data)), "Content-Type": "application/json"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(data[: len(data) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response
