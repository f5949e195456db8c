"""Does tuning without formats hurt a real instruct model, and what brings back most?

    make smollm-study
    python -m verbalizer_bench.experiments.smollm2.run smollm2_out --gsm8k DIR --ifeval FILE \
        --replay FILE --report out arms=[FOIT,NoFOIT] seeds=[0]

Seed by seed, every arm; reported after each. What is there is kept: interrupted, it goes on.
`key=value` replaces a key of the grid, so that a part is run and reported.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from verbalizer_bench.experiments.grids import least_losses
from verbalizer_bench.experiments.smollm2 import costs
from verbalizer_bench.experiments.smollm2.arms import ARMS, MERGE, PLAIN, recipe_file
from verbalizer_bench.experiments.smollm2.grid import (
    BASE,
    GRID,
    PACKAGED,
    Grid,
    Place,
    Point,
    read_grid,
)
from verbalizer_bench.experiments.smollm2.measuring import (
    held_out_loss,
    measure,
    remove_weights,
    train,
    try_rate,
)
from verbalizer_bench.experiments.smollm2.records import is_measured, keep_texts, restore
from verbalizer_bench.experiments.smollm2.sources import Sources, write_all
from verbalizer_bench.experiments.works import Progress, Work, pool
from verbalizer_bench.io.files import try_lock
from verbalizer_bench.models.checkpoints import smollm2

Rates = dict[str, float]


class Study:
    """The works of a study, in the order in which they are done."""

    def __init__(self, place: Place, grid: Grid, run: Progress, report: Path) -> None:
        """Take what is run, what runs it, and where tables and report go."""
        self.place, self.grid, self.report = place, grid, report
        self._run = run

    def run(self) -> None:
        """Run what is not there yet, seed by seed, and report whenever a few models are done.

        What starts from NoFOIT comes after it.
        """
        after = [arm for arm in self.grid.arms if starts_from_plain(arm)]
        first = [arm for arm in self.grid.arms if arm not in after]
        for base in self.grid.bases:
            self.place.keep_base(self.grid, base)
            rates: Rates = {}
            self._choose(base, with_own_rate(first, after), rates, [Point(base, None, BASE)])
            for seed in self.grid.seeds:
                weights = self._weights(base, seed, first, after, rates)
                self._measure(base, seed, first, rates, weights)
                self._choose(base, after, rates)
                self._measure(base, seed, after, rates)

    def _choose(
        self, base: str, arms: Sequence[str], rates: Rates, beside: Sequence[Point] = ()
    ) -> None:
        """Choose the learning rates of arms, and keep those weights; measure points beside it."""
        points = [
            one for arm in arms if arm not in rates for one in self.place.grid.tried(base, arm)
        ]
        works = [self._point(one, rates) for one in beside]
        works += [self._training(one, rates) for one in points]
        if not works:
            return
        self._run(works, f"{base}, learning rates")
        rates |= chosen(self.place, points)
        for point in points:
            if point.rate != rates[point.model]:
                remove_weights(self.place.point(point) / "checkpoint")

    def _measure(
        self, base: str, seed: int, arms: Sequence[str], rates: Rates, works: Sequence[Work] = ()
    ) -> None:
        """Measure arms with a seed, beside other works, and report."""
        points = [
            Point(base, seed, model, rate_of(arm, rates))
            for arm in arms
            for model in self.grid.models(arm)
        ]
        works = [*works, *(self._point(one, rates) for one in points)]
        if works:
            self._run(works, f"{base}, seed {seed}")
            self._report()

    def _weights(
        self, base: str, seed: int, first: Sequence[str], after: Sequence[str], rates: Rates
    ) -> list[Work]:
        """Return NoFOIT's training, where others wait for it and no point of its own trains it."""
        models = [model for arm in after for model in self.grid.models(arm)]
        waiting = not all(is_measured(self.place, Point(base, seed, one)) for one in models)
        plain = Point(base, seed, PLAIN, rates.get(PLAIN))
        beside = PLAIN in first and not is_measured(self.place, plain)
        return [self._training(plain, rates, train)] if waiting and not beside else []

    def _point(self, point: Point, rates: Rates) -> Work:
        arguments = (self.place, self.grid, point, dict(rates))
        kind = "merge" if point.model.startswith(MERGE) else point.model
        return Work(kind, str(point), self.place.point(point) / "log.txt", measure, arguments)

    def _training(
        self, point: Point, rates: Rates, function: Callable[..., object] = try_rate
    ) -> Work:
        arguments = (self.place, self.grid, point, dict(rates))
        log = self.place.point(point) / "log.txt"
        return Work("training", str(point), log, function, arguments)

    def _report(self) -> None:
        report_found(self.place, self.grid, self.report)


