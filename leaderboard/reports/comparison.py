"""Compare runs over the same documents: did tuning hurt? The answer, tables, JSON and a figure.

verbalizer-bench compare BASE OTHER… -o DIR
verbalizer-bench compare BASE TUNED --repaired REPAIRED -o DIR
"""

import dataclasses
import json
from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.leaderboard.pages.figures import save
from verbalizer_bench.leaderboard.reports.picture_comparison import PictureComparison
from verbalizer_bench.results.answers import answers, interval, row_name
from verbalizer_bench.results.contrast import engine, image, precision, template
from verbalizer_bench.results.differences import FAMILIES, Difference, Pair, differences
from verbalizer_bench.results.pairing import check_prompts, check_scores
from verbalizer_bench.results.protocol import derive_protocol, is_partial
from verbalizer_bench.results.repair import Repair, check_repaired, repairs
from verbalizer_bench.results.repair_answers import HEADER as REPAIR_HEADER
from verbalizer_bench.results.repair_answers import NOTE as REPAIR_NOTE
from verbalizer_bench.results.repair_answers import repair_answer, repair_rows
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.statistics import RESAMPLES, SEED, Interval
from verbalizer_bench.results.tables import Tabular, html_table, markdown_table
from verbalizer_bench.version import __version__

_HEADER = ("Model - base", "", "Base", "Model", "Difference", "p", "Holm", "Detectable", "n")
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


