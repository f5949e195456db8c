"""The study's results as tables: gathered from its folder, written, and read again.

`points.csv` has a row for each point, `documents.csv` its F1 by document, `ifeval.csv` which
instructions its answers follow, `rates.csv` the held-out losses, `curve.csv` the evaluations of
tunings, `examples.csv` some responses, `study.json` what it ran on. The report is made of them
alone; points of the grid that were not run are in none.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.experiments.grids import as_yaml
from verbalizer_bench.experiments.rows import read_f1, read_rows, write_rows
from verbalizer_bench.experiments.smollm2.columns import COLUMNS
from verbalizer_bench.experiments.smollm2.grid import BASE, Grid, Place, Point, read_grid
from verbalizer_bench.experiments.smollm2.records import (
    MEASURED,
    TRAINED,
    is_kept,
    kept,
    point_of,
    texts_sha256,
)
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole


@dataclass(frozen=True)
class StudyTables:
    """What a study found.

    Attributes:
        grid: What was to be run.
        about: Versions, the sha256 of bases and texts, the types of IFEval's prompts.
        points: By point its row: loss, seconds, F1, outcomes and endings by label type.
        scores: By measure (`F1`, `ALONE`) and point, of each document by label type; shape
            (3, documents).
        datasets: The data set of each document.
        ifeval: By point, of each prompt which of its instructions the answer follows.
        types: The types of each prompt's instructions.
        rates: By base, arm and learning rate the held-out loss.
        curve: Rows of the evaluations of tunings, of every learning rate that was tried.
        examples: Responses of the first seed and the base.
    """

    grid: Grid
    about: Mapping[str, Any]
    points: Mapping[Point, Mapping[str, str]]
    scores: Mapping[str, Mapping[Point, np.ndarray]]
    datasets: Sequence[str]
    ifeval: Mapping[Point, Sequence[Sequence[bool]]]
    types: Sequence[Sequence[str]]
    rates: Mapping[tuple[str, str], Mapping[float, float]]
    curve: Sequence[Mapping[str, str]]
    examples: Sequence[Mapping[str, str]]

    def is_chosen(self, row: Mapping[str, str]) -> bool:
        """Return whether a row of `curve` is of a model that the suite was run on."""
        return point_of(row) in self.points

    def chosen_curves(self, base: str) -> list[Mapping[str, str]]:
        """Return the rows of `curve` of a base, of the learning rates that were chosen."""
        return [row for row in self.curve if row["base"] == base and self.is_chosen(row)]

    def seeds(self, base: str, model: str) -> dict[int | None, Point]:
        """Return the points of a model that were run, by seed; of the base one, of None."""
        return {one.seed: one for one in self.points if (one.base, one.model) == (base, model)}


def gather(place: Place, folder: Path) -> None:
    """Write the tables of what a study's folder has.

    Raises:
        FileNotFoundError: No point was measured yet.
    """
    grid = place.grid
    points = [one for base in grid.bases for one in found(place, grid, base)]
    if not points:
        raise FileNotFoundError(f"{place.folder}: no model was measured yet; run the study first")
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for point in points:
        for name, rows in kept(place, point, MEASURED).items():
            if name != "examples" or point.seed in (None, grid.seeds[0]):
                tables[name] += rows
    for point in trained(place, grid):
        for name, rows in kept(place, point, TRAINED).items():
            if name != "rates" or point.seed == grid.seeds[0]:
                tables[name] += rows
    for name, rows in tables.items():
        if rows:
            write_rows(rows, folder / f"{name}.csv")
    write_whole(folder / "study.json", json.dumps(_about(place, grid), indent=1) + "\n")
    write_whole(folder / "grid.yaml", as_yaml(grid))


def found(place: Place, grid: Grid, base: str) -> Iterator[Point]:
    """Yield the points of a base that were measured, in the grid's order."""
    whole = Point(base, None, BASE)
    if is_kept(place, whole, MEASURED):
        yield whole
    for arm in grid.arms:
        for model in grid.models(arm):
            for seed in grid.seeds:
                yield from _there(place, Point(base, seed, model), MEASURED)


def trained(place: Place, grid: Grid) -> Iterator[Point]:
    """Yield the trainings that came to their end, in the grid's order."""
    for base in grid.bases:
        for arm in grid.arms:
            for seed in grid.seeds:
                yield from _there(place, Point(base, seed, arm), TRAINED)


def _there(place: Place, point: Point, kind: str) -> Iterator[Point]:
    """Yield a model's points by learning rate, of which something is kept."""
    for file in sorted(place.point(point).parent.glob(f"{point.model}*/{kind}")):
        name, _, rate = file.parent.name.partition("-lr-")
        if name == point.model:
            yield point._replace(rate=float(rate) if rate else None)


def _about(place: Place, grid: Grid) -> dict[str, Any]:
    hashes = {base: place.folder / base / "weights_sha256" for base in grid.bases}
    prompts = [row for _, row in jsonl.read_objects(place.data / "ifeval.jsonl")]
    packages = ("torch", "transformers", "peft", "trl", "lm_eval")
    return {
        "bases": {name: file.read_text().strip() for name, file in hashes.items() if file.exists()},
        "texts": texts_sha256(place),
        "versions": {name: version(name) for name in packages},
        "ifeval_types": [[one["type"] for one in row["instructions"]] for row in prompts],
    }


def read_tables(folder: Path) -> StudyTables:
    """Read the tables that `gather` wrote."""
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    scores: dict[str, dict[Point, np.ndarray]] = {}
    datasets: list[str] = []
    for measure in COLUMNS:
        found_scores, datasets = read_f1(folder / "documents.csv", point_of, measure)
        scores[measure] = {point: values for (point, _), values in found_scores.items()}
    rates: dict[tuple[str, str], dict[float, float]] = {}
    for row in _rows(folder / "rates.csv"):
        by_rate = rates.setdefault((row["base"], row["model"]), {})
        by_rate[float(row["learning_rate"])] = float(row["held_out_loss"])
    return StudyTables(
        grid=read_grid(folder / "grid.yaml"),
        about=about,
        points={point_of(row): row for row in read_rows(folder / "points.csv")},
        scores=scores,
        datasets=datasets,
        ifeval={
            point_of(row): [[bit == "1" for bit in bits] for bits in row["follows"].split()]
            for row in read_rows(folder / "ifeval.csv")
        },
        types=about["ifeval_types"],
        rates=rates,
        curve=_rows(folder / "curve.csv"),
        examples=_rows(folder / "examples.csv"),
    )


def _rows(file: Path) -> list[dict[str, str]]:
    """Return a table's rows; none of one that has none yet."""
    return read_rows(file) if file.exists() else []