def starts_from_plain(arm: str) -> bool:
    """Return whether an arm is made of what NoFOIT's tuning yields."""
    return arm == MERGE or ARMS[arm].start == PLAIN


def rate_of(arm: str, rates: Rates) -> float | None:
    """Return an arm's learning rate; None of merging, which trains nothing."""
    return rates[ARMS[arm].rate_of or arm] if arm in ARMS else None


def with_own_rate(first: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return the arms whose rates must be known at first: some, and those that others need."""
    needed = [ARMS[arm].rate_of or arm for arm in first] + [PLAIN] * bool(after)
    return list(dict.fromkeys(needed))


def report_found(place: Place, grid: Grid, folder: Path) -> None:
    """Write tables and page of what there is, and print what is left."""
    from verbalizer_bench.experiments.smollm2.report import write
    from verbalizer_bench.experiments.smollm2.tables import gather

    gather(place, folder)
    print(f"Wrote {write(folder)}; {costs.told(place, grid)}", flush=True)


def chosen(place: Place, points: Sequence[Point]) -> Rates:
    """Return the learning rate of the least held-out loss."""
    return least_losses((one.model, one.rate or 0.0, held_out_loss(place, one)) for one in points)


def check_bases(grid: Grid) -> None:
    """Raise ValueError for a base that is neither a folder nor at hand from the hub."""
    from verbalizer_bench.trainers.prerequisites import missing_checkpoints
    from verbalizer_bench.trainers.recipe import read_recipe

    for name in grid.bases:
        if (path := grid.paths[name]) != PACKAGED:
            recipe = read_recipe(recipe_file("lora"), [f"model.path={path}"])
            for line in missing_checkpoints(recipe).values():
                raise ValueError(f"paths.{name}: {line.removeprefix('model.')}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study, and write its report."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.smollm2.run")
    parser.add_argument("folder", type=Path, help="where; what is there is kept")
    parser.add_argument("overrides", nargs="*", help="key=value, in place of the grid's")
    parser.add_argument("--grid", default=GRID, type=Path, help="a YAML file of a grid")
    parser.add_argument("--data", default=os.environ.get("VERBALIZER_BENCH_DATA", "hub"))
    parser.add_argument("--gsm8k", type=Path, required=True, help="folder of GSM8K's JSON lines")
    parser.add_argument("--ifeval", type=Path, required=True, help="IFEval's input_data.jsonl")
    parser.add_argument("--replay", type=Path, help="instruction, input, output; for Replay")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="points at a time")
    parser.add_argument("--report", type=Path, required=True, help="where tables and report go")
    only = "of what is there, while it is run elsewhere say; nothing is run"
    parser.add_argument("--only-report", action="store_true", help=only)
    args = parser.parse_args(argv)
    try:
        grid, place = read_grid(args.grid, args.overrides), Place(args.folder)
        if "Replay" in grid.arms and args.replay is None:
            raise ValueError("arms: Replay needs --replay FILE; give it, or leave the arm out")
        check_bases(grid)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    # A report is written beside a study that runs.
    lock = nullcontext(True) if args.only_report else try_lock(place.folder / "running")
    with lock as alone:
        if not alone:
            raise SystemExit(f"{place.folder}: another study runs in it; wait, or give another")
        _run(args, grid, place)


def _run(args: argparse.Namespace, grid: Grid, place: Place) -> None:
    try:
        if there := restore(place, args.report):
            print(f"{args.report} has {there} models more than {place.folder}; they are kept")
        place.keep(grid)
        if any(grid.paths[name] == PACKAGED for name in grid.bases):
            smollm2.make(smollm2.smollm_folder())
        write_all(place, grid, Sources(args.data, args.gsm8k, args.ifeval, args.replay))
        keep_texts(place)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    if args.only_report:
        try:
            return report_found(place, grid, args.report)
        except FileNotFoundError as error:
            raise SystemExit(str(error)) from error
    print(costs.told(place, grid), flush=True)
    with pool(args.jobs) as processes:
        Study(place, grid, Progress(processes, args.jobs), args.report).run()


if __name__ == "__main__":
    main()