@dataclasses.dataclass(frozen=True)
class Comparison(Tabular):
    """Runs against a base; as a text it is the answer and the tables of the terminal.

    Attributes:
        runs: The runs, the base first.
        pairs: Each run and what it is compared with, with the differences.
        resamples: How many bootstrap samples and permutations.
        seed: Of the random numbers.
        allowed: Differences that were let through and stand in the answer.
        repairs: What came back by each repaired run, which stand last among the runs.
        pictures: The same runs over MMVP's pairs, where all have them.
    """

    runs: tuple[Run, ...]
    pairs: tuple[Pair, ...]
    resamples: int
    seed: int
    allowed: tuple[str, ...] = ()
    repairs: tuple[Repair, ...] = ()
    pictures: PictureComparison | None = None

    @property
    def answers(self) -> list[str]:
        """Return how much came back, and whether what differs hurt, in a sentence or two each."""
        return [*map(repair_answer, self.repairs), *answers(self.pairs)]

    def rows(self) -> list[dict[str, Any]]:
        """Return the differences of all groups, a row each, in [-1, 1]."""
        return [
            {"base": pair.base, "model": pair.model} | _renamed(dataclasses.asdict(difference))
            for pair in self.pairs
            for difference in pair.differences
        ]

    def _repr_html_(self) -> str:
        """Return the answers and the differences by label type for a notebook."""
        header = [*_HEADER[:1], "Label type", *_HEADER[2:]]
        paragraphs = "".join(f"<p>{escape(text)}</p>" for text in self.answers)
        repaired = repair_rows(self.repairs)
        tables = html_table(REPAIR_HEADER, repaired) if repaired else ""
        return paragraphs + tables + html_table(header, self._rows_of("label type"))

    def __str__(self) -> str:
        """Return the comparison as Markdown; the single tasks stand in the JSON only."""
        part = ", partial: less than the suite was run" if is_partial(self.runs[0]) else ""
        protocol = derive_protocol(self.runs[0]).name
        parts = [
            "\n\n".join(self.answers),
            f"Base: {self.runs[0].name}; protocol: {protocol}{part}.",
        ]
        if self.allowed:
            parts.append(f"Let through by --allow: {', '.join(self.allowed)}.")
        if self.repairs:
            parts += [markdown_table(REPAIR_HEADER, repair_rows(self.repairs)), REPAIR_NOTE]
        for family in FAMILIES[:-1]:
            header = [*_HEADER[:1], family.capitalize(), *_HEADER[2:]]
            parts.append(markdown_table(header, self._rows_of(family)))
        drawn = f"{self.resamples} resamples and permutations, seed {self.seed}."
        seen = [str(self.pictures)] if self.pictures else []
        return "\n\n".join([*parts, f"{NOTE} n: documents. {drawn}", *seen])

    def _rows_of(self, family: str) -> list[list[str]]:
        return [
            [row_name(pair, self.pairs), *_cells(difference)]
            for pair in self.pairs
            for difference in pair.family(family)
        ]

    def as_json(self) -> dict[str, object]:
        """Return every number, and what it was computed from; scores in [-1, 1]."""
        return {
            "difference": "model minus base",
            "answer": self.answers,
            "allowed": list(self.allowed),
            "partial": is_partial(self.runs[0]),
            "protocol": derive_protocol(self.runs[0])._asdict(),
            "resamples": self.resamples,
            "seed": self.seed,
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
                    "precision": precision(run),
                }
                for run in self.runs
            ],
            "pairs": [
                dataclasses.asdict(pair) | {"differs": list(pair.contrast.changed)}
                for pair in self.pairs
            ],
            "repairs": [
                dataclasses.asdict(repair) | {"note": REPAIR_NOTE} for repair in self.repairs
            ],
            "note": NOTE,
            **({"pictures": self.pictures.as_json()} if self.pictures else {}),
        }

    def write(self, folder: str | Path) -> tuple[Path, ...]:
        """Write `compare.md`, `compare.json`, `compare.png` and `compare.svg`; return them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text, data, png, svg = (folder / f"compare.{end}" for end in ("md", "json", "png", "svg"))
        write_whole(text, f"{self}\n\n![{_drawn(self.repairs)}](compare.png)\n")
        write_whole(data, json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n")
        draw(self.pairs, (png, svg), self.repairs)
        return text, data, png, svg


def compare(
    base: Run,
    *others: Run,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    allowed: Collection[str] = (),
    repaired: Sequence[Run] = (),
    pictures: PictureComparison | None = None,
) -> Comparison:
    """Compare runs with a base over the same documents; nothing is written.

    Args:
        base: The run that the others are compared with.
        others: One at least.
        resamples: How many bootstrap samples and permutations.
        seed: Of the random numbers.
        allowed: Differences that are let through and stand in the answer: of
            `contrast.ALLOWABLE`.
        repaired: Runs of the tuned checkpoint with a remedy; `others` is the tuned run then.
        pictures: The same runs over MMVP's pairs.

    Raises:
        ValueError: The runs differ in protocol, tasks, documents or raw prompts; or with `repaired`
            there is not one tuned run, or a run is there twice.
    """
    if repaired:
        check_repaired((base, *others), repaired, allowed)
    runs = (base, *others, *repaired)
    check_scores(runs)
    check_prompts(runs, allowed)
    pairs = differences(runs, resamples, seed)
    back = repairs(runs, pairs, resamples, seed) if repaired else ()
    return Comparison(runs, pairs, resamples, seed, tuple(sorted(allowed)), back, pictures)


def _renamed(difference: dict[str, Any]) -> dict[str, Any]:
    """Return a difference with names for its two scores beside those of the models."""
    names = {"base": "f1_base", "model": "f1_model"}
    return {names.get(key, key): value for key, value in difference.items()}


def _cells(difference: Difference) -> list[str]:
    least = "-" if difference.detectable is None else f"{100 * difference.detectable:.1f}"
    return [
        difference.name,
        *(f"{100 * value:.1f}" for value in (difference.base, difference.model)),
        interval(difference),
        *(f"{value:.4f}" for value in (difference.p, difference.p_holm)),
        *(least, str(difference.documents)),
    ]


def _drawn(repairs: Sequence[Repair]) -> str:
    """Return what the figure is called."""
    return "Differences in F1, and what of them came back" if repairs else "Differences in F1"


def draw(pairs: Sequence[Pair], files: Sequence[Path], repairs: Sequence[Repair] = ()) -> None:
    """Draw the differences with their intervals, by label type and by data set.

    Of repaired runs a third panel has what came back, by label type.
    """
    families = FAMILIES[:2]
    names = [[group.name for group in pairs[0].family(family)] for family in families]
    height = 1.2 + 0.3 * max(map(len, names)) * (1 + 0.4 * (len(pairs) - 1))
    size = (13 if repairs else 9, height + 0.3 * len(pairs))
    figure = Figure(figsize=size, dpi=150)
    panels = figure.subplots(1, 3 if repairs else 2, sharex=True)
    colors = {pair.model: f"C{index % 10}" for index, pair in reversed([*enumerate(pairs)])}
    for axes, family, labels in zip(panels, families, names, strict=False):
        for index, pair in enumerate(pairs):
            shown = [Interval(d.difference, d.low, d.high) for d in pair.family(family)]
            place = (index - (len(pairs) - 1) / 2) * 0.7 / len(pairs)
            _points(axes, shown, place, f"C{index % 10}", row_name(pair, pairs))
        _panel(axes, labels, f"By {family}", f"F1 minus {pairs[0].base}'s (points), 95 %")
    for index, repair in enumerate(repairs):
        shown = [group.came_back for group in repair.groups]
        place = (index - (len(repairs) - 1) / 2) * 0.7 / len(repairs)
        _points(panels[2], shown, place, colors[repair.repaired], repair.repaired)
    if repairs:
        labels = [group.name for group in repairs[0].groups]
        less = f"F1 minus {repairs[0].tuned}'s (points), 95 %"
        _panel(panels[2], labels, "What came back", less)
    handles, models = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, models, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.tight_layout()
    save(figure, files, bbox_inches="tight")


def _points(axes: Axes, shown: Sequence[Interval], shift: float, color: str, label: str) -> None:
    """Draw differences in [-1, 1] in points of 100, a row each."""
    places = [row + shift for row in range(len(shown))]
    lows = [100 * (one.mean if one.low is None else one.low) for one in shown]
    highs = [100 * (one.mean if one.high is None else one.high) for one in shown]
    means = [100 * one.mean for one in shown]
    axes.plot(means, places, "o", markersize=4, color=color, label=label)
    axes.hlines(places, lows, highs, colors=color)


def _panel(axes: Axes, labels: Sequence[str], title: str, what: str) -> None:
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(what, fontsize=8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
