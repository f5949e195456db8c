"""The study's figures: a dot for each cell, a bar or a line for the mean."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verbalizer_bench.experiments.miniature.arms import ARMS
from verbalizer_bench.experiments.miniature.study.contrasts import (
    GROUPS,
    MODELS,
    Shown,
    scores,
    seeing,
)
from verbalizer_bench.experiments.miniature.study.grid import Point
from verbalizer_bench.experiments.miniature.study.tables import StudyTables

# Okabe and Ito's palette, distinct to colour-blind readers.
_COLOURS = ("#999999", "#56B4E9", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")
_MARKS = ("o", "^", "s", "D")
_NOTE = (
    "Bars: the mean over bases and tuning seeds; lines: of a base; marks: cells, by base. Test "
    "split. Toys: see the text."
)


def draw_scores(tables: StudyTables, file: Path) -> None:
    """Draw F1 by label type, a bar a model, as in figure 4 of Shiono et al. 2024."""
    series = [(name, Shown(name), _COLOURS[i]) for i, name in enumerate(MODELS)]
    figure = Figure(figsize=(10, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    _bars(axes, tables, series)
    axes.set_xticks(range(len(GROUPS)), [name.capitalize() for name in GROUPS])
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    axes.set_xlabel(_NOTE, fontsize=8, color="#555555")
    figure.savefig(file)


def draw_images(tables: StudyTables, file: Path) -> None:
    """Draw F1 by label type and image, a panel an LVLM."""
    names = seeing()
    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True)
    # Greys: colours are models.
    greys = ("#E4E4E4", "#8C8C8C", "#C0C0C0", "#FFFFFF", "#AAAAAA", "#D0D0D0")
    for axes, name in zip(panels, names, strict=True):
        series = [
            (image, Shown(name, image), greys[i % len(greys)])
            for i, image in enumerate(tables.grid.images)
        ]
        _bars(axes, tables, series)
        axes.set_title(name, fontsize=9)
        axes.set_xticks(range(len(GROUPS)), [g.capitalize() for g in GROUPS], fontsize=7)
    for axes in panels[1:]:
        axes.set_ylabel("")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=8,
        frameon=False,
        fontsize=8,
        title="Image shown with the prompt",
        title_fontsize=8,
    )
    note = f"{_NOTE}\nLVLM-aligned without an image is the base, and was not run again."
    figure.supxlabel(note, fontsize=8, color="#555555")
    figure.savefig(file)


def _bars(axes: Axes, tables: StudyTables, series: Sequence[tuple[str, Shown, str]]) -> None:
    """Draw a bar for a mean, a short line for that of a base, and a mark for a cell."""
    width = 0.84 / len(series)
    for index, (label, shown, colour) in enumerate(series):
        percent = 100 * scores(tables, shown).mean(axis=3)
        centres = np.arange(len(GROUPS)) + (index - (len(series) - 1) / 2) * width
        means = percent.mean(axis=(0, 1))
        axes.bar(
            centres, means, width * 0.92, label=label, color=colour, edgecolor="#555555", lw=0.5
        )
        for base, cells in enumerate(percent):
            places = centres + (base - (len(percent) - 1) / 2) * width * 0.46
            half = width * 0.2
            axes.hlines(cells.mean(axis=0), places - half, places + half, color="black", lw=1.1)
            # A model that has no tuning seed has one mark.
            for cell in np.unique(cells, axis=0):
                axes.plot(
                    places,
                    cell,
                    linestyle="",
                    marker=_MARKS[base % len(_MARKS)],
                    markersize=3,
                    markerfacecolor="black",
                    markeredgecolor="white",
                    markeredgewidth=0.4,
                    clip_on=False,
                )
    for number, base in enumerate(tables.grid.bases):
        mark = _MARKS[number % len(_MARKS)]
        axes.plot([], [], linestyle="", marker=mark, color="black", label=f"base {base}")
    axes.set_ylim(-3, 103)
    axes.set_ylabel("F1 (%)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_rates(tables: StudyTables, file: Path) -> None:
    """Draw held-out loss and F1 (All) by learning rate, a row a base, at the first tuning seed."""
    grid = tables.grid
    rows = len(grid.bases)
    figure = Figure(figsize=(10, 0.9 + 2.7 * rows), dpi=150, layout="constrained")
    panels = figure.subplots(rows, 2, sharex=True, sharey="col", squeeze=False)
    for base, (left, right) in zip(grid.bases, panels, strict=True):
        for number, name in enumerate(ARMS):
            points = [Point(base, grid.seeds[0], name, rate) for rate in grid.learning_rates]
            image = points[0].images(grid.images)[0]
            losses = [float(tables.points[p, image]["held_out_loss"]) for p in points]
            f1 = [100 * tables.f1[point, image].mean() for point in points]
            chosen = [grid.learning_rates.index(tables.rates[name])]
            for axes, values in ((left, losses), (right, f1)):
                colour = _COLOURS[MODELS.index(name)]
                style = {"color": colour, "marker": _MARKS[number % len(_MARKS)], "markersize": 5}
                axes.plot(grid.learning_rates, values, label=name, **style)
                ring = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": "black"}
                axes.plot(grid.learning_rates, values, "s", markevery=chosen, **ring)
        left.set(xscale="log", yscale="log", ylabel=f"base {base}\nheld-out loss")
        right.set(xscale="log", ylabel="F1, All (%)", ylim=(-3, 103))
        for axes in (left, right):
            axes.set_xticks(grid.learning_rates, [f"{rate:g}" for rate in grid.learning_rates])
            axes.minorticks_off()
            axes.grid(color="#dddddd", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
        losses_at = [0.03, 0.1, 0.3]
        left.set_yticks(losses_at, [f"{loss:g}" for loss in losses_at])
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=5,
        frameon=False,
    )
    figure.supxlabel(
        "Learning rate. A square is the chosen one. Losses are of each arm's own records and are "
        "not compared between arms.",
        fontsize=8,
        color="#555555",
    )
    figure.savefig(file)
