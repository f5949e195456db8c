"""Submissions whose responses are another one's: the same model twice, or somebody's copy."""

from collections.abc import Sequence

import numpy as np

from verbalizer_bench.leaderboard.site.entries import Entry

# Of a task's sketch, and of the tasks: a copy with a few responses changed is a copy.
_ALIKE, _SHARE = 0.8, 0.5


def same_responses(entries: Sequence[Entry]) -> dict[str, tuple[tuple[str, int], ...]]:
    """Find submissions that have nearly all responses of half of the tasks, or more, in common.

    Responses that are right tell nothing; tasks without any other are not counted.

    Returns:
        By path, the others and how many tasks they have in common; only of those that have any.
    """
    tables = [{task.task: task.responses for task in entry.verified.tasks} for entry in entries]
    tasks = sorted({task for table in tables for task in table})
    text = "".join(table.get(task, "0" * 64) for table in tables for task in tasks)
    sketches = np.frombuffer(bytes.fromhex(text), np.uint16).reshape(len(tables), len(tasks), 16)
    copies = {}
    for row, entry in enumerate(entries):
        counts, of = _alike(sketches[row], sketches)
        counts[row] = 0
        if others := np.flatnonzero((counts > 0) & (counts >= _SHARE * of)).tolist():
            copies[entry.path] = tuple(
                (entries[other].path, int(counts[other])) for other in others
            )
    return copies


def _alike(one: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return in how many tasks others say the same, and how many tell anything."""
    bins = ((one | others) > 0).sum(axis=2)
    same = ((one == others) & (one > 0)).sum(axis=2)
    return ((bins > 0) & (same >= _ALIKE * bins)).sum(axis=1), (bins > 0).sum(axis=1)
