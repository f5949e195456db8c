"""Event loop: run a coroutine to its end, also where a loop runs already."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_to_end(run: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end; in a thread where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = Future()

    async def announced() -> Result:
        started.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        return await run

    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(asyncio.run, announced())
        try:
            return result.result()
        except KeyboardInterrupt:
            # Ctrl-C reaches the main thread only: without this, calls would go on being paid for.
            loop, task = started.result()
            if task:
                loop.call_soon_threadsafe(task.cancel)
            raise
