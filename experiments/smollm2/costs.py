"""What the study costs: processor seconds of its parts, measured where some were done.

Before anything is done they are those of SmolLM2 on one core of an AMD EPYC with AVX512; what was
measured in a study's folder replaces them.
"""

from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

from verbalizer_bench.experiments.smollm2.arms import ARMS
from verbalizer_bench.experiments.smollm2.grid import BASE, Grid, Place, Point
from verbalizer_bench.experiments.smollm2.measuring import costs_of
from verbalizer_bench.experiments.smollm2.records import TRAINED, is_kept, is_measured

# Seconds of a response of the suite, of a prompt of IFEval, of a record that is trained on, of a
# pair; and of what is done besides, loading for instance.
RESPONSE, PROMPT, RECORD, PAIR, BESIDES = 0.31, 2.5, 1.6, 4.5, 15.0
TASKS_A_DOCUMENT = 108


def expected(grid: Grid, part: str, model: str = "") -> float:
    """Return the seconds of a part of a point, unless it was measured."""
    if part == "suite":
        return BESIDES + _responses(grid, grid.documents)
    if part == "ifeval":
        return BESIDES + PROMPT * grid.ifeval * grid.ifeval_tokens / 256
    evaluations = -(-grid.steps // grid.curve_steps) if model in grid.curve else 0
    asked = evaluations * _responses(grid, grid.curve_documents)
    if ARMS[model].recipe == "dpo":
        return BESIDES + PAIR * (grid.items // 2 + grid.held_out / 3) + asked
    return BESIDES + RECORD * (grid.items + grid.held_out / 3) + asked


def _responses(grid: Grid, documents: int) -> float:
    """Return the seconds of the suite's responses to some documents of each data set."""
    return RESPONSE * TASKS_A_DOCUMENT * documents * (1 + grid.num_beams) / 2


def left(place: Place, grid: Grid) -> Iterator[tuple[str, str, str]]:
    """Yield what is not there yet: base, part, and where it is a training the model."""
    for base in grid.bases:
        points = [Point(base, None, BASE)]
        for arm in grid.arms:
            if arm in ARMS:
                tried = place.grid.tried(base, arm)
                trainings = [one for one in tried if not is_kept(place, one, TRAINED)]
                seeds = [seed for seed in grid.seeds if seed not in {one.seed for one in tried}]
                untried = [Point(base, seed, arm) for seed in seeds]
                trainings += [one for one in untried if not is_measured(place, one)]
                yield from ((base, "train", arm) for _ in trainings)
            points += [Point(base, s, m) for s in grid.seeds for m in grid.models(arm)]
        for point in points:
            if not is_measured(place, point):
                yield from ((base, part, "") for part in ("suite", "ifeval"))


def measured(place: Place, base: str) -> dict[tuple[str, str], float]:
    """Return the mean seconds of each part of a base's points that are there, as `left` has it."""
    found = defaultdict(list)
    for file in (place.folder / base).rglob("cost.json"):
        model = file.parent.name.partition("-lr-")[0]
        for part, seconds in costs_of(file.parent).items():
            found[part, model if part == "train" else ""].append(seconds)
    return {part: fmean(seconds) for part, seconds in found.items()}


def seconds_left(place: Place, grid: Grid) -> float:
    """Return the processor seconds of what is not there yet."""
    known = {base: measured(place, base) for base in grid.bases}
    return sum(
        known[base].get((part, model)) or expected(grid, part, model)
        for base, part, model in left(place, grid)
    )


def told(place: Place, grid: Grid) -> str:
    """Return how long what is left will take."""
    hours = seconds_left(place, grid) / 3600
    return f"left: about {hours:.1f} hours of one core, {hours / 2:.1f} on two"
