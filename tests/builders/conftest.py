"""What the builders' tests share: servers on the loopback address, and a key that is none."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.builders.server import Faults, Server, prompt
from verbalizer_bench.builders.limits import Clock

FAKE_KEY = "sk-test-4f9a1c77d2e84b5fa0d3NEVERWRITTEN"


class Moved(Clock):
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


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """Put a key into the environment that must not turn up anywhere else."""
    monkeypatch.setenv("OPENAI_API_KEY", FAKE_KEY)
    return FAKE_KEY


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Return what starts servers that stop with the test; without a function they echo."""
    with ExitStack() as stack:

        def start(
            answer: Callable[[dict[str, Any]], Any] | None = None,
            faults: Faults | None = None,
            delay: float = 0.0,
            **others: Any,
        ) -> Server:
            echo = answer or (lambda body: f"echo: {prompt(body)}")
            return stack.enter_context(Server(echo, faults, delay, **others))

        yield start
