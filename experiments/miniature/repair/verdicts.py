"""The repair study's report, its first part: each question, and what the tables answer to it."""

import numpy as np

from verbalizer_bench.experiments import page
from verbalizer_bench.experiments.contrast import (
    SeedContrast,
    contrast,
    told_interval,
)
from verbalizer_bench.experiments.miniature.arms import ALIGNED
from verbalizer_bench.experiments.miniature.repair.remedies import PLAIN
from verbalizer_bench.experiments.miniature.repair.shares import (
    CameBack,
    by_rate,
    came_back,
    difference,
    trade_offs,
)
from verbalizer_bench.experiments.miniature.repair.tables import RepairTables
from verbalizer_bench.results.answers import signed_points
from verbalizer_bench.results.ratio import Ratio

_INTERVALS = (
    "F1 is of 100, differences are in points; intervals are of 95 %, over tuning seeds and "
    "documents (t intervals, two crossed random effects), for each remedy by itself: **the "
    "best of several looks better than it is**. A share has those shares s for which what "
    "came back less s x cost cannot be told from 0 (Fieller's rule, as in `compare "
    "--repaired`, which has documents alone). The tuned model is in the cost and in what came "
    "back: where it is bad by chance, more comes back; the seeds are in the interval for "
    "that. With few seeds an interval is wide, and where documents hardly differ it is too "
    "narrow."
)


def verdicts(tables: RepairTables) -> str:
    """Answer the study's questions in a list."""
    answers = [
        ("Which remedy brings back most?", _most(tables)),
        ("Do the images of preference data help?", _images(tables)),
        ("Does more of the same tuning explain it?", _more(tables)),
        ("Does knowledge of formats explain it?", _formats(tables)),
        ("Is tuning a part, or with text, better than tuning less?", _less(tables)),
        ("Is it the language model, or the image in front of the prompt?", _language(tables)),
        ("What does it take of what tuning gave?", _kept(tables)),
    ]
    return f"## In short\n\n{page.answers(answers)}\n\n{_INTERVALS}"


def remedied(tables: RepairTables) -> list[str]:
    """Return the remedies, merged weights with them."""
    return [name for name in tables.grid.models if name not in ("base", ALIGNED, PLAIN)]


def told_share(share: Ratio | None) -> str:
    """Return a share with its interval, in percent."""
    if share is None:
        return "no share"
    # What rounds to 0 has no sign.
    value, low, high = (
        f"{round(100 * v, 1) + 0.0:.1f}" for v in (share.value, share.low, share.high)
    )
    return f"{value} % [{low}, {high}]"


def verdict(found: CameBack) -> str:
    """Return in words how much came back."""
    if found.share is None:
        return "no share, for the cost cannot be told"
    if found.share.high < 0:
        return "none, more was lost"
    if found.share.low <= 0:
        return "none that can be told"
    return "more than all" if found.share.low > 1 else "a part"


def marks(tables: RepairTables, one: str, other: str) -> SeedContrast:
    """Return one model's marks about unseen scenes minus another's, as a part of 12."""
    tables_of = [
        np.stack([tables.scenes[tables.point(seed, name)] for seed in tables.grid.seeds])
        for name in (one, other)
    ]
    table = (tables_of[0] - tables_of[1]) / 12
    return contrast(table[None], ["scenes"] * table.shape[1])


def _most(tables: RepairTables) -> str:
    image = tables.grid.images[0]
    found = {name: came_back(tables, name, image) for name in remedied(tables)}
    ordered = sorted(found, key=lambda name: -found[name].back.mean)
    told = "; ".join(f"{name} {told_share(found[name].share)}" for name in ordered)
    some = [name for name in ordered if verdict(found[name]) in ("a part", "more than all")]
    best = found[ordered[0]]
    return (
        f"**{ordered[0]}**: {verdict(best)}, {told_share(best.share)} of the "
        f"{told_interval(best.cost)} points (All) by which {PLAIN} is below the base. "
        f"{len(some)} of {len(ordered)} bring back a part that can be told. Shares, by what came "
        f"back: {told}."
    )


def _images(tables: RepairTables) -> str:
    image = tables.grid.images[0]
    found = difference(tables, "DPO", "DPO-no-image", image)
    words = {
        1: "**Yes.** DPO with them is above DPO on the same pairs without",
        0: "**Not that it can be told.** DPO with them minus DPO on the same pairs without",
        -1: "**No.** DPO with them is below DPO on the same pairs without",
    }[found.direction]
    kept = marks(tables, "DPO", "DPO-no-image")
    return (
        f"{words}: {told_interval(found)} (All); of the program's marks about unseen scenes "
        f"{told_interval(kept)}. {_shares(tables, ('DPO', 'DPO-no-image'))}."
        f"{_rates(tables, 'DPO', 'DPO-no-image')}"
    )


