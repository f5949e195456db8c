"""The sections of the repair study's report, each a table or two."""

import numpy as np

from verbalizer_bench.experiments.contrast import (
    SeedContrast,
    contrast,
    told_interval,
)
from verbalizer_bench.experiments.miniature.arms import ALIGNED
from verbalizer_bench.experiments.miniature.repair.remedies import PLAIN, REMEDIES
from verbalizer_bench.experiments.miniature.repair.shares import (
    GROUPS,
    by_rate,
    came_back,
    difference,
    f1,
    trade_offs,
)
from verbalizer_bench.experiments.miniature.repair.tables import RepairTables
from verbalizer_bench.experiments.miniature.repair.verdicts import marks, remedied, told_share
from verbalizer_bench.experiments.miniature.unseen_rows import UNSEEN
from verbalizer_bench.experiments.page import response_table, spread
from verbalizer_bench.experiments.rows import WORDS
from verbalizer_bench.results.answers import signed_points
from verbalizer_bench.results.tables import markdown_table as table
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

# Which remedies are compared with which, and what that tells.
CONTROLS = (
    ("DPO", "DPO-no-image", "the images of preference data"),
    ("DPO", "SFT-more", "preferences beside as many steps on reference answers"),
    ("DPO", "Rejection", "the worst answer beside the best"),
    ("DPO-format", "DPO", "formats beside preferences without them"),
    ("Rejection", "SFT-more", "own answers beside reference answers"),
    ("SteerLM", "Rejection", "all answers with marks beside the best"),
)


def levels(tables: RepairTables) -> str:
    """Return F1 of each model with each image."""
    rows = []
    for name in tables.grid.models:
        for image in tables.grid.images:
            if (name == "base" and image != tables.grid.images[0]) or (
                name == ALIGNED and image == "none"
            ):
                continue
            cells = 100 * f1(tables, name, image).mean(axis=2)
            shown = "-" if name == "base" else image
            rows.append([name, shown, *(spread(of_group) for of_group in cells.T)])
    header = ["Model", "Image", *(group.capitalize() for group in GROUPS)]
    return "\n\n".join(
        [
            "## F1",
            "The mean over tuning seeds, in brackets the least and the most. "
            f"{ALIGNED} without an image is the base, and was not run again.",
            table(header, rows),
        ]
    )


def shares(tables: RepairTables) -> str:
    """Return what came back, by image and label type."""
    rows = []
    for image in tables.grid.images:
        for name in (ALIGNED, *remedied(tables)):
            for group in GROUPS:
                found = came_back(tables, name, image, group)
                rows.append(
                    [
                        *(name, image, group),
                        *map(told_interval, (found.cost, found.back)),
                        told_share(found.share),
                        *(str(found.back.below), str(found.back.above)),
                    ]
                )
    header = ["Model", "Image", "Label type", "Cost", "Came back", "Share", "-", "+"]
    over_all = [row for row in rows if row[2] == "All"]
    return "\n\n".join(
        [
            "## How much came back?",
            f"Cost: the base's F1 minus {PLAIN}'s with that image; came back: the model's minus "
            f"{PLAIN}'s; `-` and `+`: cells in which less, and more, came back than nothing. "
            f"{ALIGNED} was not tuned: what it lacks to 100 % is the image's.",
            "![What came back, and what was kept](shares.png)",
            table(header, over_all),
            "<details><summary>By label type</summary>",
            table(header, [row for row in rows if row not in over_all]),
            "</details>",
        ]
    )


def controls(tables: RepairTables) -> str:
    """Return remedies against each other."""
    rows = [
        [f"{one} - {other}", told, image, *_contrast_cells(difference(tables, one, other, image))]
        for one, other, told in CONTROLS
        for image in tables.grid.images
    ]
    header = ["One - other", "What it tells", "Image", "F1, All", "-", "+"]
    tried = sorted({rate for some in tables.grid.learning_rates.values() for rate in some})
    common = []
    for one, other, _ in CONTROLS:
        found = by_rate(tables, one, other)
        chosen = f"{tables.rates[one]:g} / {tables.rates[other]:g}"
        cells = (signed_points(found[rate]) if rate in found else "-" for rate in tried)
        common.append([f"{one} - {other}", chosen, *cells])
    return "\n\n".join(
        [
            "## One remedy beside another",
            "Each at its chosen rate:",
            table(header, rows),
            "Where the chosen rates differ, that is in the difference too. F1 (All) at common "
            f"rates, tuning seed {tables.grid.seeds[0]}, {tables.grid.images[0]} image:",
            table(["One - other", "Chosen", *(f"{rate:g}" for rate in tried)], common),
        ]
    )


