"""Read a run directory: lm-eval's `results_*.json` and `samples_*.jsonl`, whoever wrote them."""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from pydantic import ValidationError

from verbalizer_bench.io.json_reading import check_object, parse_written, read_record
from verbalizer_bench.results.files import lmms_results_files, samples_file
from verbalizer_bench.results.schema import EvalResults, RunRecord, Sample, TaskProvenance, validate
from verbalizer_bench.results.tables import Tabular, markdown_table
from verbalizer_bench.results.unfinished import say_left_out, unfinished
from verbalizer_bench.tasks.identity import Verification, verify_task
from verbalizer_bench.tasks.metrics import METRICS
from verbalizer_bench.tasks.spec import DATASETS, LABEL_TYPES, Verbalizer

# What `merge-weights` calls a folder of a grid: 0.5, 0.3_0.5.
_NUMBERS = re.compile(r"-?\d[\d.e+-]*(_-?\d[\d.e+-]*)*")
_DOC_ID = re.compile(rb'\{"doc_id": (\d+),')
_scores = attrgetter(*METRICS)


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
        targets: The label words that were expected, and how often; empty where unknown.
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
    targets: tuple[tuple[str, int], ...] = ()

    def verification(self) -> Verification:
        """Return what is known of its prompts."""
        return verify_task(self.dataset, self.task, self.source, self.identity, self.unordered)


@dataclasses.dataclass(frozen=True, repr=False)
class Run(Tabular):
    """One model's run; as a text it is its mean F1 by data set and label type.

    Attributes:
        file: The results file; the samples stand beside it.
        name: The model's name, for tables.
        results: What is read of that file.
        tasks: The verbalizer tasks that were run, in the suite's order.
        older: How many older results files the folder holds, which are not read.
    """

    file: Path
    name: str
    results: EvalResults
    tasks: tuple[TaskScores, ...]
    older: int = 0

    @property
    def folder(self) -> Path:
        """Return the run directory."""
        return self.file.parent

    @property
    def is_ours(self) -> bool:
        """Whether our adapters made the responses, and recorded how."""
        return self.results.config.verbalizer_bench is not None

    @property
    def record(self) -> RunRecord:
        """Return what our adapters say of the run; nothing of another model class."""
        return self.results.config.verbalizer_bench or RunRecord()

    def __repr__(self) -> str:
        return f"<Run {self.name}: {len(self.tasks)} tasks, {self.folder}>"

    def rows(self) -> list[dict[str, Any]]:
        """Return the mean scores, a row a task, in [0, 1]."""
        return [
            {
                **{"task": task.task, "dataset": task.dataset, "label_type": task.verbalizer.type},
                **{"first": task.verbalizer.first, "second": task.verbalizer.second},
                "documents": len(task.doc_ids),
                **{metric: float(values.mean()) for metric, values in task.scores.items()},
            }
            for task in self.tasks
        ]

    def __str__(self) -> str:
        """Return mean F1 in %, a row a data set and a column a label type, as Markdown."""
        cells: dict[str, dict[str, list[float]]] = {}
        for task in self.tasks:
            row = cells.setdefault(task.dataset, {name: [] for name in LABEL_TYPES})
            row[task.verbalizer.type].append(100 * float(task.scores["f1"].mean()))
        rows = [
            [dataset, *(f"{fmean(f1):.1f}" if f1 else "-" for f1 in row.values())]
            for dataset, row in cells.items()
        ]
        return f"{self!r}\n\n{markdown_table(['F1 in %', *LABEL_TYPES], rows)}"

    def metadata(self, task: str) -> TaskProvenance:
        """Return what a verbalizer task says of itself."""
        metadata = self.results.configs[task].metadata
        assert metadata is not None
        return metadata

    def of_type(self, label_type: str) -> tuple[TaskScores, ...]:
        """Return the tasks of a label type."""
        return tuple(task for task in self.tasks if task.verbalizer.type == label_type)

    def samples_file(self, task: str) -> Path:
        """Return the file of a task's responses."""
        return samples_file(self.file, task)

    def samples(self, task: str, doc_ids: Collection[int] | None = None) -> Iterator[Sample]:
        """Read a task's responses, of all documents or of some, as `read_samples` does."""
        return read_samples(self.samples_file(task), doc_ids)

    def run_json(self) -> dict[str, Any]:
        """Return what `run.json` says beside lm-eval's files; empty without one."""
        file = self.folder / "run.json"
        return read_record(file) if file.is_file() else {}


