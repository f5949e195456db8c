"""How much lm-eval logs of runs that another command makes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "LMEVAL_LOG_LEVEL"


@contextmanager
def lm_eval_warnings_only() -> Iterator[None]:
    """Have lm-eval log no line a task, unless the environment says from which level it logs."""
    if _VARIABLE in os.environ:
        yield
        return
    os.environ[_VARIABLE] = "WARNING"
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
