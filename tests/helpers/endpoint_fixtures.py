"""Servers on the loopback address, and a key that is none: fixtures of all tests that ask one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.helpers.clock import FAKE_KEY
from tests.helpers.endpoint_server import Faults, Server, prompt


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
