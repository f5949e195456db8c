"""The study's report: Markdown and figures, made of its tables alone.

python -m verbalizer_bench.experiments.miniature.study.report experiments/miniature/results
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from verbalizer_bench.experiments.contrast import SeedContrast, told_interval
from verbalizer_bench.experiments.miniature.arms import ALIGNED, ARMS
from verbalizer_bench.experiments.miniature.base import GATE, below_gate
from verbalizer_bench.experiments.miniature.study import figures
from verbalizer_bench.experiments.miniature.study.contrasts import (
    GROUPS,
    MODELS,
    PAIRS,
    Shown,
    f1_contrasts,
    outcome_shares,
    scores,
    seeing,
    unseen,
    unseen_contrast,
)
from verbalizer_bench.experiments.miniature.study.grid import Point
from verbalizer_bench.experiments.miniature.study.tables import StudyTables, read_tables
from verbalizer_bench.experiments.miniature.study.verdicts import verdicts
from verbalizer_bench.experiments.miniature.unseen_rows import UNSEEN
from verbalizer_bench.experiments.page import (
    response_table,
    spread,
    write_from_tables,
    write_page,
)
from verbalizer_bench.experiments.rows import WORDS
from verbalizer_bench.results.answers import signed_points
from verbalizer_bench.results.tables import markdown_table as table
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES


def write(folder: Path) -> Path:
    """Write `README.md` and the figures beside the tables of a folder."""
    tables = read_tables(folder)
    figures.draw_scores(tables, folder / "scores.png")
    figures.draw_images(tables, folder / "images.png")
    figures.draw_rates(tables, folder / "rates.png")
    parts = [
        _head(tables),
        verdicts(tables),
        _base_best(tables),
        _formats(tables),
        _outcomes(tables),
        _images(tables),
        _unseen(tables),
        _rates(tables),
        _examples(tables),
        _files(),
    ]
    return write_page(folder, parts)


def _head(tables: StudyTables) -> str:
    grid, about = tables.grid, tables.about
    bases = []
    for seed, record in about["bases"].items():
        reached = record["choose"]["fp16"]
        shown = " / ".join(f"{100 * reached[name]:.1f}" for name in GATE)
        low = below_gate(reached)
        gate = f"below the gate for {', '.join(low)}, and not replaced" if low else "passes"
        bases.append(f"- base {seed}: {shown} ({gate}), sha256 `{record['sha256'][:12]}`")
    least = " / ".join(f"{100 * value:.0f}" for value in GATE.values())
    runs, documents = len(tables.points), len(tables.datasets)
    steps = ", ".join(sorted({row["steps"] for row in tables.points.values() if row["steps"]}))
    return f"""# The paper in miniature: what came out

Written by
`python -m verbalizer_bench.experiments.miniature.study.report experiments/miniature/results`
from the tables beside it, which `make miniature-study` makes. These are toys of half a million
weights in a made world of coloured shapes, on stand-ins for the nine data sets (some of them
are lexical-cue sets: [the experiment](../README.md)). **Nothing here is evidence for or against
the paper at its own scale**: it is what this world does, measured with the same harness.

The base was trained on this benchmark's own prompts (of other texts), with its natural label words
and in a twentieth of these records its unnatural ones; on copying the neutral words, which were
never label words; and on records like those of the text arms. So it starts near 100, the text arms
have little to learn, and what is measured is mostly what tuning makes it forget.

{_arms(tables)}

Each arm is tuned on {grid.items:,} records in {steps} steps. A *cell* is one of {len(grid.bases)} \
bases with one of {len(grid.seeds)} tuning seeds; a seed draws the items, their order, the vision
tower and the connector, the same for both bases. {runs} runs of {documents * 12:,} responses \
({documents} documents x 12 verbalizers, 10 beams, 15 tokens), with the {grid.images[0]} image
unless another is named. Machine: {about["machine"]}.

F1 of the bases on the *choose* split, natural / neutral / unnatural (gate: {least}):

{chr(10).join(bases)}

