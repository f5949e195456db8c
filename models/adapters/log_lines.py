"""Our log lines beside lm-eval's: the same place, the same form, the level that its user chose.

lm-eval's command line sets up the logger `lm_eval` alone, so that what ours says at INFO would be
seen nowhere. What it says itself of each of our 108 tasks alike is said once.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

_LM_EVAL = logging.getLogger("lm_eval")
_FORM = "%(asctime)s %(levelname)-8s [%(name)s:%(lineno)d] %(message)s"
# What lm-eval says of tasks: its command line has named those that were asked for.
_OF_TASKS = ("lm_eval.evaluator", "lm_eval.evaluator_utils")
_SELECTED = re.compile(r"Selected tasks:$|\s*(Task|Group): verbalizer")
_ASKED = re.compile(r"(?P<task>\S+): (?P<arguments>Using gen_kwargs: .*)", re.DOTALL)


class _AsLmEvals(logging.Handler):
    """Hand lines to lm-eval's handlers, unless the root logger has some: those print them too."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers or not _LM_EVAL.isEnabledFor(record.levelno):
            return
        for handler in _LM_EVAL.handlers:
            # One that keeps lines in a file has ours already.
            if not isinstance(handler, logging.FileHandler):
                handler.handle(record)


class Terminal(logging.Handler):
    """Print lines for readers: what they say without when and where, above a bar if there is one.

    Of lm-eval only warnings are printed, without those that the run's first lines say better.
    """

    _SAID_BETTER = ("--limit SHOULD ONLY BE USED FOR TESTING", "generation_kwargs: ")

    def __init__(self, level: int) -> None:
        """Take the level from which our lines are printed."""
        super().__init__()
        self._level = level

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, if it is one to print."""
        ours = record.name.startswith("verbalizer_bench")
        text = record.getMessage()
        if record.levelno < (self._level if ours else logging.WARNING):
            return
        if not ours and text.startswith(self._SAID_BETTER):
            return
        kind = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        tqdm.write(f"{kind}{text}", file=sys.stderr)


@contextmanager
def readable_lines(level: int) -> Iterator[None]:
    """Print our lines and lm-eval's for readers (`Terminal`), in place of what lm-eval set up."""
    with _handlers(Terminal(level), True):
        yield


@contextmanager
def kept_lines(file: Path) -> Iterator[None]:
    """Keep all lines from lm-eval's level on in a file, as lm-eval writes them.

    Where what follows fails and leaves nothing else in the file's folder, it is removed.
    """
    handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter(_FORM))
    try:
        with _handlers(handler, False):
            yield
    except BaseException:
        if list(file.parent.iterdir()) == [file]:
            file.unlink()
        raise
    finally:
        handler.close()


@contextmanager
def _handlers(handler: logging.Handler, alone: bool) -> Iterator[None]:
    """Add a handler to our logger and to lm-eval's, or have it alone."""
    loggers = [_LM_EVAL, logging.getLogger("verbalizer_bench")]
    before = [logger.handlers for logger in loggers]
    for logger in loggers:
        logger.handlers = [handler] if alone else [*logger.handlers, handler]
    try:
        yield
    finally:
        for logger, handlers in zip(loggers, before, strict=True):
            logger.handlers = handlers


class _OncePerRun(logging.Filter):
    """Pass what lm-eval says of our tasks once: that they are selected, and how they are asked."""

    def __init__(self, served: bool) -> None:
        super().__init__()
        self._served = served
        self._asked: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if _SELECTED.match(text):
            return False
        if not (asked := _ASKED.match(text)):
            return True
        if self._served:
            return False
        if not asked["task"].startswith("verbalizer"):
            return True
        first = asked["arguments"] not in self._asked
        self._asked.add(asked["arguments"])
        record.msg, record.args = f"{asked['task']} and all like it: {asked['arguments']}", ()
        return first


@contextmanager
def quiet_task_lines(served: bool) -> Iterator[None]:
    """Have lm-eval name our tasks, and how they are asked, once in a run and not once a task.

    Args:
        served: Whether a server is asked, which the tasks' generation arguments do not reach as
            they are: `verbalizer-api` says itself how it decodes.
    """
    once = _OncePerRun(served)
    loggers = [logging.getLogger(name) for name in _OF_TASKS]
    for logger in loggers:
        logger.addFilter(once)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(once)


def show_log_lines() -> None:
    """Show our log lines where and from which level lm-eval shows its own.

    Where nobody set up lm-eval's logging nothing changes. Other ranks than 0 say no more than
    warnings.
    """
    if not _LM_EVAL.handlers:
        return
    ours = logging.getLogger("verbalizer_bench")
    first = os.environ.get("RANK", "0") == "0"
    ours.setLevel(_LM_EVAL.level if first else max(_LM_EVAL.level, logging.WARNING))
    if not any(isinstance(handler, _AsLmEvals | Terminal) for handler in ours.handlers):
        ours.addHandler(_AsLmEvals())
