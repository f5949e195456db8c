"""Benchmarks with images of their own in a report: tables by unit (pair, group) and by category."""

import dataclasses
from collections.abc import Sequence

from verbalizer_bench.leaderboard.reports.cells import loaded_as
from verbalizer_bench.leaderboard.reports.methods import BenchmarkTable, Cell
from verbalizer_bench.leaderboard.reports.swap_control import swap_notes
from verbalizer_bench.results.picture_scores import PictureScores
from verbalizer_bench.results.run import distinct_names, model_args
from verbalizer_bench.results.statistics import Interval

_NOTES = {
    "mmvp": (
        "MMVP in %: of pairs with both answers right (chance 25; one letter throughout: 0), of "
        "single answers (chance 50), and of responses in which the rule finds no choice, which "
        "count as wrong."
    ),
    "naturalbench": (
        "NaturalBench in %: of groups with all four answers right (G, chance 6.25), of questions "
        "right for both images (Q, 25), of images with both questions right (I, 25), of single "
        "answers (50), and of responses in which the rule finds no choice, which count as wrong."
    ),
}


_CORRECTED = "corrected: by the corrected labels of two disputed pairs."
# How many columns of a table by category can be read side by side.
_COLUMNS = 4


def named(scores: Sequence[PictureScores]) -> list[PictureScores]:
    """Return the scores with names of runs that tell different ones apart."""
    runs = {one.run.file: one.run for one in scores}
    distinct = {run.file: run for run in distinct_names(list(runs.values()))}
    names = [run.name for run in distinct.values()]
    # lmms-eval writes all runs of a model into one folder.
    for file, run in distinct.items():
        if names.count(run.name) > 1:
            date = file.name.removesuffix("_results.json")
            distinct[file] = dataclasses.replace(run, name=f"{run.name}, {date}")
    return [dataclasses.replace(one, run=distinct[one.run.file]) for one in scores]


def picture_tables(scores: Sequence[PictureScores]) -> dict[str, BenchmarkTable]:
    """Return for each benchmark the scores of runs, and by category where there are some.

    Args:
        scores: Of runs whose names differ (`named`).
    """
    tables = {}
    for name in dict.fromkeys(one.asked.benchmark for one in scores):
        chosen = [one for one in scores if one.asked.benchmark == name]
        benchmark = chosen[0].benchmark
        tables[benchmark.title] = _scores(name, chosen)
        title = f"{benchmark.title} by {benchmark.category}"
        shown = [one for one in chosen if one.by_category]
        if len(shown) <= _COLUMNS:
            tables |= {title: _by_category(shown)} if shown else {}
            continue
        for task in dict.fromkeys(one.task for one in shown):
            of_task = [one for one in shown if one.task == task]
            tables[f"{title}, {task}"] = _by_category(of_task)
    return tables


def picture_cells(scores: Sequence[PictureScores]) -> list[Cell]:
    """Return the first two columns of each for the table of checkpoints by benchmark."""
    return [
        _cell(one, column, one.means[column])
        for one in scores
        for column in (one.benchmark.columns[0], "single")
    ]


def _scores(name: str, scores: Sequence[PictureScores]) -> BenchmarkTable:
    columns = max((one.columns for one in scores), key=len)
    units = f"{scores[0].benchmark.unit}s"
    rows = [
        (
            *(one.run.name, one.asked.way),
            *(str(one.means[column]) for column in columns),
            one.counted(),
        )
        for one in scores
    ]
    header = ("Model", "Asked", *(column.capitalize() for column in columns), units.capitalize())
    left = [
        f"{one.run.name}, {one.task}: {one.left_out} {units} were not asked whole and are left out"
        for one in scores
        if one.left_out
    ]
    interval = f"Intervals: 95 %, bootstrap over {units}; where few differ, exact or wider."
    sources = f"Rows: {', '.join(dict.fromkeys(one.asked.source for one in scores))}."
    corrected = [_CORRECTED] if any("corrected" in column for column in columns) else []
    notes = (_NOTES[name], *corrected, interval, sources, *left, *swap_notes(scores))
    return BenchmarkTable(header, tuple(rows), notes)


def _by_category(scores: Sequence[PictureScores]) -> BenchmarkTable:
    benchmark = scores[0].benchmark
    categories = sorted({key for one in scores for key in one.by_category})

    def text(one: PictureScores, category: str) -> str:
        mean, count = one.by_category.get(category, (None, 0))
        return f"{mean} of {count}" if mean else "-"

    rows = [(key, *(text(one, key) for one in scores)) for key in categories]
    names = [
        one.run.name if len({each.task for each in scores}) == 1 else f"{one.run.name}, {one.task}"
        for one in scores
    ]
    header = (benchmark.category.capitalize(), *names)
    tasks = ", ".join(dict.fromkeys(one.task for one in scores))
    what = f"{tasks}: {benchmark.columns[0]} in %, of how many {benchmark.unit}s."
    return BenchmarkTable(header, tuple(rows), (what,))


def _cell(one: PictureScores, column: str, mean: Interval) -> Cell:
    given, weights = model_args(one.run.results), one.run.record.fingerprint.get("weights")
    loaded, name = loaded_as(given) if given else (one.run.name, one.run.name)
    way = f"% of {'answers' if column == 'single' else one.benchmark.unit + 's'}, "
    return Cell(
        *(str(weights or ""), loaded, name, f"{one.benchmark.title} {column}"),
        *(way + one.how, str(mean), "", str(one.run.file)),
        made=one.run.results.date,
    )