def kept(tables: RepairTables) -> str:
    """Return what answers about unseen scenes are like: the second measure, and the marks."""
    rows = []
    for name in tables.grid.models:
        points = [tables.point(seed, name) for seed in tables.grid.seeds]
        cells = [
            spread(np.array([100 * np.nanmean(tables.unseen[p][m]) for p in points]))
            for m in UNSEEN
        ]
        if name == "base":
            rows.append([name, *cells, "-", "-"])
            continue
        scenes = np.array([tables.scenes[p].mean() / 0.12 for p in points])
        minus = "-" if name == PLAIN else told_interval(marks(tables, name, PLAIN))
        rows.append([name, *cells, spread(scenes), minus])
    formats = [
        [f"{name} - {PLAIN}", m, *_contrast_cells(_unseen(tables, name, m))]
        for name in remedied(tables)
        for m in UNSEEN
    ]
    number = tables.grid.unseen
    return "\n\n".join(
        [
            "## What is kept, and does a second measure agree?",
            f"{number} prompts with format instructions about scenes that were not trained on "
            "(captions for the base): `exact`, the answer in its format; `follows`, IFEval's "
            "verifier accepts it; `right`, the short answer is in it. Percent. The formats are "
            f"those of DPO-format's pairs. And {number} plain questions about other scenes: the "
            "program's marks (helpfulness, correctness, coherence) in percent of 12.",
            table(["Model", *UNSEEN, "Marks", f"Marks, minus {PLAIN}"], rows),
            "<details><summary>The second measure, against the tuned model</summary>",
            table(["Model", "Measure", "Difference", "-", "+"], formats),
            "</details>",
        ]
    )


def preference_data(tables: RepairTables) -> str:
    """Return what the preference data are."""
    columns = {
        "prompts": "Prompts or items",
        "answers_used": "Answers used",
        "answers_same": "Same",
        "answers_unusable": "Unusable",
        "mean_mark": "Mean mark",
        "best_mark": "Best of 4",
        "pairs": "Pairs",
        "chosen_characters": "Chosen, characters",
        "rejected_characters": "Rejected",
        "chosen_longer": "Chosen longer, %",
    }
    rows = [
        [f"seed {row['seed']}", row["kind"], row["split"], *(row[c] or "-" for c in columns)]
        for row in tables.preferences
    ]
    return "\n\n".join(
        [
            "## Preference data",
            f"Four completions a prompt, sampled from each cell's {PLAIN} at temperature 1.0 by "
            "`build` (kind `preference`); a completion with the text of another one of its prompt "
            f"is not judged. Pairs: a gap of {tables.grid.minimum_gap} of 12 or more; the same "
            "pairs without their images are the control. `format`: pairs by IFEval's verifiers. "
            "`choose`: held out, of scenes that are not trained on. Marks are of 12.",
            table(["Cell", "Kind", "Split", *columns.values()], rows),
        ]
    )


def preference_training(tables: RepairTables) -> str:
    """Return what DPO's own metrics say."""
    rows, easy = [], []
    for name in ("DPO", "DPO-no-image", "DPO-format"):
        points = [(tables.point(s, name), tables.grid.images[0]) for s in tables.grid.seeds]
        if all(float(tables.points[p]["held_out_accuracy"]) > 0.99 for p in points):
            easy.append(name)
        for seed in tables.grid.seeds:
            row = tables.points[tables.point(seed, name), tables.grid.images[0]]
            told = (row[f"held_out_{m}"] for m in ("loss", "accuracy", "margin"))
            rows.append([name, f"seed {seed}", row["last_loss"], *told])
    note = (
        f" Of {', '.join(easy)} all held-out pairs are told apart, nearly or quite: then the loss "
        "falls with the margin alone, and chooses high rates, whatever they do to other answers."
        if easy
        else ""
    )
    return "\n\n".join(
        [
            "## What DPO says of itself",
            "Loss of the last step; and of held-out pairs of the same kind the loss, how often the "
            f"chosen answer has the higher reward, and by how much.{note}",
            table(["Model", "Cell", "Last loss", "Held-out loss", "Accuracy", "Margin"], rows),
        ]
    )


def outcomes(tables: RepairTables) -> str:
    """Return the outcomes' shares of responses."""
    image = tables.grid.images[0]
    rows = []
    for name in tables.grid.models:
        points = [tables.point(seed, name) for seed in tables.grid.seeds]
        of_points = [tables.points[p, "" if name == "base" else image] for p in points]
        cells = [
            spread(
                np.array([np.mean([float(r[f"{t}_{o}"]) for t in LABEL_TYPES]) for r in of_points])
            )
            for o in (*OUTCOMES, WORDS)
        ]
        rows.append([name, *cells])
    return "\n\n".join(
        [
            "## Verbose or flipped?",
            f"Shares of the responses in percent, All, {image} image. `words`: the part of "
            "`neither` that has four words or more.",
            table(["Model", *OUTCOMES, WORDS], rows),
        ]
    )


