"""What a run directory says of benchmarks with images of their own: scores by unit (pair, group).

Responses are graded again as they are read: a run that was graded otherwise is refused.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.results.contrast import precision, template
from verbalizer_bench.results.files import samples_file
from verbalizer_bench.results.run import NotAVerbalizerRun, Run, check_count, read_run, run_name
from verbalizer_bench.results.schema import EvalResults, validate
from verbalizer_bench.results.statistics import Interval, estimate
from verbalizer_bench.tasks.identity import is_made
from verbalizer_bench.tasks.picture_benchmarks import BENCHMARKS, PictureBenchmark

# Columns of every benchmark, and what lm-eval's rows call them.
_GRADED = {"single": "accuracy", "unparsed": "unparsed"}


class Asked(BaseModel):
    """What one of these tasks says of itself in its metadata."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    benchmark: str
    prompt: str
    swapped: bool = False
    blind: bool = False
    source: str
    documents: int
    identity: str

    @property
    def way(self) -> str:
        """Return how questions were asked, for a reader."""
        controls = [("options swapped", self.swapped), ("without the images", self.blind)]
        return ", ".join([f"prompt {self.prompt}", *(name for name, on in controls if on)])

    @property
    def made(self) -> bool:
        """Say whether questions and images are the drawn sample's."""
        return is_made(self.source)

    @property
    def units(self) -> int:
        """Return how many units the whole source has."""
        return self.documents // BENCHMARKS[self.benchmark].size

    @property
    def place(self) -> tuple[bool, bool, str, bool, bool]:
        """Return what tasks are sorted by: a prompt, then its controls; the paper's is first."""
        mmvp = self.benchmark == "mmvp"
        return not mmvp, self.prompt != "options", self.prompt, self.blind, self.swapped


