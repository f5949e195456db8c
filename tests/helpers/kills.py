"""Processes that are killed at an event: the server's next requests, or a place in the work."""

import faulthandler
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future

from tests.helpers.endpoint_server import Server

# Seconds after which a fork counts as stuck: it says where, and dies of SIGALRM.
PATIENCE_OF_FORKS = 600


def killed_at(server: Server, requests: int, work: Callable[[], object]) -> bool:
    """Work in a process of its own until so many requests came; say whether it was still at it."""
    last, child = len(server.requests) + requests, Future[int]()

    def watch() -> None:
        if len(server.requests) >= last:
            server.watch = None
            # The request that has come is not answered before: the process is still there.
            os.kill(child.result(), signal.SIGKILL)

    server.watch = watch
    child.set_result(_fork(work))
    _, status = os.waitpid(child.result(), 0)
    server.watch = None
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def killed_inside(work: Callable[[Callable[[], None]], object]) -> None:
    """Work in a process of its own, which is killed where it calls what `work` is given."""
    reached, reach = os.pipe()

    def here() -> None:
        os.write(reach, b"x")
        signal.pause()

    child = _fork(lambda: work(here))
    os.close(reach)
    assert os.read(reached, 1), "it ended before"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reached)


def _fork(work: Callable[[], object]) -> int:
    """Begin work in a process of its own, which says nothing but where it hangs."""
    if child := os.fork():
        return child
    try:
        # `dump_traceback_later` would wait for ever where pytest's `faulthandler_timeout` has begun
        # one in the parent: for that one's thread, which a fork does not have.
        faulthandler.register(signal.SIGALRM, file=os.dup(2), chain=True)
        signal.alarm(PATIENCE_OF_FORKS)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        work()
        os._exit(0)
    finally:
        os._exit(1)
