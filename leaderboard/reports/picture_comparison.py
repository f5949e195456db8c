"""Compare runs of MMVP over the same pairs: does one checkpoint see more than the other?

verbalizer-bench compare BASE OTHER… -o DIR
"""

import dataclasses
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.leaderboard.reports.pictures import named
from verbalizer_bench.results.answers import direction, interval
from verbalizer_bench.results.answers import named as named_side
from verbalizer_bench.results.differences import Pair
from verbalizer_bench.results.picture_differences import (
    Tasks,
    check_comparable,
    picture_differences,
)
from verbalizer_bench.results.picture_runs import picture_runs
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.statistics import RESAMPLES, SEED
from verbalizer_bench.results.tables import Tabular, markdown_table

_HEADER = ("Model - base", "Score", "Base", "Model", "Difference", "p", "Holm", "Detectable", "n")
NOTE = (
    "Differences are the model's share minus the base's, in points of 100, paired: intervals (95 "
    "%) are a bootstrap over units, each with all its questions (where fewer than 15 differ, wide "
    "enough for those that were not seen), p a two-sided sign-flip permutation of units, Holm "
    "over a table's rows. n: units. They say nothing of training seeds."
)


@dataclasses.dataclass(frozen=True)
class PictureComparison(Tabular):
    """Runs against a base, by task and score; as a text it is the answers and tables.

    Attributes:
        runs: Each run's tasks, the base first.
        pairs: Each run's differences from the base.
        resamples: How many bootstrap samples and permutations.
        seed: Of the random numbers.
    """

    runs: tuple[Tasks, ...]
    pairs: tuple[Pair, ...]
    resamples: int
    seed: int

    @property
    def answers(self) -> list[str]:
        """Say in a sentence for each run and task which sees more pairs."""
        return [
            _answer(pair, task, scores.benchmark.title, scores.benchmark.unit)
            for pair in self.pairs
            for task, scores in self.runs[0].items()
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return the differences, a row each, in [-1, 1]."""
        return [
            {"base": pair.base, "model": pair.model}
            | {"share_base": one.base, "share_model": one.model}
            | {k: v for k, v in dataclasses.asdict(one).items() if k not in ("base", "model")}
            for pair in self.pairs
            for one in pair.differences
        ]

    def __str__(self) -> str:
        """Return the comparison as Markdown."""
        parts = ["\n\n".join(self.answers)]
        for task, scores in self.runs[0].items():
            title = f"{scores.benchmark.title}, {scores.asked.way} ({task}):"
            parts += [title, markdown_table(_HEADER, self._rows_of(task))]
        drawn = f"{self.resamples} resamples and permutations, seed {self.seed}."
        return "\n\n".join([*parts, f"{NOTE} {drawn}"])

    def _rows_of(self, task: str) -> list[list[str]]:
        return [
            [
                *(pair.model, one.name, f"{100 * one.base:.1f}", f"{100 * one.model:.1f}"),
                *(interval(one), f"{one.p:.4f}", f"{one.p_holm:.4f}"),
                "-" if one.detectable is None else f"{100 * one.detectable:.1f}",
                str(one.documents),
            ]
            for pair in self.pairs
            for one in pair.family(task)
        ]

    def as_json(self) -> dict[str, object]:
        """Return every number; shares in [-1, 1]."""
        firsts = [next(iter(tasks.values())).run for tasks in self.runs]
        return {
            "difference": "model minus base, paired over units",
            "answer": self.answers,
            "resamples": self.resamples,
            "seed": self.seed,
            "runs": [
                {
                    "name": run.name,
                    "folder": str(run.folder),
                    "weights": run.record.fingerprint.get("weights"),
                }
                for run in firsts
            ],
            "pairs": [
                dataclasses.asdict(pair) | {"differs": list(pair.contrast.changed)}
                for pair in self.pairs
            ],
            "note": NOTE,
        }

    def write(self, folder: str | Path) -> tuple[Path, ...]:
        """Write `compare.md` and `compare.json`; return them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text, data = folder / "compare.md", folder / "compare.json"
        write_whole(text, f"{self}\n".encode(errors="replace"))
        write_whole(data, json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n")
        return text, data


def compare_pictures(
    sources: Iterable[Run | str | Path],
    allowed: Collection[str] = (),
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> PictureComparison | None:
    """Compare runs of benchmarks with images of their own; the first is the base.

    Args:
        sources: Runs, or paths that hold some.
        allowed: Differences that are let through.
        resamples: How many bootstrap samples and permutations.
        seed: Of the random numbers.

    Returns:
        None where one of the runs has no such task.

    Raises:
        ValueError: The runs differ in tasks, questions, images or in how they were asked.
    """
    by_source = [picture_runs(source) for source in sources]
    found = [{one.task: one for one in scores} for runs in by_source for scores in runs]
    if len(found) < 2 or not all(found) or not all(by_source):
        return None
    distinct = iter(named([one for tasks in found for one in tasks.values()]))
    runs = tuple({task: next(distinct) for task in tasks} for tasks in found)
    check_comparable(runs, allowed)
    return PictureComparison(runs, picture_differences(runs, resamples, seed), resamples, seed)


def _answer(pair: Pair, task: str, title: str, unit: str) -> str:
    first, *_ = pair.family(task)
    told = {-1: "fewer", 1: "more", 0: "not to be told apart"}[direction(first)]
    shares = f"{100 * first.model:.1f} % against {100 * first.base:.1f} %, {interval(first)}"
    against = f"{named_side(pair, 1)} against {named_side(pair, 0)}"
    return f"{title} ({task}), {unit}s right: {against}: {told}, {shares}."
