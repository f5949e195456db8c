"""The study's report, its first part: each question, and what the tables answer in a sentence."""

from itertools import pairwise

import numpy as np

from verbalizer_bench.experiments import page
from verbalizer_bench.experiments.contrast import told_interval
from verbalizer_bench.experiments.miniature.arms import ALIGNED, ARMS
from verbalizer_bench.experiments.miniature.study.contrasts import (
    GROUPS,
    PAIRS,
    Shown,
    f1_contrasts,
    outcome_shares,
    seeing,
    unseen_contrast,
)
from verbalizer_bench.experiments.miniature.study.grid import Point
from verbalizer_bench.experiments.miniature.study.tables import StudyTables
from verbalizer_bench.experiments.rows import WORDS
from verbalizer_bench.results.answers import signed_points
from verbalizer_bench.results.resampling import ALPHA, holm
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

_INTERVALS = (
    "Differences are in points of F1 (of 100), with 95 % intervals over tuning seeds and "
    "documents, not over bases (t intervals, two crossed random effects). They are not adjusted "
    "for how many there are, can pass the ends of the scale, and are too narrow where few "
    "documents ever change: where two models are both at 100 there is no width, and no certainty. "
    "`-` and `+` count the cells below and above 0; two cells of a seed share its tower and items. "
    "The bases are two and are not sampled: nothing here says what a third would do."
)


def verdicts(tables: StudyTables) -> str:
    """Answer the study's questions in a list, the paper's findings first."""
    answers = [
        ("All tuned models are below the base on unnatural label words.", _below_base(tables)),
        *((f"{a} is above {b} in every label type.", _above(tables, a, b)) for a, b in PAIRS),
        ("What is lost is lost to verbosity.", _verbosity(tables)),
    ]
    questions = [
        ("Is it tuning, or the image?", _tuning(tables)),
        ("Does the blank image decide about formats?", _blank_image(tables)),
        ("Does the second measure agree?", _agreement(tables)),
        ("Does it depend on the learning rate?", _by_rate(tables)),
    ]
    return "\n\n".join(
        [
            "## In short",
            "What the paper found (the first three) or suggests (the fourth), and what this world "
            "does; All is the mean of the label types.",
            page.answers(answers),
            "And what the paper did not ask:",
            page.answers(questions),
            _INTERVALS,
        ]
    )


def _below_base(tables: StudyTables) -> str:
    lost = {n: f1_contrasts(tables, Shown(n), Shown("base"))["unnatural"] for n in ARMS}
    told, every = [], True
    for place, seed in enumerate(tables.grid.bases):
        kept = [name for name, c in lost.items() if c.by_base[place] > -0.0005]
        every &= not kept
        but = f"all but {' and '.join(kept)}" if kept else "all"
        told.append(f"Base {seed}: {but}")
    lower = sum(c.direction < 0 for c in lost.values())
    aligned = f1_contrasts(tables, Shown(ALIGNED), Shown("base"))["unnatural"]
    return (
        f"{_verdict(lower, len(lost) if every else len(lost) + 1)} {'; '.join(told)}. In the "
        f"mean of the bases {lower} of {len(lost)}, with the whole interval below 0. For the "
        f"LVLMs the image is in it: {ALIGNED}, not tuned, has {told_interval(aligned)}."
    )


def _verdict(agreeing: int, every: int) -> str:
    words = "Reproduced" if agreeing == every else "In part" if agreeing else "Not reproduced"
    return f"**{words}.**"


def _above(tables: StudyTables, one: str, other: str) -> str:
    """Judge a pair by Holm's p-values over the label types and All of both pairs."""
    every = {pair: f1_contrasts(tables, *map(Shown, pair)) for pair in PAIRS}
    # Where nothing differs nothing is found.
    values = [1.0 if np.isnan(c.p) else c.p for pair in every.values() for c in pair.values()]
    adjusted = holm(values)
    place = len(GROUPS) * PAIRS.index((one, other))
    p_values = dict(zip(GROUPS, adjusted[place : place + len(GROUPS)], strict=True))
    by_group = every[one, other]
    above = sum(by_group[name].mean > 0 and p_values[name] < ALPHA for name in LABEL_TYPES)
    told = "; ".join(
        f"{name} {told_interval(c)} ({'no p' if np.isnan(c.p) else f'p {p_values[name]:.2g}'})"
        for name, c in by_group.items()
    )
    cells = by_group["All"]
    return (
        f"{_verdict(above, len(LABEL_TYPES))} {told}; All is above 0 in {cells.above} of "
        f"{cells.cells} cells and below in {cells.below}. p: of the t test, by Holm over both "
        "pairs."
    )


