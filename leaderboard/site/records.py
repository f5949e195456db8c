"""What the page, `leaderboard.json` and `leaderboard.csv` say of a submission."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from verbalizer_bench.leaderboard.site.entries import COLUMNS, Entry
from verbalizer_bench.leaderboard.site.ranking import Ranked, Table
from verbalizer_bench.leaderboard.submission.verified import VerifiedTask
from verbalizer_bench.results.differences import verbalizer_names
from verbalizer_bench.tasks.spec import task_name
from verbalizer_bench.tasks.suite import suite_datasets
from verbalizer_bench.version import __version__

SCHEMA_VERSION = 1
_ENDS = ("mean", "low", "high")
# What a spreadsheet takes for a formula: such a sign where a cell begins. Where the list separator
# is another (`;` in half of Europe), the file's lines are cut there, quoted or not; signs of full
# width and the minus sign count for their plain ones.
_SIGNS = r"=+\-@\u2212\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b"
_FORMULA = re.compile(rf"((?:^|[;,|:\t\"'])[\s\"']*)([{_SIGNS}])")
# Of these a line or a cell ends.
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def as_json(tables: Sequence[Table]) -> dict[str, Any]:
    """Return `leaderboard.json`: scores and differences in [0, 1], a row a submission."""
    return {
        "schema_version": SCHEMA_VERSION,
        "package": f"verbalizer-bench {__version__}",
        "verbalizers": verbalizer_names(),
        "tables": [
            {
                "protocol": table.protocol,
                "prompts": _prompts(table.verified),
                "rows": [_record(row) for row in table.rows],
            }
            for table in tables
        ],
    }


def as_csv(tables: Sequence[Table]) -> str:
    """Return `leaderboard.csv`: the numbers of the tables in points of 100.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{name}{end}" for name in COLUMNS for end in ("", "_low", "_high")]
    change = ["base", "change_by", "change", "change_low", "change_high"]
    names = [
        "protocol",
        "rank",
        "best_rank",
        "worst_rank",
        "model",
        "kind",
        "chat_template",
        "badge",
        "spot_check",
        "identity",
        "responses",
    ]
    names += [*columns, "slope", *change]
    writer.writerow([*names, "parameters", "date", "submitter", "licence", "submission"])
    for table in tables:
        for row in table.rows:
            writer.writerow([_plain(cell) for cell in _cells(table.protocol, row)])
    return text.getvalue()


def _cells(protocol: str, row: Ranked) -> list[Any]:
    stated, entry = row.entry.verified.submission, row.entry
    scores: list[float | None] = []
    for name in COLUMNS:
        f1 = entry.verified.label_types[name].f1
        scores += [f1.mean, f1.low, f1.high]
    change: list[Any] = [None] * 5
    if row.pair and row.pair.base:
        difference = row.pair.changes["All"]
        change = [
            row.pair.base,
            " and ".join(row.pair.differs),
            *map(_points, (difference.difference, difference.low, difference.high)),
        ]
    identity = _prompts(entry.identified)
    template = "yes" if entry.verified.chat_template else "no"
    head = [protocol, row.rank, row.best, row.worst, entry.id, stated.model.kind, template]
    head += [entry.verified.badge, entry.signed[0] if entry.signed else None, identity]
    head += [entry.verified.label_types["All"].responses]
    tail = [stated.model.parameters, stated.date.isoformat(), stated.submitter, stated.licence]
    return [*head, *map(_points, [*scores, entry.slope]), *change, *tail, entry.path]


def _prompts(verified: bool) -> str:
    return "verified" if verified else "not verified"


def _points(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 4)


def _plain(cell: Any) -> Any:
    """Return a text without line breaks, and with an apostrophe before what would be a formula."""
    if not isinstance(cell, str):
        return cell
    return _FORMULA.sub(r"\1'\2", _BREAKS.sub(" ", cell))


def _record(row: Ranked) -> dict[str, Any]:
    entry, verified = row.entry, row.entry.verified
    stated = verified.submission.model_dump(mode="json", exclude={"schema_version", "protocol"})
    return {
        **stated,
        "rank": row.rank,
        "ranks": [row.best, row.worst],
        "chat_template": verified.chat_template,
        "path": entry.path,
        "badge": verified.badge,
        "identity": _prompts(entry.identified),
        "scores": {
            name: {key: _rounded(getattr(scores.f1, key)) for key in _ENDS}
            for name, scores in verified.label_types.items()
        },
        "f1_weighted_by_responses": {
            name: _rounded(scores.f1_weighted) for name, scores in verified.label_types.items()
        },
        "slope": _rounded(entry.slope),
        "change": _change(row),
        "outcomes": {
            name: {key: _rounded(share) for key, share in scores.outcomes.items()}
            for name, scores in verified.label_types.items()
        },
        "f1": _heat(verified.tasks),
        "documents": dict(
            sorted({task.dataset: task.documents for task in verified.tasks}.items())
        ),
        "responses": verified.label_types["All"].responses,
        "sources": dict(sorted({task.dataset: task.source for task in verified.tasks}.items())),
        "levels": [level.model_dump(mode="json") for level in verified.levels],
        "differences": list(verified.differences),
        "warnings": [*verified.warnings, *_copies(row)],
        "weights": verified.weights,
        "spot_check": _spot_check(entry),
        "results_sha256": verified.inputs.get("results.json"),
    }


def _copies(row: Ranked) -> list[str]:
    total = len(row.entry.verified.tasks)
    return [
        f"the responses to {tasks} of {total} tasks are those of {path}, or nearly"
        for path, tasks in row.copies
    ]


def _spot_check(entry: Entry) -> dict[str, Any] | None:
    """Return what a spot-check said; what is stale says nothing of this submission."""
    if entry.signed is None:
        return None
    status, record = entry.signed
    if record is None or status == "stale":
        return {"status": status}
    kept = ("seed", "responses", "equal", "by", "faults", "differs")
    stated = record.model_dump(mode="json")
    return {
        "status": status,
        **{key: stated[key] for key in kept},
        "date": stated["date"],
        "documents": sum(map(len, record.documents.values())),
        "agreement": [_rounded(value) for value in record.agreement],
        "difference": [_rounded(value) for value in record.difference],
    }


def _change(row: Ranked) -> dict[str, Any] | None:
    if row.pair is None:
        return None
    return {
        "base": row.pair.base,
        "reason": row.pair.reason,
        "differs": list(row.pair.differs),
        "groups": {
            name: {
                "difference": _rounded(difference.difference),
                "low": _rounded(difference.low),
                "high": _rounded(difference.high),
            }
            for name, difference in row.pair.changes.items()
        },
    }


def _heat(tasks: Sequence[VerifiedTask]) -> dict[str, list[float | None]]:
    """Return the F1 of each data set's tasks, in the order of `verbalizer_names`."""
    known = {task.task: _rounded(task.f1) for task in tasks}
    return {
        name: [known.get(task_name(name, verbalizer)) for verbalizer in verbalizers]
        for name, (_, verbalizers) in suite_datasets().items()
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
