"""Run a few documents again, and return the run instead of a report."""

import contextlib
import os
from collections.abc import Sequence

from verbalizer_bench.results.run import Run, read_run
from verbalizer_bench.running.harness import harness


def regenerate(arguments: Sequence[str]) -> Run:
    """Run lm-eval's `run` without its tables.

    Args:
        arguments: Those of `verbalizer-bench run`, with `--output_path`.
    """
    # lm-eval logs a line a task.
    os.environ.setdefault("LMEVAL_LOG_LEVEL", "WARNING")
    with contextlib.redirect_stdout(None):
        (folder,) = harness("run", arguments)
    return read_run(folder)
