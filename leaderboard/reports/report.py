"""Report what runs scored: tables for the terminal and Markdown, a page, a figure, `summary.json`.

verbalizer-bench report OUT…

Where judged benchmarks stand beside the runs, a table of checkpoints by benchmark comes with it.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.leaderboard.pages.figures import bars
from verbalizer_bench.leaderboard.reports import short
from verbalizer_bench.leaderboard.reports.methods import BenchmarkTable
from verbalizer_bench.leaderboard.reports.opening import opening
from verbalizer_bench.leaderboard.reports.page import report_page
from verbalizer_bench.leaderboard.reports.pictures import named, picture_tables
from verbalizer_bench.leaderboard.reports.trade_off import TradeOff, trade_off
from verbalizer_bench.results.contrast import unlike
from verbalizer_bench.results.picture_scores import PictureScores
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.summary import RunSummary, summary_of
from verbalizer_bench.results.tables import Tabular, markdown_table
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

COLUMNS = (*LABEL_TYPES, "All")
TRADE_OFF = "Following instructions against seeing"
FOOTNOTE = (
    "F1 in %, mean over tasks, with 95 % bootstrap intervals over documents (where fewer than 15 "
    "documents differ, as near 0 and 100, wide enough for documents that were not seen); "
    "All is the mean of the three label types. "
    "Intervals over documents say nothing of training seeds."
)


@dataclasses.dataclass(frozen=True)
class Report(Tabular):
    """What runs scored; as a text it is the tables and warnings of the terminal.

    Attributes:
        runs: The runs, the base first.
        summaries: Of each run.
        benchmarks: Checkpoints by benchmark; None: only verbalizer runs were given.
        pictures: Tables of benchmarks with images of their own (MMVP), by title.
        trade_off: F1 against MMVP; None where no checkpoint has both.
        pictured: What the tables of `pictures` are of.
        others: How many results of other benchmarks there are.
    """

    runs: tuple[Run, ...]
    summaries: tuple[RunSummary, ...]
    benchmarks: BenchmarkTable | None = None
    pictures: Mapping[str, BenchmarkTable] = dataclasses.field(default_factory=dict)
    trade_off: TradeOff | None = None
    pictured: tuple[PictureScores, ...] = ()
    others: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """Return the scores, a row a run and label type, in [0, 1]; else a row a checkpoint."""
        tables = self._tables()
        if not self.runs and tables:
            table = self.benchmarks or next(iter(tables.values()))
            return [dict(zip(table.header, row, strict=True)) for row in table.rows]
        return [
            {
                **{"model": summary.model, "protocol": summary.protocol, "label_type": name},
                **{"f1": scores.f1.mean, "low": scores.f1.low, "high": scores.f1.high},
                "f1_by_response": scores.f1_weighted,
                **scores.outcomes,
                **{"tasks": scores.tasks, "responses": scores.responses},
            }
            for summary in self.summaries
            for name, scores in summary.label_types.items()
        ]

    def __str__(self) -> str:
        """Return tables and warnings as Markdown that reads well in a terminal too."""
        benchmarks = [f"{title}:\n\n{table}" for title, table in self._tables().items()]
        if not self.runs:
            return "\n\n".join(benchmarks)
        parts = [
            self._scores(),
            FOOTNOTE,
            "What the responses did, in % (follows: the label word alone; verbose: with more "
            "words; flipped: the other label word), and F1 with every response counted alike:",
            self._outcomes(),
        ]
        parts += _not_compared(self.runs)
        parts += filter(None, map(_remarks, self.summaries))
        return "\n\n".join([*parts, *benchmarks])

    def short(self) -> str:
        """Return what a run says at its end: one table, how to read it, and examples.

        Of several runs, or of benchmarks alone, it is the whole text.
        """
        if len(self.runs) != 1:
            return str(self)
        (run,), (summary,) = self.runs, self.summaries
        part = ", partial" if summary.partial else ""
        first = (
            f"{summary.model}, protocol {summary.protocol}{part} (95 % intervals over documents)"
        )
        tables = [f"{title}:\n\n{table}" for title, table in self._tables().items()]
        parts = [f"{first}\n\n{short.table(summary)}", short.reference_lines(run)]
        parts += [_remarks(summary), short.worst_examples(run), *tables]
        return "\n\n".join(filter(None, parts))

    def _tables(self) -> dict[str, BenchmarkTable]:
        """Return the tables beside those of the verbalizer runs, by title."""
        whole = {"Checkpoints by benchmark": self.benchmarks} if self.benchmarks else {}
        against = {TRADE_OFF: self.trade_off.table} if self.trade_off else {}
        return {**self.pictures, **against, **whole}

    def _scores(self) -> str:
        rows = [
            [summary.model, f"{summary.protocol}{', partial' if summary.partial else ''}"]
            + [str(summary.label_types[c].f1) if c in summary.label_types else "-" for c in COLUMNS]
            for summary in self.summaries
        ]
        return markdown_table(["Model", "Protocol", *(c.capitalize() for c in COLUMNS)], rows)

    def _outcomes(self) -> str:
        rows = [
            [summary.model, name.capitalize(), str(scores.responses)]
            + [f"{100 * scores.f1_weighted:.1f}"]
            + [f"{100 * scores.outcomes[outcome]:.1f}" for outcome in OUTCOMES]
            for summary in self.summaries
            for name, scores in summary.label_types.items()
        ]
        header = ["Model", "Label type", "Responses", "F1 by response", *OUTCOMES]
        return markdown_table(header, rows)

    def write(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the files, and `summary.json` into each run directory.

        Returns:
            `report.html` and `report.md`, with verbalizer runs `scores.png` and `scores.svg`, and
            `trade_off.png` and `.svg` where it is there.
        """
        text, folder = str(self), Path(folder)
        drawn = self.trade_off.draw if self.trade_off else None
        files = [run.file for run in self.runs]
        first = opening(files, self.summaries, self.pictured, self.others)
        page = report_page(first, self.runs, self.summaries, self._tables(), drawn)
        folder.mkdir(parents=True, exist_ok=True)
        html, markdown = folder / "report.html", folder / "report.md"
        # A response may hold half a character (a lone surrogate), which no file can.
        write_whole(html, page.encode(errors="replace"))
        figures, images = self._draw(folder)
        more = "\n\n".join(["", *self._examples(), ""])
        write_whole(markdown, f"{text}{more}{images}".encode(errors="replace"))
        for run, summary in zip(self.runs, self.summaries, strict=True):
            summary.write(run.folder)
        return html, markdown, *figures

    def _examples(self) -> list[str]:
        """Return how to read the first run's F1, and examples of each run, as Markdown."""
        several = len(self.runs) > 1
        found = [short.reference_table(run) for run in self.runs[:1]]
        for run in self.runs:
            examples = short.worst_examples(run)
            found.append(f"{run.name}: {examples}" if several else examples)
        return [part for part in found if part]

    def _draw(self, folder: Path) -> tuple[tuple[Path, ...], str]:
        """Draw the figures; return their files, and the Markdown that shows them."""
        if not self.runs:
            return (), ""
        scores = (folder / "scores.png", folder / "scores.svg")
        protocols = sorted({summary.protocol for summary in self.summaries})
        note = f"protocol {', '.join(protocols)}; bars: 95 % bootstrap intervals over documents"
        shown = [scores for summary in self.summaries for scores in summary.label_types.values()]
        if any(scores.f1.low is None for scores in shown):
            note += "\n(none where a data set has one document)"
        bars([(summary.model, summary.label_types) for summary in self.summaries], note, scores)
        images = "\n![F1 by label type](scores.png)\n"
        if not self.trade_off:
            return scores, images
        more = (folder / "trade_off.png", folder / "trade_off.svg")
        self.trade_off.draw(more)
        return (*scores, *more), f"{images}\n![{TRADE_OFF}](trade_off.png)\n"


