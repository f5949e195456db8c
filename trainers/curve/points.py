"""The points of a curve: what an evaluation during training found, as rows of a CSV file."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.results.statistics import rounded
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.trainers.curve.suite import Answer, SuiteScores

F1 = {name: f"f1_{name.lower()}" for name in (*LABEL_TYPES, "All")}
HELD_OUT = "held_out_loss"
METRICS = (HELD_OUT, *F1.values(), *OUTCOMES)
# The ends of an F1's 95 % interval, and what it is over.
ENDS = {name: (f"{name}_low", f"{name}_high") for name in F1.values()}
COUNTS = ("documents", "responses")
_BESIDE = (*(end for ends in ENDS.values() for end in ends), *COUNTS)
COLUMNS = ("step", "epoch", "tokens", *METRICS, *_BESIDE, "seconds")
_RESPONSES = "responses"


class Point(NamedTuple):
    """An evaluation.

    Attributes:
        step: The optimiser's steps before it.
        epoch: Passes over the data before it.
        tokens: Tokens that training has seen before it, padding left out; None where not counted.
        values: What was measured, by its column.
        seconds: How long it took.
    """

    step: int
    epoch: float
    tokens: int | None
    values: Mapping[str, float]
    seconds: float

    def row(self) -> dict[str, Any]:
        """Return it as a row of the file."""
        found = self._asdict() | dict(self.values)
        return {name: found[name] for name in COLUMNS if name in found}


def measured(scores: SuiteScores | None, held_out: float | None) -> dict[str, float]:
    """Return what an evaluation found by its column, without what was not measured."""
    values = {} if held_out is None else {HELD_OUT: held_out}
    if scores:
        found: dict[str, float | None] = dict(scores.outcomes)
        for name, one in scores.f1.items():
            column = F1[name]
            found |= zip((column, *ENDS[column]), (one.mean, one.low, one.high), strict=True)
        values |= {name: rounded(value) for name, value in found.items() if value is not None}
        values |= {"documents": scores.documents, "responses": scores.responses}
    return values


class CurveFiles:
    """The files of a curve in an output folder: `curve.csv`, and each point's responses."""

    def __init__(self, output: Path) -> None:
        self.table, self.figure = output / "curve.csv", output / "curve.png"
        self.folder = output / "curve"

    def read(self, last_step: int) -> list[Point]:
        """Return the points up to a step, from which training goes on; remove later ones.

        Raises:
            ValueError: The table is not what was written.
        """
        if not self.table.is_file():
            return []
        try:
            with self.table.open(encoding="utf-8", newline="") as stream:
                points = [_point(row) for row in csv.DictReader(stream)]
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{self.table}: not the table that training wrote ({error}); remove it, and its "
                "earlier points are left out"
            ) from error
        kept = [point for point in points if point.step <= last_step]
        for point in points[len(kept) :]:
            self._responses(point.step).unlink(missing_ok=True)
        self.write(kept)
        return kept

    def write(self, points: Sequence[Point]) -> None:
        """Write the table, whole."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(point.row() for point in points)
        write_whole(self.table, stream.getvalue())

    def write_responses(self, step: int, answers: Sequence[Answer]) -> None:
        """Write what a model answered at a step, a line a document."""
        self.folder.mkdir(exist_ok=True)
        lines = (json.dumps(_line(answer), ensure_ascii=False) + "\n" for answer in answers)
        write_whole(self._responses(step), "".join(lines))

    def _responses(self, step: int) -> Path:
        return self.folder / f"{_RESPONSES}-{step:07}.jsonl"


def _line(answer: Answer) -> dict[str, Any]:
    outcome = next(name for name in OUTCOMES if answer.scores[name])
    return {
        **{"task": answer.task, "doc_id": answer.doc_id, "response": answer.response},
        **{"f1": answer.scores["f1"], "outcome": outcome, "engine": answer.engine},
    }


def _point(row: Mapping[str, str]) -> Point:
    return Point(
        int(row["step"]),
        float(row["epoch"]),
        int(row["tokens"]) if row["tokens"] else None,
        {name: float(row[name]) for name in METRICS if row[name]} | _beside(row),
        float(row["seconds"]),
    )


def _beside(row: Mapping[str, str]) -> dict[str, float]:
    """Return intervals and counts, which tables of earlier versions have not."""
    kinds = {name: int if name in COUNTS else float for name in _BESIDE}
    return {name: kind(row[name]) for name, kind in kinds.items() if row.get(name)}
