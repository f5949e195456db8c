"""Runs as they are read from a folder."""

from pathlib import Path

import numpy as np

from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.tasks.metrics import METRICS
from verbalizer_bench.tasks.spec import Verbalizer


def task(dataset: str, label_type: str, first: str, f1: list[float]) -> TaskScores:
    values = np.array(f1)
    scores = {metric: values if metric == "f1" else np.zeros(len(f1)) for metric in METRICS}
    name = f"verbalizer_{dataset}_{label_type}_{first}_x"
    verbalizer = Verbalizer(label_type, first, "x")  # type: ignore[arg-type]
    ids = tuple(range(len(f1)))
    return TaskScores(name, dataset, verbalizer, "sample", "0", ids, scores)


def run(*tasks: TaskScores) -> Run:
    return Run(Path("run"), "model", {"config": {"model": "m"}}, tasks, 0)