class NotAVerbalizerRun(ValueError):
    """A run without a verbalizer task, of which there is nothing to summarise."""


def load_run(path: str | Path) -> Run:
    """Read the one run at or below a path.

    Raises:
        FileNotFoundError: There is none.
        ValueError: There are several, or a file is not what lm-eval writes.
    """
    runs = find_runs([path])
    if len(runs) > 1:
        names = ", ".join(str(run.folder) for run in runs[:4])
        raise ValueError(f"{path}: holds {len(runs)} runs ({names}); give one of them")
    return runs[0]


def find_runs(sources: Iterable[Run | str | Path]) -> list[Run]:
    """Return every run at or below the paths, in their order; a run that is given is used as it is.

    Raises:
        FileNotFoundError: A path holds no `results_*.json`.
        ValueError: A file is not what lm-eval writes, or has no verbalizer task.
    """
    runs: dict[Path, Run] = {}
    for source in sources:
        if isinstance(source, Run):
            if not source.tasks:
                raise NotAVerbalizerRun(f"{source.file}: no verbalizer task in it")
            runs.setdefault(source.folder, source)
            continue
        path = Path(source)
        of_lmms_eval = lmms_results_files(path)
        if path.is_file() and not of_lmms_eval:
            raise ValueError(f"{path}: a file; give the folder that it is in")
        folders = sorted({file.parent for file in path.rglob("results_*.json")})
        if not folders and of_lmms_eval:
            raise NotAVerbalizerRun(
                f"{path}: lmms-eval's results, and no run of verbalizer-bench or lm-eval at or "
                "below it; of lmms-eval's, MMVP, NaturalBench and what `report` says are read"
            )
        left = unfinished(path)
        if left and not folders:
            raise FileNotFoundError(
                f"{path}: no results_*.json at or below it: the run was not finished; "
                f"`verbalizer-bench run --resume {left[0]}` goes on"
            )
        say_left_out(left, folders)
        if not folders:
            what = "no results_*.json at or below it" if path.is_dir() else "no such folder"
            raise FileNotFoundError(f"{path}: {what}; give the --output_path of a run")
        for folder in folders:
            if folder not in runs:
                runs[folder] = read_run(folder)
    return distinct_names(list(runs.values()))


def read_run(folder: Path) -> Run:
    """Read the newest run of a folder.

    Raises:
        FileNotFoundError: There is none, or its samples are missing.
        ValueError: A file is not what lm-eval and our tasks write.
    """
    files = sorted(folder.glob("results_*.json"))
    if not files:
        raise FileNotFoundError(f"{folder}: no results_*.json in it")
    file = files[-1]
    results = validate(EvalResults, read_record(file), file)
    tasks = [
        _read_task(samples_file(file, task), task, config.metadata)
        for task, config in results.configs.items()
        if config.metadata
    ]
    if not tasks:
        raise NotAVerbalizerRun(
            f"{file}: no verbalizer task in it; it has {', '.join(list(results.configs)[:5])}"
        )
    for one in tasks:
        check_count(samples_file(file, one.task), len(one.doc_ids), results, one.task)
    tasks.sort(key=_suite_order)
    return Run(file, run_name(results), results, tuple(tasks), len(files) - 1)


def check_count(path: Path, found: int, results: EvalResults, task: str) -> None:
    """Raise ValueError where a samples file has another number of responses than its run made."""
    counts = results.n_samples.get(task)
    if counts and found != counts.effective:
        raise ValueError(
            f"{path}: {found:,} of the {counts.effective:,} responses that the run's results "
            "file counts; copy the folder again, or run it again"
        )


def run_name(results: EvalResults) -> str:
    """Return what the run of a model is called: a folder has one file for each quantisation."""
    name, gguf = called(results), model_args(results).get("gguf_file")
    return f"{name} ({Path(gguf).name})" if gguf else name


def called(results: EvalResults) -> str:
    """Return what the model of a run is called, its GGUF file apart.

    A path is called by its last folder; an adapter, or a state in the middle of a training, by the
    training's too: all of them are called `adapter` or `checkpoint-500`. So is a folder whose name
    is a number: `merged/0.5`.
    """
    name = results.model_name or results.config.model
    path = Path(name)
    if path.name == "adapter" and path.parent.name:
        return path.parent.name
    if re.fullmatch(r"checkpoint-\d+", path.name) and path.parent.name:
        return f"{path.parent.name}/{path.name}"
    # A hub id has one slash; more are a path.
    return folder_name(path) if name.count("/") > 1 or name.startswith(".") else name


