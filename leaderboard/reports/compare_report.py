"""Write a comparison: the answer in a sentence, tables, JSON and a figure."""

import dataclasses
import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy
from matplotlib.figure import Figure

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.leaderboard.pages.figures import save
from verbalizer_bench.leaderboard.reports.markdown import table
from verbalizer_bench.results.answers import (
    answer,
    answers,
    finding,
    interval,
    row_name,
    signed_points,
)
from verbalizer_bench.results.contrast import engine, image, template
from verbalizer_bench.results.differences import FAMILIES, Difference, Pair
from verbalizer_bench.results.protocol import derive_protocol, is_partial
from verbalizer_bench.results.run import Run
from verbalizer_bench.version import __version__

__all__ = ["NOTE", "answer", "as_json", "finding", "render", "signed_points", "write"]

NOTE = (
    "Differences are the model's F1 minus the base's, in points of 100; below 0 the model "
    "follows less than the base. A data set is the mean of its label types, a verbalizer the mean "
    "over data sets. Intervals: 95 %, bootstrap over documents, each with all its verbalizers; "
    "where fewer than 15 documents differ, wide enough for documents that were not seen. "
    "p: two-sided sign-flip permutation of documents; Holm: adjusted over one table's rows of all "
    "models (a family: All and the label types; the data sets; the verbalizers; the tasks). "
    "Detectable: the smallest true difference that these documents would show at 5 % with a power "
    "of 80 %. Intervals over documents say nothing of training seeds: another seed's checkpoint "
    "can differ by more."
)


def write(
    runs: Sequence[Run],
    pairs: Sequence[Pair],
    folder: Path,
    resamples: int,
    seed: int,
    allowed: Collection[str] = (),
) -> tuple[str, tuple[Path, ...]]:
    """Write `compare.md`, `.json`, `.png` and `.svg`; return the text and the files."""
    markdown = render(runs, pairs, resamples, seed, allowed)
    folder.mkdir(parents=True, exist_ok=True)
    text, data, png, svg = (folder / f"compare.{end}" for end in ("md", "json", "png", "svg"))
    write_whole(text, f"{markdown}\n\n![Differences in F1](compare.png)\n")
    found = as_json(runs, pairs, resamples, seed, allowed)
    write_whole(data, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    draw(pairs, (png, svg))
    return markdown, (text, data, png, svg)


def render(
    runs: Sequence[Run],
    pairs: Sequence[Pair],
    resamples: int,
    seed: int,
    allowed: Collection[str] = (),
) -> str:
    """Return the comparison as Markdown; the single tasks stand in the JSON only."""
    part = ", partial: less than the suite was run" if is_partial(runs[0]) else ""
    parts = [
        "\n\n".join(answers(pairs)),
        f"Base: {runs[0].name}; protocol: {derive_protocol(runs[0]).name}{part}.",
    ]
    if allowed:
        parts.append(f"Let through by --allow: {', '.join(sorted(allowed))}.")
    header = ["Model - base", "", "Base", "Model", "Difference", "p", "Holm", "Detectable", "n"]
    for family in FAMILIES[:-1]:
        header[1] = family.capitalize()
        rows = [
            [row_name(pair, pairs), *_row(found)] for pair in pairs for found in pair.family(family)
        ]
        parts.append(table(header, rows))
    drawn = f"{resamples} resamples and permutations, seed {seed}."
    return "\n\n".join([*parts, f"{NOTE} n: documents. {drawn}"])


def _row(found: Difference) -> list[str]:
    least = "-" if found.detectable is None else f"{100 * found.detectable:.1f}"
    return [
        found.name,
        *(f"{100 * value:.1f}" for value in (found.base, found.model)),
        interval(found),
        *(f"{value:.4f}" for value in (found.p, found.p_holm)),
        *(least, str(found.documents)),
    ]


def as_json(
    runs: Sequence[Run],
    pairs: Sequence[Pair],
    resamples: int,
    seed: int,
    allowed: Collection[str] = (),
) -> dict[str, object]:
    """Return every number, and what it was computed from; scores in [-1, 1]."""
    return {
        "difference": "model minus base",
        "answer": answers(pairs),
        "allowed": sorted(allowed),
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
                "weights": run.record.fingerprint.get("weights"),
                "image": image(run),
                "chat_template": template(run),
                "engine": engine(run),
            }
            for run in runs
        ],
        "pairs": [
            dataclasses.asdict(pair) | {"differs": list(pair.contrast.changed)} for pair in pairs
        ],
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
                [100 * d.difference for d in shown],
                places,
                "o",
                markersize=4,
                label=row_name(pair, pairs),
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
    save(figure, files, bbox_inches="tight")
