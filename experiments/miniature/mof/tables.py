"""The results of the study of mixtures as tables: gathered from its folder, and read again.

`points.csv` has a row for each run of the suite, `documents.csv` its F1 by document, `pairs.csv`
which pairs are right, a digit a pair, `rates.csv` the losses that the rate was chosen
by, `examples.csv` some answers, `towers.json` what the towers see, `mof.json` what it ran on. The
report is made of them alone.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.experiments.grids import as_yaml
from verbalizer_bench.experiments.machine import processor
from verbalizer_bench.experiments.miniature.arms import BASE
from verbalizer_bench.experiments.miniature.mof.grid import (
    BASE_POINT,
    MofGrid,
    MofPlace,
    MofPoint,
    read_grid,
)
from verbalizer_bench.experiments.miniature.mof.pairs import TASK
from verbalizer_bench.experiments.rows import (
    document_rows,
    read_f1,
    read_rows,
    score_row,
    write_rows,
)
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.results.files import newest_results
from verbalizer_bench.results.files import read_rows as read_rows_of
from verbalizer_bench.results.picture_scores import read_picture_scores
from verbalizer_bench.results.run import read_run


@dataclass(frozen=True)
class MofTables:
    """What a study of mixtures found.

    Attributes:
        grid: What was run.
        about: Versions, machine, base and the chosen learning rate.
        towers: By tuning seed what its towers see.
        f1: By seed (None: the base), arm and image, F1 of each document; shape (label types + All,
            documents).
        datasets: The data set of each document.
        right: By seed, arm and pattern, whether both answers about each pair are right, 0 or 1.
        answered: Rows of the pairs: of all answers the shares that are right, and no option.
        rates: Rows of losses.
        points: Rows of runs.
        examples: Rows of answers.
    """

    grid: MofGrid
    about: Mapping[str, Any]
    towers: Mapping[int, Mapping[str, Any]]
    f1: Mapping[tuple[int | None, str, str], np.ndarray]
    datasets: Sequence[str]
    right: Mapping[tuple[int, str, str], np.ndarray]
    answered: Sequence[Mapping[str, str]]
    rates: Sequence[Mapping[str, str]]
    points: Sequence[Mapping[str, str]]
    examples: Sequence[Mapping[str, str]]

    @property
    def rate(self) -> float:
        """Return the learning rate of all arms."""
        return float(self.about["learning_rate"])


def gather(place: MofPlace, grid: MofGrid, rate: float, folder: Path) -> None:
    """Read a study's runs and records, and write the tables.

    Raises:
        FileNotFoundError: A point of the grid was not run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    points, documents, pairs, examples = [], [], [], []
    arms = [MofPoint(seed, arm, rate) for seed in grid.seeds for arm in grid.arms]
    for point in (BASE_POINT, *arms):
        for image in ("",) if point == BASE_POINT else grid.images:
            run = read_run(newest_results(place.run(point, image)).parent)
            shown = {**_key(point), "image": image}
            points.append({**shown, **_trained(place, point), **score_row(run)})
            documents += [{**shown, **row} for row in document_rows(run)]
        if point != BASE_POINT:
            results = newest_results(place.pairs(point))
            pairs += [{**_key(point), **row} for row in _pair_rows(results.parent)]
            if point.seed == grid.seeds[0]:
                examples += [{**_key(point), **row} for row in _example_rows(results)]
    tried = [MofPoint(grid.seeds[0], arm, r) for arm in grid.arms for r in grid.learning_rates]
    rates = [{**_key(p), "rate": f"{p.rate:g}", **_trained(place, p)} for p in tried]
    tables = ("points", points), ("documents", documents), ("pairs", pairs), ("rates", rates)
    for name, rows in (*tables, ("examples", examples)):
        write_rows(rows, folder / f"{name}.csv")
    towers = {seed: read_record(place.seen(seed)) for seed in grid.seeds}
    write_whole(folder / "towers.json", json.dumps(towers, indent=1) + "\n")
    write_whole(folder / "mof.json", json.dumps(_about(place, arms[0]), indent=1) + "\n")
    write_whole(folder / "grid.yaml", as_yaml(grid))


def read_tables(folder: Path) -> MofTables:
    """Read the tables that `gather` wrote."""
    f1, datasets = read_f1(folder / "documents.csv", _arm)
    pairs = read_rows(folder / "pairs.csv")
    right = {
        (int(row["seed"]), row["arm"], row["pattern"]): np.array([int(d) for d in row["right"]])
        for row in pairs
    }
    towers = json.loads((folder / "towers.json").read_text(encoding="utf-8"))
    return MofTables(
        grid=read_grid(folder / "grid.yaml"),
        about=json.loads((folder / "mof.json").read_text(encoding="utf-8")),
        towers={int(seed): seen for seed, seen in towers.items()},
        f1={
            (seed, arm, image): np.vstack([table, table.mean(axis=0)])
            for ((seed, arm), image), table in f1.items()
        },
        datasets=datasets,
        right=right,
        answered=pairs,
        rates=read_rows(folder / "rates.csv"),
        points=read_rows(folder / "points.csv"),
        examples=read_rows(folder / "examples.csv"),
    )


def _key(point: MofPoint) -> dict[str, str]:
    return {"seed": "" if point.seed is None else str(point.seed), "arm": point.arm}


def _arm(row: Mapping[str, str]) -> tuple[int | None, str]:
    return (int(row["seed"]) if row["seed"] else None), row["arm"]


def _trained(place: MofPlace, point: MofPoint) -> dict[str, str]:
    if point.seed is None:
        return dict.fromkeys(("steps", "last_loss", "held_out_loss"), "")
    record = place.training(point)
    return {
        "steps": str(record["steps"]),
        "last_loss": f"{record['loss']['last']:.4f}",
        "held_out_loss": f"{record['held_out']['loss']:.4f}",
    }


def _pair_rows(run: Path) -> Iterator[dict[str, str]]:
    """Yield what was answered by pattern: which pairs are right, and shares in points of 100."""
    (scores,) = read_picture_scores(run)
    columns = scores.benchmark.columns
    for pattern in dict.fromkeys(scores.categories):
        table = scores.table[[name == pattern for name in scores.categories]]
        row = {"pattern": pattern, "right": "".join(str(int(pair)) for pair in table[:, 0])}
        for name in ("single", "unparsed"):
            row[name] = f"{100 * table[:, columns.index(name)].mean():.2f}"
        yield row


def _example_rows(results: Path) -> Iterator[dict[str, str]]:
    """Yield the answers to the first pair of each pattern."""
    rows = sorted(read_rows_of(results, [TASK])[TASK], key=lambda row: int(row["doc"]["index"]))
    asked = Counter[str]()
    for row in rows:
        doc = row["doc"]
        asked[doc["pattern"]] += 1
        if asked[doc["pattern"]] <= 2:
            yield {
                "question": f"{doc['question']} (a) {doc['a']} (b) {doc['b']}",
                "wanted": doc[doc["answer"]],
                "response": row["filtered_resps"][0],
            }


def _about(place: MofPlace, point: MofPoint) -> dict[str, Any]:
    return {
        "learning_rate": point.rate,
        "base": read_record(BASE / "base.json"),
        "versions": place.training(point)["versions"],
        "machine": f"{processor()}, one thread a point",
    }
