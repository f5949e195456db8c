"""Gather what paths hold: verbalizer runs, MMVP, judged benchmarks and lmms-eval's results."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from verbalizer_bench.evaluation.lmms_results import read_scores, result_files
from verbalizer_bench.evaluation.recipe import LLAVA15, Evaluation, read_evaluation
from verbalizer_bench.leaderboard.reports.cells import judged_cells, lmms_cell, run_cells
from verbalizer_bench.leaderboard.reports.methods import Cell, benchmark_table
from verbalizer_bench.leaderboard.reports.pictures import picture_cells
from verbalizer_bench.leaderboard.reports.report import Report, report
from verbalizer_bench.results.picture_scores import PictureScores, read_picture_scores
from verbalizer_bench.results.run import NotAVerbalizerRun, Run, find_runs, read_run


def report_of(sources: Iterable[Run | str | Path], recipe: str | Path = LLAVA15) -> Report:
    """Report on all that is at or below some paths.

    Args:
        sources: Runs, and paths that hold runs, what `judge` wrote or what lmms-eval wrote.
        recipe: Which of lmms-eval's tasks are which benchmarks.

    Raises:
        FileNotFoundError: A path holds nothing to report on.
        ValueError: A file is none of ours, a checkpoint has two results in one column, or a run's
            tasks do not share documents or arguments.
    """
    evaluation = read_evaluation(recipe)
    runs: list[Run | str | Path] = []
    cells: dict[str, dict[tuple[str, str], Cell]] = {}
    notes: dict[str, None] = {}
    pictures: dict[Path, list[PictureScores]] = {}
    for source in sources:
        if isinstance(source, Run):
            runs.append(source)
            continue
        found, left = _benchmarks(Path(source), evaluation)
        seen = _pictures(Path(source))
        # What holds nothing is refused as a run would be.
        if seen:
            runs += _verbalizer_runs(Path(source), seen)
        elif not (found or left) or any(Path(source).rglob("results_*.json")):
            runs.append(source)
        for cell in found:
            cells.setdefault(cell.source, {})[cell.column] = cell
        notes |= dict.fromkeys(left)
        pictures |= seen
    named = find_runs(runs)
    scores = [one for found in pictures.values() for one in found]
    if notes and not (cells or named or scores):
        raise ValueError(f"{next(iter(notes))}; give --evaluation RECIPE that has them")
    if not cells and not notes:
        return report(*named, pictures=scores)
    every = [cell for by_column in cells.values() for cell in by_column.values()]
    every += [cell for run in named for cell in run_cells(run)] + picture_cells(scores)
    return report(*named, benchmarks=benchmark_table(every, tuple(notes)), pictures=scores)


def _pictures(source: Path) -> dict[Path, list[PictureScores]]:
    """Return the scores of benchmarks with images of their own at or below a path, by folder."""
    folders = sorted({file.parent for file in source.rglob("results_*.json")})
    found = {folder: list(read_picture_scores(folder)) for folder in folders}
    return {folder: scores for folder, scores in found.items() if scores}


def _verbalizer_runs(source: Path, pictures: Collection[Path]) -> Iterator[Run]:
    """Yield the runs below a path of which some hold benchmarks with images alone."""
    for folder in sorted({file.parent for file in source.rglob("results_*.json")}):
        try:
            yield read_run(folder)
        except NotAVerbalizerRun:
            if folder not in pictures:
                raise


def _benchmarks(folder: Path, evaluation: Evaluation) -> tuple[list[Cell], list[str]]:
    """Return the scores at or below a folder, and what is not among them."""
    cells, left = list(judged_cells(folder)), []
    for file in result_files(folder):
        scores, others = read_scores(file, evaluation)
        cells += map(lmms_cell, scores)
        left += [others] if others else []
    return cells, left
