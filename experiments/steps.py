"""Steps that wait for one another, several at a time, each in a process of one thread.

A step is a work with a result, which the steps behind it and the caller may use.
"""

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, NamedTuple

from verbalizer_bench.experiments.works import Work, pool, result_of, timed


class Step(NamedTuple):
    """A work, and what has to be done before it.

    Attributes:
        work: What is done; its name is the step's.
        after: Names of steps.
    """

    work: Work
    after: tuple[str, ...] = ()


def run_steps(steps: Sequence[Step], jobs: int) -> dict[str, Any]:
    """Run steps; print each with its time when it is done.

    Args:
        steps: In the order in which they are started where several are ready.
        jobs: How many at a time.

    Returns:
        What each returned, by name.

    Raises:
        ValueError: A step waits for one that is not there, or in a circle.
        Exception: What the first step raised that failed.
    """
    started = time.perf_counter()
    waiting, results = list(steps), dict[str, Any]()
    running: dict[Future[tuple[float, Any]], Work] = {}
    with pool(jobs) as processes:
        while waiting or running:
            for step in [one for one in waiting if set(one.after) <= results.keys()]:
                if len(running) < jobs:
                    waiting.remove(step)
                    running[processes.submit(timed, step.work)] = step.work
            if not running:
                names = ", ".join(step.work.name for step in waiting)
                raise ValueError(f"steps that wait for ever: {names}")
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                work = running.pop(future)
                results[work.name] = _line(work, future, len(results) + 1, len(steps), started)
    return results


def _line(
    work: Work, future: Future[tuple[float, Any]], number: int, steps: int, started: float
) -> Any:
    """Print that a step is done; return its result."""
    seconds, result = result_of(work, future)
    since = clock(time.perf_counter() - started)
    print(f"{since:>6}  {number:>2} of {steps}  {work.name:<44} {seconds:4.0f} s", flush=True)
    return result


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, `3:07`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
