"""The trade-off: following instructions (F1) against seeing (pairs of MMVP), a point a checkpoint.

As figure 6 of Tong et al. 2024, which has LLaVA-Bench where verbalizer manipulation stands here.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verbalizer_bench.leaderboard.pages.figures import COLOURS, save, shown_name, whiskers
from verbalizer_bench.leaderboard.reports.methods import BenchmarkTable
from verbalizer_bench.results.contrast import same_weights
from verbalizer_bench.results.picture_scores import PictureScores
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.statistics import Interval
from verbalizer_bench.results.summary import RunSummary

TASKS = ("mmvp_options", "mmvp_letters")
PANELS = ("All", "unnatural")
_MARKS = "osD^v<>P"


class Point(NamedTuple):
    """A checkpoint that has both.

    Attributes:
        name: The verbalizer run's.
        f1: By label type.
        pairs: Of MMVP's pairs those with both answers right.
        asked: How many pairs were asked, of how many, and whose.
        protocol: Of the verbalizer run, such as `paper` or `toy (made data), partial`.
    """

    name: str
    f1: Mapping[str, Interval]
    pairs: Interval
    asked: str
    protocol: str


@dataclasses.dataclass(frozen=True)
class TradeOff:
    """The points, and which runs have none.

    Attributes:
        task: The MMVP task on the x axis.
        points: A point a verbalizer run.
        alone: Runs of which only one of the two is there.
    """

    task: str
    points: tuple[Point, ...]
    alone: tuple[str, ...]

    @property
    def table(self) -> BenchmarkTable:
        """Return the points as a table."""
        rows = [
            (
                *(one.name, str(one.pairs), one.asked),
                *(_text(one.f1.get(panel)) for panel in PANELS),
                one.protocol,
            )
            for one in self.points
        ]
        notes = [
            f"x: pairs of {self.task}, labels as published; y: F1; in %, 95 % intervals over pairs "
            "and over documents. Runs are joined by the hash of the weights, where one has none by "
            "what was loaded."
        ]
        notes += [f"Without the other one: {', '.join(self.alone)}."] if self.alone else []
        f1 = (f"F1 {panel.lower()}" for panel in PANELS)
        header = ("Model", "MMVP pair", "Asked", *f1, "Protocol of F1")
        return BenchmarkTable(header, tuple(rows), tuple(notes))

    def draw(self, files: Sequence[Path]) -> None:
        """Draw F1 over all and unnatural against MMVP, a panel each, intervals both ways."""
        panels = [p for p in PANELS if any(p in one.f1 for one in self.points)]
        with matplotlib.rc_context({"text.parse_math": False}):
            figure = Figure(figsize=(1.2 + 4 * len(panels), 4.0), dpi=150)
            grid = figure.subplots(1, len(panels), squeeze=False, sharex=True)
            for axes, panel in zip(grid[0], panels, strict=True):
                self._panel(axes, panel)
            handles, labels = grid[0, 0].get_legend_handles_labels()
            figure.legend(
                handles,
                labels,
                loc="lower center",
                bbox_to_anchor=(0.5, 0.98),
                ncols=2,
                frameon=False,
                fontsize=8,
            )
            figure.tight_layout()
            save(figure, files, bbox_inches="tight")

    def _panel(self, axes: Axes, panel: str) -> None:
        for place, one in enumerate(self.points):
            if panel not in one.f1:
                continue
            x, y = one.pairs, one.f1[panel]
            axes.errorbar(
                100 * x.mean,
                100 * y.mean,
                xerr=whiskers([x]),
                yerr=whiskers([y]),
                fmt=_MARKS[place % len(_MARKS)],
                color=COLOURS[place % len(COLOURS)],
                markersize=6,
                elinewidth=0.9,
                capsize=2.5,
                label=f"{shown_name(one.name)}\nMMVP: {one.asked}; F1: {one.protocol}",
            )
        # What guessing gets.
        axes.axvline(25, color="#555555", linewidth=0.8, linestyle=":")
        axes.set_title(panel.capitalize(), fontsize=10)
        axes.set_xlabel(f"Pairs of {self.task} right (%); dotted: chance", fontsize=8)
        axes.set_ylabel("F1 (%)", fontsize=8)
        axes.grid(color="#dddddd", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)


def trade_off(
    runs: Sequence[Run], summaries: Sequence[RunSummary], scores: Sequence[PictureScores]
) -> TradeOff | None:
    """Return a point for each verbalizer run that has an MMVP run of the same weights.

    The x axis is one task: the one that most have, the paper's prompt where as many.

    Returns:
        None where no two runs are of the same weights, or none has an F1 that is drawn.
    """
    found = {
        task: _points(runs, summaries, [one for one in scores if one.task == task])
        for task in TASKS
    }
    task = max(TASKS, key=lambda name: len(found[name]))
    if not any(panel in one.f1 for one in found[task] for panel in PANELS):
        return None
    shown = [one for one in scores if one.task == task]
    alone = [run.name for run in runs if not _partners(run, shown)]
    alone += [
        f"{one.run.name} ({task})"
        for one in shown
        if not any(same_weights(run, one.run) for run in runs)
    ]
    return TradeOff(task, tuple(found[task]), tuple(alone))


def _points(
    runs: Sequence[Run], summaries: Sequence[RunSummary], scores: Sequence[PictureScores]
) -> list[Point]:
    made = []
    for run, summary in zip(runs, summaries, strict=True):
        for one in _partners(run, scores):
            f1 = {name: types.f1 for name, types in summary.label_types.items()}
            twice = len(_partners(run, scores)) > 1
            name = f"{run.name} ({one.run.folder.parent.name})" if twice else run.name
            known = "toy (made data)" if summary.protocol == "toy" else summary.protocol
            how = f"{known}{', partial' if summary.partial else ''}"
            made.append(Point(name, f1, one.means["pair"], one.counted("pairs"), how))
    return made


def _partners(run: Run, scores: Sequence[PictureScores]) -> list[PictureScores]:
    return [one for one in scores if same_weights(run, one.run)]


def _text(value: Interval | None) -> str:
    return "-" if value is None else str(value)
