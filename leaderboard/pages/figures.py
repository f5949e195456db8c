"""Figures of runs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verbalizer_bench.results.statistics import Interval, TypeScores
from verbalizer_bench.tasks.spec import LABEL_TYPES

# Okabe and Ito's palette, distinct to colour-blind readers; patterns repeat it after eight.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
PATTERNS = ("", "//", "..", "xx")
# A bar's F1 in %, below which its colour cannot be seen.
_UNSEEN = 0.5
# An SVG is drawn for a light page; where the reader's is dark, its browser takes these instead.
_DARK = {"#ffffff": "#0d1117", "#000000": "#c9d1d9", "#333333": "#e6edf3", "#555555": "#9da7b3"}
_DARK |= {"#dddddd": "#30363d"}


def save(figure: Figure, files: Sequence[Path], **options: Any) -> None:
    """Write a figure, the same bytes every time; an SVG follows the reader's light or dark scheme.

    Args:
        figure: The figure.
        files: Where to; the suffix is the format (`.png`, `.svg`).
        options: Of matplotlib's `savefig`.
    """
    # Without a salt and with a date, the same figure would be another file every time.
    with matplotlib.rc_context({"svg.hashsalt": "verbalizer-bench"}):
        for file in files:
            metadata = {"Date": None} if file.suffix == ".svg" else None
            figure.savefig(file, metadata=metadata, **options)
            if file.suffix == ".svg":
                _follow_scheme(file)


def _follow_scheme(file: Path) -> None:
    """Give an SVG colours for a dark page, beside those that stand in its elements."""
    rules = ["g[id^=text] { fill: #c9d1d9; }"] + [
        f'[style*="{what}: {light}"] {{ {what}: {dark} !important; }}'
        for light, dark in _DARK.items()
        for what in ("fill", "stroke")
    ]
    style = f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}</style>"
    text = file.read_text(encoding="utf-8")
    head, start, rest = text.partition("<svg ")
    opening, end, body = rest.partition(">")
    file.write_text(f"{head}{start}{opening}{end}\n {style}{body}", encoding="utf-8")


def bars(
    runs: Sequence[tuple[str, Mapping[str, TypeScores]]], note: str, files: Sequence[Path]
) -> None:
    """Draw F1 by label type, a bar a model, as in figure 4 of Shiono et al. 2024.

    Args:
        runs: Each model's name and summary.
        note: A line below the axis: what the numbers are.
        files: Where to write; the suffix is the format (`.png`, `.svg`).
    """
    # A name is no formula, and one that starts with `_` would not be in the legend.
    with matplotlib.rc_context({"text.parse_math": False}):
        _bars(runs, note, files)


def _bars(
    runs: Sequence[tuple[str, Mapping[str, TypeScores]]], note: str, files: Sequence[Path]
) -> None:
    groups = [name for name in (*LABEL_TYPES, "All") if any(name in summary for _, summary in runs)]
    # Many runs side by side would be too wide to be read: a panel a label type, two in a row.
    many = len(runs) > len(COLOURS) and len(groups) > 1
    panels = [[name] for name in groups] if many else [groups]
    columns = 2 if many else 1
    rows = math.ceil(len(panels) / columns)
    width = 12.0 if many else max(6.0, 1.6 + 0.45 * len(groups) * (len(runs) + 1))
    figure = Figure(figsize=(width, 3.0 * rows if many else 4.2), dpi=150)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, shown in zip(grid.flat, panels, strict=False):
        _vertical_bars(axes, shown, runs)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.9),
        ncols=min(3, len(runs)),
        frameon=False,
    )
    figure.text(0.5, 0.03, note, fontsize=7.5, color="#555555", ha="center", va="top")
    save(figure, files, bbox_inches="tight")


def whiskers(shown: Sequence[Interval]) -> list[list[float]]:
    """Return how far intervals reach below and above their means, in points of 100.

    NaN where there is no interval: nothing is drawn there, since a whisker of no length would say
    that the mean is exact.
    """
    none = math.nan
    return [
        [none if one.low is None else 100 * (one.mean - one.low) for one in shown],
        [none if one.high is None else 100 * (one.high - one.mean) for one in shown],
    ]


def _vertical_bars(
    axes: Axes, groups: Sequence[str], runs: Sequence[tuple[str, Mapping[str, TypeScores]]]
) -> None:
    width = 0.8 / len(runs)
    for index, (name, summary) in enumerate(runs):
        shown = [
            (place, summary[group].f1) for place, group in enumerate(groups) if group in summary
        ]
        places = [place + (index - (len(runs) - 1) / 2) * width for place, _ in shown]
        heights = [100 * estimate.mean for _, estimate in shown]
        reach = whiskers([estimate for _, estimate in shown])
        axes.bar(
            places,
            heights,
            width * 0.92,
            yerr=reach,
            capsize=2.5,
            error_kw={"elinewidth": 0.9, "ecolor": "#333333"},
            label=shown_name(name),
            color=COLOURS[index % len(COLOURS)],
            hatch=PATTERNS[index // len(COLOURS) % len(PATTERNS)],
            zorder=2,
        )
        for place, height, above in zip(places, heights, reach[1], strict=True):
            if height < _UNSEEN:
                _name_bar(axes, name, place, height if math.isnan(above) else height + above)
    axes.set_xticks(range(len(groups)), [group.capitalize() for group in groups])
    axes.set_ylim(0, 100)
    axes.set_ylabel("F1 (%)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _name_bar(axes: Axes, name: str, place: float, height: float) -> None:
    """Write a model's name above a bar that is too low for its colour to be seen."""
    axes.annotate(
        shown_name(name, 24).strip(),
        (place, height),
        xytext=(0, 3),
        textcoords="offset points",
        rotation=90,
        ha="center",
        va="bottom",
        fontsize=6,
        color="#333333",
    )


