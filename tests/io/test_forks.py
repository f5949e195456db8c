"""Tests that kill a process of their own go on: it leaves nothing taken that they need."""

import os
import threading
from collections.abc import Callable

from tqdm import tqdm

from tests.helpers.kills import killed_inside


def test_a_process_that_is_killed_while_it_draws_a_bar_leaves_bars_free() -> None:
    def work(here: Callable[[], None]) -> None:
        with tqdm.get_lock():
            here()

    killed_inside(work)
    assert tqdm.get_lock().acquire(False)
    tqdm.get_lock().release()


def test_a_process_that_begins_while_another_thread_draws_a_bar_draws_its_own() -> None:
    drawing, begun = threading.Event(), threading.Event()

    def draw() -> None:
        with tqdm.get_lock():
            drawing.set()
            begun.wait()

    thread = threading.Thread(target=draw)
    thread.start()
    drawing.wait()
    if (child := os.fork()) == 0:
        os._exit(0 if tqdm.get_lock().acquire(False) else 1)
    begun.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
