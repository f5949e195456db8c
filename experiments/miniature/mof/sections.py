"""The tables of the report."""

from collections.abc import Sequence

import numpy as np

from verbalizer_bench.experiments.contrast import told_interval
from verbalizer_bench.experiments.miniature.mof.blindness import DIFFERENCES
from verbalizer_bench.experiments.miniature.mof.contrasts import (
    BOTH,
    GROUPS,
    NAMED,
    f1,
    f1_contrast,
    pair_contrast,
    pairs,
)
from verbalizer_bench.experiments.miniature.mof.grid import INTERLEAVED
from verbalizer_bench.experiments.miniature.mof.probes import FEATURES
from verbalizer_bench.experiments.miniature.mof.scenes import VALUES
from verbalizer_bench.experiments.miniature.mof.tables import MofTables
from verbalizer_bench.experiments.miniature.mof.towers import TOWERS
from verbalizer_bench.experiments.miniature.mof.verdicts import accuracy
from verbalizer_bench.experiments.page import spread
from verbalizer_bench.results.tables import markdown_table as table


def towers(tables: MofTables) -> str:
    """Tell what the towers see."""
    probed = []
    for name in TOWERS:
        for feature in FEATURES:
            shown = [f"{accuracy(tables, name, feature, kind):.1f}" for kind in VALUES]
            probed.append([name, feature, *shown])
    chances = [f"{100 / len(words):.1f}" for words in VALUES.values()]
    found = []
    for name in TOWERS:
        counts = [seen["blind_pairs"][name] for seen in tables.towers.values()]
        numbers = [_range([count[kind] for count in counts]) for kind in DIFFERENCES]
        found.append([name, *numbers])
    return "\n\n".join(
        [
            "## What the towers see",
            "Linear probes, % of test scenes, the mean over tuning seeds (each has towers of its "
            "own): `whole` is a tower's embedding, `patches` all that a LLaVA takes.",
            table(["Tower", "Feature", *VALUES], [*probed, ["chance", "", *chances]]),
            "Blind pairs among the test scenes, found by `blind-pairs`' search with the paper's "
            "thresholds: the same to the tower that is named (a cosine above 0.95), not to the "
            "other (below 0.6); by what the two scenes differ in, the median of "
            "tuning seeds and in brackets the least and the most. `neither` differs in where the "
            "triangle stands.",
            table(["Blind tower", *DIFFERENCES], found),
            _statements(tables),
        ]
    )


def _statements(tables: MofTables) -> str:
    told = []
    for kind, pattern in NAMED.items():
        digits = [seen["statements"][pattern] for seen in tables.towers.values()]
        shares = [100 * text.count("1") / len(text) for text in digits]
        told.append(f"{kind} {spread(np.array(shares))} %")
    return (
        f"As MMVP-VLM asks, does each of two statements prefer its own image in {TOWERS[0]} (the "
        f"other has no texts)? Pairs right: {', '.join(told)}; 25 % by guessing, "
        "and next to none by a tower that takes two images for one: both statements prefer it."
    )


def seen(tables: MofTables) -> str:
    """Tell what each arm answered about pairs."""
    rows = []
    for arm in tables.grid.arms:
        whole = [spread(100 * pairs(tables, arm, k).mean(axis=1)) for k in (*NAMED, BOTH)]
        answered = [row for row in tables.answered if row["arm"] == arm]
        single, unparsed = (
            np.mean([float(row[name]) for row in answered]) for name in ("single", "unparsed")
        )
        rows.append([arm, *whole, f"{single:.1f}", f"{unparsed:.1f}"])
    header = ["Arm", *(f"Pairs, {kind}" for kind in NAMED), "Pairs, all", "Single", "Unparsed"]
    number = tables.grid.pairs
    return "\n\n".join(
        [
            "## What the arms see",
            f"{number} pairs that differ in colour alone and {number} in direction alone, as MMVP "
            "has them: one question with two options, asked of either image, in the paper's "
            "prompt; a pair counts if both answers are right. Who cannot tell two images apart "
            "gives the same answer twice, and gets no pair right. %, the mean over tuning seeds, "
            "in brackets the least and the most.",
            table(header, rows),
        ]
    )


def kept(tables: MofTables) -> str:
    """Tell F1 of the suite by label type."""
    rows = [["base", "-", *(_level(tables, "base", "", group) for group in GROUPS)]]
    for arm in tables.grid.arms:
        for image in tables.grid.images:
            rows.append([arm, image, *(_level(tables, arm, image, group) for group in GROUPS)])
    header = ["Arm", "Image", *(group.capitalize() for group in GROUPS)]
    return "\n\n".join(
        [
            "## What the arms follow",
            "F1 of the verbalizer suite, %, the mean over tuning seeds, in brackets the least and "
            "the most. `none` asks without an image.",
            table(header, rows),
        ]
    )


def differences(tables: MofTables) -> str:
    """Tell interleaved minus each other arm."""
    rows = []
    for arm in tables.grid.arms:
        if arm == INTERLEAVED:
            continue
        of_pairs = [told_interval(pair_contrast(tables, INTERLEAVED, arm, k)) for k in NAMED]
        of_suite = [
            told_interval(f1_contrast(tables, INTERLEAVED, arm, image))
            for image in tables.grid.images
        ]
        rows.append([f"minus {arm}", *of_pairs, *of_suite])
    header = ["Interleaved", *(f"Pairs, {kind}" for kind in NAMED)]
    header += [f"F1 (All), {image}" for image in tables.grid.images]
    return "\n\n".join(["## Interleaved minus each other arm", table(header, rows)])


def rates(tables: MofTables) -> str:
    """Tell the losses that the rate was chosen by."""
    tried = tables.grid.learning_rates
    losses = {(row["arm"], row["rate"]): row["held_out_loss"] for row in tables.rates}
    rows = [[arm, *(losses[arm, f"{rate:g}"] for rate in tried)] for arm in tables.grid.arms]
    means = [np.mean([float(losses[arm, f"{r:g}"]) for arm in tables.grid.arms]) for r in tried]
    rows.append(["mean", *(f"{mean:.4f}" for mean in means)])
    ends = (
        ", which is at the end of what was tried" if tables.rate in (min(tried), max(tried)) else ""
    )
    return "\n\n".join(
        [
            "## Learning rate",
            f"The loss on held-out records by rate, tuning seed {tables.grid.seeds[0]}. All arms "
            f"have the rate with the least mean, {tables.rate:g}{ends}: what an arm follows "
            "depends on its rate, and arms of different rates are not to be compared by it.",
            table(["Arm", *(f"{rate:g}" for rate in tried)], rows),
        ]
    )


def examples(tables: MofTables) -> str:
    """Show answers to the first pair of each pattern."""
    rows = [
        [row["arm"], row["question"], row["wanted"], f"`{row['response']}`"]
        for row in tables.examples
    ]
    return "\n\n".join(
        [
            "## Some answers",
            f"The first pair of either kind; tuning seed {tables.grid.seeds[0]}.",
            "<details><summary>All arms</summary>",
            table(["Arm", "Question", "Wanted", "Answer"], rows),
            "</details>",
        ]
    )


def _level(tables: MofTables, arm: str, image: str, group: str) -> str:
    cells = 100 * f1(tables, arm, image, group).mean(axis=1)
    return f"{cells.mean():.1f}" if arm == "base" else spread(cells)


def _range(counts: Sequence[int]) -> str:
    """Return the median of counts, and in brackets the least and the most."""
    return f"{np.median(counts):,.0f} [{min(counts):,}, {max(counts):,}]"
