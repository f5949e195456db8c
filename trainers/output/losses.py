"""Write a training's losses as a table and a plot; of pairs, rewards and log-probabilities too."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# TRL's names of what is logged for a step of pairs; means over its pairs, lengths in tokens.
PAIR_COLUMNS = (
    *("rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected"),
    *("logps/chosen", "logps/rejected", "lengths/chosen", "lengths/rejected"),
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

    panels: list[tuple[str, Sequence[str]]] = [("loss", ["loss"])]
    if any("rewards/margins" in row for row in losses):
        panels += [
            ("reward margin", ["rewards/margins"]),
            ("accuracy", ["rewards/accuracies"]),
            ("reward", ["rewards/chosen", "rewards/rejected"]),
        ]
    figure = Figure(figsize=(6, 3.2 if len(panels) == 1 else 6.4), layout="constrained")
    rows = 1 if len(panels) == 1 else 2
    grid = figure.subplots(rows, len(panels) // rows, squeeze=False).flat
    for axes, (label, names) in zip(grid, panels, strict=True):
        for name in names:
            shown = [(row["step"], row[name]) for row in losses if name in row]
            axes.plot(*zip(*shown, strict=True), linewidth=1, label=name.partition("/")[2])
        axes.set(xlabel="step", ylabel=label, xlim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        if len(names) > 1:
            axes.legend(frameon=False)
    figure.savefig(file, dpi=150)
