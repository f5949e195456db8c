"""Runs as they are read from a folder."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.results.schema import EvalResults
from verbalizer_bench.tasks.metrics import METRICS
from verbalizer_bench.tasks.spec import Verbalizer


def task(dataset: str, label_type: str, first: str, f1: list[float]) -> TaskScores:
    values = np.array(f1)
    scores = {metric: values if metric == "f1" else np.zeros(len(f1)) for metric in METRICS}
    name = f"verbalizer_{dataset}_{label_type}_{first}_x"
    verbalizer = Verbalizer(label_type, first, "x")  # type: ignore[arg-type]
    ids = tuple(range(len(f1)))
    return TaskScores(name, dataset, verbalizer, "sample", "0", ids, scores)


def run(*tasks: TaskScores, name: str = "model", folder: Path = Path("run"), **config: Any) -> Run:
    """Return a run of these tasks; `config` is that of its results file."""
    blocks: dict[str, Any] = {"results": {}, "configs": {}, "n-samples": {}}
    results = EvalResults.model_validate({**blocks, "config": {"model": "m", **config}})
    return Run(folder / "results_1.json", name, results, tasks)


def changed(
    run: Run,
    config: dict[str, Any] | None = None,
    generation: dict[str, Any] | None = None,
    **blocks: Any,
) -> Run:
    """Return a run whose results file says something else."""
    table = {**run.results.model_dump(by_alias=True, exclude_unset=True), **blocks}
    table["config"] |= config or {}
    for task in run.tasks:
        if generation:
            table["configs"][task.task]["generation_kwargs"] |= generation
    return dataclasses.replace(run, results=EvalResults.model_validate(table))