def _verbosity(tables: StudyTables) -> str:
    told, losing, verbose = [], 0, 0
    for name in ARMS:
        change = {
            outcome: float(_change(tables, name, outcome)[:, :, -1].mean())
            for outcome in (*OUTCOMES, WORDS)
        }
        losing += change["follows"] < 0
        verbose += change["follows"] < 0 and change["verbose"] > -change["follows"] / 2
        rest = ", ".join(f"{o} {signed_points(change[o])}" for o in OUTCOMES if o != "follows")
        told.append(
            f"{name} {signed_points(change['follows'])} follow ({rest}, of it "
            f"{signed_points(change[WORDS])} of four words and more)"
        )
    return (
        f"{_verdict(verbose, losing)} In {verbose} of the {losing} arms that follow less than the "
        "base, more than half of the difference is `verbose`: the right label word, with more "
        "words around it. Sentences without a label word are verbose too, and are not in that: "
        f"they are `neither`. Of all responses, in points: {'; '.join(told)}."
    )


def _change(tables: StudyTables, name: str, outcome: str) -> np.ndarray:
    base = outcome_shares(tables, Shown("base"), outcome)
    return outcome_shares(tables, Shown(name), outcome) - base


def _tuning(tables: StudyTables) -> str:
    first = tables.grid.images[0]
    aligned = f1_contrasts(tables, Shown(ALIGNED), Shown("base"))["All"]
    told = []
    for name in seeing():
        if name != ALIGNED:
            seen = f1_contrasts(tables, Shown(name), Shown(ALIGNED))["All"]
            text = f"{name} {told_interval(seen)}"
            if "none" in tables.grid.images:
                alone = f1_contrasts(tables, Shown(name, "none"), Shown("base"))["All"]
                text += f", and without an image against the base {told_interval(alone)}"
            told.append(text)
    return (
        f"{ALIGNED}, whose language model is the base's, is {told_interval(aligned)} (All) from "
        f"the base by the tokens of a {first} image in front of the prompt. Tuning changes that, "
        f"with the same image, by: {'; '.join(told)}."
    )


def _blank_image(tables: StudyTables) -> str:
    one, other = PAIRS[1]
    told = []
    for image in tables.grid.images:
        difference = f1_contrasts(tables, Shown(one, image), Shown(other, image))["All"]
        told.append(
            f"{image} {told_interval(difference)} "
            f"(above in {difference.above}, below in {difference.below})"
        )
    return (
        f"{one} minus {other}, All, by what is shown: {'; '.join(told)}. No image of a scene was "
        "shown with these prompts."
    )


def _agreement(tables: StudyTables) -> str:
    told = []
    for one, other in PAIRS:
        exact = unseen_contrast(tables, one, other, "exact")
        right = unseen_contrast(tables, one, other, "right")
        f1 = f1_contrasts(tables, Shown(one), Shown(other))["All"]
        verdict = "agrees" if exact.direction == f1.direction else "does not agree"
        told.append(
            f"{one} minus {other}: exact answers {told_interval(exact)}, right in whatever format "
            f"{told_interval(right)}, which {verdict} with F1 (All), {told_interval(f1)}"
        )
    return (
        "Answers to prompts with format instructions about scenes that no arm was tuned on. "
        f"{'; '.join(told)}. The formats are those of tuning: it is no test of new instructions."
    )


def _by_rate(tables: StudyTables) -> str:
    """Tell in how many series F1 falls with every higher rate."""
    grid = tables.grid
    rates, falling, series = sorted(grid.learning_rates), 0, 0
    for name in ARMS:
        for base in grid.bases:
            points = [Point(base, grid.seeds[0], name, rate) for rate in rates]
            image = points[0].images(grid.images)[0]
            f1 = [tables.f1[point, image].mean() for point in points]
            falling += all(one > other for one, other in pairwise(f1))
            series += 1
    unlike = {pair: [tables.rates[name] for name in pair] for pair in PAIRS}
    alike = all(len(set(signs)) == 1 for signs in unlike.values())
    pairs = "The two arms of each pair have the same rate" if alike else "The pairs differ in it"
    return (
        f"In {falling} of {series} series (arm x base, at the first tuning seed) F1 (All) falls "
        "with every higher rate: how much an arm loses depends on its rate, and arms of different "
        f"rates are not to be compared by it. {pairs}; the table of rates below has "
        "the others."
    )
