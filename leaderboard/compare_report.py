"""Write a comparison: the answer in a sentence, tables, JSON and a figure."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy
from matplotlib.figure import Figure

from verbalizer_bench import __version__
from verbalizer_bench.leaderboard.compare import FAMILIES, Difference, Pair
from verbalizer_bench.leaderboard.protocol import derive_protocol, is_partial
from verbalizer_bench.leaderboard.report import table
from verbalizer_bench.leaderboard.resampling import ALPHA
from verbalizer_bench.leaderboard.runs import Run

NOTE = (
    "Differences are the model's F1 minus the base's, in points of 100; below 0 the model "
    "follows less than the base. A data set is the mean of its label types, a verbalizer the mean "
    "over data sets. Intervals: 95 %, bootstrap over documents, each with all its verbalizers. "
    "p: two-sided sign-flip permutation of documents; Holm: adjusted over one table's rows of all "
    "models (a family: All and the label types; the data sets; the verbalizers; the tasks). "
    "Detectable: the smallest true difference that these documents would show at 5 % with a power "
    "of 80 %. Intervals over documents say nothing of training seeds: another seed's checkpoint "
    "can differ by more."
)


def write(
    runs: Sequence[Run], pairs: Sequence[Pair], folder: Path, resamples: int, seed: int
) -> tuple[str, tuple[Path, ...]]:
    """Write `compare.md`, `.json`, `.png` and `.svg`; return the text and the files."""
    markdown = render(runs, pairs, resamples, seed)
    folder.mkdir(parents=True, exist_ok=True)
    text, data, png, svg = (folder / f"compare.{end}" for end in ("md", "json", "png", "svg"))
    text.write_text(f"{markdown}\n\n![Differences in F1](compare.png)\n", encoding="utf-8")
    found = as_json(runs, pairs, resamples, seed)
    data.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(pairs, (png, svg))
    return markdown, (text, data, png, svg)


def render(runs: Sequence[Run], pairs: Sequence[Pair], resamples: int, seed: int) -> str:
    """Return the comparison as Markdown; the single tasks stand in the JSON only."""
    part = ", partial: less than the suite was run" if is_partial(runs[0]) else ""
    parts = [
        "\n\n".join(answer(pair) for pair in pairs),
        f"Base: {runs[0].name}; protocol: {derive_protocol(runs[0]).name}{part}.",
    ]
    header = ["Model - base", "", "Base", "Model", "Difference", "p", "Holm", "Detectable", "n"]
    for family in FAMILIES[:-1]:
        header[1] = family.capitalize()
        rows = [[pair.model, *_row(found)] for pair in pairs for found in pair.family(family)]
        parts.append(table(header, rows))
    drawn = f"{resamples} resamples and permutations, seed {seed}."
    return "\n\n".join([*parts, f"{NOTE} n: documents. {drawn}"])


def answer(pair: Pair) -> str:
    """Answer "did tuning hurt?" in a sentence, from All and the label types."""
    types = {found.name: found for found in pair.family("label type")}
    told = {name: _direction(found) for name, found in types.items()}
    lower, higher = -1 in told.values(), 1 in told.values()
    verdict = {-1: "Yes", 1: "No, it helped", 0: "It cannot be told"}[told.get("All", 0)]
    if all(found.difference == 0 and found.error in (0, None) for found in types.values()):
        verdict = "No difference was found"
    elif told.get("All", 0) == -1 and higher:
        verdict = "Yes on the whole, though not everywhere"
    elif told.get("All", 0) == 1 and lower:
        verdict = "Not on the whole, but in part"
    elif told.get("All", 0) == 0 and lower:
        verdict = "In part"
    elif told.get("All", 0) == 0 and higher:
        verdict = "Not that could be told"
    return f"Did tuning hurt? {verdict}: {finding(pair)}"


def finding(pair: Pair) -> str:
    """Say in a sentence how a model differs from the base, over all and by label type."""
    types = {found.name: found for found in pair.family("label type")}
    parts = [f"{name} {_told(found)}" for name, found in types.items() if name != "All"]
    if whole := types.get("All"):
        parts.insert(0, f"F1 over all {_told(whole)}")
        if _direction(whole) == 0 and whole.detectable:
            parts[0] += f" (differences below {100 * whole.detectable:.1f} are likely to be missed)"
    return f"{pair.model} against {pair.base}: {'; '.join(parts)}."


def _direction(found: Difference) -> int:
    """Return -1 or 1 where both the interval and Holm's p-value exclude 0, else 0."""
    if found.low is None or found.high is None or found.p_holm >= ALPHA:
        return 0
    return -1 if found.high < 0 else int(found.low > 0)


