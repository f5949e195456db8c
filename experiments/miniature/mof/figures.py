"""The study's figures: what each arm sees, what it kept, and one beside the other."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verbalizer_bench.experiments.miniature.mof.contrasts import BOTH, NAMED, f1, pairs
from verbalizer_bench.experiments.miniature.mof.grid import ADDITIVE, CHANNEL, INTERLEAVED
from verbalizer_bench.experiments.miniature.mof.tables import MofTables
from verbalizer_bench.experiments.miniature.mof.towers import TOWERS

# Okabe and Ito's palette, distinct to colour-blind readers.
_COLOURS = {
    TOWERS[0]: "#E69F00",
    TOWERS[1]: "#0072B2",
    INTERLEAVED: "#009E73",
    CHANNEL: "#CC79A7",
    ADDITIVE: "#56B4E9",
    "base": "#999999",
}
_MARKS = ("o", "^", "v", "D", "P", "s", "X")
_NOTE = "Toys: see the text."


def _colour(arm: str) -> str:
    return _COLOURS[ADDITIVE if arm.startswith(ADDITIVE) else arm]


def draw_bars(tables: MofTables, file: Path) -> None:
    """Draw pair accuracy by what pairs differ in, and F1 by image: a bar an arm, a mark a seed."""
    shown = [(f"Pairs that differ in {kind}", kind, "") for kind in NAMED]
    shown += [(f"Suite, F1 (All), image: {image}", "", image) for image in tables.grid.images]
    figure = Figure(figsize=(11, 6.4), dpi=150, layout="constrained")
    panels = figure.subplots(2, -(-len(shown) // 2), sharey=True, squeeze=False)
    for axes in panels.flat[len(shown) :]:
        axes.remove()
    for axes, (title, kind, image) in zip(panels.flat, shown, strict=False):
        names = tables.grid.arms if kind else ("base", *tables.grid.arms)
        for place, arm in enumerate(names):
            table = pairs(tables, arm, kind) if kind else f1(tables, arm, image)
            cells = 100 * table.mean(axis=1)
            style = {"color": _colour(arm), "edgecolor": "#555555", "lw": 0.5}
            axes.bar(place, cells.mean(), 0.8, **style)
            # The base has no tuning seed.
            cells = cells[:1] if arm == "base" else cells
            spread = place + np.linspace(-0.25, 0.25, len(cells)) * (len(cells) > 1)
            axes.plot(spread, cells, "o", color="black", markersize=3, clip_on=False)
        axes.set_title(title, fontsize=9)
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
        axes.set_ylim(-3, 103)
        if kind:
            axes.axhline(25, color="#555555", lw=0.8, ls=":")
        _bare(axes, "y")
    for axes in panels[:, 0]:
        axes.set_ylabel("%")
    figure.supxlabel(
        "Bars: the mean of tuning seeds; marks: seeds. Dotted: pairs right by guessing each "
        f"answer. {_NOTE}",
        fontsize=8,
        color="#555555",
    )
    figure.savefig(file)


def draw_trade_off(tables: MofTables, file: Path) -> None:
    """Draw F1 beside pair accuracy, a panel an image, a small mark a seed, a large one the mean."""
    images = tables.grid.images
    figure = Figure(figsize=(5.5 * len(images), 4.8), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(images), sharex=True, sharey=True, squeeze=False)[0]
    for axes, image in zip(panels, images, strict=True):
        for arm, mark in zip(tables.grid.arms, _marks(tables), strict=True):
            seen = 100 * pairs(tables, arm, BOTH).mean(axis=1)
            kept = 100 * f1(tables, arm, image).mean(axis=1)
            style = {"linestyle": "", "marker": mark, "color": _colour(arm)}
            axes.plot(seen, kept, **style, markersize=5, alpha=0.55, markeredgewidth=0)
            large = {**style, "markeredgecolor": "black", "label": arm}
            axes.plot(seen.mean(), kept.mean(), **large, markersize=10)
        axes.set_title(f"image with the suite's prompts: {image}", fontsize=9)
        axes.set_xlabel("pairs right, colour and direction (%)")
        axes.set_xlim(-3, 103)
        _bare(axes, "both")
    panels[0].set_ylabel("F1, All (%)")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=7, frameon=False, fontsize=8)
    figure.supxlabel(
        f"Small: a tuning seed; large: the mean. What is up and right sees and follows. {_NOTE}",
        fontsize=8,
        color="#555555",
    )
    figure.savefig(file)


def _marks(tables: MofTables) -> list[str]:
    return [_MARKS[number % len(_MARKS)] for number in range(len(tables.grid.arms))]


def _bare(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
