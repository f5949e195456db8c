"""The repair study in miniature: every remedy in several cells, and its report.

    python -m verbalizer_bench.experiments.miniature.repair.run miniature_out/repair --report out

A cell is a tuning seed. Learning rates are chosen by the loss on held-out records, or pairs, of a
remedy's own kind, never by the benchmark. What is there is kept: an interrupted study goes on.
`key=value` replaces a key of the grid: `seeds=[0,1,2] images=white` runs, and reports, fewer.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from verbalizer_bench.config import read
from verbalizer_bench.experiments.grids import least_losses
from verbalizer_bench.experiments.miniature.arms import (
    ALIGNED,
    BASE,
    prepare_cell,
    train_arm,
    train_recipe,
)
from verbalizer_bench.experiments.miniature.measuring import ask_once, score_once, write_fixed
from verbalizer_bench.experiments.miniature.repair import preferences
from verbalizer_bench.experiments.miniature.repair.grid import (
    BASE_POINT,
    GRID,
    RemedyPoint,
    RepairGrid,
    RepairPlace,
)
from verbalizer_bench.experiments.miniature.repair.remedies import PLAIN, REMEDIES
from verbalizer_bench.experiments.works import Progress, Work, pool


def repair(place: RepairPlace, grid: RepairGrid, jobs: int, report: Path) -> None:
    """Run what is not there yet of the grid, and report it.

    As many cells as jobs are whole before the next, and reported where there are two or more: what
    is stopped has a report of what it has.

    Args:
        place: Where.
        grid: What.
        jobs: How many points are run at a time.
        report: Where tables and report go.
    """
    write_fixed(place.fixed, grid.unseen, grid.texts)
    with pool(jobs) as processes:
        run = Progress(processes, jobs)
        first, images = grid.seeds[0], grid.images[:1]
        run([_cell_work(place, grid, first)], "the first cell's models and preference data")
        tried = [*grid.tried(), *grid.tuned()]
        run([_work("rate", place, grid, p, images, False) for p in tried], "learning rates")
        rates = choose(place, grid)
        for name, rate in rates.items():
            print(f"{name}: learning rate {rate:g}", flush=True)
        for start in range(0, len(grid.seeds), jobs):
            seeds = grid.seeds[start : start + jobs]
            run([_cell_work(place, grid, seed) for seed in seeds], f"cells {seeds}")
            run(_scored(place, grid, seeds, rates, images), f"remedies of {seeds}")
            if len(done := grid.seeds[: start + jobs]) > 1:
                _report(place, replace(grid, seeds=done, images=images), rates, report)
        # Further images last, so that all cells can be reported with the first one before.
        if grid.images[1:]:
            run(_scored(place, grid, grid.seeds, rates, grid.images), "further images")
            _report(place, grid, rates, report)


def _report(place: RepairPlace, grid: RepairGrid, rates: dict[str, float], report: Path) -> None:
    from verbalizer_bench.experiments.miniature.repair.report import write
    from verbalizer_bench.experiments.miniature.repair.tables import gather

    gather(place, grid, rates, report)
    shown = ", ".join(grid.images)
    print(f"Wrote {write(report)}: {len(grid.seeds)} cells, images: {shown}", flush=True)


def _scored(
    place: RepairPlace,
    grid: RepairGrid,
    seeds: Sequence[int],
    rates: dict[str, float],
    images: Sequence[str],
) -> list[Work]:
    points = [BASE_POINT, *(one for seed in seeds for one in grid.of_cell(seed, rates))]
    return [_work("point", place, grid, point, images) for point in points]


def prepare(place: RepairPlace, grid: RepairGrid, seed: int) -> None:
    """Write a tuning seed's world, train its tower, connector and tuned model, and ask the latter.

    Its preference data are made of what it answers.
    """
    world, items = place.world(seed), {"train": grid.items, "choose": grid.unseen, "test": 1}
    aligned = {BASE: place.checkpoint(RemedyPoint(seed, ALIGNED))}
    prepare_cell(seed, world, place.cell(seed) / "tower", aligned, items, grid.captions)
    plain = tune(place, RemedyPoint(seed, PLAIN))
    preferences.write_replay(world, seed, grid.items)
    for split, number in (("train", grid.prompts), ("choose", grid.unseen)):
        preferences.write_prompts(world, split, seed, number)
        preferences.write_format_items(world, split, seed, number)
        gaps = [f"pairs.{name}.minimum_gap={grid.minimum_gap}" for name in preferences.PAIRS]
        preferences.build(world, split, plain, place.fixed / "sets", *gaps)


def measure(
    place: RepairPlace,
    grid: RepairGrid,
    point: RemedyPoint,
    images: Sequence[str],
    of_scenes: bool = True,
) -> None:
    """Make a point unless it is there, run the suite on it with each image, and ask of scenes.

    Args:
        place: Where.
        grid: What.
        point: The point.
        images: What it is shown with the suite's prompts.
        of_scenes: Whether it is asked about unseen scenes too.
    """
    from verbalizer_bench.experiments.miniature.repair.scene_answers import ask_scenes_once

    if point.model == PLAIN:
        tune(place, point)
    elif point.model in REMEDIES:
        train_remedy(place, grid, point)
    elif point.model not in ("base", ALIGNED):
        merge(place, point)
    asked = place.checkpoint(point), point.adapter, place.fixed
    for image in point.images(images):
        score_once(*asked, place.run(point, image), image)
    if not of_scenes:
        return
    ask_once(*asked, place.point(point) / "formats.json")
    if point.adapter == "verbalizer-lvlm":
        ask_scenes_once(*asked, place.point(point) / "scenes.json")


def tune(place: RepairPlace, point: RemedyPoint) -> Path:
    """Train a cell's tuned model, with its recipe's rate or another; return its checkpoint."""
    assert point.seed is not None
    world, words = place.world(point.seed), [f"seed={point.seed}", "resume=true"]
    words.append(f"held_out={world / 'choose' / 'llava.json'}")
    if point.rate is not None:
        words.append(f"learning_rate={point.rate}")
    aligned = place.checkpoint(RemedyPoint(point.seed, ALIGNED))
    return train_arm(PLAIN, world, BASE, aligned, place.checkpoint(point), *words)


def train_remedy(place: RepairPlace, grid: RepairGrid, point: RemedyPoint) -> None:
    """Train a remedy, in as many steps as the tuning had."""
    assert point.seed is not None
    remedy, world = REMEDIES[point.model], place.world(point.seed)
    start = place.checkpoint(RemedyPoint(point.seed, remedy.start))
    words = [f"model.path={start}", f"learning_rate={point.rate}"]
    words += [f"seed={point.seed}", "resume=true"]
    if remedy.data:
        words.append(f"data={preferences.folder_of(world, 'train') / remedy.data}")
        held_out = preferences.folder_of(world, "choose") / remedy.data
        words.append(f"data_records={grid.items}")
    else:
        held_out = world / "choose" / "llava.json"
    if point.model == "Replay":
        text = round(grid.items * grid.replay)
        words.append(f"data_records=[{grid.items - text},{text}]")
    words.append(f"held_out={held_out}")
    train_recipe(remedy.recipe, world, place.checkpoint(point), *words)


def merge(place: RepairPlace, point: RemedyPoint) -> None:
    """Merge the language models of the base and a cell's tuned model, unless it was done."""
    from verbalizer_bench.models.checkpoints.merge_weights import merge_weights

    output = place.checkpoint(point)
    if not (output / "merge.json").exists():
        shutil.rmtree(output, ignore_errors=True)
        tuned = place.checkpoint(RemedyPoint(point.seed, PLAIN))
        coefficient = float(point.model.removeprefix("Merge-"))
        merge_weights(str(BASE), [str(tuned)], [(coefficient,)], output)