def _told(found: Difference) -> str:
    words = {-1: "is lower", 1: "is higher", 0: "cannot be told apart"}[_direction(found)]
    return f"{words}, {_interval(found)}"


def _interval(found: Difference) -> str:
    if found.low is None or found.high is None:
        return signed_points(found.difference)
    low, high = signed_points(found.low), signed_points(found.high)
    return f"{signed_points(found.difference)} [{low}, {high}]"


def signed_points(value: float) -> str:
    """Return a difference in [-1, 1] in points of 100, with its sign."""
    # What rounds to 0 has no sign.
    return f"{round(100 * value, 1) + 0.0:+.1f}" if round(100 * value, 1) else "0.0"


def _row(found: Difference) -> list[str]:
    least = "-" if found.detectable is None else f"{100 * found.detectable:.1f}"
    return [
        found.name,
        *(f"{100 * value:.1f}" for value in (found.base, found.model)),
        _interval(found),
        *(f"{value:.4f}" for value in (found.p, found.p_holm)),
        *(least, str(found.documents)),
    ]


def as_json(
    runs: Sequence[Run], pairs: Sequence[Pair], resamples: int, seed: int
) -> dict[str, object]:
    """Return every number, and what it was computed from; scores in [-1, 1]."""
    return {
        "difference": "model minus base",
        "answer": [answer(pair) for pair in pairs],
        "partial": is_partial(runs[0]),
        "protocol": derive_protocol(runs[0])._asdict(),
        "resamples": resamples,
        "seed": seed,
        "generator": "PCG64",
        "families": list(FAMILIES),
        "versions": {"verbalizer_bench": __version__, "numpy": numpy.__version__},
        "runs": [
            {
                "name": run.name,
                "folder": str(run.folder),
                "weights": run.record.get("fingerprint", {}).get("weights"),
            }
            for run in runs
        ],
        "pairs": [dataclasses.asdict(pair) for pair in pairs],
        "note": NOTE,
    }


def draw(pairs: Sequence[Pair], files: Sequence[Path]) -> None:
    """Draw the differences with their intervals, by label type and by data set."""
    families = FAMILIES[:2]
    names = [[found.name for found in pairs[0].family(family)] for family in families]
    height = 1.2 + 0.3 * max(map(len, names)) * (1 + 0.4 * (len(pairs) - 1))
    figure = Figure(figsize=(9, height + 0.3 * len(pairs)), dpi=150)
    for axes, family, labels in zip(
        figure.subplots(1, 2, sharex=True), families, names, strict=True
    ):
        for index, pair in enumerate(pairs):
            shown = pair.family(family)
            places = [
                i + (index - (len(pairs) - 1) / 2) * 0.7 / len(pairs) for i in range(len(shown))
            ]
            lows = [d.difference if d.low is None else d.low for d in shown]
            highs = [d.difference if d.high is None else d.high for d in shown]
            (line,) = axes.plot(
                [100 * d.difference for d in shown], places, "o", markersize=4, label=pair.model
            )
            axes.hlines(
                places, [100 * v for v in lows], [100 * v for v in highs], colors=line.get_color()
            )
        axes.axvline(0, color="#555555", linewidth=0.8)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_title(f"By {family}", fontsize=10)
        axes.set_xlabel(f"F1 minus {pairs[0].base}'s (points), 95 %", fontsize=8)
        axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    handles, models = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, models, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.tight_layout()
    with matplotlib.rc_context({"svg.hashsalt": "verbalizer-bench"}):
        for file in files:
            metadata = {"Date": None} if file.suffix == ".svg" else None
            figure.savefig(file, bbox_inches="tight", metadata=metadata)
