"""Read a run directory: lm-eval's `results_*.json` and `samples_*.jsonl`, whoever wrote them."""

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.tasks.identity import Verification, verify_task
from verbalizer_bench.tasks.metrics import METRICS
from verbalizer_bench.tasks.spec import DATASETS, LABEL_TYPES, Verbalizer


@dataclasses.dataclass(frozen=True)
class TaskScores:
    """The scores of one task, a value a document.

    Attributes:
        task: Its name.
        dataset: Its data set's short name.
        verbalizer: Its label words.
        source: Where its documents came from.
        identity: The hash of all the prompts and targets of that source, with or without `--limit`.
        doc_ids: The documents that were scored, ascending.
        scores: Each metric's values, in the order of `doc_ids`; shape (documents,).
        unordered: The hash of the same prompts and targets in any order; None in older records.
        common: The most common response, and how often it was given; None where unknown.
    """

    task: str
    dataset: str
    verbalizer: Verbalizer
    source: str
    identity: str
    doc_ids: tuple[int, ...]
    scores: dict[str, np.ndarray]
    unordered: str | None = None
    common: tuple[str, int] | None = None

    def verification(self) -> Verification:
        """Return what is known of its prompts."""
        return verify_task(self.dataset, self.task, self.source, self.identity, self.unordered)


@dataclasses.dataclass(frozen=True)
class Run:
    """One model's run.

    Attributes:
        folder: Where its files are.
        name: The model's name, for tables.
        results: lm-eval's results file, as it is.
        tasks: The verbalizer tasks that were run, in the suite's order.
        older: How many older results files the folder holds, which are not read.
    """

    folder: Path
    name: str
    results: dict[str, Any]
    tasks: tuple[TaskScores, ...]
    older: int

    @property
    def record(self) -> dict[str, Any]:
        """Return what our adapters say of the run; empty for another model class."""
        found: dict[str, Any] = self.results["config"].get("verbalizer_bench", {})
        return found

    def of_type(self, label_type: str) -> tuple[TaskScores, ...]:
        """Return the tasks of a label type."""
        return tuple(task for task in self.tasks if task.verbalizer.type == label_type)


class NotAVerbalizerRun(ValueError):
    """A run without a verbalizer task, of which there is nothing to summarise."""


def find_runs(paths: list[Path]) -> list[Run]:
    """Read every run at or below the paths, in their order.

    Raises:
        FileNotFoundError: A path holds no `results_*.json`.
        ValueError: A file is not what lm-eval writes, or has no verbalizer task.
    """
    folders: list[Path] = []
    for path in paths:
        if path.is_file():
            raise ValueError(f"{path}: a file; give the folder that it is in")
        found = sorted({file.parent for file in path.rglob("results_*.json")})
        if not found:
            raise FileNotFoundError(
                f"{path}: no results_*.json at or below it; give the --output_path of a run"
            )
        folders += [folder for folder in found if folder not in folders]
    return _distinct_names([read_run(folder) for folder in folders])


def load_run(path: str | Path) -> Run:
    """Read the one run at or below a path.

    Raises:
        FileNotFoundError: There is none.
        ValueError: There are several, or a file is not what lm-eval writes.
    """
    runs = find_runs([Path(path)])
    if len(runs) > 1:
        names = ", ".join(str(run.folder) for run in runs[:4])
        raise ValueError(f"{path}: holds {len(runs)} runs ({names}); give one of them")
    return runs[0]


def newest_results(path: Path) -> Path:
    """Return the newest results file at or below a path.

    Raises:
        FileNotFoundError: There is none.
    """
    files = sorted(path.rglob("results_*.json"), key=lambda file: file.name)
    if not files:
        raise FileNotFoundError(f"{path}: no results_*.json at or below it; give a run's folder")
    return files[-1]


