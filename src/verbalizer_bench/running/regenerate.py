"""Run a few documents again, and return the run instead of a report."""

import contextlib
from collections.abc import Sequence

from verbalizer_bench.results.run import Run, read_run
from verbalizer_bench.running.harness import harness
from verbalizer_bench.running.log_level import lm_eval_warnings_only


def regenerate(arguments: Sequence[str]) -> Run:
    """Run lm-eval's `run` without its tables.

    Args:
        arguments: Those of `verbalizer-bench run`, with `--output_path`.
    """
    with lm_eval_warnings_only(), contextlib.redirect_stdout(None):
        (folder,) = harness("run", arguments)
    return read_run(folder)
