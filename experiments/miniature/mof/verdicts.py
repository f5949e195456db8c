"""The report's first page: the study's questions, and what came out."""

import numpy as np

from verbalizer_bench.experiments.contrast import told_interval
from verbalizer_bench.experiments.miniature.mof.contrasts import (
    BOTH,
    f1,
    f1_contrast,
    pair_contrast,
    pairs,
)
from verbalizer_bench.experiments.miniature.mof.grid import ADDITIVE, INTERLEAVED
from verbalizer_bench.experiments.miniature.mof.scenes import VALUES
from verbalizer_bench.experiments.miniature.mof.tables import MofTables
from verbalizer_bench.experiments.miniature.mof.towers import BLIND, SEES, TOWERS
from verbalizer_bench.experiments.page import answers

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
            f"of pairs that differ in {kind} {_level(tables, INTERLEAVED, kind)}, {name} alone "
            f"{_level(tables, name, kind)} (difference {told_interval(found)})"
        )
    verdict = "**Yes.**" if all(right) else "**In part.**" if any(right) else "**No.**"
    return f"{verdict} It tells apart, {'; '.join(told)}."


def _as_much(tables: MofTables) -> str:
    found = {name: pair_contrast(tables, INTERLEAVED, name, SEES[name]) for name in TOWERS}
    less = [name for name, one in found.items() if one.direction == -1]
    most = max(-100 * one.low for one in found.values())
    open_ = f"**It cannot be told: {most:.0f} points less are not excluded.**"
    verdict = {
        0: open_ if most > 0 else "**Yes.**",
        1: "**In part.**",
        2: "**No, less.**",
    }[len(less)]
    told = "; ".join(
        f"in {SEES[name]} minus {name} alone {told_interval(one)}" for name, one in found.items()
    )
    return f"{verdict} Pairs that differ {told}."


def _needed(tables: MofTables) -> str:
    found = {arm: pair_contrast(tables, INTERLEAVED, arm, BOTH) for arm in _mixtures(tables)}
    as_good = [arm for arm, one in found.items() if one.direction < 1]
    verdict = "**Yes.**"
    if as_good:
        verdict = f"**Not shown: it cannot be told to see more than {', '.join(as_good)}.**"
    told = "; ".join(f"{arm} {told_interval(one)}" for arm, one in found.items())
    return f"{verdict} Pairs of both kinds, interleaved minus: {told}."


def _cost(tables: MofTables) -> str:
    told = []
    for image in tables.grid.images:
        found = {
            arm: f1_contrast(tables, INTERLEAVED, arm, image)
            for arm in (*TOWERS, *_mixtures(tables))
        }
        of_arms = "; ".join(f"minus {arm} {told_interval(one)}" for arm, one in found.items())
        told.append(
            f"With image {image}: {_mean(f1(tables, INTERLEAVED, image))} (F1, All), the base "
            f"{_mean(f1(tables, 'base', image))}; {of_arms}"
        )
    return f"{_costs(tables)} {'. '.join(told)}.{_below(tables)}"


def _costs(tables: MofTables) -> str:
    beside = f1_contrast(tables, INTERLEAVED, TOWERS[0], tables.grid.images[0])
    words = {
        1: f"Nothing beside {TOWERS[0]} alone: it follows more",
        0: f"Beside {TOWERS[0]} alone nothing that can be told",
        -1: f"It follows less than {TOWERS[0]} alone",
    }[beside.direction]
    less = ""
    for image in tables.grid.images:
        arms = [
            arm
            for arm in _mixtures(tables)
            if f1_contrast(tables, INTERLEAVED, arm, image).direction == -1
        ]
        if arms:
            less += f"; with image {image} it follows less than {', '.join(arms)}"
    return f"**{words}{less}.**"


def _below(tables: MofTables) -> str:
    every = [(arm, image) for arm in tables.grid.arms for image in tables.grid.images]
    below = all(f1_contrast(tables, arm, "base", image).direction == -1 for arm, image in every)
    return " Every arm is below the base." if below else ""


def _shares(tables: MofTables) -> str:
    order = [arm for arm in tables.grid.arms if arm in TOWERS or arm.startswith(ADDITIVE)]
    order.sort(key=_alpha, reverse=True)
    seen = ", ".join(
        f"{1 - _alpha(arm):g}: {100 * pairs(tables, arm, BOTH).mean():.1f}" for arm in order
    )
    image = tables.grid.images[0]
    kept = ", ".join(f"{1 - _alpha(arm):g}: {_mean(f1(tables, arm, image))}" for arm in order)
    fall = f1_contrast(tables, TOWERS[1], TOWERS[0], image)
    best, second = sorted(order, key=lambda arm: -pairs(tables, arm, BOTH).mean())[:2]
    ahead = pair_contrast(tables, best, second, BOTH)
    sees = "sees most" if ahead.direction == 1 else "has the highest mean, which is not told apart,"
    falls = {-1: "it follows less", 0: "no fall can be told", 1: "it follows more"}[fall.direction]
    return (
        f"**It {sees} at a share of {1 - _alpha(best):g}; between the ends {falls}.** By the share "
        f"of {TOWERS[1]}, pairs of both kinds right (%): {seen} ({1 - _alpha(best):g} minus "
        f"{1 - _alpha(second):g}: {told_interval(ahead)}); F1 (All, {image} image): {kept}. "
        f"{TOWERS[1]} alone minus {TOWERS[0]} alone, F1: {told_interval(fall)}. In "
        "the paper instruction following falls with DINOv2's share, and MMVP is best at three "
        "quarters of it."
    )


def _mixtures(tables: MofTables) -> list[str]:
    """Return the mixtures that are not interleaved: they have as many tokens as one tower."""
    return [arm for arm in tables.grid.arms if arm not in (*TOWERS, INTERLEAVED)]


def _alpha(arm: str) -> float:
    if arm in TOWERS:
        return 1.0 - TOWERS.index(arm)
    return float(arm.removeprefix(ADDITIVE))


def _level(tables: MofTables, arm: str, kind: str) -> str:
    return f"{_mean(pairs(tables, arm, kind))} %"


def _mean(table: np.ndarray) -> str:
    return f"{100 * table.mean():.1f}"
