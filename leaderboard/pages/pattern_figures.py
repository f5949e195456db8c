"""Figures of visual patterns: what models of images and texts get right of each."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verbalizer_bench.leaderboard.pages.figures import (
    COLOURS,
    PATTERNS,
    save,
    shown_name,
    whiskers,
)
from verbalizer_bench.results.statistics import Interval
from verbalizer_bench.vision.correlation import Correlation
from verbalizer_bench.vision.vlm_pairs import DIRECTIONS, TITLES, ModelScores

CHANCE = 25


def pattern_bars(scored: Sequence[ModelScores], files: Sequence[Path]) -> None:
    """Draw the share of pairs that are right by pattern, a bar a model, a panel a direction.

    Args:
        scored: The models.
        files: Where to write; the suffix is the format (`.png`, `.svg`).
    """
    names = [*scored[0].patterns[DIRECTIONS[0]], "Mean"]
    with matplotlib.rc_context({"text.parse_math": False}):
        height = max(4.5, 1.5 + len(names) * (0.25 + 0.2 * len(scored)))
        figure = Figure(figsize=(11, height), dpi=150, layout="constrained")
        grid = figure.subplots(1, len(DIRECTIONS), sharey=True)
        for axes, direction in zip(grid, DIRECTIONS, strict=True):
            _panel(axes, scored, direction, names)
        grid[0].set_yticks(range(len(names)), names, fontsize=8)
        grid[0].invert_yaxis()
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        save(figure, files)


def _panel(axes: Axes, scored: Sequence[ModelScores], direction: str, names: Sequence[str]) -> None:
    width = 0.8 / len(scored)
    for index, model in enumerate(scored):
        shares: list[Interval] = [*model.patterns[direction].values(), model.means[direction]]
        axes.barh(
            [place + (index - (len(scored) - 1) / 2) * width for place in range(len(names))],
            [100 * share.mean for share in shares],
            width * 0.92,
            xerr=whiskers(shares),
            capsize=2,
            error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
            label=shown_name(model.name),
            color=COLOURS[index % len(COLOURS)],
            hatch=PATTERNS[index // len(COLOURS) % len(PATTERNS)],
            zorder=2,
        )
    axes.axvline(CHANCE, color="#555555", linewidth=0.9, linestyle="--", zorder=1)
    axes.set_xlim(0, 100)
    axes.set_xlabel("Pairs right (%); dashed: chance")
    axes.set_title(TITLES[direction], loc="left", fontsize=9)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def correlation_panels(correlations: Sequence[Correlation], files: Sequence[Path]) -> None:
    """Draw MMVP's pairs of a model against MMVP-VLM's of its encoder, a point a pattern.

    Args:
        correlations: A panel each.
        files: Where to write; the suffix is the format (`.png`, `.svg`).
    """
    with matplotlib.rc_context({"text.parse_math": False}):
        names = list(dict.fromkeys(name for one in correlations for name in one.encoder_shares))
        size = (1 + 4.2 * len(correlations), 5.4)
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        grid = figure.subplots(1, len(correlations), squeeze=False)
        for axes, one in zip(grid[0], correlations, strict=True):
            _points(axes, one, names)
        found: dict[str, Artist] = {}
        for axes in grid[0]:
            handles, labels = axes.get_legend_handles_labels()
            found |= dict(zip(labels, handles, strict=True))
        figure.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=2,
            frameon=False,
            fontsize=8,
        )
        save(figure, files)


def _points(axes: Axes, one: Correlation, names: Sequence[str]) -> None:
    at: dict[tuple[float, float], list[str]] = {}
    for name, share in one.encoder_shares.items():
        place = names.index(name)
        other = one.run_shares[name]
        axes.errorbar(
            100 * share.mean,
            100 * other.mean,
            xerr=whiskers([share]),
            yerr=whiskers([other]),
            fmt="os"[place // len(COLOURS) % 2],
            color=COLOURS[place % len(COLOURS)],
            elinewidth=0.7,
            label=f"{place + 1} {name}",
        )
        point = round(100 * share.mean, 6), round(100 * other.mean, 6)
        at.setdefault(point, []).append(str(place + 1))
    # Of points at one place the last is seen, and the numbers of all.
    for point, numbers in at.items():
        axes.annotate(
            ", ".join(numbers), point, (4, 4), textcoords="offset points", fontsize=7, zorder=5
        )
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    axes.set_aspect("equal")
    axes.set_xlabel(f"MMVP-VLM, {shown_name(one.encoder, 32)} (pairs right, %)", fontsize=8)
    axes.set_ylabel(f"MMVP, {shown_name(one.run, 32)} (pairs right, %)", fontsize=8)
    axes.set_title(one.title, loc="left", fontsize=9)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
