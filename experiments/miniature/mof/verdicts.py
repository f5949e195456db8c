"""The report's first page: the study's questions, and what came out."""

import numpy as np

from verbalizer_bench.experiments.miniature.contrast import SeedContrast, told_interval
from verbalizer_bench.experiments.miniature.mof.contrasts import (
    BOTH,
    f1,
    f1_contrast,
    pair_contrast,
    pairs,
)
from verbalizer_bench.experiments.miniature.mof.grid import INTERLEAVED
from verbalizer_bench.experiments.miniature.mof.scenes import VALUES
from verbalizer_bench.experiments.miniature.mof.tables import MofTables
from verbalizer_bench.experiments.miniature.mof.towers import BLIND, SEES, TOWERS
from verbalizer_bench.experiments.miniature.page import answers

_INTERVALS = """Differences are in points (of 100), with intervals of 95 % over tuning seeds and
over pairs or documents (t intervals, two crossed random effects), each by itself: of several, some
are off by chance. They can pass the ends of the scale, and are too narrow where few pairs or
documents ever change."""


def verdicts(tables: MofTables) -> str:
    """Return the questions with their answers."""
    found = [
        ("Is each tower blind to what the other sees?", _blind(tables)),
        ("Does interleaving see both?", _sees(tables)),
        ("Does it see as much as each tower alone?", _as_much(tables)),
        ("Is interleaving needed?", _needed(tables)),
        ("What does it cost in instruction following?", _cost(tables)),
        ("And adding, the more of the second tower?", _shares(tables)),
    ]
    return f"## In short\n\n{answers(found)}\n\n{_INTERVALS}"


def accuracy(tables: MofTables, tower: str, feature: str, kind: str) -> float:
    """Return a probe's mean accuracy over seeds, in points of 100."""
    found = [seen["probes"][tower][feature][kind] for seen in tables.towers.values()]
    return 100 * float(np.mean(found))


def _blind(tables: MofTables) -> str:
    told, near = [], []
    for name in TOWERS:
        kind = BLIND[name]
        chance = 100 / len(VALUES[kind])
        whole, patches = (accuracy(tables, name, f, kind) for f in ("whole", "patches"))
        near += [whole < chance + 10, patches < chance + 10]
        other = SEES[name]
        told.append(
            f"{name}: a linear probe of its embedding tells {kind} in {whole:.1f} % of scenes, one "
            f"of its patches, which a LLaVA takes, in {patches:.1f} % (chance {chance:.1f}), and "
            f"{other} in {accuracy(tables, name, 'whole', other):.1f} and "
            f"{accuracy(tables, name, 'patches', other):.1f} %"
        )
    verdict = "**Yes.**" if all(near) else "**In part.**" if any(near) else "**No.**"
    return (
        f"{verdict} {'; '.join(told)}. What a probe finds in the patches need not be what tuning "
        "finds: see what each tower alone answers."
    )


def _sees(tables: MofTables) -> str:
    told, right = [], []
    for name in TOWERS:
        kind = BLIND[name]
        found = pair_contrast(tables, INTERLEAVED, name, kind)
        right.append(found.direction == 1)
        told.append(
            f"pairs that differ in {kind}: {_level(tables, INTERLEAVED, kind)}, {name} alone "
            f"{_level(tables, name, kind)} ({told_interval(found)})"
        )
    verdict = "**Yes.**" if all(right) else "**In part.**" if any(right) else "**No.**"
    return f"{verdict} {'; '.join(told)}."


def _as_much(tables: MofTables) -> str:
    found = {name: pair_contrast(tables, INTERLEAVED, name, SEES[name]) for name in TOWERS}
    less = [name for name, one in found.items() if one.direction == -1]
    verdict = {0: "**No less that can be told.**", 1: "**In part.**", 2: "**No, less.**"}[len(less)]
    told = "; ".join(
        f"pairs that differ in {SEES[name]}, minus {name} alone: {told_interval(one)}"
        for name, one in found.items()
    )
    return f"{verdict} {told}."


def _needed(tables: MofTables) -> str:
    others = [arm for arm in tables.grid.arms if arm not in (*TOWERS, INTERLEAVED)]
    found = {arm: pair_contrast(tables, INTERLEAVED, arm, BOTH) for arm in others}
    as_good = [arm for arm, one in found.items() if one.direction < 1]
    verdict = "**Yes.**"
    if as_good:
        verdict = f"**Not shown: it cannot be told to see more than {', '.join(as_good)}.**"
    told = "; ".join(f"{arm} {told_interval(one)}" for arm, one in found.items())
    return f"{verdict} Pairs of both kinds, interleaved minus: {told}."


def _cost(tables: MofTables) -> str:
    told = []
    for image in tables.grid.images:
        of_arms = "; ".join(
            f"minus {name} {told_interval(f1_contrast(tables, INTERLEAVED, name, image))}"
            for name in TOWERS
        )
        told.append(
            f"image {image}: {_mean(f1(tables, INTERLEAVED, image))} (All), {of_arms}; minus the "
            f"base {told_interval(f1_contrast(tables, INTERLEAVED, 'base', image))}"
        )
    first = f1_contrast(tables, INTERLEAVED, TOWERS[0], tables.grid.images[0])
    return f"{_costs(first)} {'. '.join(told)}."


def _costs(found: SeedContrast) -> str:
    return {
        1: f"**Nothing beside {TOWERS[0]} alone: it follows more.**",
        0: f"**Beside {TOWERS[0]} alone nothing that can be told.**",
        -1: f"**It follows less than {TOWERS[0]} alone.**",
    }[found.direction]


def _shares(tables: MofTables) -> str:
    order = [arm for arm in tables.grid.arms if arm in TOWERS or "-0" in arm]
    order = sorted(order, key=lambda arm: -_alpha(arm))
    seen = ", ".join(
        f"{1 - _alpha(arm):g}: {100 * pairs(tables, arm, BOTH).mean():.1f}" for arm in order
    )
    image = tables.grid.images[0]
    kept = ", ".join(f"{1 - _alpha(arm):g}: {_mean(f1(tables, arm, image))}" for arm in order)
    fall = f1_contrast(tables, TOWERS[1], TOWERS[0], image)
    return (
        f"By the share of {TOWERS[1]}, pairs of both kinds right (%): {seen}; F1 (All, {image} "
        f"image): {kept}. {TOWERS[1]} alone minus {TOWERS[0]} alone, F1: {told_interval(fall)}. In "
        "the paper instruction following falls with DINOv2's share, and MMVP is best at three "
        "quarters of it."
    )


def _alpha(arm: str) -> float:
    if arm in TOWERS:
        return 1.0 - TOWERS.index(arm)
    return float(arm.rpartition("-")[2])


def _level(tables: MofTables, arm: str, kind: str) -> str:
    return f"{_mean(pairs(tables, arm, kind))} %"


def _mean(table: np.ndarray) -> str:
    return f"{100 * table.mean():.1f}"
