"""The study's figures: F1 by label type, a dot a seed; and F1 while the main arms are tuned."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verbalizer_bench.experiments.smollm2.arms import ARMS
from verbalizer_bench.experiments.smollm2.columns import ALONE
from verbalizer_bench.experiments.smollm2.findings import (
    GROUPS,
    PROMPTS,
    before_tuning,
    by_document,
    common,
    followed,
    is_merged,
    models,
)
from verbalizer_bench.experiments.smollm2.grid import BASE
from verbalizer_bench.experiments.smollm2.tables import StudyTables
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.trainers.curve.figure import STYLES
from verbalizer_bench.trainers.curve.points import F1, HELD_OUT

# Okabe and Ito's palette, distinct to colour-blind readers.
_COLOURS = {
    BASE: "#999999",
    "FOIT": "#0072B2",
    "NoFOIT": "#D55E00",
    "FOIT-attention": "#56B4E9",
    "NoFOIT-attention": "#E69F00",
    "DPO-format": "#CC79A7",
    "Replay": "#F0E442",
}
_MERGED = "#009E73"


def draw_scores(tables: StudyTables, base: str, file: Path) -> None:
    """Draw what a base and its tuned models score, a panel a measure, a mark a seed."""
    names = models(tables, base)
    figure = Figure(figsize=(11, 6.2), dpi=150, layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    for axes, (title, cells) in zip(panels.flat, _panels(tables, base).items(), strict=True):
        for place, name in enumerate(names):
            colour = _MERGED if is_merged(name) else _COLOURS[name]
            values = 100 * cells[name]
            axes.bar(place, values.mean(), 0.8, color=colour, edgecolor="#555555", lw=0.5)
            spread = place + 0.2 * (np.arange(len(values)) - (len(values) - 1) / 2)
            axes.plot(spread, values, "o", color="black", markersize=2.5, clip_on=False)
        axes.set_title(title, fontsize=9)
        axes.set_xticks(range(len(names)), names, rotation=50, ha="right", fontsize=8)
        axes.set_xlim(-0.8, max(len(names), 4) - 0.2)
        axes.set_ylim(0, 103)
        _bare(axes)
    for axes in panels[:, 0]:
        axes.set_ylabel("%")
    figure.supxlabel(
        "Bars: the mean of the tuning seeds; marks: each. Half of the documents are of each class: "
        "F1 of a constant label word is 50.",
        fontsize=8,
        color="#555555",
    )
    figure.savefig(file)


def _panels(tables: StudyTables, base: str) -> dict[str, dict[str, np.ndarray]]:
    """Return each panel's values by its title and model; shape (seeds,)."""
    found: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for name in models(tables, base):
        seeds = [0] if name == BASE else common(tables, base, name)
        scores = by_document(tables, base, name, seeds).mean(axis=2)
        for number, group in enumerate(GROUPS):
            found[f"F1, {group}"][name] = scores[:, number]
        words = by_document(tables, base, name, seeds, ALONE)[:, -1]
        found["Responses that are a label word alone"][name] = words.mean(axis=1)
        prompts = followed(tables, base, name, PROMPTS, seeds)
        found["IFEval, prompts"][name] = prompts.mean(axis=1)
    return found


def draw_curves(tables: StudyTables, base: str, file: Path) -> None:
    """Draw F1 and the held-out loss while arms are tuned, a column an arm, thin a seed.

    Of the learning rates that were tried those that were chosen.
    """
    rows = tables.chosen_curves(base)
    names = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(3.4 * len(names) + 0.8, 5.2), dpi=150, layout="constrained")
    panels = figure.subplots(
        2,
        len(names),
        sharex=True,
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": [2, 1]},
    )
    for (scores, losses), name in zip(panels.T, names, strict=True):
        own = [row for row in rows if row["model"] == name]
        first = starts(tables, base, name, rows)
        for place, label_type in enumerate(LABEL_TYPES):
            before = {seed: values[place] for seed, values in first.items()}
            _draw(scores, own, F1[label_type], 100, before)
        _draw(losses, own, HELD_OUT, 1, {})
        scores.set_title(name, fontsize=9)
        scores.set_ylim(0, 103)
        losses.set_xlabel("step")
        for axes in (scores, losses):
            _bare(axes)
    panels[1, 0].set_ylim(0, 1.08 * max(axes.dataLim.ymax for axes in panels[1]))
    panels[0, 0].set_ylabel("F1 (%)")
    panels[1, 0].set_ylabel("held-out loss")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(file)


def starts(
    tables: StudyTables, base: str, name: str, rows: Sequence[Mapping[str, str]]
) -> dict[str, Sequence[float]]:
    """Return F1 in % by label type before an arm is tuned, by seed: the base's or NoFOIT's."""
    if earlier := ARMS[name].start:
        steps = sorted((row for row in rows if row["model"] == earlier), key=_step)
        return {row["seed"]: [100 * float(row[F1[t]]) for t in LABEL_TYPES] for row in steps}
    start = before_tuning(tables, base)
    return {} if start is None else {row["seed"]: [*(100 * start)] for row in rows}


def _step(row: Mapping[str, str]) -> int:
    return int(row["step"])


def _draw(
    axes: Axes,
    rows: Sequence[Mapping[str, str]],
    column: str,
    factor: float,
    before: Mapping[str, float],
) -> None:
    """Draw a column by step, from `before` on: thick the mean of the seeds, thin each."""
    colour, marker, style = STYLES.get(column, ("0.2", "o", "-"))
    by_seed: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        values = by_seed[row["seed"]]
        if row["seed"] in before:
            values[0] = before[row["seed"]]
        values[_step(row)] = factor * float(row[column])
    for values in by_seed.values():
        axes.plot(list(values), list(values.values()), color=colour, linewidth=0.6, alpha=0.5)
    steps = sorted(set.intersection(*map(set, by_seed.values())))
    means = [np.mean([values[step] for values in by_seed.values()]) for step in steps]
    label = column.removeprefix("f1_")
    axes.plot(steps, means, color=colour, marker=marker, linestyle=style, markersize=3, label=label)


def _bare(axes: Axes) -> None:
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
