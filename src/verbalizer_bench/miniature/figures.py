"""The study's figures: a dot for each cell, a bar or a line for the mean."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verbalizer_bench.miniature.arms import ARMS
from verbalizer_bench.miniature.contrasts import GROUPS, MODELS, Shown, scores
from verbalizer_bench.miniature.grid import Point
from verbalizer_bench.miniature.results import Results

# Okabe and Ito's palette, distinct to colour-blind readers.
_COLOURS = ("#999999", "#56B4E9", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")
_MARKS = ("o", "^", "s", "D")
_NOTE = "A dot is a cell (base x tuning seed); its shape is the base. Toys: see the text."


def draw_scores(results: Results, file: Path) -> None:
    """Draw F1 by label type, a bar a model, as in figure 4 of Shiono et al. 2024."""
    series = [(name, Shown(name), _COLOURS[i]) for i, name in enumerate(MODELS)]
    figure = Figure(figsize=(10, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    _bars(axes, results, series)
    axes.set_xticks(range(len(GROUPS)), [name.capitalize() for name in GROUPS])
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    axes.set_xlabel(_NOTE, fontsize=8, color="#555555")
    figure.savefig(file)


def draw_images(results: Results, file: Path) -> None:
    """Draw F1 by label type and image, a panel an LVLM."""
    names = [name for name in MODELS if Point(0, 0, name, None).shows_images]
    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True)
    colours = ("#BBBBBB", "#333333", "#CC79A7", "#0072B2", "#E69F00")
    for axes, name in zip(panels, names, strict=True):
        series = [
            (image, Shown(name, image), colours[i % len(colours)])
            for i, image in enumerate(results.grid.images)
        ]
        _bars(axes, results, series)
        axes.set_title(name, fontsize=9)
        axes.set_xticks(range(len(GROUPS)), [g.capitalize() for g in GROUPS], fontsize=7)
    for axes in panels[1:]:
        axes.set_ylabel("")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=len(colours),
        frameon=False,
        fontsize=8,
        title="image=",
        title_fontsize=8,
    )
    figure.supxlabel(
        f"{_NOTE} Without an image LVLM-aligned is the base.", fontsize=8, color="#555555"
    )
    figure.savefig(file)


def _bars(axes: Axes, results: Results, series: Sequence[tuple[str, Shown, str]]) -> None:
    places, width = range(len(GROUPS)), 0.84 / len(series)
    for index, (label, shown, colour) in enumerate(series):
        found = 100 * scores(results, shown).mean(axis=3)
        centres = [place + (index - (len(series) - 1) / 2) * width for place in places]
        axes.bar(
            centres, found.mean(axis=(0, 1)), width * 0.92, label=label, color=colour, zorder=2
        )
        for base, cells in enumerate(found):
            shift = (base - (len(found) - 1) / 2) * width * 0.4
            for cell in cells:
                axes.plot(
                    [centre + shift for centre in centres],
                    cell,
                    linestyle="",
                    marker=_MARKS[base % len(_MARKS)],
                    markersize=2.2,
                    color="black",
                    alpha=0.55,
                    zorder=3,
                )
    axes.set_ylim(0, 103)
    axes.set_ylabel("F1 (%)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def draw_rates(results: Results, file: Path) -> None:
    """Draw held-out loss and F1 (All) by learning rate, at the first tuning seed."""
    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = results.grid
    for number, name in enumerate(ARMS):
        for base in grid.bases:
            points = [Point(base, grid.seeds[0], name, rate) for rate in grid.learning_rates]
            colour, style = _COLOURS[number + 2], ("-", "--", ":")[grid.bases.index(base) % 3]
            image = points[0].images(grid.images)[0]
            losses = [float(results.points[p, image]["held_out_loss"]) for p in points]
            f1 = [100 * results.f1[point, image].mean() for point in points]
            for axes, values in ((left, losses), (right, f1)):
                axes.plot(
                    grid.learning_rates,
                    values,
                    style,
                    color=colour,
                    marker=_MARKS[grid.bases.index(base) % len(_MARKS)],
                    markersize=4,
                    label=f"{name}, base {base}" if axes is left else None,
                )
                chosen = grid.learning_rates.index(results.rates[name])
                axes.plot(
                    grid.learning_rates[chosen],
                    values[chosen],
                    marker="o",
                    markersize=9,
                    markerfacecolor="none",
                    markeredgecolor=colour,
                )
    left.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="held-out loss")
    right.set(xscale="log", xlabel="learning rate", ylabel="F1, All (%)", ylim=(0, 103))
    for axes in (left, right):
        axes.grid(color="#dddddd", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=7)
    figure.supxlabel("A ring is the chosen rate.", fontsize=8, color="#555555")
    figure.savefig(file)
