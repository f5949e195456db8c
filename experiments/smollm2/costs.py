"""What the study costs: processor seconds of its parts, measured where some were done.

Before anything is done they are those of SmolLM2 on one core of an AMD EPYC with AVX512; what was
measured in a study's folder replaces them.
"""

from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

from verbalizer_bench.experiments.smollm2.arms import ARMS
from verbalizer_bench.experiments.smollm2.grid import BASE, Grid, Place, Point
from verbalizer_bench.experiments.smollm2.measuring import costs_of, is_measured, is_trained

# Seconds of a response of the suite, of a prompt of IFEval, of a record that is trained on, of a
# pair; and of what is done besides, loading for instance.
RESPONSE, PROMPT, RECORD, PAIR, BESIDES = 0.31, 2.5, 1.6, 4.5, 15.0
TASKS_A_DOCUMENT = 108


def expected(grid: Grid, part: str, recipe: str = "lora") -> float:
    """Return the seconds of a part of a point, unless it was measured."""
    if part == "suite":
        return BESIDES + RESPONSE * TASKS_A_DOCUMENT * grid.documents * (1 + grid.num_beams) / 2
    if part == "ifeval":
        return BESIDES + PROMPT * grid.ifeval * grid.ifeval_tokens / 256
    if recipe == "dpo":
        return BESIDES + PAIR * (grid.items // 2 + grid.held_out / 3)
    return BESIDES + RECORD * (grid.items + grid.held_out / 3)


def left(place: Place, grid: Grid) -> Iterator[tuple[str, str, str, float]]:
    """Yield what is not there yet: base, part, recipe, and a factor for how much of it."""
    for base in grid.bases:
        points = [Point(base, None, BASE)]
        for arm in grid.arms:
            recipe = ARMS[arm].recipe if arm in ARMS else ""
            tried = [one for one in grid.tried(base, arm) if not _trained(place, one)]
            yield from ((base, "train", recipe, 1.0) for _ in tried)
            if recipe:
                untried = grid.seeds[1:] if grid.tried(base, arm) else grid.seeds
                others = [Point(base, seed, arm) for seed in untried]
                untrained = [one for one in others if not _measured(place, one)]
                yield from ((base, "train", recipe, 1.0) for _ in untrained)
            points += [Point(base, s, m) for s in grid.seeds for m in grid.models(arm)]
        for point in points:
            if not _measured(place, point):
                yield from ((base, part, "", 1.0) for part in ("suite", "ifeval"))
        for arm in grid.curve:
            share = grid.curve_documents / grid.documents
            evaluations = 1 + -(-grid.steps // grid.curve_steps)
            for seed in grid.seeds:
                if not any((place.folder / base / f"seed-{seed}").glob(f"{arm}-lr-*-curve")):
                    yield base, "train", ARMS[arm].recipe, 1.0
                    yield base, "suite", "", share * evaluations


def _trained(place: Place, point: Point) -> bool:
    return is_trained(place.point(point) / "checkpoint")


def _measured(place: Place, point: Point) -> bool:
    if point.model not in ARMS:
        return is_measured(place, point)
    folder = place.point(point).parent
    return any(folder.glob(f"{point.model}-lr-*/ifeval.json"))


def measured(place: Place, base: str) -> dict[str, float]:
    """Return the mean seconds of each part of a base's points that are there, by part."""
    found = defaultdict(list)
    for file in (place.folder / base).rglob("cost.json"):
        if not file.parent.name.endswith("-curve"):
            recipe = _recipe(file.parent.name)
            for part, seconds in costs_of(file.parent).items():
                found[f"{part} {recipe}" if part == "train" else part].append(seconds)
    return {part: fmean(seconds) for part, seconds in found.items()}


def _recipe(folder: str) -> str:
    model = folder.partition("-lr-")[0]
    return ARMS[model].recipe if model in ARMS else ""


def seconds_left(place: Place, grid: Grid) -> float:
    """Return the processor seconds of what is not there yet."""
    known = {base: measured(place, base) for base in grid.bases}
    return sum(
        share
        * known[base].get(
            f"{part} {recipe}" if part == "train" else part, expected(grid, part, recipe)
        )
        for base, part, recipe, share in left(place, grid)
    )


def told(place: Place, grid: Grid) -> str:
    """Return how long what is left will take."""
    hours = seconds_left(place, grid) / 3600
    return f"left: about {hours:.1f} hours of one core, {hours / 2:.1f} on two"
