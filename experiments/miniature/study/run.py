"""The experiment in miniature: every arm on every base with several seeds, and its report.

    python -m verbalizer_bench.experiments.miniature.study.run miniature_out --report out

Learning rates are chosen by the loss on held-out records of an arm's own kind, never by the
benchmark. What is there is kept: an interrupted study goes on. Every point takes one thread, so
that its numbers do not depend on how many are run at a time.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from verbalizer_bench.experiments.grids import least_losses
from verbalizer_bench.experiments.miniature.arms import (
    ALIGNED,
    ARMS,
    prepare_cell,
    train_arm,
)
from verbalizer_bench.experiments.miniature.measuring import ask_once, score_once, write_fixed
from verbalizer_bench.experiments.miniature.study.grid import (
    GRID,
    Grid,
    Place,
    Point,
    read_grid,
)
from verbalizer_bench.experiments.miniature.study.report import write
from verbalizer_bench.experiments.miniature.study.tables import gather
from verbalizer_bench.experiments.works import Progress, Work, pool
from verbalizer_bench.io.json_reading import read_record


def study(place: Place, grid: Grid, jobs: int) -> dict[str, float]:
    """Run what is not there yet of the grid.

    Args:
        place: Where.
        grid: What.
        jobs: How many points are run at a time.

    Returns:
        Each arm's chosen learning rate.

    Raises:
        ValueError: The folder holds a study from other bases.
    """
    _make_bases(place, grid)
    write_fixed(place.fixed, grid.unseen, grid.texts)
    with pool(jobs) as processes:
        run = Progress(processes, jobs)
        seeds = [_seed_work(place, grid, seed) for seed in grid.seeds]
        run(seeds, "worlds, towers and connectors")
        first = grid.images[:1]
        tried = grid.tried()
        one = [p for p in tried if (p.base, p.rate) == (tried[0].base, tried[0].rate)]
        run([_work("rate", place, p, first) for p in one], "one cell, to measure it")
        print(_total(place, grid, one, jobs), flush=True)
        rest = [p for p in tried if p not in one]
        run([_work("rate", place, p, first) for p in rest], "learning rates")
        rates = choose(place, grid)
        for name, rate in rates.items():
            print(f"{name}: learning rate {rate:g}", flush=True)
        points = [*grid.untuned(), *grid.chosen(rates)]
        run([_work("cell", place, p, grid.images) for p in points], "cells")
    return rates


def prepare(place: Place, grid: Grid, seed: int) -> None:
    """Write a tuning seed's world, and train its tower and, for each base, its connector."""
    items = {"train": grid.items, "choose": grid.unseen, "test": 1}
    connectors = {place.base(base): place.connector(base, seed) for base in grid.bases}
    prepare_cell(seed, place.world(seed), place.tower(seed), connectors, items, grid.captions)


def measure(place: Place, point: Point, images: Sequence[str]) -> None:
    """Train a point unless it is there, run the suite on it with each image, ask for formats."""
    if point.rate is not None:
        assert point.seed is not None
        world = place.world(point.seed)
        train_arm(
            point.model,
            world,
            place.base(point.base),
            place.connector(point.base, point.seed),
            place.checkpoint(point),
            f"learning_rate={point.rate}",
            f"held_out={world / 'choose' / ARMS[point.model].data}.json",
            f"seed={point.seed}",
            "resume=true",
        )
    asked = place.checkpoint(point), point.adapter, place.fixed
    for image in point.images(images):
        score_once(*asked, place.run(point, image), image)
    ask_once(*asked, place.answers(point))


def choose(place: Place, grid: Grid) -> dict[str, float]:
    """Return each arm's learning rate: that of the least held-out loss, the mean over bases."""
    return least_losses(
        (point.model, point.rate or 0.0, place.training(point)["held_out"]["loss"])
        for point in grid.tried()
    )


def _seed_work(place: Place, grid: Grid, seed: int) -> Work:
    log = place.tower(seed).with_name("log.txt")
    return Work("seed", f"seed {seed}", log, prepare, (place, grid, seed))


def _work(kind: str, place: Place, point: Point, images: Sequence[str]) -> Work:
    rate = "" if point.rate is None else f", learning rate {point.rate:g}"
    seed = "" if point.seed is None else f", seed {point.seed}"
    sees = "with images" if point.shows_images else "text"
    name = f"base {point.base}{seed}, {point.model}{rate}"
    log = place.point(point) / "log.txt"
    return Work(f"{kind} {sees}", name, log, measure, (place, point, images))


def _total(place: Place, grid: Grid, cell: Sequence[Point], jobs: int) -> str:
    """Return how long the whole study takes, by a cell that was measured."""
    points, shown = 0.0, []
    for point in cell:
        (image,) = point.images(grid.images[:1])
        (file,) = place.run(point, image).rglob("run.json")
        run = read_record(file)["wall_seconds"]
        points += place.training(point)["seconds"] + run
        shown += [run] if image else []
    cells = len(grid.bases) * (len(grid.learning_rates) + len(grid.seeds) - 1)
    aligned = Point(grid.bases[0], grid.seeds[0], ALIGNED, None).images(grid.images)
    more = len(shown) * (len(grid.images) - 1) + len(aligned)
    runs = len(grid.cells) * more * sum(shown) / len(shown)
    minutes = (cells * points + runs) / 60
    return (
        f"One cell's five arms: {points / 60:.1f} min, of which a run with images takes "
        f"{sum(shown) / len(shown):.0f} s. {cells} cells, {len(grid.cells) * more} more runs with "
        f"images: {minutes:.0f} min, about {minutes / jobs:.0f} at {jobs} at a time"
    )


def _make_bases(place: Place, grid: Grid) -> None:
    """Make the bases; one that misses its gate is said, and used: a study replaces no seed."""
    from verbalizer_bench.experiments.miniature.base import check_gate, make_base

    for seed in grid.bases:
        if not (place.base(seed) / "base.json").exists():
            make_base(place.folder / f"base-{seed}", seed)
        place.keep_base(seed)
        try:
            check_gate(place.base(seed))
        except ValueError as error:
            print(f"It goes on with this base all the same: {error}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study, and write its report."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.miniature.study.run")
    parser.add_argument("folder", type=Path, help="where; what is there is kept")
    parser.add_argument("--grid", default=GRID, type=Path, help="a YAML file of a grid")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="points at a time")
    parser.add_argument("--report", type=Path, required=True, help="where tables and report go")
    args = parser.parse_args(argv)
    place = Place(args.folder)
    try:
        grid = read_grid(args.grid)
        place.keep(grid)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    rates = study(place, grid, args.jobs)
    gather(place, grid, rates, args.report)
    print(f"Wrote {write(args.report)}")


if __name__ == "__main__":
    main()