def folder_name(path: Path) -> str:
    """Return a folder's name, with its parent's where it is a number: `merged/0.5`."""
    named = _NUMBERS.fullmatch(path.name) and path.parent.name
    return f"{path.parent.name}/{path.name}" if named else path.name


def model_args(results: EvalResults) -> dict[str, str]:
    """Return a run's `--model_args` as texts; what was not given is not there."""
    given = results.config.model_args or {}
    if isinstance(given, str):
        given = dict(part.split("=", 1) for part in given.split(",") if "=" in part)
    return {key: str(value) for key, value in given.items() if value is not None}


def read_samples(path: Path, doc_ids: Collection[int] | None = None) -> Iterator[Sample]:
    """Yield the responses of a samples file.

    Args:
        path: The file.
        doc_ids: The documents that are wanted; None for all.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is no scored response, or a document stands there twice.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: missing; intervals need every response: run lm_eval with --log_samples"
        )
    seen: set[int] = set()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            # Most rows may not be wanted, and to parse them all takes seconds.
            head = _DOC_ID.match(line) if doc_ids is not None else None
            if not line.strip() or (head and int(head[1]) not in (doc_ids or ())):
                continue
            sample = _sample(line, f"{path}, line {number}")
            if sample.doc_id in seen:
                raise ValueError(
                    f"{path}, line {number}: document {sample.doc_id} stands there twice"
                )
            seen.add(sample.doc_id)
            if doc_ids is None or sample.doc_id in doc_ids:
                yield sample


def _sample(line: bytes, where: str) -> Sample:
    try:
        return Sample.model_validate_json(line)
    except ValidationError:
        # Half a surrogate pair, which Python's reader takes; or a fault, which it names better.
        row = check_object(parse_written(line, where), where)
        if "bypass" in row:
            raise NotAVerbalizerRun(f"{where}: --predict_only scores nothing") from None
        return validate(Sample, row, where)


def _read_task(path: Path, task: str, metadata: TaskProvenance) -> TaskScores:
    rows: dict[int, tuple[float, ...]] = {}
    responses: Counter[str] = Counter()
    targets: Counter[str] = Counter()
    for sample in read_samples(path):
        rows[sample.doc_id] = _scores(sample)
        responses[sample.response] += 1
        targets[sample.target] += 1
    if not rows:
        raise ValueError(f"{path}: no response in it")
    doc_ids = tuple(sorted(rows))
    table = np.array([rows[doc_id] for doc_id in doc_ids])
    return TaskScores(
        task=task,
        dataset=metadata.dataset,
        verbalizer=metadata.verbalizer,
        source=metadata.source,
        identity=metadata.identity,
        doc_ids=doc_ids,
        scores={metric: table[:, column] for column, metric in enumerate(METRICS)},
        unordered=metadata.identity_unordered,
        common=responses.most_common(1)[0],
        targets=tuple(sorted(targets.items())),
    )


def _suite_order(task: TaskScores) -> tuple[int, str, int, str]:
    known = DATASETS.index(task.dataset) if task.dataset in DATASETS else len(DATASETS)
    return known, task.dataset, LABEL_TYPES.index(task.verbalizer.type), task.task


def distinct_names(runs: Sequence[Run]) -> list[Run]:
    """Append folders to names that stand for more than one run: as few as tell them apart."""
    folders: dict[str, list[Path]] = defaultdict(list)
    for run in runs:
        folders[run.name].append(run.folder)
    return [
        dataclasses.replace(run, name=f"{run.name} ({_told_apart(run.folder, same)})")
        if len(same := folders[run.name]) > 1
        else run
        for run in runs
    ]


def _told_apart(folder: Path, folders: Sequence[Path]) -> str:
    """Return the end of a run's place that no other run's has; where all have one, its parent."""
    most = max(len(one.parts) for one in folders)
    # A run's own folder has its model's name once more.
    for start in (-1, None):
        for parts in range(1, most + 1):
            ends = {one: one.parts[:start][-parts:] for one in folders}
            if len(set(ends.values())) == len(folders):
                return "/".join(ends[folder]) or "."
    return folder.parent.name
