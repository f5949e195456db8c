"""The experiment in miniature: every arm on every base with several seeds, and its report.

    python -m verbalizer_bench.experiments.miniature.study.run miniature_out --report out

Learning rates are chosen by the loss on held-out records of an arm's own kind, never by the
benchmark. What is there is kept: an interrupted study goes on. Every point takes one thread, so
that its numbers do not depend on how many are run at a time.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.experiments.miniature.arms import (
    ARMS,
    score,
    train_arm,
    train_connector,
    train_recipe,
)
from verbalizer_bench.experiments.miniature.study.grid import (
    ALIGNED,
    GRID,
    Grid,
    Place,
    Point,
    read_grid,
)
from verbalizer_bench.experiments.miniature.study.report import write
from verbalizer_bench.experiments.miniature.study.tables import gather
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_record


class Work(NamedTuple):
    """Something to do, by a function in a process of its own.

    Attributes:
        kind: Works of a kind take about as long as each other.
        name: For the line that says that it is done.
        log: The file that what it prints goes to.
        function: What does it.
        arguments: Its arguments.
    """

    kind: str
    name: str
    log: Path
    function: Callable[..., None]
    arguments: tuple[Any, ...]


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
    write_fixed(place, grid)
    with _pool(jobs) as pool:
        run = _Progress(pool, jobs)
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


def write_fixed(place: Place, grid: Grid) -> None:
    """Write the texts and unseen scenes that every point is asked, unless they are there."""
    from verbalizer_bench.experiments.miniature.world.build import write_world

    # The last file that a world consists of.
    if not (place.fixed / "test" / "llava.json").exists():
        items = {"train": 1, "choose": 1, "test": grid.unseen}
        write_world(place.fixed, 0, items=items, stages=(), texts=grid.texts)


def prepare(place: Place, grid: Grid, seed: int) -> None:
    """Write a tuning seed's world, and train its tower and, for each base, its connector."""
    from verbalizer_bench.experiments.miniature.world.build import write_world

    if not place.tower(seed).exists():
        items = {"train": grid.items, "choose": grid.unseen, "test": 1}
        write_world(
            place.world(seed), seed, items=items, stages=(), texts=2, captions=grid.captions
        )
    overrides = (f"seed={seed}", "resume=true")
    tower = train_recipe("tower", place.world(seed), place.tower(seed), *overrides)
    for base in grid.bases:
        output = place.connector(base, seed)
        train_connector(place.world(seed), place.base(base), tower, output, *overrides)


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
    for image in point.images(images):
        _score(place, point, image)
    if not place.answers(point).exists():
        _ask(place, point)


def _score(place: Place, point: Point, image: str) -> None:
    output = place.run(point, image)
    if not any(output.rglob("run.json")):
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        data, log = place.fixed / "sets", output / "lm-eval.log"
        score(place.checkpoint(point), point.adapter, data, output, log, image or None)


def _ask(place: Place, point: Point) -> None:
    from verbalizer_bench.experiments.miniature.study.unseen import ask

    kind = "fovit" if point.shows_images else "foit"
    records = place.fixed / "test" / f"{kind}.json"
    answers = ask(place.checkpoint(point), point.adapter, records, place.fixed / "images")
    text = json.dumps([answer._asdict() for answer in answers], indent=1)
    write_whole(place.answers(point), text + "\n")


def choose(place: Place, grid: Grid) -> dict[str, float]:
    """Return each arm's learning rate: that of the least held-out loss, the mean over bases."""
    losses: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for point in grid.tried():
        assert point.rate is not None
        loss = place.training(point)["held_out"]["loss"]
        losses[point.model][point.rate].append(loss)
    return {
        name: min(by_rate, key=lambda rate: sum(by_rate[rate])) for name, by_rate in losses.items()
    }


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


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    os.environ["OMP_NUM_THREADS"] = "1"
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=fresh) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Progress:
    """Runs works in a pool; says after each how long the rest of them will take."""

    def __init__(self, pool: ProcessPoolExecutor, jobs: int) -> None:
        self._pool, self._jobs = pool, jobs

    def __call__(self, works: Sequence[Work], title: str) -> None:
        """Run works, and raise what the first that fails raises."""
        print(f"{title}: {len(works)}", flush=True)
        futures = {self._pool.submit(_timed, work): work for work in works}
        waiting = [work.kind for work in works]
        taken: dict[str, list[float]] = defaultdict(list)
        for future in as_completed(futures):
            work = futures[future]
            try:
                seconds = future.result()
            except Exception as error:
                error.add_note(f"{work.name}; what it printed is in {work.log}")
                raise
            taken[work.kind].append(seconds)
            waiting.remove(work.kind)
            print(f"  {work.name}: {seconds:.0f} s; {self._left(waiting, taken)}", flush=True)

    def _left(self, waiting: Sequence[str], taken: dict[str, list[float]]) -> str:
        every = [seconds for durations in taken.values() for seconds in durations]
        mean = {kind: sum(durations) / len(durations) for kind, durations in taken.items()}
        rest = sum(mean.get(kind, sum(every) / len(every)) for kind in waiting) / self._jobs
        return f"{len(waiting)} left, about {rest / 60:.0f} min"


def _timed(work: Work) -> float:
    import torch

    torch.set_num_threads(1)
    started = time.perf_counter()
    work.log.parent.mkdir(parents=True, exist_ok=True)
    with (
        work.log.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        work.function(*work.arguments)
    return time.perf_counter() - started


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