def choose(place: RepairPlace, grid: RepairGrid) -> dict[str, float]:
    """Return each remedy's learning rate: that of the least held-out loss at the first seed."""
    return least_losses(
        (point.model, point.rate or 0.0, place.training(point)["held_out"]["loss"])
        for point in grid.tried()
    )


def _cell_work(place: RepairPlace, grid: RepairGrid, seed: int) -> Work:
    log = place.cell(seed) / "log.txt"
    return Work("cell", f"seed {seed}", log, prepare, (place, grid, seed))


def _work(
    kind: str,
    place: RepairPlace,
    grid: RepairGrid,
    point: RemedyPoint,
    images: Sequence[str],
    of_scenes: bool = True,
) -> Work:
    rate = "" if point.rate is None else f", learning rate {point.rate:g}"
    name = f"seed {point.seed}, {point.model}{rate}" if point.seed is not None else point.model
    log = place.point(point) / "log.txt"
    return Work(kind, name, log, measure, (place, grid, point, images, of_scenes))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study, and write its report."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.miniature.repair.run")
    parser.add_argument("folder", type=Path, help="where; what is there is kept")
    parser.add_argument("overrides", nargs="*", help="key=value, in place of the grid's")
    parser.add_argument("--grid", default=GRID, type=Path, help="a YAML file of a grid")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="points at a time")
    parser.add_argument("--report", type=Path, required=True, help="where tables and report go")
    args = parser.parse_args(argv)
    place = RepairPlace(args.folder)
    try:
        grid = read(RepairGrid, args.grid, args.overrides)
        place.keep(grid)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    repair(place, grid, args.jobs, args.report)


if __name__ == "__main__":
    main()
