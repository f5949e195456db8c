"""Levels 2 to 4: is a submission whole, of the known prompts, scored right?

Each check takes a well-formed submission and yields what is wrong with it, a line each.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from verbalizer_bench.leaderboard.submission.contents import Contents
from verbalizer_bench.leaderboard.submission.models import SubmittedSample, Words
from verbalizer_bench.leaderboard.submission.reading import TEXTS
from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.results.schema import EvalResults, short
from verbalizer_bench.tasks.identity import (
    Identity,
    Verification,
    identity_of,
    manifest,
    verify_task,
)
from verbalizer_bench.tasks.metrics import METRICS, score
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.tasks.suite import suite

TOLERANCE = 1e-9


def check_complete(contents: Contents) -> Iterator[str]:
    """Level 2: every task, every document, one row each, no limit."""
    results = contents.results
    for where, names in (("samples", contents.rows), ("results.json", results.configs)):
        yield from (f"{where}: {task} is missing" for task in suite() if task not in names)
        yield from (f"{where}: {short(t)} is not the suite's" for t in names if t not in suite())
    if results.config.limit is not None:
        yield f"results.json: run with --limit {results.config.limit:g}; run it without"
    for task in suite():
        if task in contents.rows and task in results.configs:
            yield from _check_task(contents, task)
    sizes: dict[str, int] = {}
    for task, (dataset, _) in suite().items():
        n = len(contents.rows.get(task, ()))
        if sizes.setdefault(dataset, n) != n:
            yield f"samples: {task}: {n} rows, but {sizes[dataset]} in the data set's other tasks"
    asked = {
        json.dumps(
            c.generation_kwargs.model_dump(exclude_unset=True, exclude_none=True), sort_keys=True
        )
        for c in results.configs.values()
    }
    if len(asked) > 1:
        yield "results.json: its tasks were generated with different arguments; submit them apart"


def _check_task(contents: Contents, task: str) -> Iterator[str]:
    """Look at one task's settings and count its rows."""
    dataset, verbalizer = suite()[task]
    metadata, rows = contents.results.configs[task].metadata, contents.rows[task]
    stated = (metadata.dataset, metadata.verbalizer)
    if stated != (dataset, Words(**vars(verbalizer))):
        yield f"results.json: {task}: its metadata are those of another task"
    if metadata.shard is not None:
        yield f"results.json: {task}: shard {metadata.shard} of a run; merge the shards"
    known = manifest().get(dataset, {}).get(metadata.source, {}).get("n")
    n = metadata.documents if known is None else known
    counts = contents.results.n_samples.get(task)
    said = None if counts is None else (counts.original, counts.effective)
    if metadata.documents != n or said != (n, n):
        yield f"results.json: {task}: {said} of {n} documents of {metadata.source!r} were run"
    ids = [row.doc_id for row in rows]
    if len(set(ids)) < len(ids):
        repeated = min(i for i, times in Counter(ids).items() if times > 1)
        yield f"samples: {task}: document {repeated} has more than one row"
    elif len(ids) != n or ids != list(range(n)):
        yield f"samples: {task}: {len(ids)} rows, not documents 0 to {n - 1} in order"


def check_identity(contents: Contents) -> Iterator[str]:
    """Level 3: the prompts and targets are those of the source, as far as it is known."""
    documents: dict[str, list[str]] = {}
    targets: dict[str, list[bool]] = {}
    for task, (dataset, verbalizer) in suite().items():
        rows, stated = contents.rows[task], contents.results.configs[task].metadata
        words = {verbalizer.first, verbalizer.second}
        if wrong := next((row for row in rows if row.target not in words), None):
            yield f"{task}: document {wrong.doc_id}: target {short(wrong.target)} is no label word"
        recomputed = identity(rows)
        if recomputed.ordered != stated.identity:
            yield f"{task}: its rows' prompts and targets are not those of its identity: edited"
        if stated.identity_unordered not in (None, recomputed.unordered):
            yield f"{task}: its identity_unordered is not that of its rows: edited"
        if _task_hash(rows) != contents.results.task_hashes.get(task):
            yield f"{task}: its rows' hashes are not those of lm-eval's task hash: edited"
        classes = [row.target == verbalizer.first for row in rows]
        pairs = zip(targets.setdefault(dataset, classes), classes, strict=True)
        contradicted = [i for i, (one, other) in enumerate(pairs) if one != other]
        if contradicted:
            yield (
                f"{task}: document {contradicted[0]}: of another class than under the other "
                "verbalizers"
            )
        hashes = [row.doc_hash for row in rows]
        if documents.setdefault(dataset, hashes) != hashes:
            yield f"{task}: its documents are not those of the data set's other tasks"
        known = verify_task(dataset, task, stated.source, recomputed.ordered, recomputed.unordered)
        if known.verdict == "different":
            yield f"{task}: not the known prompts of {stated.source!r}"


