"""Works that are done several at a time, each in a process of one thread, and what is left of them.

Every work takes one thread, so that its numbers do not depend on how many are done at a time.
"""

import contextlib
import io
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, TextIO


class Work(NamedTuple):
    """Something to do, by a function in a process of its own.

    Attributes:
        kind: Works of a kind take about as long as each other.
        name: For the line that says that it is done.
        log: The file that what it prints goes to.
        function: What does it.
        arguments: Its arguments.
    """

    kind: str
    name: str
    log: Path
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@contextlib.contextmanager
def pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Give fresh processes of one thread each, so many at a time."""
    os.environ["OMP_NUM_THREADS"] = "1"
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=fresh) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


class Progress:
    """Runs works in a pool; says after each how long the rest of them will take."""

    def __init__(self, pool: ProcessPoolExecutor, jobs: int) -> None:
        self._pool, self._jobs = pool, jobs

    def __call__(self, works: Sequence[Work], title: str) -> None:
        """Run works, and raise what the first that fails raises."""
        print(f"{title}: {len(works)}", flush=True)
        futures = {self._pool.submit(timed, work): work for work in works}
        waiting = [work.kind for work in works]
        taken: dict[str, list[float]] = defaultdict(list)
        for future in as_completed(futures):
            work = futures[future]
            seconds, _ = result_of(work, future)
            taken[work.kind].append(seconds)
            waiting.remove(work.kind)
            print(f"  {work.name}: {seconds:.0f} s; {self._left(waiting, taken)}", flush=True)

    def _left(self, waiting: Sequence[str], taken: dict[str, list[float]]) -> str:
        every = [seconds for durations in taken.values() for seconds in durations]
        mean = {kind: sum(durations) / len(durations) for kind, durations in taken.items()}
        rest = sum(mean.get(kind, sum(every) / len(every)) for kind in waiting) / self._jobs
        return f"{len(waiting)} left, about {rest / 60:.0f} min"


def result_of(work: Work, future: Future[tuple[float, Any]]) -> tuple[float, Any]:
    """Return the seconds that a work took, and its result.

    Raises:
        ChildProcessError: A process of the pool was killed.
        Exception: What the work raised, with a note that names it.
    """
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            f"{work.name}, or what ran beside it: its process was killed, by somebody or by the "
            f"system where memory ran out; what it printed is in {work.log}; make room and start "
            "again"
        ) from error
    except Exception as error:
        error.add_note(f"{work.name}; what it printed is in {work.log}")
        raise


def timed(work: Work) -> tuple[float, Any]:
    """Do a work on one thread; return the seconds it took, and its result.

    What it prints goes to its log.
    """
    import torch

    torch.set_num_threads(1)
    started = time.perf_counter()
    with _printing_into(work.log):
        result = work.function(*work.arguments)
    return time.perf_counter() - started, result


class _Printed(io.TextIOBase):
    """The stream of all works of a process: a logger that one of them set up outlives its log."""

    encoding = "utf-8"
    file: TextIO | None = None

    def write(self, text: str) -> int:
        return self._now.write(text)

    def flush(self) -> None:
        self._now.flush()

    def fileno(self) -> int:
        return self._now.fileno()

    @property
    def _now(self) -> TextIO:
        return self.file or sys.__stderr__ or io.StringIO()


_PRINTED = _Printed()


@contextlib.contextmanager
def _printing_into(log: Path) -> Iterator[None]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as _PRINTED.file:
        try:
            with contextlib.redirect_stdout(_PRINTED), contextlib.redirect_stderr(_PRINTED):
                yield
        finally:
            _PRINTED.file = None