def lengths(tables: RepairTables) -> str:
    """Return how long responses are."""
    rows = []
    for name in tables.grid.models:
        points = [tables.point(seed, name) for seed in tables.grid.seeds]
        row = [name]
        for image in tables.grid.images:
            asked = [(p, "" if name == "base" else image) for p in points]
            if all(key in tables.points for key in asked):
                cells = [float(tables.points[key]["response_characters"]) for key in asked]
                row.append(spread(np.array(cells)))
            else:
                row.append("-")
        rows.append(row)
    header = ["Model", *(f"Characters, {image}" for image in tables.grid.images)]
    return "\n\n".join(
        [
            "## How long are responses?",
            "To the suite's prompts, which want one word; at most 15 tokens.",
            table(header, rows),
        ]
    )


def rates(tables: RepairTables) -> str:
    """Return every training that was run, with its rate."""
    rows = []
    image, first = tables.grid.images[0], tables.grid.seeds[0]
    for (point, shown), row in tables.points.items():
        if point.rate is None or point.model not in REMEDIES or shown != image:
            continue
        scores = [float(row[f"{t}_f1"]) for t in LABEL_TYPES]
        chosen = " (chosen)" if point.rate == tables.rates[point.model] else ""
        told = [f"{value:.2f}" for value in (*scores, np.mean(scores))]
        rate = f"{point.rate:g}{chosen}"
        rows.append([point.model, f"seed {point.seed}", rate, row["held_out_loss"], *told])
    rows.sort(key=lambda row: (list(REMEDIES).index(row[0]), row[1]))
    ends = [
        name
        for name, tried in tables.grid.learning_rates.items()
        if len(tried) > 1 and tables.rates[name] in (min(tried), max(tried))
    ]
    edge = (
        f" At the end of the grid: {', '.join(ends)}; a rate beyond may be better." if ends else ""
    )
    return "\n\n".join(
        [
            "## Learning rates, and every point that was run",
            "A rate was chosen for each remedy by the loss on held-out records, or pairs, of its "
            f"own kind at tuning seed {first}, never by the benchmark; losses are not compared "
            f"between kinds.{edge}",
            "<details><summary>All trainings of remedies, with the first image</summary>",
            table(
                ["Remedy", "Cell", "Rate", "Held-out loss", *(g.capitalize() for g in GROUPS)], rows
            ),
            "</details>",
        ]
    )


def learned(tables: RepairTables) -> str:
    """Return what trainings on the same dialogues learned of them, and what they forgot."""
    rows = [
        [one.model, f"{one.rate:g}", f"{one.loss:.4f}", f"{100 * one.f1:.1f}"]
        for one in sorted(trade_offs(tables), key=lambda one: one.loss)
    ]
    return "\n\n".join(
        [
            "## Learned and forgotten",
            f"{PLAIN}, Attention and Replay are tunings on the same dialogues, and what is not "
            "learned need not be forgotten. Tuning seed "
            f"{tables.grid.seeds[0]}, {tables.grid.images[0]} image; the loss is of held-out "
            f"dialogues, the rates of {PLAIN} but for {tables.about['tuned_rate']:g} were added "
            "once those of the remedies had been run.",
            table(["Model", "Rate", "Held-out loss", "F1, All"], rows),
        ]
    )


def compared(tables: RepairTables) -> str:
    """Return what `compare --repaired` says of the first cell."""
    told = "\n".join(f"- {name}. {text}" for name, text in tables.about["compared"].items())
    return "\n\n".join(
        [
            "## What `compare --repaired` says",
            f"Of tuning seed {tables.grid.seeds[0]} alone, over its documents: one run of each, as "
            "a user has them. What other seeds would give is not in its intervals.",
            "<details><summary>A sentence a remedy</summary>",
            told,
            "</details>",
        ]
    )


def examples(tables: RepairTables) -> str:
    """Return some responses."""
    return "\n\n".join(
        [
            "## Some responses",
            f"The first document of four tasks; tuning seed {tables.grid.seeds[0]}.",
            "<details><summary>All models</summary>",
            response_table(tables.examples, ("", tables.grid.images[0])),
            "</details>",
        ]
    )


def _unseen(tables: RepairTables, model: str, measure: str) -> SeedContrast:
    one, other = (
        np.stack([tables.unseen[tables.point(s, name)][measure] for s in tables.grid.seeds])
        for name in (model, PLAIN)
    )
    table_of = (one - other)[:, ~np.isnan(one[0])]
    return contrast(table_of[None], ["records"] * table_of.shape[1])


def _contrast_cells(found: SeedContrast) -> list[str]:
    return [told_interval(found), str(found.below), str(found.above)]