def _more(tables: RepairTables) -> str:
    found = came_back(tables, "SFT-more", tables.grid.images[0])
    rest = "; ".join(
        f"{name} minus SFT-more {told_interval(difference(tables, name, 'SFT-more', image))}"
        for image in tables.grid.images[:1]
        for name in ("DPO", "Rejection", "SteerLM")
    )
    words = (
        "**A part of it.**"
        if found.share and found.share.low > 0
        else "**No.**"
        if found.back.direction < 1
        else "**It cannot be told.**"
    )
    return (
        f"{words} As many steps more on reference answers to the same prompts bring back "
        f"{told_share(found.share)} ({verdict(found)}). All, in points: {rest}."
    )


def _formats(tables: RepairTables) -> str:
    image = tables.grid.images[0]
    found = came_back(tables, "DPO-format", image)
    beside = difference(tables, "DPO-format", "DPO", image)
    words = {
        1: "**It does more than preferences without it.**",
        0: "**No more than preferences without it that can be told.**",
        -1: "**It does less than preferences without it.**",
    }[beside.direction]
    return (
        f"{words} DPO on pairs of an answer in the format asked for and one in a sentence brings "
        f"back {told_share(found.share)} ({verdict(found)}), minus DPO {told_interval(beside)}. "
        "Whether it learned the formats is in the second measure below."
        f"{_rates(tables, 'DPO-format', 'DPO')}"
    )


def _less(tables: RepairTables) -> str:
    """Say how often plain tuning with some rate learns more and forgets less."""
    found = trade_offs(tables)
    plain = [one for one in found if one.model == PLAIN]
    others = [one for one in found if one.model != PLAIN]
    if len(plain) < 2:
        return "Not run: the plain tuning has one rate."
    worse = [one for one in others if any(p.loss <= one.loss and p.f1 >= one.f1 for p in plain)]
    verdict = "**No.**" if len(worse) == len(others) else "**In part.**" if worse else "**Yes.**"
    best = max(plain, key=lambda one: one.f1)
    return (
        f"{verdict} At tuning seed {tables.grid.seeds[0]}, {len(worse)} of the {len(others)} "
        f"tunings of Attention and Replay have a rate of {PLAIN} that learned the held-out "
        "dialogues at least as well (by their loss) and kept at least as much F1. "
        f"{PLAIN} with {best.rate:g} in place of {tables.about['tuned_rate']:g} has "
        f"{100 * best.f1:.1f} (All), with a loss of {best.loss:.3f} in place of "
        f"{plain[0].loss:.3f}."
    )


def _language(tables: RepairTables) -> str:
    if "none" not in tables.grid.images:
        return "Not run: only the first image was shown."
    cost = came_back(tables, PLAIN, "none").cost
    aligned = difference(tables, ALIGNED, "base", tables.grid.images[0])
    found = {name: came_back(tables, name, "none") for name in remedied(tables)}
    told = "; ".join(
        f"{name} {told_share(one.share)}"
        for name, one in sorted(found.items(), key=lambda item: -item[1].back.mean)
    )
    return (
        f"{ALIGNED}, whose language model is the base's, is {told_interval(aligned)} from "
        f"the base with the {tables.grid.images[0]} image: so much is no tuning's. Without an "
        f"image {PLAIN} is {told_interval(cost)} points below the base, and of that comes back: "
        f"{told}."
    )


def _kept(tables: RepairTables) -> str:
    told = "; ".join(
        f"{name} {told_interval(marks(tables, name, PLAIN))}" for name in remedied(tables)
    )
    return (
        f"Of the marks that the program gives answers about unseen scenes (of 100), minus {PLAIN}: "
        f"{told}."
    )


def _rates(tables: RepairTables, one: str, other: str) -> str:
    """Say that the rates of two remedies differ, and what there is at common ones."""
    rates = [tables.rates[name] for name in (one, other)]
    if rates[0] == rates[1]:
        return ""
    told = ", ".join(f"{r:g} {signed_points(d)}" for r, d in by_rate(tables, one, other).items())
    return (
        f" Their rates differ ({rates[0]:g} and {rates[1]:g}); at common ones, tuning seed "
        f"{tables.grid.seeds[0]}: {told}."
    )


def _shares(tables: RepairTables, names: tuple[str, ...]) -> str:
    image = tables.grid.images[0]
    return "Came back: " + ", ".join(
        f"{name} {told_share(came_back(tables, name, image).share)}" for name in names
    )
