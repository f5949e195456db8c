"""The repair study's results as tables: gathered from its folder, written, and read again.

`points.csv` has a row for each run, `documents.csv` its F1 by document, `unseen.csv` and
`scenes.csv` what was answered about unseen scenes, by record, at the chosen rates,
`preferences.csv` what the preference data of each cell are, `examples.csv` some responses,
`repair.json` what it ran on. The report is made of them alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench import api
from verbalizer_bench.experiments.grids import as_yaml
from verbalizer_bench.experiments.machine import processor
from verbalizer_bench.experiments.miniature.arms import ALIGNED, ARMS, BASE
from verbalizer_bench.experiments.miniature.repair.grid import (
    BASE_POINT,
    RemedyPoint,
    RepairGrid,
    RepairPlace,
    read_grid,
)
from verbalizer_bench.experiments.miniature.repair.preference_rows import preference_rows
from verbalizer_bench.experiments.miniature.repair.remedies import PLAIN
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
from verbalizer_bench.leaderboard.reports.comparison import Comparison
from verbalizer_bench.results.files import newest_results
from verbalizer_bench.results.repair_answers import repair_answer
from verbalizer_bench.results.run import Run, read_run
from verbalizer_bench.trainers.recipe import read_recipe

_KEY = ("seed", "model", "learning_rate")
_TRAINED = ("steps", "last_loss", "held_out_loss", "held_out_accuracy", "held_out_margin")


@dataclass(frozen=True)
class RepairTables:
    """What a repair study found.

    Attributes:
        grid: What was run.
        about: Versions, machine, base and the chosen learning rates.
        points: By point and image, its row: training, F1 and outcomes by label type, lengths.
        f1: By point and image, F1 of each document by label type; shape (3, documents).
        datasets: The data set of each document.
        unseen: By point and measure, a value for each record, NaN where there is no verifier.
        scenes: By point, the mark (0 to 12) of each answer about an unseen scene.
        preferences: Rows of what the preference data are.
        examples: Responses of the first cell and the base.
    """

    grid: RepairGrid
    about: Mapping[str, Any]
    points: Mapping[tuple[RemedyPoint, str], Mapping[str, str]]
    f1: Mapping[tuple[RemedyPoint, str], np.ndarray]
    datasets: Sequence[str]
    unseen: Mapping[RemedyPoint, Mapping[str, np.ndarray]]
    scenes: Mapping[RemedyPoint, np.ndarray]
    preferences: Sequence[Mapping[str, str]]
    examples: Sequence[Mapping[str, str]]

    @property
    def rates(self) -> Mapping[str, float]:
        """Return each remedy's chosen learning rate."""
        rates: Mapping[str, float] = self.about["learning_rates"]
        return rates

    def point(self, seed: int, model: str) -> RemedyPoint:
        """Return a model's point of a tuning seed, with its chosen rate."""
        return BASE_POINT if model == "base" else RemedyPoint(seed, model, self.rates.get(model))


