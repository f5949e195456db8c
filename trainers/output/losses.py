"""Write a training's losses as a table and a plot; of pairs, rewards and log-probabilities too."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# TRL's names of what is logged for a step of pairs; means over its pairs, lengths in tokens. There
# is no accuracy until the weights have moved.
PAIR_COLUMNS = (
    *("rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected"),
    *("logps/chosen", "logps/rejected", "lengths/chosen", "lengths/rejected"),
)
_ACCURACY = "accuracy (chosen above rejected)"
# What is drawn of a training: a panel's label, what is in it, and where nothing was learned yet.
_PANELS = (
    ("loss", ("loss",), None),
    ("reward margin", ("rewards/margins",), 0.0),
    (_ACCURACY, ("rewards/accuracies",), 0.5),
    ("reward", ("rewards/chosen", "rewards/rejected"), 0.0),
)


def write_losses(losses: list[dict[str, Any]], file: Path) -> None:
    """Write losses as CSV, a row for each step."""
    columns = ["step", "epoch", "loss", "learning_rate", "grad_norm", "num_tokens"]
    columns += [name for name in PAIR_COLUMNS if any(name in row for row in losses)]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(losses)


def draw_losses(losses: list[dict[str, Any]], file: Path) -> None:
    """Plot losses by step, and of pairs what moves with them, as PNG."""
    from matplotlib.figure import Figure

    panels = [
        (label, curves, line)
        for label, names, line in _PANELS
        if (curves := {name: curve for name in names if (curve := _curve(losses, name))})
    ]
    columns = 1 if len(panels) < 2 else 2
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(6 if columns == 1 else 8, 3.2 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, (label, curves, line) in zip(grid, panels, strict=False):
        _draw_panel(axes, label, curves, line)
    figure.savefig(file, dpi=150)


def _curve(losses: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """Return step and value where there is one."""
    return [(row["step"], row[name]) for row in losses if name in row]


def _draw_panel(
    axes: "Axes", label: str, curves: Mapping[str, list[tuple[float, float]]], line: float | None
) -> None:
    if line is not None:
        axes.axhline(line, color="0.6", linewidth=0.8, linestyle=":")
    for name, curve in curves.items():
        # A line through one point is none.
        marker = "." if len(curve) == 1 else None
        steps, values = zip(*curve, strict=True)
        axes.plot(steps, values, linewidth=1, marker=marker, label=name.partition("/")[2])
    axes.set(xlabel="step", ylabel=label, xlim=(0, None))
    if label == _ACCURACY:
        axes.set_ylim(-0.03, 1.03)
    axes.locator_params("x", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        # Above the panel, where no curve is.
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=2, frameon=False
        )
