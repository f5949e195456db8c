"""The repair study's figures: F1 of every model and cell, what came back, and what was kept."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verbalizer_bench.experiments.miniature.arms import ALIGNED
from verbalizer_bench.experiments.miniature.repair.remedies import PLAIN
from verbalizer_bench.experiments.miniature.repair.shares import GROUPS, came_back, f1
from verbalizer_bench.experiments.miniature.repair.tables import RepairTables
from verbalizer_bench.experiments.miniature.repair.verdicts import remedied

# Okabe and Ito's palette, distinct to colour-blind readers: what is not repaired, tuning again,
# preferences, a tuning of its own, and weights that are merged.
_COLOURS = {
    **dict.fromkeys(("base", ALIGNED), "#999999"),
    PLAIN: "#555555",
    **dict.fromkeys(("SFT-more", "Rejection", "SteerLM"), "#E69F00"),
    **dict.fromkeys(("DPO", "DPO-no-image", "DPO-format"), "#0072B2"),
    **dict.fromkeys(("Attention", "Replay"), "#009E73"),
}
_MERGED = "#CC79A7"
_NOTE = "Toys: see the text."


def _colour(name: str) -> str:
    return _COLOURS.get(name, _MERGED)


def draw_scores(tables: RepairTables, file: Path) -> None:
    """Draw F1, a panel a label type, a bar a model, a mark a cell."""
    names = tables.grid.models
    figure = Figure(figsize=(11, 6.4), dpi=150, layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    places = np.arange(len(names))
    for number, (axes, group) in enumerate(zip(panels.flat, GROUPS, strict=True)):
        for place, name in enumerate(names):
            cells = 100 * f1(tables, name, tables.grid.images[0])[:, number].mean(axis=1)
            style = {"color": _colour(name), "edgecolor": "#555555", "lw": 0.5}
            axes.bar(place, cells.mean(), 0.8, **style)
            spread = place + np.linspace(-0.25, 0.25, len(cells))
            axes.plot(spread, cells, "o", color="black", markersize=2.5, clip_on=False)
        axes.set_title(group.capitalize(), fontsize=9)
        axes.set_xticks(places, names, rotation=60, ha="right", fontsize=8)
        axes.set_ylim(-3, 103)
        _bare(axes, "y")
    for axes in panels[:, 0]:
        axes.set_ylabel("F1 (%)")
    figure.supxlabel(
        "Bars: the mean of tuning seeds; marks: seeds. "
        f"{tables.grid.images[0].capitalize()} image, test split. {_NOTE}",
        fontsize=8,
        color="#555555",
    )
    figure.savefig(file)


def draw_shares(tables: RepairTables, file: Path) -> None:
    """Draw the share that came back with its interval, and F1 beside marks about scenes."""
    figure = Figure(figsize=(11, 4.8), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_intervals(left, tables)
    _draw_kept(right, tables)
    figure.supxlabel(
        "Left: 95 % over seeds and documents, for each remedy by itself. Right: the mean of seeds; "
        f"what is up and right is repaired and kept what tuning gave. {_NOTE}",
        fontsize=8,
        color="#555555",
    )
    figure.savefig(file)


def _draw_intervals(axes: Axes, tables: RepairTables) -> None:
    names = remedied(tables)
    marks = dict(zip(tables.grid.images, ("o", "s", "^", "D"), strict=False))
    for number, (image, mark) in enumerate(marks.items()):
        for place, name in enumerate(names):
            share = came_back(tables, name, image).share
            if share is None:
                continue
            height = place + 0.3 * (number - (len(marks) - 1) / 2)
            reach = [[100 * (share.value - share.low)], [100 * (share.high - share.value)]]
            axes.errorbar(
                100 * share.value,
                height,
                xerr=reach,
                fmt=mark,
                color=_colour(name),
                markerfacecolor=_colour(name) if number == 0 else "white",
                markersize=5,
                capsize=2,
                lw=1.2,
            )
        shown = "white" if number else "black"
        axes.plot([], [], mark, color="black", markerfacecolor=shown, label=f"image: {image}")
    axes.axvline(0, color="#555555", lw=0.8)
    axes.axvline(100, color="#555555", lw=0.8, ls="--")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("share of what tuning cost in F1 (All) that came back (%)")
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    _bare(axes, "x")


def _draw_kept(axes: Axes, tables: RepairTables) -> None:
    """Draw F1 beside marks, with the names in a column, for points may be near each other."""
    image = tables.grid.images[0]
    found = []
    for name in tables.grid.models[1:]:
        kept = np.mean([tables.scenes[tables.point(s, name)] for s in tables.grid.seeds]) / 0.12
        found.append((100 * f1(tables, name, image)[:, -1].mean(), kept, name))
    found.sort()
    for level, kept, name in found:
        axes.plot(kept, level, "o", color=_colour(name), markersize=7, markeredgecolor="#555555")
    low, high = axes.get_ylim()
    heights = _apart([(level - low) / (high - low) for level, _, _ in found])
    for (level, kept, name), height in zip(found, heights, strict=True):
        axes.annotate(
            name,
            (kept, level),
            xytext=(1.04, height),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": _colour(name),
                "lw": 0.7,
                "relpos": (0, 0.5),
            },
        )
    axes.set_xlabel("marks of answers about unseen scenes (% of 12)")
    axes.set_ylabel(f"F1, All, {image} image (%)")
    _bare(axes, "both")


def _apart(heights: list[float], least: float = 0.055) -> list[float]:
    """Return ascending heights in an axes, each at least so far above the one before."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + least) if moved else height)
    return moved


def _bare(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
