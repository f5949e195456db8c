"""The page's first part of a base: each question, and what the tables answer to it."""

from collections.abc import Mapping

from verbalizer_bench.experiments import page
from verbalizer_bench.experiments.contrast import SeedContrast, told_interval
from verbalizer_bench.experiments.smollm2.arms import FORMATTED, PLAIN
from verbalizer_bench.experiments.smollm2.columns import ALONE, F1
from verbalizer_bench.experiments.smollm2.findings import (
    GROUPS,
    PROMPTS,
    CameBack,
    before_tuning,
    by_document,
    came_back,
    common,
    difference,
    followed,
    followed_difference,
    models,
    remedies,
)
from verbalizer_bench.experiments.smollm2.grid import BASE
from verbalizer_bench.experiments.smollm2.items import FORMATS
from verbalizer_bench.experiments.smollm2.tables import StudyTables
from verbalizer_bench.results.ratio import Ratio
from verbalizer_bench.trainers.curve.points import F1 as CURVE_F1

NOT_RUN = "Not run yet."
_INTERVALS = """Differences are in points of F1 (All: the mean of the three label types) with
intervals of 95 %, over tuning seeds and documents where there are several seeds (t intervals, two
crossed random effects), over documents alone where there is one: such an interval says nothing of
other seeds. Each is by itself; of several remedies **the best looks better than it is**."""


def verdicts(tables: StudyTables, base: str) -> str:
    """Answer the study's questions in a list."""
    answers = [
        ("What does the base do?", _base(tables, base)),
        ("Does tuning without formats hurt more than tuning with formats?", _formats(tables, base)),
        ("Do they keep the suite's format, a label word alone?", _alone(tables, base)),
        ("Does it depend on the learning rate?", _rates(tables, base)),
        ("And attention tuned alone?", _attention(tables, base)),
        ("Which remedy brings back most?", _remedies(tables, base)),
        ("Does IFEval say the same?", _ifeval(tables, base)),
    ]
    return f"## In short\n\n{page.answers(answers)}\n\n{_INTERVALS}"


def _base(tables: StudyTables, base: str) -> str:
    whole, word = (
        100 * by_document(tables, base, BASE, [0], measure)[0].mean(axis=1)
        for measure in (F1, ALONE)
    )
    types = ", ".join(f"{name} {value:.1f}" for name, value in zip(GROUPS, whole, strict=True))
    followed_prompts = 100 * followed(tables, base, BASE, PROMPTS, [0]).mean()
    return (
        f"F1 {types}. Of its responses {word[-1]:.1f} % are a label word alone, right or wrong (of "
        f"those to neutral words {word[GROUPS.index('neutral')]:.1f} %). It follows "
        f"{followed_prompts:.1f} % of IFEval's prompts."
    )


def told(found: SeedContrast | None, seeds: int) -> str:
    """Return a difference with its interval and how many seeds it is over."""
    if found is None:
        return NOT_RUN
    over = f"{seeds} seeds" if seeds > 1 else "one seed, documents alone"
    if seeds > 1 and not found.direction and found.cells in (found.below, found.above):
        # Few seeds that differ much give an interval that says less than they do.
        over += f", each {'below' if found.below else 'above'} 0"
    return f"{told_interval(found)} ({over})"


def way(found: SeedContrast, less: str, more: str, same: str) -> str:
    """Return what a difference says: that it is below 0, above, or neither."""
    return {-1: less, 1: more, 0: same}[found.direction]


def _between(tables: StudyTables, base: str, one: str, other: str, measure: str = F1) -> str:
    seeds = len(common(tables, base, one, other))
    return told(difference(tables, base, one, other, measure=measure), seeds)


def _alone(tables: StudyTables, base: str) -> str:
    found = difference(tables, base, PLAIN, FORMATTED, measure=ALONE)
    if found is None:
        return NOT_RUN
    said = way(found, "Fewer responses do without formats", "More do", "It cannot be told")
    return (
        f"{said}: {PLAIN} minus {FORMATTED} {_between(tables, base, PLAIN, FORMATTED, ALONE)}, in "
        f"points of all responses. Against the base: {FORMATTED} "
        f"{_between(tables, base, FORMATTED, BASE, ALONE)}, {PLAIN} "
        f"{_between(tables, base, PLAIN, BASE, ALONE)}. One of {FORMATTED}'s {len(FORMATS)} "
        "formats is a number alone, as short as a label word: that one may do more than the others."
    )