def verification(contents: Contents, task: str) -> Verification:
    """Return what is known of a task's prompts, by its rows."""
    source, recomputed = (
        contents.results.configs[task].metadata.source,
        identity(contents.rows[task]),
    )
    return verify_task(suite()[task][0], task, source, recomputed.ordered, recomputed.unordered)


def identity(rows: Iterable[SubmittedSample]) -> Identity:
    """Return the identity of a task's prompts and targets, as `tasks.identity` defines it."""
    return identity_of((row.raw_prompt_hash, row.target) for row in rows)


def _task_hash(rows: Iterable[SubmittedSample]) -> str:
    targets = (hashlib.sha256(row.target.encode()).hexdigest() for row in rows)
    parts = (r.doc_hash + r.prompt_hash + t for r, t in zip(rows, targets, strict=True))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def rescore(contents: Contents) -> tuple[TaskScores, ...]:
    """Compute every metric of every response again."""
    tasks = []
    for task, (dataset, words) in suite().items():
        rows, metadata = contents.rows[task], contents.results.configs[task].metadata
        both = words.first, words.second
        scores = [score(r.target, both[r.target == both[0]], r.response) for r in rows]
        table = {metric: np.array([scored[metric] for scored in scores]) for metric in METRICS}
        ids = tuple(row.doc_id for row in rows)
        source, name = metadata.source, identity(rows)
        tasks.append(
            TaskScores(
                *(task, dataset, words, source, name.ordered, ids, table, name.unordered),
                common=Counter(row.response for row in rows).most_common(1)[0],
            )
        )
    return tuple(tasks)


def check_scores(contents: Contents, tasks: Sequence[TaskScores]) -> Iterator[str]:
    """Level 4: each F1, mean and standard error is that of the responses."""
    table = contents.results.results
    for task in tasks:
        for row, f1 in zip(contents.rows[task.task], task.scores["f1"], strict=True):
            if abs(row.f1 - f1) > TOLERANCE:
                yield f"{task.task}: document {row.doc_id}: f1 {row.f1} stated, {f1} computed"
                break
        yield from _differences(task.task, table.get(task.task, {}), _means([task]))
    for name in sorted(_groups()):
        members = [t for t in tasks if name in ("verbalizer", f"verbalizer::{t.verbalizer.type}")]
        if name in table:
            yield from _differences(name, table[name], _means(members))
    if others := sorted(set(table) - {t.task for t in tasks} - _groups()):
        yield f"results.json: scores of {short(others[0])}, which is not the suite's"


def _groups() -> set[str]:
    return {"verbalizer", *(f"verbalizer::{label_type}" for label_type in LABEL_TYPES)}


def _means(tasks: Sequence[TaskScores]) -> dict[str, float | None]:
    """Return means and standard errors as lm-eval names them; a group's are unweighted."""
    means: dict[str, float | None] = {}
    for metric in METRICS:
        columns = [task.scores[metric] for task in tasks]
        means[f"{metric},none"] = float(np.mean([column.mean() for column in columns]))
        errors = [_error(column) for column in columns]
        known = [error for error in errors if error is not None]
        total = math.sqrt(sum(error**2 for error in known)) / len(errors)
        means[f"{metric}_stderr,none"] = total if len(known) == len(errors) else None
    return means


def _error(column: np.ndarray) -> float | None:
    n = len(column)
    return float(column.std(ddof=1)) / math.sqrt(n) if n > 1 else None


def _differences(
    name: str, stated: Mapping[str, Any], computed: Mapping[str, float | None]
) -> Iterator[str]:
    for key, value in computed.items():
        said = stated.get(key)
        # lm-eval's word where it computed no standard error, which claims nothing.
        if said == "N/A" and "_stderr," in key:
            continue
        number = said if isinstance(said, int | float) and not isinstance(said, bool) else None
        if value is None or number is None or not value - TOLERANCE <= number <= value + TOLERANCE:
            yield f"results.json: {name}: {key} {short(said, 30)} stated, {value} computed"


def as_run(contents: Contents, tasks: tuple[TaskScores, ...]) -> Run:
    """Return a submission as a run, of checked content only, for statistics and protocol."""
    results = EvalResults.model_validate(contents.results)
    return Run(contents.folder / TEXTS[1], contents.submission.model.id, results, tasks)
