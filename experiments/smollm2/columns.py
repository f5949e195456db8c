"""The study's own columns of its tables: format alone, and what ended the responses."""

import numpy as np

from verbalizer_bench.experiments.rows import Measure, f1_scores
from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.tasks.metrics import words

ENDINGS = ("eos", "limit")
F1, ALONE = "f1", "alone"
# What a point costs seconds of.
PARTS = ("train", "suite", "ifeval")


def alone(run: Run, task: TaskScores) -> np.ndarray:
    """Return which responses are one of the two label words and nothing else, right or wrong.

    Shape (documents,). It is the format that the suite's prompts ask for.
    """
    labels = [words(task.verbalizer.first), words(task.verbalizer.second)]
    said = {sample.doc_id: words(sample.response) for sample in run.samples(task.task)}
    return np.array([float(said[number] in labels) for number in task.doc_ids])


COLUMNS: dict[str, Measure] = {F1: f1_scores, ALONE: alone}


def ending_row(run: Run) -> dict[str, str]:
    """Return what ended the responses, shares in points of 100."""
    counts = run.record.endings if run.record else {}
    total = sum(counts.values()) or 1
    return {name: f"{100 * counts.get(name, 0) / total:.2f}" for name in ENDINGS}
