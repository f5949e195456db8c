"""The study of mixtures in miniature: every arm in several cells, and its report.

    python -m verbalizer_bench.experiments.miniature.mof.run miniature_out/mof --report out

A cell is a tuning seed. One learning rate for all arms is chosen by the loss on held-out records,
never by what is measured. What is there is kept: an interrupted study goes on. `key=value` replaces
a key of the grid: `seeds=[0,1,2] images=white` runs, and reports, fewer.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from verbalizer_bench.config import read
from verbalizer_bench.experiments.miniature.measuring import score_once
from verbalizer_bench.experiments.miniature.mof.arms import align, tune
from verbalizer_bench.experiments.miniature.mof.grid import (
    BASE_POINT,
    GRID,
    MofGrid,
    MofPlace,
    MofPoint,
)
from verbalizer_bench.experiments.miniature.mof.towers import TOWERS, train_tower
from verbalizer_bench.experiments.miniature.mof.world import write_fixed, write_world
from verbalizer_bench.experiments.works import Progress, Work, pool


def mixtures(place: MofPlace, grid: MofGrid, jobs: int, report: Path) -> None:
    """Run what is not there yet of the grid, and report it.

    As many cells as jobs are whole before the next, and reported where there are two or more: what
    is stopped has a report of what it has.

    Args:
        place: Where.
        grid: What.
        jobs: How many points are run at a time.
        report: Where tables and report go.
    """
    write_fixed(place.fixed, grid.texts, grid.pairs)
    with pool(jobs) as processes:
        run = Progress(processes, jobs)
        run(_towers(place, grid, grid.seeds[:1]), "the first cell's towers")
        run(_tried(place, grid), "learning rates")
        rate = choose(place, grid)
        print(f"Learning rate {rate:g}", flush=True)
        run([_point(place, grid, BASE_POINT)], "the base")
        for start in range(0, len(grid.seeds), jobs):
            seeds = grid.seeds[start : start + jobs]
            run(_towers(place, grid, seeds), f"towers of {seeds}")
            points = [MofPoint(seed, arm, rate) for seed in seeds for arm in grid.arms]
            run([_point(place, grid, point) for point in points], f"arms of {seeds}")
            if len(done := grid.seeds[: start + jobs]) > 1:
                _report(place, replace(grid, seeds=done), rate, report)


def choose(place: MofPlace, grid: MofGrid) -> float:
    """Return the rate with the least held-out loss at the first seed, the mean of the arms."""

    def loss(rate: float) -> float:
        points = [MofPoint(grid.seeds[0], arm, rate) for arm in grid.arms]
        return sum(place.training(point)["held_out"]["loss"] for point in points)

    return min(grid.learning_rates, key=loss)


def make_towers(place: MofPlace, grid: MofGrid, seed: int) -> None:
    """Train a tuning seed's towers, and find what they see, unless it was done."""
    from verbalizer_bench.experiments.miniature.mof.blindness import see_once

    for name in TOWERS:
        train_tower(name, place.tower(seed, name), seed, grid.tower_steps)
    see_once(place.fixed, place.cell(seed), place.seen(seed))


def try_rates(place: MofPlace, grid: MofGrid, arm: str) -> None:
    """Tune an arm at the first seed with every rate, unless it was done."""
    _write_world(place, grid, grid.seeds[0])
    for rate in grid.learning_rates:
        point = MofPoint(grid.seeds[0], arm, rate)
        align(place, point)
        tune(place, point)


def measure(place: MofPlace, grid: MofGrid, point: MofPoint) -> None:
    """Make a point unless it is there, and ask it the pairs and the suite."""
    from verbalizer_bench.experiments.miniature.mof.pairs import ask_pairs_once

    checkpoint = place.checkpoint(point)
    if point.seed is None:
        score_once(checkpoint, "verbalizer-llm", place.fixed, place.run(point, ""), "")
        return
    _write_world(place, grid, point.seed)
    align(place, point)
    tune(place, point)
    ask_pairs_once(checkpoint, place.fixed, place.pairs(point))
    for image in grid.images:
        output = place.run(point, image)
        score_once(checkpoint, "verbalizer-lvlm", place.fixed, output, image)


def _write_world(place: MofPlace, grid: MofGrid, seed: int) -> None:
    write_world(place.world(seed), seed, grid.items, grid.held_out, grid.captions)


def _report(place: MofPlace, grid: MofGrid, rate: float, report: Path) -> None:
    from verbalizer_bench.experiments.miniature.mof.report import write
    from verbalizer_bench.experiments.miniature.mof.tables import gather

    gather(place, grid, rate, report)
    print(f"Wrote {write(report)}: {len(grid.seeds)} cells", flush=True)


def _towers(place: MofPlace, grid: MofGrid, seeds: Sequence[int]) -> list[Work]:
    return [
        Work(
            *("towers", f"seed {seed}, towers", place.cell(seed) / "towers.txt"),
            *(make_towers, (place, grid, seed)),
        )
        for seed in seeds
    ]


def _tried(place: MofPlace, grid: MofGrid) -> list[Work]:
    seed = grid.seeds[0]
    return [
        Work(
            *("rates", f"seed {seed}, {arm}", place.cell(seed) / f"{arm}.txt"),
            *(try_rates, (place, grid, arm)),
        )
        for arm in grid.arms
    ]


def _point(place: MofPlace, grid: MofGrid, point: MofPoint) -> Work:
    name = point.arm if point.seed is None else f"seed {point.seed}, {point.arm}"
    return Work("point", name, place.point(point) / "log.txt", measure, (place, grid, point))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study, and write its report."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.miniature.mof.run")
    parser.add_argument("folder", type=Path, help="where; what is there is kept")
    parser.add_argument("overrides", nargs="*", help="key=value, in place of the grid's")
    parser.add_argument("--grid", default=GRID, type=Path, help="a YAML file of a grid")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="points at a time")
    parser.add_argument("--report", type=Path, required=True, help="where tables and report go")
    args = parser.parse_args(argv)
    place = MofPlace(args.folder)
    try:
        grid = read(MofGrid, args.grid, args.overrides)
        place.keep(grid)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    mixtures(place, grid, args.jobs, args.report)


if __name__ == "__main__":
    main()