![F1 by label type](scores.png)"""


def _arms(tables: StudyTables) -> str:
    formats = {"foit": "yes", "nofoit": "no", "fovit": "yes", "nofovit": "no", "llava": "no"}
    rows = [
        [
            name,
            "the base" if arm.adapter == "verbalizer-llm" else ALIGNED,
            {"llava": "images, dialogues in sentences"}.get(
                arm.data, "images" if arm.data.endswith("vit") else "captions"
            ),
            formats[arm.data],
            f"{tables.rates[name]:g}",
        ]
        for name, arm in ARMS.items()
    ]
    rows.insert(2, [ALIGNED, "the base", "(the connector alone, on captions of images)", "-", "-"])
    return table(["Model", "Starts from", "Tuned on", "Format instructions", "Rate"], rows)


def _base_best(tables: StudyTables) -> str:
    levels = []
    for name in MODELS:
        cells = 100 * scores(tables, Shown(name)).mean(axis=(1, 3))
        shown = [f"{value:.1f}" for value in cells.mean(axis=0)]
        shown += [" / ".join(f"{value:.1f}" for value in of_base) for of_base in cells.T]
        levels.append([name, *shown])
    from_base = _contrast_rows(tables, [(name, "base") for name in (ALIGNED, *ARMS)])
    tuned = [(name, ALIGNED) for name in seeing() if name != ALIGNED]
    names = [group.capitalize() for group in GROUPS]
    bases = " / ".join(str(seed) for seed in tables.grid.bases)
    header = ["Model", *names, *(f"{name}, base {bases}" for name in names)]
    return "\n\n".join(
        [
            "## Is the base best?",
            f"{ALIGNED} is the base behind a vision tower and a trained connector, not tuned: what "
            "it loses, it loses to the image's tokens in its prompt. F1, the mean over cells, and "
            "of each base, for the two can be far apart:",
            table(header, levels),
            "Minus the base:",
            table(["Model", "Label type", *_header(tables)], from_base),
            f"Minus {ALIGNED}, with the same image: what tuning changed where an image is shown.",
            table(["Model", "Label type", *_header(tables)], _contrast_rows(tables, tuned)),
            *_without_image(tables),
        ]
    )


def _without_image(tables: StudyTables) -> list[str]:
    if "none" not in tables.grid.images:
        return []
    rows = [
        [f"{name} - base", group, *_contrast_cells(difference)]
        for name in seeing()
        if name != ALIGNED
        for group, difference in f1_contrasts(tables, Shown(name, "none"), Shown("base")).items()
    ]
    return [
        "Without an image, minus the base: what tuning changed in the language model.",
        table(["Model", "Label type", *_header(tables)], rows),
    ]


def _contrast_rows(tables: StudyTables, pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    return [
        [f"{one} - {other}", group, *_contrast_cells(difference)]
        for one, other in pairs
        for group, difference in f1_contrasts(tables, Shown(one), Shown(other)).items()
    ]


def _formats(tables: StudyTables) -> str:
    return "\n\n".join(
        [
            "## With format instructions and without",
            "The same items; each arm with the learning rate chosen for its own kind of records.",
            table(
                ["With - without", "Label type", *_header(tables)], _contrast_rows(tables, PAIRS)
            ),
        ]
    )


def _outcomes(tables: StudyTables) -> str:
    rows = []
    for name in MODELS:
        for number, group in enumerate(GROUPS):
            shown = (*OUTCOMES, WORDS)
            cells = [outcome_shares(tables, Shown(name), o)[:, :, number] for o in shown]
            rows.append([name, group, *(spread(share, 100) for share in cells)])
    return "\n\n".join(
        [
            "## Verbose or flipped?",
            "Shares of the responses in percent, the mean over cells and in brackets the least and "
            "the most. `verbose`: the right label word and more words; `flipped`: the other label "
            "word, alone or with more; `both`: both; `neither`: no label word; `words`: the part "
            "of `neither` that has four words or more.",
            table(["Model", "Label type", *OUTCOMES, WORDS], rows),
        ]
    )


def _images(tables: StudyTables) -> str:
    first = tables.grid.images[0]
    rows = []
    for name in seeing():
        for image in tables.grid.images[1:]:
            differences = f1_contrasts(tables, Shown(name, image), Shown(name, first))
            rows += [[f"{name}, {image}", g, *_contrast_cells(c)] for g, c in differences.items()]
    pairs = [
        [f"{one} - {other}", image, *_contrast_cells(differences["All"])]
        for one, other in PAIRS
        if one in seeing()
        for image in tables.grid.images
        for differences in [f1_contrasts(tables, Shown(one, image), Shown(other, image))]
    ]
    return "\n\n".join(
        [
            "## What does the blank image change?",
            f"Against {first}, by `image=` of `verbalizer-lvlm`; `none` asks the tuned language "
            f"model without an image. ({ALIGNED} without an image is the base.)",
            "![F1 by image](images.png)",
            table([f"Minus {first}", "Label type", *_header(tables)], rows),
            "With formats minus without, All, by what is shown:",
            table(["With - without", "Image", *_header(tables)], pairs),
        ]
    )


def _unseen(tables: StudyTables) -> str:
    rows = [
        [name, measure, spread(unseen(tables, name, measure).mean(axis=2), 100)]
        for name in MODELS
        for measure in UNSEEN
    ]
    tuned = [
        [f"{name} - base", m, *_contrast_cells(unseen_contrast(tables, name, "base", m))]
        for name in ARMS
        if name not in seeing()
        for m in UNSEEN
    ]
    pairs = [
        [
            f"{one} - {other}",
            measure,
            *_contrast_cells(unseen_contrast(tables, one, other, measure)),
        ]
        for one, other in PAIRS
        for measure in UNSEEN
    ]
    checked = unseen(tables, "base", "follows").shape[2]
    return "\n\n".join(
        [
            "## Does a second measure agree?",
            f"{tables.grid.unseen} format-oriented prompts about scenes that no arm was tuned on, "
            "captions for text models, the scenes themselves for the others. `exact`: the answer "
            "in its format, white space left out; `follows`: IFEval's verifier accepts it "
            f"({checked} records have one); `right`: the short answer is in it. Percent; in "
            "brackets the least and the most of the cells.",
            table(["Model", "Measure", "Share"], rows),
            table(["With - without", "Measure", *_header(tables)], pairs),
            "Text arms minus the base, which was trained on such records:",
            table(["Model", "Measure", *_header(tables)], tuned),
        ]
    )


def _rates(tables: StudyTables) -> str:
    rows = []
    for (point, image), row in tables.points.items():
        if point.rate is None or image != point.images(tables.grid.images)[0]:
            continue
        f1 = [row[f"{name}_f1"] for name in LABEL_TYPES]
        every = f"{np.mean([float(value) for value in f1]):.2f}"
        rate = f"{point.rate:g}{' (chosen)' if point.rate == tables.rates[point.model] else ''}"
        cell = f"base {point.base}, seed {point.seed}"
        rows.append([point.model, cell, rate, row["held_out_loss"], *f1, every])
    rows.sort(key=lambda row: list(ARMS).index(row[0]))
    rates = sorted(tables.grid.learning_rates)
    edges = [n for n, rate in tables.rates.items() if rate in (rates[0], rates[-1])]
    edge = (
        f" {', '.join(edges)}: at the end of the grid, so that a rate beyond it may be better."
        if edges
        else ""
    )
    return "\n\n".join(
        [
            "## Learning rates, and every point that was run",
            "A rate was chosen for each arm by the loss on held-out records of its own kind "
            f"({tables.grid.unseen} of scenes that are not trained on), the mean over the bases "
            f"at tuning seed {tables.grid.seeds[0]}; never by the benchmark.{edge}",
            "![Held-out loss and F1 by learning rate](rates.png)",
            "A loss is of an arm's own records: arms are not to be compared by it. With formats "
            f"minus without, F1 (All), at common rates (tuning seed {tables.grid.seeds[0]}; base "
            f"{' / '.join(map(str, tables.grid.bases))}):",
            table(["With - without", *(f"{rate:g}" for rate in rates)], _pairs_by_rate(tables)),
            "<details><summary>All points, with the first image</summary>",
            table(
                ["Arm", "Cell", "Rate", "Held-out loss", *(n.capitalize() for n in GROUPS)], rows
            ),
            "</details>",
        ]
    )


def _pairs_by_rate(tables: StudyTables) -> list[list[str]]:
    grid, rows = tables.grid, []
    for pair in PAIRS:
        row = [" - ".join(pair)]
        for rate in sorted(grid.learning_rates):
            told = []
            for base in grid.bases:
                points = [Point(base, grid.seeds[0], name, rate) for name in pair]
                one, other = (tables.f1[p, p.images(grid.images)[0]].mean() for p in points)
                told.append(signed_points(one - other))
            row.append(" / ".join(told))
        rows.append(row)
    return rows


def _examples(tables: StudyTables) -> str:
    images = ("", tables.grid.images[0], "none")
    return "\n\n".join(
        [
            "## Some responses",
            f"The first document of four tasks; base {tables.grid.bases[0]}, tuning seed "
            f"{tables.grid.seeds[0]}.",
            response_table(tables.examples, images),
        ]
    )


def _files() -> str:
    return """## Files

`grid.yaml`: what was run. `points.csv`: every run with its loss, F1 and outcomes. `documents.csv`:
F1 of each document in each run. `unseen.csv`: the second measure, a digit a record (`-`: no
verifier). `examples.csv`: responses. `study.json`: bases with hashes, chosen rates, versions of the
first training, and the machine that gathered the tables.

Not measured: other sizes, other worlds, a third base; learning rates at other tuning seeds than the
first; more or fewer steps; a tower or connector trained longer."""


def _header(tables: StudyTables) -> list[str]:
    bases = [f"Base {seed}" for seed in tables.grid.bases]
    return ["Difference", *bases, "-", "+"]


def _contrast_cells(difference: SeedContrast) -> list[str]:
    by_base = [signed_points(value) for value in difference.by_base]
    return [told_interval(difference), *by_base, str(difference.below), str(difference.above)]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report."""
    write_from_tables("verbalizer_bench.experiments.miniature.study.report", write, argv)


if __name__ == "__main__":
    main()
