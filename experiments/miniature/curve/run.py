"""When does tuning hurt? Every arm is tuned in several cells, and evaluated while it is.

    python -m verbalizer_bench.experiments.miniature.curve.run miniature_out/curve --report out

A cell is a tuning seed. What is there is kept: interrupted, it goes on. `key=value` replaces a key
of the grid: `seeds=[0,1]` runs, and reports, fewer.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from verbalizer_bench.config import read
from verbalizer_bench.experiments.miniature.arms import ARMS, BASE, prepare_cell, train_arm
from verbalizer_bench.experiments.miniature.curve.grid import GRID, CurveGrid, CurvePlace
from verbalizer_bench.experiments.miniature.curve.report import write
from verbalizer_bench.experiments.miniature.curve.tables import gather
from verbalizer_bench.experiments.miniature.measuring import write_fixed
from verbalizer_bench.experiments.works import Progress, Work, pool


def curves(place: CurvePlace, grid: CurveGrid, jobs: int, report: Path) -> None:
    """Run what is not there yet, cell by cell, and report what there is after each from the second.

    Args:
        place: Where.
        grid: What.
        jobs: How many trainings are run at a time.
        report: Where tables and report go.
    """
    write_fixed(place.fixed, 1, grid.texts)
    with pool(jobs) as processes:
        run = Progress(processes, jobs)
        for number, seed in enumerate(grid.seeds, start=1):
            log = place.cell(seed) / "log.txt"
            run(
                [Work("cell", f"seed {seed}", log, prepare, (place, grid, seed))],
                "world, connector",
            )
            run([_work(place, grid, seed, name) for name in grid.arms], f"arms of seed {seed}")
            if number > 1:
                gather(place, replace(grid, seeds=grid.seeds[:number]), report)
                print(f"Wrote {write(report)}: {number} cells", flush=True)


def prepare(place: CurvePlace, grid: CurveGrid, seed: int) -> None:
    """Write a tuning seed's world, and train its tower and connector."""
    items = {"train": grid.items, "choose": grid.unseen, "test": 1}
    world, tower = place.world(seed), place.cell(seed) / "tower"
    prepare_cell(seed, world, tower, {BASE: place.connector(seed)}, items, grid.captions)


def tune(place: CurvePlace, grid: CurveGrid, seed: int, name: str) -> None:
    """Tune an arm, and evaluate it while it is tuned."""
    world = place.world(seed)
    sees = ARMS[name].adapter == "verbalizer-lvlm"
    shown = [f"evaluation.image={grid.images[0]}"] if sees else []
    train_arm(
        name,
        world,
        BASE,
        place.connector(seed),
        place.arm(seed, name),
        f"seed={seed}",
        f"held_out={world / 'choose' / ARMS[name].data}.json",
        f"evaluation.steps={grid.steps}",
        f"evaluation.limit={grid.limit}",
        f"evaluation.data={place.fixed / 'sets'}",
        *shown,
        "resume=true",
    )


def _work(place: CurvePlace, grid: CurveGrid, seed: int, name: str) -> Work:
    kind = f"arm of {ARMS[name].adapter}"
    log = place.cell(seed) / f"{name}.txt"
    return Work(kind, f"seed {seed}, {name}", log, tune, (place, grid, seed, name))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the arms, and write the report."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.miniature.curve.run")
    parser.add_argument("folder", type=Path, help="where; what is there is kept")
    parser.add_argument("overrides", nargs="*", help="key=value, in place of the grid's")
    parser.add_argument("--grid", default=GRID, type=Path, help="a YAML file of a grid")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time")
    parser.add_argument("--report", type=Path, required=True, help="where tables and report go")
    args = parser.parse_args(argv)
    place = CurvePlace(args.folder)
    try:
        grid = read(CurveGrid, args.grid, args.overrides)
        place.keep(grid)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    curves(place, grid, args.jobs, args.report)


if __name__ == "__main__":
    main()
