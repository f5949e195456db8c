"""Rows of the experiments' tables: what a run scored, by label type and by document."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.results.statistics import by_dataset
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

Point = TypeVar("Point")
Measure = Callable[[Run, TaskScores], np.ndarray]
# Of a response with no label word: it has four words or more.
WORDS = "words"
# The first document of each of these, with one verbalizer a label type, is shown in the report.
_SHOWN = (
    "verbalizer_sst2_natural_positive_negative",
    "verbalizer_sst2_neutral_foo_bar",
    "verbalizer_sst2_unnatural_negative_positive",
    "verbalizer_sick_neutral_lake_river",
)


def score_row(run: Run) -> dict[str, str]:
    """Return F1 and the outcomes' shares of each label type, in points of 100.

    `words` is the share of responses without a label word that have four words or more.
    """
    row = {}
    for label_type in LABEL_TYPES:
        wordy = [_wordy(run, task) for task in run.of_type(label_type)]
        row[f"{label_type}_{WORDS}"] = f"{100 * np.mean(wordy):.2f}"
        for metric in ("f1", *OUTCOMES):
            means = [task.scores[metric].mean() for task in run.of_type(label_type)]
            row[f"{label_type}_{metric}"] = f"{100 * np.mean(means):.2f}"
    return row


def _wordy(run: Run, task: TaskScores) -> float:
    samples = run.samples(task.task)
    return sum(s.neither and len(s.response.split()) >= 4 for s in samples) / len(task.doc_ids)


def f1_scores(run: Run, task: TaskScores) -> np.ndarray:
    """Return F1 of a task's documents; shape (documents,)."""
    return task.scores["f1"]


def document_rows(
    run: Run, columns: Mapping[str, Measure] = MappingProxyType({"f1": f1_scores})
) -> Iterable[dict[str, str]]:
    """Yield each data set's F1 by document, the mean over a label type's verbalizers.

    Args:
        run: The run.
        columns: In place of F1: what gives each column's scores of a task's documents.
    """
    for dataset, tasks in by_dataset(run.tasks).items():
        for label_type in LABEL_TYPES:
            row = {"label_type": label_type, "data_set": dataset}
            own = [task for task in tasks if task.verbalizer.type == label_type]
            for name, measure in columns.items():
                scores = np.mean([measure(run, task) for task in own], axis=0)
                row[name] = " ".join(f"{value:.4g}" for value in scores)
            yield row


def example_rows(run: Run) -> Iterable[dict[str, str]]:
    """Yield the response to the first document of some tasks."""
    for task in _SHOWN:
        first = min(run.samples(task), key=lambda sample: sample.doc_id)
        shown = {"target": first.target, "response": first.response, "outcome": first.outcome}
        yield {"task": task, **shown}


def write_rows(rows: Sequence[Mapping[str, str]], file: Path) -> None:
    """Write rows as CSV; a row without a key of another has an empty cell there."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(file: Path) -> list[dict[str, str]]:
    """Read rows of a CSV."""
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def read_f1(
    file: Path, point_of: Callable[[Mapping[str, str]], Point], column: str = "f1"
) -> tuple[dict[tuple[Point, str], np.ndarray], list[str]]:
    """Read what `document_rows` gave.

    Args:
        file: The table; with a column `image` where a point is asked with several.
        point_of: Returns whose row it is.
        column: Another column than F1's.

    Returns:
        By point and image, F1 of each document by label type, shape (3, documents); and the data
        set of each document.
    """
    f1: dict[tuple[Point, str], dict[str, list[float]]] = {}
    datasets: dict[str, int] = {}
    for row in read_rows(file):
        values = [float(value) for value in row[column].split()]
        by_type = f1.setdefault((point_of(row), row.get("image", "")), {})
        by_type.setdefault(row["label_type"], []).extend(values)
        datasets[row["data_set"]] = len(values)
    tables = {key: np.array([by_type[t] for t in LABEL_TYPES]) for key, by_type in f1.items()}
    return tables, [name for name, number in datasets.items() for _ in range(number)]