def _formats(tables: StudyTables, base: str) -> str:
    found = difference(tables, base, PLAIN, FORMATTED)
    if found is None:
        return NOT_RUN
    said = way(
        found,
        "Yes: F1 is lower without formats",
        "No: F1 is higher without formats",
        "It cannot be told",
    )
    return (
        f"{said}: {PLAIN} minus {FORMATTED} {_between(tables, base, PLAIN, FORMATTED)}. Against "
        f"the base: {FORMATTED} {_between(tables, base, FORMATTED, BASE)}, {PLAIN} "
        f"{_between(tables, base, PLAIN, BASE)}."
    )


def _rates(tables: StudyTables, base: str) -> str:
    """Tell where each learning rate led that was tried, on the few documents of the curves."""
    start, seed = before_tuning(tables, base), str(tables.grid.seeds[0])
    rows = [row for row in tables.curve if (row["base"], row["seed"]) == (base, seed)]
    # The last of each tuning.
    last = {(row["model"], row["learning_rate"]): row for row in rows}
    if start is None or len(last) == len({model for model, _ in last}):
        return NOT_RUN
    ends = [
        f"{model} with {rate}{'' if tables.is_chosen(row) else ' (not chosen)'} "
        f"{100 * float(row[CURVE_F1['All']]):.1f}"
        for (model, rate), row in last.items()
    ]
    documents = tables.grid.curve_documents * len(set(tables.datasets))
    return (
        f"F1 of All after the last step, on {documents} documents, one seed: {', '.join(ends)}; "
        f"the base {100 * start.mean():.1f}. The rate was chosen by the held-out loss of the "
        "tuning records, which does not see this."
    )


def _attention(tables: StudyTables, base: str) -> str:
    names = [f"{name}-attention" for name in (PLAIN, FORMATTED)]
    if difference(tables, base, *names) is None:
        return NOT_RUN
    against = [
        f"{name}-attention minus {name} {_between(tables, base, f'{name}-attention', name)}"
        for name in (FORMATTED, PLAIN)
    ]
    between = _between(tables, base, *names)
    return f"{names[0]} minus {names[1]} {between}; {'; '.join(against)}."


def _remedies(tables: StudyTables, base: str) -> str:
    found = {
        name: back for name in remedies(tables, base) if (back := came_back(tables, base, name))
    }
    if not found:
        return NOT_RUN
    cost = difference(tables, base, PLAIN, BASE)
    assert cost is not None
    if cost.direction != -1:
        lead = f"No cost is certain: {PLAIN} cannot be told to be below the base. "
    else:
        lead = ""
    best = max(found, key=lambda name: found[name].back.mean)
    which = (
        f"the highest of the {len(found)} that were run" if len(found) > 1 else "the only one run"
    )
    seeds = len(common(tables, base, PLAIN, best))
    return (
        f"{lead}{best}, {which}: {told(found[best].back, seeds)} against {PLAIN}"
        f"{'' if lead else _share(found[best].share)}, {told_interval(found[best].rest)} against "
        f"the base.{_certain(found, 1, 'above')}{_certain(found, -1, 'below')}"
    )


def _certain(found: Mapping[str, CameBack], direction: int, where: str) -> str:
    sure = {name: one.back.cells for name, one in found.items() if one.back.direction == direction}
    over_seeds = ", ".join(name for name, seeds in sure.items() if seeds > 1)
    alone = ", ".join(name for name, seeds in sure.items() if seeds == 1)
    said = f" For certain {where} {PLAIN}: {over_seeds}." if over_seeds else ""
    return said + (f" With one seed each, {where} {PLAIN}: {alone}." if alone else "")


def _share(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    values = [round(100 * value) for value in (ratio.value, ratio.low, ratio.high)]
    return f", {values[0]} % [{values[1]}, {values[2]}] of what it cost"


def _ifeval(tables: StudyTables, base: str) -> str:
    found = followed_difference(tables, base, PLAIN, FORMATTED)
    if found is None:
        return NOT_RUN
    whole = [
        f"{name} {told_interval(one)}"
        for name in models(tables, base)
        if name != BASE and (one := followed_difference(tables, base, name, BASE))
    ]
    said = way(
        found,
        "Fewer prompts are followed without formats",
        "More prompts are followed without formats",
        "It cannot be told",
    )
    return (
        f"{said}: {PLAIN} minus {FORMATTED} {told_interval(found)}. Against the "
        f"base: {', '.join(whole)}."
    )
