"""The study's results as tables: gathered from its folder, written, and read again.

`points.csv` has a row for each point, `documents.csv` its F1 by document, `ifeval.csv` which
instructions its answers follow, `rates.csv` the held-out losses, `curve.csv` the evaluations of
tunings, `examples.csv` some responses, `study.json` what it ran on. The report is made of them
alone; points of the grid that were not run are in none.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.experiments.grids import as_yaml
from verbalizer_bench.experiments.machine import machine
from verbalizer_bench.experiments.rows import (
    Measure,
    document_rows,
    example_rows,
    f1_scores,
    read_f1,
    read_rows,
    score_row,
    write_rows,
)
from verbalizer_bench.experiments.smollm2.grid import BASE, Grid, Place, Point, read_grid
from verbalizer_bench.experiments.smollm2.measuring import (
    costs_of,
    held_out_loss,
    is_measured,
    is_trained,
)
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_json
from verbalizer_bench.results.files import newest_results
from verbalizer_bench.results.run import Run, TaskScores, read_run
from verbalizer_bench.tasks.metrics import words

ENDINGS = ("eos", "limit")
F1, ALONE = "f1", "alone"


def alone(run: Run, task: TaskScores) -> np.ndarray:
    """Return which responses are one of the two label words and nothing else, right or wrong.

    Shape (documents,). It is the format that the suite's prompts ask for.
    """
    labels = [words(task.verbalizer.first), words(task.verbalizer.second)]
    said = {sample.doc_id: words(sample.response) for sample in run.samples(task.task)}
    return np.array([float(said[number] in labels) for number in task.doc_ids])


_COLUMNS: dict[str, Measure] = {F1: f1_scores, ALONE: alone}


@dataclass(frozen=True)
class StudyTables:
    """What a study found.

    Attributes:
        grid: What was to be run.
        about: Versions, machine, bases and sources.
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

    def seeds(self, base: str, model: str) -> dict[int | None, Point]:
        """Return the points of a model that were run, by seed; of the base one, of None."""
        return {one.seed: one for one in self.points if (one.base, one.model) == (base, model)}


def gather(place: Place, grid: Grid, folder: Path) -> None:
    """Read a study's runs and records, and write the tables of what is there.

    Raises:
        FileNotFoundError: No point was measured yet.
    """
    points = [one for base in grid.bases for one in found(place, grid, base)]
    if not points:
        raise FileNotFoundError(f"{place.folder}: no model was measured yet; run the study first")
    folder.mkdir(parents=True, exist_ok=True)
    rows, documents, prompts, examples = [], [], [], []
    for point in points:
        run = read_run(newest_results(place.point(point) / "run").parent)
        key = _key(point)
        rows.append({**key, **_trained(place, point), **score_row(run), **_endings(run)})
        documents += [{**key, **row} for row in document_rows(run, _COLUMNS)]
        prompts.append({**key, "follows": _follows(place.point(point) / "ifeval.json")})
        if point.seed in (None, grid.seeds[0]):
            examples += [{**key, **row} for row in example_rows(run)]
    tables = {"points": rows, "documents": documents, "ifeval": prompts, "examples": examples}
    tables |= {"rates": list(_rates(place, grid)), "curve": list(_curves(place, grid))}
    for name, found_rows in tables.items():
        if found_rows:
            write_rows(found_rows, folder / f"{name}.csv")
    write_whole(folder / "study.json", json.dumps(_about(place, grid), indent=1) + "\n")
    write_whole(folder / "grid.yaml", as_yaml(grid))


def found(place: Place, grid: Grid, base: str) -> Iterator[Point]:
    """Yield the points of a base that were measured, in the grid's order."""
    whole = Point(base, None, BASE)
    if is_measured(place, whole):
        yield whole
    for arm in grid.arms:
        for model in grid.models(arm):
            for seed in grid.seeds:
                folder = place.folder / base / f"seed-{seed}"
                for file in sorted(folder.glob(f"{model}*/ifeval.json")):
                    name, _, rate = file.parent.name.partition("-lr-")
                    if name == model:
                        yield Point(base, seed, model, float(rate) if rate else None)


def _key(point: Point) -> dict[str, str]:
    seed = "" if point.seed is None else str(point.seed)
    rate = "" if point.rate is None else f"{point.rate:g}"
    return {"base": point.base, "seed": seed, "model": point.model, "learning_rate": rate}


def point_of(row: Mapping[str, str]) -> Point:
    """Return the point of a row."""
    seed, rate = row["seed"], row["learning_rate"]
    return Point(
        row["base"], int(seed) if seed else None, row["model"], float(rate) if rate else None
    )


def _trained(place: Place, point: Point) -> dict[str, str]:
    """Return a point's held-out loss, and what its parts cost."""
    costs = costs_of(place.point(point))
    loss = "" if point.rate is None else f"{held_out_loss(place, point):.4f}"
    seconds = {f"{part}_seconds": f"{costs.get(part, 0):.0f}" for part in PARTS}
    return {"held_out_loss": loss, **seconds}


PARTS = ("train", "suite", "ifeval")


def _endings(run: Run) -> dict[str, str]:
    """Return what ended the responses, shares in points of 100."""
    counts = run.record.endings if run.record else {}
    total = sum(counts.values()) or 1
    return {name: f"{100 * counts.get(name, 0) / total:.2f}" for name in ENDINGS}


def _follows(file: Path) -> str:
    """Return a digit for each instruction, prompts apart by spaces."""
    return " ".join("".join(str(int(one)) for one in row["follows"]) for row in read_json(file))


def _rates(place: Place, grid: Grid) -> Iterator[dict[str, str]]:
    for base in grid.bases:
        for arm in grid.arms:
            for point in grid.tried(base, arm):
                if is_trained(place.point(point) / "checkpoint"):
                    yield _key(point) | {"held_out_loss": f"{held_out_loss(place, point):.4f}"}


def _curves(place: Place, grid: Grid) -> Iterator[dict[str, str]]:
    for base in grid.bases:
        for arm in grid.curve:
            for seed in grid.seeds:
                folder = place.folder / base / f"seed-{seed}"
                for file in sorted(folder.glob(f"{arm}-lr-*/checkpoint/curve.csv")):
                    rate = float(file.parent.parent.name.partition("-lr-")[2])
                    key = _key(Point(base, seed, arm, rate))
                    yield from ({**key, **row} for row in read_rows(file))


def _about(place: Place, grid: Grid) -> dict[str, Any]:
    hashes = {base: place.folder / base / "weights_sha256" for base in grid.bases}
    prompts = [row for _, row in jsonl.read_objects(place.data / "ifeval.jsonl")]
    packages = ("torch", "transformers", "peft", "trl", "lm_eval")
    return {
        "bases": {name: file.read_text().strip() for name, file in hashes.items() if file.exists()},
        "machine": machine(),
        "versions": {name: version(name) for name in packages},
        "ifeval_types": [[one["type"] for one in row["instructions"]] for row in prompts],
    }


def read_tables(folder: Path) -> StudyTables:
    """Read the tables that `gather` wrote."""
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    scores: dict[str, dict[Point, np.ndarray]] = {}
    datasets: list[str] = []
    for measure in _COLUMNS:
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
