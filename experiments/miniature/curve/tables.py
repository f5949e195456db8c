"""The curves as tables: gathered from the arms' folders, written, and read again.

`curve.csv` has a row for each evaluation, `documents.csv` its F1 by document, `curve.json` what it
ran on. The report is made of them alone.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.experiments.grids import as_yaml
from verbalizer_bench.experiments.machine import machine
from verbalizer_bench.experiments.miniature.arms import ARMS, BASE
from verbalizer_bench.experiments.miniature.curve.grid import CurveGrid, CurvePlace, read_grid
from verbalizer_bench.experiments.rows import read_rows, write_rows
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.tasks.suite import suite


@dataclass(frozen=True)
class CurveTables:
    """What was found.

    Attributes:
        grid: What was run.
        about: Versions, machine, base, learning rates.
        steps: The steps that were evaluated, ascending.
        rows: Of each seed, arm and step its row: held-out loss, F1, outcomes.
        f1: Of each arm and label type F1 by document; shape (seeds, steps, documents).
        datasets: The data set of each document.
    """

    grid: CurveGrid
    about: Mapping[str, Any]
    steps: Sequence[int]
    rows: Mapping[tuple[int, str, int], Mapping[str, str]]
    f1: Mapping[tuple[str, str], np.ndarray]
    datasets: Sequence[str]

    def column(self, arm: str, name: str) -> np.ndarray:
        """Return a column of an arm's rows; shape (seeds, steps)."""
        return np.array(
            [
                [float(self.rows[seed, arm, step][name]) for step in self.steps]
                for seed in self.grid.seeds
            ]
        )


def gather(place: CurvePlace, grid: CurveGrid, folder: Path) -> None:
    """Read the arms' curves, and write the tables."""
    from verbalizer_bench.trainers.recipe import read_recipe

    folder.mkdir(parents=True, exist_ok=True)
    rows, documents = [], []
    for seed in grid.seeds:
        for name in grid.arms:
            arm, key = place.arm(seed, name), {"seed": str(seed), "model": name}
            for row in read_rows(arm / "curve.csv"):
                rows.append({**key, **row})
                file = arm / "curve" / f"responses-{int(row['step']):07}.jsonl"
                shown = {**key, "step": row["step"]}
                documents += [{**shown, **one} for one in _by_document(file)]
    write_rows(rows, folder / "curve.csv")
    write_rows(documents, folder / "documents.csv")
    write_whole(folder / "grid.yaml", as_yaml(grid))
    first = read_record(place.arm(grid.seeds[0], grid.arms[0]) / "training.json")
    about = {
        "base": read_record(BASE / "base.json")["sha256"],
        "learning_rates": {
            name: read_recipe(f"miniature/{ARMS[name].recipe}").learning_rate for name in grid.arms
        },
        "versions": first["versions"],
        "machine": machine(),
    }
    write_whole(folder / "curve.json", json.dumps(about, indent=1) + "\n")


def _by_document(file: Path) -> Iterator[dict[str, str]]:
    """Yield each data set's F1 by document, the mean over a label type's verbalizers."""
    found: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _, row in jsonl.read_objects(file):
        dataset, verbalizer = suite()[row["task"]]
        found[verbalizer.type, dataset][row["doc_id"]].append(row["f1"])
    for (label_type, dataset), by_document in found.items():
        values = " ".join(f"{np.mean(by_document[n]):.4g}" for n in sorted(by_document))
        yield {"label_type": label_type, "data_set": dataset, "f1": values}


def read_tables(folder: Path) -> CurveTables:
    """Read the tables that `gather` wrote."""
    grid = read_grid(folder / "grid.yaml")
    rows = {
        (int(row["seed"]), row["model"], int(row["step"])): row
        for row in read_rows(folder / "curve.csv")
    }
    steps = sorted({step for _, _, step in rows})
    values: dict[tuple[str, str, int, int], list[float]] = defaultdict(list)
    datasets: list[str] = []
    for row in read_rows(folder / "documents.csv"):
        key = row["model"], row["label_type"], int(row["seed"]), int(row["step"])
        found = [float(value) for value in row["f1"].split()]
        values[key] += found
        if key == (grid.arms[0], LABEL_TYPES[0], grid.seeds[0], steps[0]):
            datasets += [row["data_set"]] * len(found)
    f1 = {
        (name, label_type): np.array(
            [[values[name, label_type, seed, step] for step in steps] for seed in grid.seeds]
        )
        for name in grid.arms
        for label_type in LABEL_TYPES
    }
    f1 |= {
        (name, "All"): np.mean([f1[name, label_type] for label_type in LABEL_TYPES], axis=0)
        for name in grid.arms
    }
    about = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
    return CurveTables(grid, about, steps, rows, f1, datasets)
