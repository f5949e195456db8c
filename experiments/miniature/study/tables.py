"""The study's results as tables: gathered from its folder, written, and read again.

`points.csv` has a row for each run, `documents.csv` its F1 by document, `unseen.csv` the second
measure by record, `examples.csv` some responses, `study.json` what it ran on. The report is made of
them alone.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.experiments.miniature.machine import processor
from verbalizer_bench.experiments.miniature.study.grid import Grid, Place, Point, read_grid
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.results.files import newest_results
from verbalizer_bench.results.run import Run, TaskScores, read_run
from verbalizer_bench.results.statistics import by_dataset
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

UNSEEN = ("exact", "follows", "right")
# Of a response with no label word: it has four words or more.
WORDS = "words"
# The first document of each of these, with one verbalizer a label type, is shown in the report.
_SHOWN = (
    "verbalizer_sst2_natural_positive_negative",
    "verbalizer_sst2_neutral_foo_bar",
    "verbalizer_sst2_unnatural_negative_positive",
    "verbalizer_sick_neutral_lake_river",
)
_KEY = ("base", "seed", "model", "learning_rate")


@dataclass(frozen=True)
class StudyTables:
    """What a study found.

    Attributes:
        grid: What was run.
        about: Versions, machine, bases and the chosen learning rates.
        points: By point and image, its row: loss, F1 and outcomes by label type.
        f1: By point and image, F1 of each document by label type; shape (3, documents).
        datasets: The data set of each document.
        unseen: By point and measure, a value for each record, NaN where there is no verifier.
        examples: Responses of the first cell and its base.
    """

    grid: Grid
    about: Mapping[str, Any]
    points: Mapping[tuple[Point, str], Mapping[str, str]]
    f1: Mapping[tuple[Point, str], np.ndarray]
    datasets: Sequence[str]
    unseen: Mapping[Point, Mapping[str, np.ndarray]]
    examples: Sequence[Mapping[str, str]]

    @property
    def rates(self) -> Mapping[str, float]:
        """Return each arm's chosen learning rate."""
        rates: Mapping[str, float] = self.about["learning_rates"]
        return rates


def gather(place: Place, grid: Grid, rates: Mapping[str, float], folder: Path) -> None:
    """Read a study's runs and records, and write the tables.

    Raises:
        FileNotFoundError: A point of the grid was not run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    points = list(dict.fromkeys([*grid.untuned(), *grid.tried(), *grid.chosen(dict(rates))]))
    rows, documents, unseen, examples = [], [], [], []
    for point in points:
        chosen = point.rate is None or point.rate == rates[point.model]
        for image in point.images(grid.images if chosen else grid.images[:1]):
            run = read_run(newest_results(place.run(point, image)).parent)
            shown = {**_key(point), "image": image}
            rows.append({**shown, **_trained(place, point), **_scores(run)})
            documents += [{**shown, **row} for row in _documents(run)]
            if chosen and point.base == grid.bases[0] and point.seed in (None, grid.seeds[0]):
                examples += [{**shown, **row} for row in _examples(run)]
        unseen.append({**_key(point), **_unseen(place, point)})
    _write(rows, folder / "points.csv")
    _write(documents, folder / "documents.csv")
    _write(unseen, folder / "unseen.csv")
    _write(examples, folder / "examples.csv")
    text = json.dumps(_about(place, grid, rates), indent=1) + "\n"
    write_whole(folder / "study.json", text)
    write_whole(folder / "grid.yaml", grid.as_yaml())


def read_tables(folder: Path) -> StudyTables:
    """Read the tables that `gather` wrote."""
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    f1: dict[tuple[Point, str], dict[str, list[float]]] = {}
    datasets: dict[str, int] = {}
    for row in _read(folder / "documents.csv"):
        values = [float(value) for value in row["f1"].split()]
        by_type = f1.setdefault((_point(row), row["image"]), {})
        by_type.setdefault(row["label_type"], []).extend(values)
        datasets[row["data_set"]] = len(values)
    return StudyTables(
        grid=read_grid(folder / "grid.yaml"),
        about=about,
        points={(_point(row), row["image"]): row for row in _read(folder / "points.csv")},
        f1={key: np.array([by_type[t] for t in LABEL_TYPES]) for key, by_type in f1.items()},
        datasets=[name for name, number in datasets.items() for _ in range(number)],
        unseen={
            _point(row): {
                name: np.array([np.nan if bit == "-" else float(bit) for bit in row[name]])
                for name in UNSEEN
            }
            for row in _read(folder / "unseen.csv")
        },
        examples=_read(folder / "examples.csv"),
    )


def _key(point: Point) -> dict[str, str]:
    values = (point.base, point.seed, point.model, point.rate)
    return {
        name: "" if v is None else f"{v:g}" if isinstance(v, float) else str(v)
        for name, v in zip(_KEY, values, strict=True)
    }


def _point(row: Mapping[str, str]) -> Point:
    base, seed, model, rate = (row[name] for name in _KEY)
    return Point(int(base), int(seed) if seed else None, model, float(rate) if rate else None)


def _trained(place: Place, point: Point) -> dict[str, str]:
    if point.rate is None:
        return dict.fromkeys(("steps", "last_loss", "held_out_loss"), "")
    record = place.training(point)
    return {
        "steps": str(record["steps"]),
        "last_loss": f"{record['loss']['last']:.4f}",
        "held_out_loss": f"{record['held_out']['loss']:.4f}",
    }


def _scores(run: Run) -> dict[str, str]:
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


def _documents(run: Run) -> Iterable[dict[str, str]]:
    """Yield each data set's F1 by document, the mean over a label type's verbalizers."""
    for dataset, tasks in by_dataset(run.tasks).items():
        for label_type in LABEL_TYPES:
            scores = [task.scores["f1"] for task in tasks if task.verbalizer.type == label_type]
            values = " ".join(f"{value:.4g}" for value in np.mean(scores, axis=0))
            yield {"label_type": label_type, "data_set": dataset, "f1": values}


def _examples(run: Run) -> Iterable[dict[str, str]]:
    for task in _SHOWN:
        first = min(run.samples(task), key=lambda sample: sample.doc_id)
        shown = {"target": first.target, "response": first.response, "outcome": first.outcome}
        yield {"task": task, **shown}


def _unseen(place: Place, point: Point) -> dict[str, str]:
    answers = json.loads(place.answers(point).read_text(encoding="utf-8"))
    return {
        name: "".join("-" if a[name] is None else str(int(a[name])) for a in answers)
        for name in UNSEEN
    }


def _about(place: Place, grid: Grid, rates: Mapping[str, float]) -> dict[str, Any]:
    first = place.training(grid.tried()[0])
    bases = {seed: read_record(place.base(seed) / "base.json") for seed in grid.bases}
    return {
        "learning_rates": dict(rates),
        "bases": bases,
        "versions": first["versions"],
        "machine": f"{processor()}, one thread a point",
    }


def _write(rows: Sequence[Mapping[str, str]], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