def report(
    *runs: Run,
    benchmarks: BenchmarkTable | None = None,
    pictures: Sequence[PictureScores] = (),
    others: int = 0,
) -> Report:
    """Summarise runs; nothing is written.

    Args:
        runs: Verbalizer runs.
        benchmarks: Checkpoints by benchmark.
        pictures: What runs of benchmarks with images of their own scored.
        others: How many results of other benchmarks there are.

    Raises:
        ValueError: There is nothing, or a run's tasks do not share documents or arguments.
    """
    if not runs and not benchmarks and not pictures:
        raise ValueError("report: no run; give one or more")
    summaries, scores = tuple(map(summary_of, runs)), named(pictures)
    against = trade_off(runs, summaries, scores)
    tables = picture_tables(scores)
    return Report(runs, summaries, benchmarks, tables, against, tuple(scores), others)


def _not_compared(runs: Sequence[Run]) -> list[str]:
    """Return which runs were not asked alike, of any two: a line for each way to differ."""
    distinct = len({run.name for run in runs}) == len(runs)
    named = [(run.name if distinct else str(run.folder), run) for run in runs]
    found: dict[tuple[tuple[str, str, str], ...], list[tuple[str, str]]] = {}
    for (name, run), (other_name, other) in combinations(named, 2):
        ways, names = tuple(unlike(run, other)), (name, other_name)
        turned = tuple((what, second, first) for what, first, second in ways)
        if turned in found:
            ways, names = turned, names[::-1]
        if ways:
            found.setdefault(ways, []).append(names)
    return [_not_alike(ways, pairs) for ways, pairs in found.items()]


def _not_alike(ways: Iterable[tuple[str, str, str]], pairs: Iterable[tuple[str, str]]) -> str:
    one, other = (", ".join(dict.fromkeys(side)) for side in zip(*pairs, strict=True))
    told = "; in ".join(f"{what}: {first} against {second}" for what, first, second in ways)
    return f"Not to be compared: {one} and {other} differ in {told}."


def _remarks(summary: RunSummary) -> str:
    """Return what there is to say of a run; empty if nothing."""
    lines = [f"{summary.model}:"]
    if summary.differences:
        lines.append(f"- differs from the paper's protocol: {'; '.join(summary.differences)}")
    lines += [f"- {text}" for text in (*summary.warnings, *summary.facts)]
    return "\n".join(lines) if len(lines) > 1 else ""
