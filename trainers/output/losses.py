"""Write a training's losses as a table and a plot."""

import csv
from pathlib import Path
from typing import Any


def write_losses(losses: list[dict[str, Any]], file: Path) -> None:
    """Write losses as CSV, a row for each step."""
    columns = ("step", "epoch", "loss", "learning_rate", "grad_norm", "num_tokens")
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(losses)


def draw_losses(losses: list[dict[str, Any]], file: Path) -> None:
    """Plot losses by step, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["step"] for row in losses], [row["loss"] for row in losses], linewidth=1)
    axes.set(xlabel="step", ylabel="loss", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
