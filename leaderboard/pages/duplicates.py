"""Submissions whose responses are another one's: the same model twice, or somebody's copy."""

from collections.abc import Sequence

import numpy as np

from verbalizer_bench.leaderboard.pages.entries import Entry

# Of the tasks: a copy with a few responses changed is a copy.
_SHARE = 0.5


def same_responses(entries: Sequence[Entry]) -> dict[str, tuple[tuple[str, int], ...]]:
    """Find submissions that have all responses of half of the tasks, or of more, in common.

    Returns:
        By path, the others and how many tasks they have in common; only of those that have any.
    """
    names: dict[tuple[str, str], int] = {}
    tables = [{task.task: task.responses for task in entry.verified.tasks} for entry in entries]
    tasks = sorted({task for table in tables for task in table})
    codes = np.array(
        [
            [names.setdefault((task, table[task]), len(names)) if task in table else -1 - row]
            for row, table in enumerate(tables)
            for task in tasks
        ]
    ).reshape(len(tables), len(tasks))
    found = {}
    for row, entry in enumerate(entries):
        counts = (codes == codes[row]).sum(axis=1)
        counts[row] = 0
        if others := np.flatnonzero(counts >= _SHARE * len(tasks)).tolist():
            found[entry.path] = tuple((entries[other].path, int(counts[other])) for other in others)
    return found