@dataclasses.dataclass(frozen=True)
class PictureScores:
    """A task of a run, scored by unit.

    Attributes:
        run: The run; `tasks` of it are empty, whatever else was run.
        task: The task's name.
        asked: What it says of itself.
        units: The numbers of the units that were asked whole, ascending.
        table: Their scores; shape (units, the benchmark's columns).
        categories: The category of each; "" for none.
        left_out: Units of which not every question was asked (`--limit`).
        documents_sha256: A hash of all documents that count, as the samples have them.
        samples: Of each unit its documents and the responses to them.
    """

    run: Run
    task: str
    asked: Asked
    units: tuple[int, ...]
    table: np.ndarray
    categories: tuple[str, ...]
    left_out: int
    documents_sha256: str
    samples: tuple[tuple[tuple[Mapping[str, Any], str], ...], ...]

    @property
    def benchmark(self) -> PictureBenchmark:
        """Return the benchmark."""
        return BENCHMARKS[self.asked.benchmark]

    def counted(self, unit: str = "") -> str:
        """Return how many units were asked, of how many where that is a part, and whose.

        Args:
            unit: What stands behind the number; "" for nothing.
        """
        asked, whole = f"{len(self.units):,}", self.asked.units
        text = f"{asked} of {whole:,}" if len(self.units) < whole else asked
        own = "" if whole == self.benchmark.units else "(own questions)"
        return " ".join(filter(None, (text, unit, "(made sample)" if self.asked.made else own)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the benchmark's columns; those by corrected labels where a label is corrected."""
        docs = (doc for unit in self.samples for doc, _ in unit)
        corrected = any(doc["answer"] != doc.get("answer_corrected", doc["answer"]) for doc in docs)
        return tuple(
            name for name in self.benchmark.columns if corrected or "corrected" not in name
        )

    @property
    def how(self) -> str:
        """Return how the checkpoint was asked: scores of another way are not to be compared."""
        asked = (self.asked.way, template(self.run), f"rows {self.asked.source}")
        units = self.counted(f"{self.benchmark.unit}s")
        return ", ".join(filter(None, (*asked, precision(self.run), units)))

    @cached_property
    def means(self) -> dict[str, Interval]:
        """Return the mean of each column, with a 95 % interval over units."""
        weights = np.eye(self.table.shape[1])
        found = estimate({self.task: self.table}, weights)
        return dict(zip(self.benchmark.columns, found, strict=True))

    @cached_property
    def by_category(self) -> dict[str, tuple[Interval, int]]:
        """Return the first column's mean in each category, and how many units that is of."""
        found = {}
        for category in sorted(set(self.categories) - {""}):
            chosen = [place for place, name in enumerate(self.categories) if name == category]
            table = self.table[chosen, :1]
            (mean,) = estimate({f"{self.task}, {category}": table}, np.eye(1))
            found[category] = (mean, len(chosen))
        return found


def read_any_run(folder: Path) -> Run:
    """Read a run directory; a run without tasks where benchmarks with images alone were asked.

    Raises:
        FileNotFoundError: There is none, or a task's responses are not there.
        ValueError: A file is not what lm-eval and our tasks write, or it has none of our tasks.
    """
    try:
        return read_run(folder)
    except NotAVerbalizerRun:
        if scores := next(read_picture_scores(folder), None):
            return scores.run
        raise


def read_picture_scores(folder: Path) -> Iterator[PictureScores]:
    """Yield the scores of the tasks with images in the newest run of a folder; none without any.

    Raises:
        FileNotFoundError: A task's responses are not there.
        ValueError: A file is not what lm-eval and our tasks write.
    """
    files = sorted(folder.glob("results_*.json"))
    if not files:
        return
    file = files[-1]
    raw = read_record(file)
    configs = raw.get("configs")
    tasks = {
        task: asked
        for task, config in (configs.items() if isinstance(configs, dict) else ())
        if (asked := _asked(config, file))
    }
    if not tasks:
        return
    results = validate(EvalResults, raw, file)
    run = Run(file, run_name(results), results, (), len(files) - 1)
    for task in sorted(tasks, key=lambda name: (tasks[name].place, name)):
        yield _scores(run, task, tasks[task])


def _asked(config: Any, file: Path) -> Asked | None:
    metadata = config.get("metadata") if isinstance(config, dict) else None
    if not isinstance(metadata, dict) or metadata.get("benchmark") not in BENCHMARKS:
        return None
    return validate(Asked, metadata, file)


def _scores(run: Run, task: str, asked: Asked) -> PictureScores:
    file = samples_file(run.file, task)
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: missing; intervals need every response: run lm_eval with --log_samples"
        )
    rows = list(jsonl.read_objects(file))
    scores = score_responses(run, task, asked, file, rows)
    check_count(file, len(rows), run.results, task)
    return scores


def score_responses(
    run: Run, task: str, asked: Asked, file: Path, samples: Iterable[tuple[Any, Mapping[str, Any]]]
) -> PictureScores:
    """Return the scores of a task's responses.

    Args:
        run: The run.
        task: The task's name.
        asked: What it says of itself.
        file: Where the responses stand.
        samples: Its rows, as lm-eval writes them, each behind its place in the file.

    Raises:
        ValueError: A row is no scored response, or no unit was asked whole.
    """
    benchmark = BENCHMARKS[asked.benchmark]
    rows: dict[int, list[Mapping[str, Any]]] = {}
    for place, row in samples:
        if "bypass" in row:
            raise ValueError(f"{file}: --predict_only scores nothing; run it again without")
        try:
            kept = {"id": row["doc_id"], "doc": row["doc"], "said": row["filtered_resps"][0]}
            if not isinstance(kept["said"], str):
                raise TypeError(f"response {kept['said']!r}")
            graded = {column: float(row[name]) for column, name in _GRADED.items()}
            rows.setdefault(int(row["doc"][benchmark.unit]), []).append(kept | graded)
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"{file}, {place}: no scored response of {asked.benchmark} ({error!r}); run it "
                "again"
            ) from error
    whole = {unit: _in_order(rows[unit]) for unit in sorted(rows)}
    whole = {unit: found for unit, found in whole.items() if len(found) == benchmark.size}
    if not whole:
        raise ValueError(f"{file}: no whole {benchmark.unit} in it; run more documents")
    docs = {unit: [row["doc"] for row in found] for unit, found in whole.items()}
    table = np.array(
        [benchmark.values(docs[unit], [row["said"] for row in whole[unit]]) for unit in whole]
    )
    _check_graded(file, benchmark, table, list(whole.values()))
    text = json.dumps(list(docs.values()), sort_keys=True)
    return PictureScores(
        run,
        task,
        asked,
        tuple(whole),
        table,
        tuple(str(docs[unit][0].get(benchmark.category) or "") for unit in whole),
        len(rows) - len(whole),
        hashlib.sha256(text.encode()).hexdigest(),
        tuple(tuple((row["doc"], row["said"]) for row in found) for found in whole.values()),
    )


def _check_graded(
    file: Path, benchmark: PictureBenchmark, table: np.ndarray, rows: list[list[Mapping[str, Any]]]
) -> None:
    """Raise ValueError where the file's scores are others than these responses have."""
    for column in _GRADED:
        stored = [sum(row[column] for row in found) / len(found) for found in rows]
        found = table[:, benchmark.columns.index(column)]
        if not np.allclose(stored, found):
            place = int(np.flatnonzero(~np.isclose(stored, found))[0])
            raise ValueError(
                f"{file}: document {rows[place][0]['id']}: its {_GRADED[column]} is not what this "
                "version's rule makes of the response; run it again"
            )


def _in_order(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: int(row["id"]))