def shown_name(name: str, length: int = 40) -> str:
    """Return a model's name as a figure can show it."""
    cut = name if len(name) <= length else f"{name[: length - 1]}…"
    # SVG cannot hold control characters, and no font has half a character.
    cut = "".join(c if c.isprintable() else "\ufffd" for c in cut)
    return f" {cut}" if cut.startswith("_") else cut


def ranking_bars(
    panels: Sequence[tuple[str, Sequence[tuple[str, Mapping[str, TypeScores]]]]],
    files: Sequence[Path],
) -> None:
    """Draw F1 by label type, a group of bars a model, a panel a protocol.

    Args:
        panels: Each panel's title, and its models: name and label types, best first.
        files: Where to write; the suffix is the format.
    """
    sizes = [len(models) for _, models in panels]
    height = 0.6 * len(panels) + 0.42 * sum(sizes) + 0.6
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(8, height), dpi=150, layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[s + 1 for s in sizes])
        for axes, (title, models) in zip(grid[:, 0], panels, strict=True):
            _horizontal_bars(axes, models)
            axes.set_title(title, loc="left", fontsize=9)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper right", ncols=3, frameon=False, fontsize=8
        )
        grid[-1, 0].set_xlabel("F1 (%), with 95 % intervals over documents", fontsize=8)
        save(figure, files)


def _horizontal_bars(axes: Axes, models: Sequence[tuple[str, Mapping[str, TypeScores]]]) -> None:
    for index, label_type in enumerate(LABEL_TYPES):
        intervals = [types[label_type].f1 for _, types in models]
        axes.barh(
            [place + (index - 1) * 0.27 for place in range(len(models))],
            [100 * f.mean for f in intervals],
            0.25,
            xerr=whiskers(intervals),
            error_kw={"elinewidth": 0.7, "ecolor": "#333333"},
            label=label_type.capitalize(),
            color=COLOURS[index],
            zorder=2,
        )
    axes.set_yticks(range(len(models)), [shown_name(name) for name, _ in models], fontsize=8)
    axes.set_ylim(len(models) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