def read_results(file: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        ValueError: It is not what lm-eval writes.
    """
    results = read_record(file)
    blocks = ("configs", "config", "results")
    if wrong := [key for key in blocks if not isinstance(results.get(key), dict)]:
        raise ValueError(f"{file}: not a results file of lm-eval: {wrong[0]} is no block of keys")
    if "model" not in results["config"]:
        raise ValueError(f"{file}: not a results file of lm-eval: config.model is missing")
    return results


def samples_file(results: Path, task: str) -> Path:
    """Return where lm-eval keeps the responses that a results file is of."""
    return results.with_name(f"samples_{task}_{results.stem.removeprefix('results_')}.jsonl")


def read_run(folder: Path) -> Run:
    """Read the newest run of a folder."""
    files = sorted(folder.glob("results_*.json"))
    if not files:
        raise FileNotFoundError(f"{folder}: no results_*.json in it")
    newest = files[-1]
    results = read_results(newest)
    configs = results["configs"]
    name = str(results.get("model_name") or results["config"]["model"])
    tasks = []
    for task, config in configs.items():
        metadata = config.get("metadata") if isinstance(config, dict) else None
        if isinstance(metadata, dict) and "verbalizer" in metadata:
            try:
                tasks.append(_read_task(samples_file(newest, task), task, metadata))
            except (KeyError, TypeError) as error:
                raise ValueError(
                    f"{newest}: configs.{task}.metadata: not as a run writes it ({error!r}); "
                    "run the task again"
                ) from error
    if not tasks:
        raise NotAVerbalizerRun(
            f"{newest}: no verbalizer task in it; it has {', '.join(list(configs)[:5])}"
        )
    tasks.sort(key=_suite_order)
    return Run(folder, _shown(name), results, tuple(tasks), len(files) - 1)


def _shown(name: str) -> str:
    """Return what a model is called in tables.

    A path is called by its last folder; an adapter, or a state in the middle of a training, by the
    training's too: all of them are called `adapter` or `checkpoint-500`.
    """
    path = Path(name)
    if path.name == "adapter" and path.parent.name:
        return path.parent.name
    if re.fullmatch(r"checkpoint-\d+", path.name) and path.parent.name:
        return f"{path.parent.name}/{path.name}"
    # A hub id has one slash; more are a path.
    return path.name if name.count("/") > 1 or name.startswith(".") else name


def _read_task(path: Path, task: str, metadata: dict[str, Any]) -> TaskScores:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: missing; intervals need every response: run lm_eval with --log_samples"
        )
    rows: dict[int, list[Any]] = {}
    said: Counter[str] = Counter()
    for place, row in jsonl.read_objects(path):
        if "bypass" in row:
            raise NotAVerbalizerRun("--predict_only scores nothing")
        where = f"{path}, {place}: not a scored response"
        doc_id, response = row.get("doc_id"), row.get("filtered_resps")
        if type(doc_id) is not int:
            raise ValueError(f"{where}: doc_id={doc_id!r} is no number of a document")
        if not isinstance(response, list) or not response or not isinstance(response[0], str):
            raise ValueError(f"{where}: filtered_resps={str(response)[:60]!r} is no list of texts")
        values = [row.get(metric) for metric in METRICS]
        if wrong := [m for m, v in zip(METRICS, values, strict=True) if not _is_score(v)]:
            raise ValueError(f"{where}: {wrong[0]}={row.get(wrong[0])!r} is no score from 0 to 1")
        if doc_id in rows:
            raise ValueError(f"{path}, {place}: document {doc_id} stands there twice")
        rows[doc_id] = values
        said[response[0]] += 1
    if not rows:
        raise ValueError(f"{path}: no response in it")
    doc_ids = tuple(sorted(rows))
    table = np.array([rows[doc_id] for doc_id in doc_ids])
    return TaskScores(
        task=task,
        dataset=metadata["dataset"],
        verbalizer=Verbalizer(**metadata["verbalizer"]),
        source=metadata["source"],
        identity=metadata["identity"],
        doc_ids=doc_ids,
        scores={metric: table[:, column] for column, metric in enumerate(METRICS)},
        unordered=metadata.get("identity_unordered"),
        common=said.most_common(1)[0],
    )


def _is_score(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= 1


def _suite_order(task: TaskScores) -> tuple[int, str, int, str]:
    known = DATASETS.index(task.dataset) if task.dataset in DATASETS else len(DATASETS)
    return known, task.dataset, LABEL_TYPES.index(task.verbalizer.type), task.task


def _distinct_names(runs: list[Run]) -> list[Run]:
    """Append the parent folder to names that stand for more than one run."""
    names = [run.name for run in runs]
    return [
        dataclasses.replace(run, name=f"{run.name} ({run.folder.parent.name})")
        if names.count(run.name) > 1
        else run
        for run in runs
    ]
