"""Gather what paths hold: verbalizer runs, MMVP, judged benchmarks and lmms-eval's results."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from verbalizer_bench.evaluation.lmms_results import read_scores
from verbalizer_bench.evaluation.recipe import LLAVA15, Evaluation, read_evaluation
from verbalizer_bench.leaderboard.reports.cells import judged_cells, lmms_cell, run_cells
from verbalizer_bench.leaderboard.reports.methods import Cell, benchmark_table
from verbalizer_bench.leaderboard.reports.pictures import picture_cells
from verbalizer_bench.leaderboard.reports.report import Report, report
from verbalizer_bench.results.files import lmms_results_files
from verbalizer_bench.results.picture_runs import picture_runs
from verbalizer_bench.results.picture_scores import PictureScores, read_picture_scores
from verbalizer_bench.results.run import NotAVerbalizerRun, Run, find_runs, read_run
from verbalizer_bench.results.unfinished import say_left_out, unfinished


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
            pictures |= _pictures(source)
            runs += [source] if source.tasks else []
            continue
        found, left = _benchmarks(Path(source), evaluation)
        seen = _pictures(source)
        # What holds nothing is refused as a run would be.
        if seen:
            folders = _run_folders(Path(source))
            say_left_out(unfinished(Path(source)), folders)
            runs += _verbalizer_runs(folders, seen)
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
    table = benchmark_table(every, tuple(notes))
    return report(*named, benchmarks=table, pictures=scores, others=len(cells))


def report_of_folders(folders: Sequence[Path]) -> Report:
    """Report on run directories, and on nothing that lies below them.

    Raises:
        NotAVerbalizerRun: One has none of our tasks.
        ValueError: A file is none of ours, or a run's tasks do not share documents or arguments.
    """
    scores = [one for folder in folders for one in read_picture_scores(folder)]
    files = {one.run.file for one in scores}
    return report(*find_runs(list(_verbalizer_runs(folders, files))), pictures=scores)


def _run_folders(source: Path) -> list[Path]:
    return sorted({file.parent for file in source.rglob("results_*.json")})


def _pictures(source: Run | str | Path) -> dict[Path, list[PictureScores]]:
    """Return the scores of benchmarks with images of their own, by results file."""
    return {scores[0].run.file: scores for scores in picture_runs(source) if scores}


def _verbalizer_runs(folders: Sequence[Path], pictures: Collection[Path]) -> Iterator[Run]:
    """Yield the runs of run directories, of which some hold benchmarks with images alone.

    Args:
        folders: The directories.
        pictures: The results files of those benchmarks.
    """
    for folder in folders:
        try:
            yield read_run(folder)
        except NotAVerbalizerRun:
            if folder not in {file.parent for file in pictures}:
                raise


def _benchmarks(folder: Path, evaluation: Evaluation) -> tuple[list[Cell], list[str]]:
    """Return the scores at or below a folder, and what is not among them."""
    cells, left = list(judged_cells(folder)), []
    for file in lmms_results_files(folder):
        scores, others = read_scores(file, evaluation)
        cells += map(lmms_cell, scores)
        left += [others] if others else []
    return cells, left
