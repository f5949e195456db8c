"""Say what runs found: tables for the terminal and Markdown, a page, a figure, `summary.json`.

verbalizer-bench report OUT…
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.leaderboard.pages.figures import bars
from verbalizer_bench.leaderboard.reports.markdown import table
from verbalizer_bench.leaderboard.reports.page import report_page
from verbalizer_bench.results.contrast import refusal
from verbalizer_bench.results.protocol import derive_protocol, facts, is_partial, warnings
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.statistics import Estimate, TypeSummary, summarize
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

COLUMNS = (*LABEL_TYPES, "All")
FOOTNOTE = (
    "F1 in %, mean over tasks, with 95 % bootstrap intervals over documents (where fewer than 15 "
    "documents differ, as near 0 and 100, wide enough for documents that were not seen); "
    "All is the mean of the three label types. "
    "Intervals over documents say nothing of training seeds."
)


@dataclasses.dataclass(frozen=True)
class Report:
    """What was written: the text, and the files."""

    markdown: str
    files: tuple[Path, ...]


def write_report(runs: Sequence[Run], folder: Path) -> Report:
    """Write `report.html`, `report.md` and `scores.png`, `.svg`, and each run's `summary.json`.

    Raises:
        ValueError: A run's tasks do not share documents or arguments.
    """
    summaries = [summarize(run) for run in runs]
    markdown = render(runs, summaries)
    page = report_page(runs, summaries)
    folder.mkdir(parents=True, exist_ok=True)
    names = ("report.html", "report.md", "scores.png", "scores.svg")
    html, text, png, svg = (folder / name for name in names)
    protocols = sorted({derive_protocol(run).name for run in runs})
    note = f"protocol {', '.join(protocols)}; bars: 95 % bootstrap intervals over documents"
    named = [(run.name, summary) for run, summary in zip(runs, summaries, strict=True)]
    bars(named, note, (png, svg))
    # A response may hold half a character (a lone surrogate), which no file can.
    write_whole(html, page.encode(errors="replace"))
    figure = "\n\n![F1 by label type](scores.png)\n"
    write_whole(text, (markdown + figure).encode(errors="replace"))
    for run, summary in zip(runs, summaries, strict=True):
        content = json.dumps(as_json(run, summary), indent=2) + "\n"
        write_whole(run.folder / "summary.json", content)
    return Report(markdown, (html, text, png, svg))


def render(runs: Sequence[Run], summaries: Sequence[dict[str, TypeSummary]]) -> str:
    """Return the tables and warnings as Markdown that reads well in a terminal too."""
    protocols = [derive_protocol(run) for run in runs]
    scores = [
        [run.name, f"{protocol.name}, partial" if is_partial(run) else protocol.name]
        + [_interval(summary[c].f1) if c in summary else "-" for c in COLUMNS]
        for run, protocol, summary in zip(runs, protocols, summaries, strict=True)
    ]
    outcomes = [
        [run.name, column.capitalize(), str(summary[column].responses)]
        + [f"{100 * summary[column].f1_weighted:.1f}"]
        + [f"{100 * summary[column].outcomes[name]:.1f}" for name in OUTCOMES]
        for run, summary in zip(runs, summaries, strict=True)
        for column in COLUMNS
        if column in summary
    ]
    parts = [
        table(["Model", "Protocol", *(column.capitalize() for column in COLUMNS)], scores),
        FOOTNOTE,
        "What the responses did, in % (follows: the label word alone; verbose: with more words; "
        "flipped: the other label word), and F1 with every response counted alike:",
        table(["Model", "Label type", "Responses", "F1 by response", *OUTCOMES], outcomes),
    ]
    if any(refusal(runs[0], run) for run in runs[1:]):
        parts.append(
            "Not to be compared: the runs differ in protocol or chat template (or image, or "
            "engine), see below."
        )
    for run, protocol in zip(runs, protocols, strict=True):
        lines = [f"{run.name}:"]
        if protocol.differences:
            lines.append(f"- differs from the paper's protocol: {'; '.join(protocol.differences)}")
        lines += [f"- {text}" for text in (*warnings(run), *facts(run))]
        if len(lines) > 1:
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def as_json(run: Run, summary: dict[str, TypeSummary]) -> dict[str, Any]:
    """Return a run's summary for `summary.json`; shares and scores in [0, 1]."""
    protocol = derive_protocol(run)
    return {
        "model": run.name,
        "protocol": protocol.name,
        "partial": is_partial(run),
        "differences": list(protocol.differences),
        "warnings": warnings(run),
        "facts": facts(run),
        "label_types": {
            name: {
                "f1": {key: _rounded(value) for key, value in found.f1._asdict().items()},
                "f1_weighted_by_responses": _rounded(found.f1_weighted),
                "outcomes": {key: _rounded(value) for key, value in found.outcomes.items()},
                "tasks": found.tasks,
                "responses": found.responses,
            }
            for name, found in summary.items()
        },
        "tasks": {
            task.task: {
                "f1": _rounded(float(task.scores["f1"].mean())),
                "documents": len(task.doc_ids),
                "source": task.source,
                "identity": task.identity,
            }
            for task in run.tasks
        },
    }


def _rounded(value: float | None) -> float | None:
    """Drop what the order of a sum leaves in the last digits."""
    return None if value is None else round(value, 12)


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.mean:.1f}"
    return f"{100 * estimate.mean:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
