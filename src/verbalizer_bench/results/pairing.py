"""Say whether runs can be compared: the same protocol, tasks, documents and raw prompts."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from verbalizer_bench.results.contrast import refusal
from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.results.schema import Sample
from verbalizer_bench.results.statistics import check_documents

# What a row says of the document and its target stands before this.
_ARGUMENTS = b', "arguments": {"gen_args_0": {'


def check_scores(runs: Sequence[Run]) -> None:
    """Raise ValueError where runs do not have the same tasks and documents.

    A run of a part is compared with one of the same part only.
    """
    if len(runs) < 2:
        raise ValueError(
            f"compare: {len(runs)} run given (a folder counts once); give the base and another"
        )
    check_documents(runs[0])
    for run in runs[1:]:
        for one, other in ((runs[0], run), (run, runs[0])):
            names = {task.task for task in other.tasks}
            for task in one.tasks:
                if task.task not in names:
                    raise ValueError(
                        f"compare: {other.folder} lacks the task {task.task}, which {one.folder} "
                        "has; run the same tasks"
                    )
        for a, b in _pairs(runs[0], run):
            _check_documents(runs[0], a, run, b)


def check_prompts(runs: Sequence[Run], allowed: Collection[str] = ()) -> None:
    """Raise ValueError where runs were not asked alike, or other raw prompts or targets.

    The raw prompt is what the task asks before a chat template is applied. It is compared as the
    samples files have it, not by the hashes that a run claims.

    Args:
        runs: The first is the base.
        allowed: Which differences are let through; see `contrast`.
    """
    base = runs[0]
    for run in runs[1:]:
        if reason := refusal(base, run, allowed):
            raise ValueError(f"compare: {reason}")
        for a, b in _pairs(base, run):
            _check_task(base, a, run, b)


def _pairs(base: Run, run: Run) -> list[tuple[TaskScores, TaskScores]]:
    others = {task.task: task for task in run.tasks}
    return [(task, others[task.task]) for task in base.tasks]


def _check_documents(base: Run, a: TaskScores, run: Run, b: TaskScores) -> None:
    if a.doc_ids != b.doc_ids:
        first = min(set(a.doc_ids) ^ set(b.doc_ids))
        raise ValueError(
            f"compare: {a.task}: {base.folder} was run on {len(a.doc_ids)} documents and "
            f"{run.folder} on {len(b.doc_ids)}; document {first} is in one of them only; "
            "run both on the same, with the same --limit"
        )


def _check_task(base: Run, a: TaskScores, run: Run, b: TaskScores) -> None:
    templates = [prompt_template(r, a.task) for r in (base, run)]
    # Nearly always so, and 50 times faster than to read the rows as JSON.
    alike = templates[0] == templates[1] and a.verbalizer == b.verbalizer
    if alike and _questions(base, a.task) == _questions(run, a.task):
        return
    left, right = ({row.doc_id: row for row in r.samples(a.task)} for r in (base, run))
    for doc_id in a.doc_ids:
        asked = [
            raw_prompt(template, task, rows[doc_id])
            for template, task, rows in zip(templates, (a, b), (left, right), strict=True)
        ]
        targets = [rows[doc_id].target for rows in (left, right)]
        what = "raw prompts" if asked[0] != asked[1] else "targets"
        one, other = asked if asked[0] != asked[1] else targets
        if one != other:
            one, other = _excerpts(one, other)
            raise ValueError(
                f"compare: {a.task}, document {doc_id}: the {what} differ: {one!r} in "
                f"{base.folder}, {other!r} in {run.folder}; run both on the same rows and prompts"
            )


def _questions(run: Run, task: str) -> list[bytes]:
    """Return the beginnings of a samples file's rows: documents and targets, without responses."""
    lines = run.samples_file(task).read_bytes().split(b"\n")
    return [line.partition(_ARGUMENTS)[0] for line in lines if line]


def prompt_template(run: Run, task: str) -> str:
    """Return the template of a task's prompts.

    Raises:
        ValueError: The results file has none.
    """
    template = run.results.configs[task].doc_to_text
    if not isinstance(template, str):
        raise ValueError(
            f"{run.file}: configs.{task}.doc_to_text is {template!r}, no template; "
            "run the task again"
        )
    return template


def raw_prompt(template: str, task: TaskScores, row: Sample) -> str:
    """Return a document's prompt before examples and chat template."""
    # The template is of somebody's results file: nothing of it may run.
    words = {"first": task.verbalizer.first, "second": task.verbalizer.second}
    return _compiled(template).render(**{**row.doc, **words})


@cache
def _compiled(template: str) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined).from_string(template)


def _excerpts(one: str, other: str, width: int = 60) -> tuple[str, str]:
    """Return both texts from a little before the place where they part."""
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    start = max(0, (min(len(one), len(other)) if same is None else same) - 15)
    mark = "…" if start else ""
    return mark + one[start : start + width], mark + other[start : start + width]
