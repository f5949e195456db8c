"""Run a few documents again, and hand over what was answered instead of a report."""

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from verbalizer_bench.io import jsonl
from verbalizer_bench.results.run import newest_results, read_results, samples_file
from verbalizer_bench.running.harness import harness


def regenerate(
    arguments: Sequence[str],
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Run lm-eval's `run`; return its results file, and each task's rows with their responses.

    Args:
        arguments: Those of `verbalizer-bench run`, with `--output_path`.
    """
    # lm-eval logs a line a task.
    os.environ.setdefault("LMEVAL_LOG_LEVEL", "WARNING")
    with contextlib.redirect_stdout(None):
        (folder,) = harness("run", arguments)
    results = newest_results(folder)
    table = read_results(results)
    rows = {}
    for task in table["configs"]:
        rows[task] = [row for _, row in jsonl.read_objects(samples_file(results, task))]
    return table, rows
