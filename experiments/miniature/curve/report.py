"""The report of the curves: Markdown and a figure, made of their tables alone.

python -m verbalizer_bench.experiments.miniature.curve.report experiments/miniature/results/curve
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from verbalizer_bench.experiments.contrast import SeedContrast, contrast, told_interval
from verbalizer_bench.experiments.miniature.curve.figures import draw_curves
from verbalizer_bench.experiments.miniature.curve.grid import read_grid
from verbalizer_bench.experiments.miniature.curve.tables import CurveTables, read_tables
from verbalizer_bench.experiments.page import write_from_tables, write_page
from verbalizer_bench.results.tables import markdown_table
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.trainers.curve.points import F1, HELD_OUT

GROUPS = (*LABEL_TYPES, "All")
_PART = """**A part of the grid**: [grid.yaml](../../curve/grid.yaml) has more arms, seeds or
points, which were not run for this page; [grid.yaml](grid.yaml) beside it has those that were.
`make miniature-curve` runs all of it."""


class Course(NamedTuple):
    """How F1 of a label type goes while an arm is tuned.

    Attributes:
        start: Before the first step.
        change: From there to the last step, with its interval.
        from_step: The first evaluated step whose change has an interval on one side of 0; None
            where none has.
        direction: Which side that is, 1 or -1.
        half: The first evaluated step at which half of the last change or more is there, in the
            mean of the seeds; None where the last change's interval holds 0.
        lowest: The lowest mean, and its step.
    """

    start: float
    change: SeedContrast
    from_step: int | None
    direction: int
    half: int | None
    lowest: tuple[float, int]


def course(tables: CurveTables, name: str, group: str) -> Course:
    """Return how F1 of a label type, or All, goes while an arm is tuned."""
    f1 = tables.f1[name, group]
    changes = [
        contrast((f1[:, place] - f1[:, 0])[None], tables.datasets)
        for place in range(1, len(tables.steps))
    ]
    moved = next((place for place, one in enumerate(changes) if one.direction), None)
    last = changes[-1]
    half = None
    if last.direction:
        reached = (place for place, one in enumerate(changes) if one.mean / last.mean >= 0.5)
        half = tables.steps[1 + next(reached)]
    means = f1.mean(axis=(0, 2))
    lowest = int(means.argmin())
    return Course(
        float(means[0]),
        last,
        None if moved is None else tables.steps[1 + moved],
        0 if moved is None else changes[moved].direction,
        half,
        (float(means[lowest]), tables.steps[lowest]),
    )


def write(folder: Path) -> Path:
    """Write `README.md` and the figure beside the tables of a folder."""
    tables = read_tables(folder)
    draw_curves(tables, folder / "curves.png")
    return write_page(folder, [_head(tables), _courses(tables), _losses(tables), _files()])


def _head(tables: CurveTables) -> str:
    grid = tables.grid
    documents = len(tables.datasets)
    part = "" if grid == read_grid() else f"\n\n{_PART}"
    return f"""# When does tuning hurt? In miniature

Written by
`python -m verbalizer_bench.experiments.miniature.curve.report experiments/miniature/results/curve`
from the tables beside it, which `make miniature-curve` makes. These are toys of half a million
weights in a made world of coloured shapes ([the experiment](../../README.md), [the
study](../README.md) whose arms these are). **Nothing here is evidence about real checkpoints**: it
shows what `evaluation:` of a recipe finds.{part}

Each arm is tuned by its recipe, {grid.items:,} records in {tables.steps[-1]} steps, on base 0
(sha256 `{tables.about["base"][:12]}`) with the tuning seeds {", ".join(map(str, grid.seeds))},
which draw items, their order, tower and connector. Every {grid.steps} steps it is asked
{documents * 12:,} prompts ({documents} documents x 12 verbalizers, 10 beams, 15 tokens; LVLMs with
the {grid.images[0]} image), the same each time. Step 0 is the base, of an LVLM the base behind a
tower and a connector. Machine: {tables.about["machine"]}, one thread a training.

![F1 by label type and held-out loss over the steps](curves.png)"""


def _courses(tables: CurveTables) -> str:
    rows = []
    for name in tables.grid.arms:
        for group in GROUPS:
            found = course(tables, name, group)
            lowest, step = found.lowest
            way = {-1: "falls", 1: "rises", 0: "-"}[found.direction]
            rows.append(
                [
                    name,
                    group,
                    f"{100 * found.start:.1f}",
                    told_interval(found.change),
                    way,
                    "-" if found.from_step is None else str(found.from_step),
                    "-" if found.half is None else str(found.half),
                    f"{100 * lowest:.1f} at {step}",
                ]
            )
    header = ["Arm", "Label type", "F1 at step 0", "Change to the last", "First", "By step"]
    return f"""## Which label type moves when?

{markdown_table([*header, "Half of it by", "Lowest"], rows)}

Changes are in points of F1 against step 0, with 95 % intervals over tuning seeds and documents (t,
two crossed random effects). *By step*: the first evaluation whose interval is on one side of 0, and
*First* says which; *Half of it by*: the first at which half of the last change is there, where that
one's interval is on one side of 0. A step is seen only where it was evaluated. Nothing is adjusted
for {len(rows)} rows and {len(tables.steps) - 1} evaluations each: some intervals miss by chance;
{len(tables.grid.seeds)} seeds make wide ones, and no seed or document that ever changes makes none.
"""


def _losses(tables: CurveTables) -> str:
    rows = []
    for name in tables.grid.arms:
        losses = tables.column(name, HELD_OUT).mean(axis=0)
        f1 = tables.f1[name, "All"].mean(axis=(0, 2))
        later = 1 + int(np.argmax(f1[1:]))
        least = int(losses.argmin())
        rows.append(
            [
                name,
                f"{losses[0]:.3f}",
                f"{losses[-1]:.3f}",
                str(tables.steps[least]),
                f"{100 * f1[least]:.1f}",
                str(tables.steps[later]),
                f"{100 * f1[later]:.1f}",
            ]
        )
    header = ["Arm", "Loss at 0", "At the last", "Least at step", "F1 (All) there"]
    return f"""## Would the held-out loss have told?

{markdown_table([*header, "F1 (All) best at step", "F1 (All) there"], rows)}

Means of the seeds; the best step is sought behind step 0, after the fact, so that its F1 is too
good. `early_stopping.metric=held_out_loss` keeps the step where the loss is least, `f1_all` the one
where F1 is best."""


def _files() -> str:
    return f"""## Files

`grid.yaml`: what was run. `curve.csv`: every evaluation, with held-out loss, F1
({", ".join(F1.values())}), outcomes and seconds; a cell is empty where the version that
ran the seed did not compute it. `documents.csv`: F1 of each document in each.
`curve.json`: base, learning rates, versions, machine."""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report."""
    write_from_tables("verbalizer_bench.experiments.miniature.curve.report", write, argv)


if __name__ == "__main__":
    main()
