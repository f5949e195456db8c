"""What a run stored of one answer, and which one is looked at where none is named."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.models.adapters.journal import Response, noted
from verbalizer_bench.results.files import lmms_results_files, samples_file
from verbalizer_bench.results.pairing import prompt_template, raw_prompt
from verbalizer_bench.results.picture_runs import is_picture_task
from verbalizer_bench.results.picture_scores import read_any_run
from verbalizer_bench.results.run import Run, TaskScores, load_run, read_samples

# The furthest from what was asked for comes first.
WORST = ("neither", "flipped", "both", "verbose", "follows")


@dataclass(frozen=True)
class StoredAnswer:
    """One answer of a run.

    Attributes:
        run: The run.
        task: The task.
        doc_id: The document's number in its data set.
        why: Why it was chosen; "" where it was named.
        doc: The document's fields.
        raw: The prompt before examples, system prompt and chat template; None where not known.
        asked: The prompt as the model class was given it.
        settings: What was asked of the search, lm-eval's names.
        expected: The answer that counts.
        other: The label word of the other class; None of tasks with images of their own.
        label_type: The label words' type; None of those.
        response: What was said.
        scores: Every metric that the run has of it.
        noted: What the run's journal has of it, such as its ending; None without one.
        data: Where the run found the rows of a task with images; None where not known.
    """

    run: Run
    task: str
    doc_id: int
    why: str
    doc: Mapping[str, Any]
    raw: str | None
    asked: str
    settings: Mapping[str, Any]
    expected: str
    other: str | None
    label_type: str | None
    response: str
    scores: Mapping[str, float]
    noted: Response | None
    data: str | None = None

    @property
    def has_template(self) -> bool:
        """Say whether a chat template was applied."""
        record = self.run.record
        applied = record.chat_template_sha256 or self.run.results.chat_template
        return bool(applied or (record.served and record.served.conversation))


def stored_answer(run: Run | str | Path, task: str | None, doc: int | None) -> StoredAnswer:
    """Return one answer of a run.

    Args:
        run: A run, or a path that holds one.
        task: The task; None for the one that the run has, or, without a document, for the worst.
        doc: The document's number; None for the first of the worst outcome.

    Raises:
        FileNotFoundError: There is no run, or its responses are missing.
        ValueError: There are several, or the run has no such task or document.
    """
    found = run if isinstance(run, Run) else _read(Path(run))
    tasks = {one.task: one for one in found.tasks}
    pictures = _picture_tasks(found.file)
    names = [*tasks, *pictures]
    if task is not None and task not in names:
        near = difflib.get_close_matches(task, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"--task {task}: {found.folder} has {_listed(names)}{hint}")
    if task is None and len(names) > 1 and (doc is not None or not tasks):
        raise ValueError(f"--task is missing: {found.folder} has {_listed(names)}; give one")
    name = task or (names[0] if len(names) == 1 else None)
    if name in pictures:
        return _of_pictures(found, str(name), pictures[str(name)], doc)
    return _of_labels(found, [tasks[name]] if name else list(tasks.values()), doc)


def _read(path: Path) -> Run:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such folder; give the --output_path of a run")
    folders = sorted({file.parent for file in path.rglob("results_*.json")})
    if not folders and lmms_results_files(path):
        raise ValueError(
            f"{path}: lmms-eval's results, which keep no prompt as it was asked; give a run of "
            "verbalizer-bench or lm-eval"
        )
    return read_any_run(folders[0]) if len(folders) == 1 else load_run(path)


def _picture_tasks(results: Path) -> dict[str, Mapping[str, Any]]:
    """Return the settings of a run's tasks with images of their own, by name."""
    configs = read_record(results).get("configs", {})
    return {name: config for name, config in configs.items() if is_picture_task(config)}


def _of_labels(run: Run, tasks: Sequence[TaskScores], doc: int | None) -> StoredAnswer:
    task, doc_id, why = _chosen(tasks) if doc is None else (tasks[0], doc, "")
    if doc_id not in task.doc_ids:
        raise ValueError(
            f"--doc {doc}: {task.task} of {run.folder} has {_ranges(task.doc_ids)}; give one"
        )
    (row,) = read_samples(run.samples_file(task.task), {doc_id})
    words = task.verbalizer
    scores = {name: getattr(row, name) for name in task.scores}
    return StoredAnswer(
        *(run, task.task, doc_id, why, row.doc),
        raw_prompt(prompt_template(run, task.task), task, row),
        *(row.prompt, row.arguments["gen_args_0"].get("arg_1") or {}, row.target),
        words.second if row.target == words.first else words.first,
        *(words.type, row.response, scores),
        _noted(run, task.task, doc_id, row.response),
    )


def _chosen(tasks: Sequence[TaskScores]) -> tuple[TaskScores, int, str]:
    """Return the first document of the worst outcome, and which that is."""
    for outcome in WORST:
        for task in tasks:
            places = task.scores[outcome].nonzero()[0]
            if len(places):
                total = sum(int(one.scores[outcome].sum()) for one in tasks)
                asked = sum(len(one.doc_ids) for one in tasks)
                why = f"the first of {total:,} of {asked:,} responses of the worst outcome"
                return task, task.doc_ids[int(places[0])], f"{why}, {outcome}"
    raise AssertionError("a response without an outcome")


def _of_pictures(run: Run, task: str, config: Mapping[str, Any], doc: int | None) -> StoredAnswer:
    file = samples_file(run.file, task)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing; run the task again with --log_samples")
    rows = {int(row["doc_id"]): row for _, row in jsonl.read_objects(file)}
    wrong = [number for number, row in sorted(rows.items()) if not row.get("accuracy")]
    why = ""
    if doc is None:
        doc = wrong[0] if wrong else min(rows)
        why = f"the first of {len(wrong):,} of {len(rows):,} responses that are not right"
        why = why if wrong else "the first; all responses are right"
    if doc not in rows:
        raise ValueError(f"--doc {doc}: {task} of {run.folder} has {_ranges(sorted(rows))}")
    row = rows[doc]
    given = row["arguments"]["gen_args_0"]
    response = row["filtered_resps"][0]
    scores = {
        name: float(row[name])
        for name in row["metrics"]
        if isinstance(row.get(name), (int, float)) and math.isfinite(row[name])
    }
    return StoredAnswer(
        *(run, task, doc, why, row["doc"], None, str(given["arg_0"]), given.get("arg_1") or {}),
        *(str(row["target"]), None, None, response, scores),
        _noted(run, task, doc, response),
        config["metadata"].get("data"),
    )


def _noted(run: Run, task: str, doc_id: int, response: str) -> Response | None:
    """Return what the journals of a run, or of its shards, have of a response."""
    for folder in _outputs(run):
        for answer in noted(folder, task, doc_id):
            if answer.text == response:
                return answer
    return None


def _outputs(run: Run) -> Iterator[Path]:
    """Yield the output folders of a run's processes: journals stand beside the model's folder."""
    merged = run.run_json().get("merged_from") or []
    for file in [run.file, *map(Path, merged)]:
        yield file.parent.parent
        yield file.parent


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{', '.join(names[:12])}{more}" or "none of our tasks"


def _ranges(numbers: Sequence[int]) -> str:
    """Return numbers as ranges: documents 0-9, 12 and 14-20."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    texts = ["-".join(map(str, part)) for part in parts]
    more = f" and {len(texts) - 8} more ranges" if len(texts) > 8 else ""
    return f"documents {', '.join(texts[:8])}{more}"