def gather(place: RepairPlace, grid: RepairGrid, rates: Mapping[str, float], folder: Path) -> None:
    """Read a study's runs and records, and write the tables.

    Raises:
        FileNotFoundError: A point of the grid was not run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cells = [point for seed in grid.seeds for point in grid.of_cell(seed, dict(rates))]
    rows, documents, unseen, scenes, examples = [], [], [], [], []
    for point in dict.fromkeys([BASE_POINT, *cells, *grid.tried(), *grid.tuned()]):
        chosen = point.rate is None or point.rate == rates.get(point.model)
        for image in point.images(grid.images if chosen else grid.images[:1]):
            run = read_run(newest_results(place.run(point, image)).parent)
            shown = {**_key(point), "image": image}
            rows.append({**shown, **_trained(place, point), **score_row(run), **_lengths(run)})
            documents += [{**shown, **row} for row in document_rows(run)]
            if chosen and point.seed in (None, grid.seeds[0]):
                examples += [{**shown, **row} for row in example_rows(run)]
        if not chosen:
            continue
        answers = place.point(point)
        unseen.append({**_key(point), **unseen_row(answers / "formats.json")})
        if point.adapter == "verbalizer-lvlm":
            scenes.append({**_key(point), **_marks(answers / "scenes.json")})
    preferences = [row for seed in grid.seeds for row in preference_rows(place.world(seed), seed)]
    for name, table in (
        ("points", rows),
        ("documents", documents),
        ("unseen", unseen),
        ("scenes", scenes),
        ("preferences", preferences),
        ("examples", examples),
    ):
        write_rows(table, folder / f"{name}.csv")
    write_whole(folder / "repair.json", json.dumps(_about(place, grid, rates), indent=1) + "\n")
    write_whole(folder / "grid.yaml", as_yaml(grid))


def read_tables(folder: Path) -> RepairTables:
    """Read the tables that `gather` wrote."""
    f1, datasets = read_f1(folder / "documents.csv", _point)
    return RepairTables(
        grid=read_grid(folder / "grid.yaml"),
        about=json.loads((folder / "repair.json").read_text(encoding="utf-8")),
        points={(_point(r), r["image"]): r for r in read_rows(folder / "points.csv")},
        f1=f1,
        datasets=datasets,
        unseen=read_unseen(folder / "unseen.csv", _point),
        scenes={
            _point(row): np.array([float(mark) for mark in row["quality"].split()])
            for row in read_rows(folder / "scenes.csv")
        },
        preferences=read_rows(folder / "preferences.csv"),
        examples=read_rows(folder / "examples.csv"),
    )


def _key(point: RemedyPoint) -> dict[str, str]:
    rate = "" if point.rate is None else f"{point.rate:g}"
    seed = "" if point.seed is None else str(point.seed)
    return dict(zip(_KEY, (seed, point.model, rate), strict=True))


def _point(row: Mapping[str, str]) -> RemedyPoint:
    seed, model, rate = (row[name] for name in _KEY)
    return RemedyPoint(int(seed) if seed else None, model, float(rate) if rate else None)


def _trained(place: RepairPlace, point: RemedyPoint) -> dict[str, str]:
    file = place.checkpoint(point) / "training.json"
    if not file.is_file():
        return dict.fromkeys(_TRAINED, "")
    record = read_record(file)
    held_out = record["held_out"] or {}
    values = (
        record["loss"]["last"],
        *(held_out.get(name) for name in ("loss", "accuracies", "margins")),
    )
    told = ["" if value is None else f"{value:.4f}" for value in values]
    return dict(zip(_TRAINED, (str(record["steps"]), *told), strict=True))


def _lengths(run: Run) -> dict[str, str]:
    """Return the mean length of responses to the suite's prompts."""
    texts = [sample.response for task in run.tasks for sample in run.samples(task.task)]
    return {
        "response_characters": f"{np.mean([len(text) for text in texts]):.2f}",
        "response_words": f"{np.mean([len(text.split()) for text in texts]):.2f}",
    }


def _marks(file: Path) -> dict[str, str]:
    answers = json.loads(file.read_text(encoding="utf-8"))
    return {
        "answer_characters": f"{np.mean([len(one['answer']) for one in answers]):.2f}",
        "quality": " ".join(str(one["quality"]) for one in answers),
    }


def _about(place: RepairPlace, grid: RepairGrid, rates: Mapping[str, float]) -> dict[str, Any]:
    first = place.training(grid.tried()[0])
    return {
        "learning_rates": dict(rates),
        "tuned_rate": read_recipe(f"miniature/{ARMS[PLAIN].recipe}").learning_rate,
        "compared": _compared(place, grid, rates),
        "base": read_record(BASE / "base.json"),
        "versions": first["versions"],
        "machine": f"{processor()}, one thread a point",
    }


def _compared(place: RepairPlace, grid: RepairGrid, rates: Mapping[str, float]) -> dict[str, str]:
    """Return what `compare --repaired` says of the first cell, a sentence a remedy."""
    seed, image = grid.seeds[0], grid.images[0]
    names = [name for name in grid.models if name not in ("base", ALIGNED, PLAIN)]
    points = [RemedyPoint(seed, name, rates.get(name)) for name in (PLAIN, *names)]
    base, *others = (
        newest_results(place.run(point, "" if point == BASE_POINT else image)).parent
        for point in (BASE_POINT, *points)
    )
    # A SteerLM's checkpoint asks with a template of its own.
    found = api.compare(base, others[0], repaired=others[1:], allow=("template",))
    assert isinstance(found, Comparison)
    return dict(zip(names, map(repair_answer, found.repairs), strict=True))
