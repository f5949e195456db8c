"""Draw a curve: F1 by label type over the steps of training, and the held-out loss below it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from verbalizer_bench.trainers.curve.points import COUNTS, ENDS, F1, HELD_OUT, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers can tell apart; styles for print without.
STYLES = {
    "f1_natural": ("#009E73", "o", "-"),
    "f1_neutral": ("#0072B2", "s", "-"),
    "f1_unnatural": ("#D55E00", "^", "-"),
    "f1_all": ("0.35", "", "--"),
}


def draw_curve(points: Sequence[Point], file: Path, kept: int | None = None) -> None:
    """Draw the points as PNG; nothing where nothing was measured.

    Args:
        points: In the order of their steps.
        file: Where.
        kept: The step whose weights are the checkpoint's, where that is not the last one.
    """
    from matplotlib.figure import Figure

    names = [
        name for name in (*F1.values(), HELD_OUT) if any(name in point.values for point in points)
    ]
    scores = [name for name in names if name != HELD_OUT]
    panels = [group for group in (scores, [HELD_OUT] if HELD_OUT in names else []) if group]
    if not panels:
        return
    heights = [3.2 if group is scores else 2.0 for group in panels]
    figure = Figure(figsize=(6.4, sum(heights)), layout="constrained")
    axes = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    for panel, group in zip(axes, panels, strict=True):
        for name in group:
            _draw(panel, name, points)
        if kept is not None:
            panel.axvline(kept, color="0.5", linewidth=0.8, linestyle=":")
        panel.spines[["top", "right"]].set_visible(False)
    if scores:
        axes[0].set(ylabel="F1 in %", ylim=(-3, 103))
        axes[0].set_title(_over(points), loc="left", fontsize=8, color="0.35", pad=22)
        axes[0].legend(
            loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=4, frameon=False
        )
    if HELD_OUT in names:
        axes[-1].set_ylabel("held-out loss")
    axes[-1].set_xlabel(
        "step" if kept is None else f"step (dotted: {kept}, whose weights are kept)"
    )
    axes[-1].locator_params("x", integer=True)
    figure.savefig(file, dpi=150)


def _over(points: Sequence[Point]) -> str:
    """Return what an F1 is over, and what the bands are where there are some."""
    counts = sorted(
        {tuple(p.values[name] for name in COUNTS) for p in points if COUNTS[0] in p.values}
    )
    if not counts:
        return ""
    shown = " or ".join(
        f"{documents} documents, {answers} responses" for documents, answers in counts
    )
    return f"a point: {shown}; bands: 95 %, bootstrap over documents"


def _draw(axes: "Axes", name: str, points: Sequence[Point]) -> None:
    found = [(point.step, point.values[name]) for point in points if name in point.values]
    factor = 1 if name == HELD_OUT else 100
    colour, marker, style = STYLES.get(name, ("0.2", "o", "-"))
    low, high = ENDS.get(name, (name, name))
    ends = [(p.step, 100 * p.values[low], 100 * p.values[high]) for p in points if low in p.values]
    if name in ENDS and len(ends) > 1:
        steps, lows, highs = zip(*ends, strict=True)
        axes.fill_between(steps, lows, highs, color=colour, alpha=0.12, linewidth=0)
    elif name in ENDS:
        for step, least, most in ends:
            axes.vlines(step, least, most, color=colour, alpha=0.3)
    axes.plot(
        [step for step, _ in found],
        [factor * value for _, value in found],
        color=colour,
        # A line through one point is none.
        marker=marker or ("." if len(found) == 1 else ""),
        markersize=4,
        linestyle=style,
        linewidth=1.4,
        label=name.removeprefix("f1_"),
    )
