"""The study's results as tables: gathered from its folder, written, and read again.

`points.csv` has a row for each run, `documents.csv` its F1 by document, `unseen.csv` the second
measure by record, `examples.csv` some responses, `study.json` what it ran on. The report is made of
them alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.experiments.grids import as_yaml
from verbalizer_bench.experiments.machine import processor
from verbalizer_bench.experiments.miniature.study.grid import Grid, Place, Point, read_grid
from verbalizer_bench.experiments.miniature.unseen_rows import read_unseen, unseen_row
from verbalizer_bench.experiments.rows import (
    document_rows,
    example_rows,
    read_f1,
    read_rows,
    score_row,
    write_rows,
)
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.results.files import newest_results
from verbalizer_bench.results.run import read_run

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
            rows.append({**shown, **_trained(place, point), **score_row(run)})
            documents += [{**shown, **row} for row in document_rows(run)]
            if chosen and point.base == grid.bases[0] and point.seed in (None, grid.seeds[0]):
                examples += [{**shown, **row} for row in example_rows(run)]
        unseen.append({**_key(point), **unseen_row(place.answers(point))})
    write_rows(rows, folder / "points.csv")
    write_rows(documents, folder / "documents.csv")
    write_rows(unseen, folder / "unseen.csv")
    write_rows(examples, folder / "examples.csv")
    text = json.dumps(_about(place, grid, rates), indent=1) + "\n"
    write_whole(folder / "study.json", text)
    write_whole(folder / "grid.yaml", as_yaml(grid))


def read_tables(folder: Path) -> StudyTables:
    """Read the tables that `gather` wrote."""
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    f1, datasets = read_f1(folder / "documents.csv", _point)
    return StudyTables(
        grid=read_grid(folder / "grid.yaml"),
        about=about,
        points={(_point(row), row["image"]): row for row in read_rows(folder / "points.csv")},
        f1=f1,
        datasets=datasets,
        unseen=read_unseen(folder / "unseen.csv", _point),
        examples=read_rows(folder / "examples.csv"),
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


def _about(place: Place, grid: Grid, rates: Mapping[str, float]) -> dict[str, Any]:
    first = place.training(grid.tried()[0])
    bases = {seed: read_record(place.base(seed) / "base.json") for seed in grid.bases}
    return {
        "learning_rates": dict(rates),
        "bases": bases,
        "versions": first["versions"],
        "machine": f"{processor()}, one thread a point",
    }
