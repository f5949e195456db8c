"""The figure of the curves: a column an arm, F1 by label type above, the held-out loss below."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verbalizer_bench.experiments.miniature.curve.tables import CurveTables
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.trainers.curve.figure import STYLES
from verbalizer_bench.trainers.curve.points import F1, HELD_OUT


def draw_curves(tables: CurveTables, file: Path) -> None:
    """Draw every arm's curves: thick the mean of the seeds, thin each seed."""
    names = tables.grid.arms
    figure = Figure(figsize=(max(6.4, 2.6 * len(names) + 0.6), 5.4), dpi=150, layout="constrained")
    panels = figure.subplots(
        2, len(names), sharex=True, squeeze=False, gridspec_kw={"height_ratios": [2.2, 1]}
    )
    for column, name in enumerate(names):
        scores, losses = panels[:, column]
        for label_type in LABEL_TYPES:
            _draw(scores, tables, name, F1[label_type], 100)
        _draw(losses, tables, name, HELD_OUT, 1)
        scores.set_title(f"{name}\nrate {tables.about['learning_rates'][name]:g}", fontsize=9)
        scores.set_ylim(-3, 103)
        losses.set_ylim(0, None)
        losses.set_xlabel("step")
        for axes in (scores, losses):
            axes.grid(axis="y", color="#dddddd", linewidth=0.8)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[0, 1:]:
        axes.tick_params(labelleft=False)
    panels[0, 0].set_ylabel("F1 (%)")
    panels[1, 0].set_ylabel("held-out loss")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    figure.supxlabel(
        f"Thick: the mean of {len(tables.grid.seeds)} tuning seeds; thin: each. Losses are of an "
        "arm's own kind of records.\nToys: see the text.",
        fontsize=8,
        color="#555555",
    )
    figure.savefig(file)


def _draw(axes: Axes, tables: CurveTables, name: str, column: str, factor: float) -> None:
    colour, marker, style = STYLES.get(column, ("0.2", "o", "-"))
    values = factor * tables.column(name, column)
    for seed in values:
        axes.plot(tables.steps, seed, color=colour, linewidth=0.6, alpha=0.5)
    axes.plot(
        tables.steps,
        np.mean(values, axis=0),
        color=colour,
        marker=marker,
        markersize=3,
        linestyle=style,
        linewidth=1.8,
        label=column.removeprefix("f1_"),
    )
