"""Report: what became of the samples, as Markdown and a figure.

It counts samples and their stored responses: a build that was interrupted has the same report.
"""

import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from verbalizer_bench.builders.export import counts, preference_report
from verbalizer_bench.builders.export.markdown import table
from verbalizer_bench.builders.export.sets import Sets
from verbalizer_bench.builders.pipeline.recipe import (
    DataRecipe,
    ExistingPairs,
    FormatPairs,
    Preference,
)
from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.io.files import write_whole

_WIDE = 160


def write_report(
    samples: Sequence[TrainingSample], sets: Sets, recipe: DataRecipe, stages: Sequence[str]
) -> list[Path]:
    """Write `report.md` and `report.png`, and return them."""
    markdown, figure = recipe.output / "report.md", recipe.output / "report.png"
    write_whole(markdown, report(samples, sets, recipe, stages))
    draw(samples, stages, figure)
    return [markdown, figure]


def report(
    samples: Sequence[TrainingSample], sets: Sets, recipe: DataRecipe, stages: Sequence[str]
) -> str:
    """Return the report."""
    parts = [
        f"# Report: {recipe.kind}",
        f"{len(samples):,} records: {len(sets.accepted):,} accepted, {len(sets.rejected):,} set "
        "aside. ![yield](report.png)",
        _sets(sets, recipe),
        "## Yield by stage\n\n" + _yields(counts.stage_yields(samples, stages), "stage"),
        _instructions(samples),
        *preference_report.sections(samples, recipe),
        "## Lengths of accepted records, in words\n\n" + _lengths(sets.accepted),
        _rejections(samples),
        _costs(samples, recipe),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sets(sets: Sets, recipe: DataRecipe) -> str:
    if recipe.sets is None and isinstance(recipe, (ExistingPairs, FormatPairs, Preference)):
        known = [(name, f"{len(chosen):,}") for name, chosen in sets.sets.items()]
        return f"## Sets\n\n{table(('set', 'records'), known)}"
    lines = []
    for name, chosen in sets.sets.items():
        absent = sum(bool(sample.image) and not sample.image_sha256 for sample in chosen)
        short = max(0, (recipe.sets or 0) - len(chosen))
        lines.append((name, f"{len(chosen):,}", f"{short:,}", f"{absent:,}"))
    head = ("set", "records", "fewer than `sets` by", "without an image file here")
    unused = {sample.id for sample in sets.accepted}
    unused -= {sample.id for chosen in sets.sets.values() for sample in chosen}
    note = f"Accepted and in no set, for they are full: {len(unused):,}."
    return f"## Sets\n\n{table(head, lines)}\n\n{note}"


def _yields(yields: Mapping[str, counts.Yield], what: str) -> str:
    lines = (
        (name, f"{one.samples:,}", f"{one.kept:,}", f"{one.share:.1%}")
        for name, one in yields.items()
    )
    return table((what, "in", "out", "share"), lines)


def _instructions(samples: Sequence[TrainingSample]) -> str:
    yields, first = counts.instruction_yields(samples), counts.first_attempts(samples)
    if not yields:
        return ""
    # Samples that were not made here come without their attempts.
    told = {name: f"{one.share:.1%}" for name, one in first.items()}
    lines = (
        (name, f"{one.samples:,}", told.get(name, "-"), f"{one.kept:,}", f"{one.share:.1%}")
        for name, one in yields.items()
    )
    head = ("instruction", "records", "first answer taken", "accepted", "share")
    return f"## Yield by instruction\n\n{table(head, lines)}"


def _lengths(samples: Sequence[TrainingSample]) -> str:
    lines = (
        (name, len(words), min(words), statistics.median(words), max(words))
        for name, words in counts.lengths(samples).items()
    )
    return table(("text", "n", "least", "median", "most"), lines)


def _rejections(samples: Sequence[TrainingSample]) -> str:
    parts = ["## Set aside"]
    for (stage, reason), rejected in counts.rejections(samples).items():
        examples = "\n".join(f"- {_example(sample)}" for sample in rejected[: counts.EXAMPLES])
        parts.append(f"### {stage}: {reason} ({len(rejected):,})\n\n{examples}")
    return "\n\n".join(parts) if len(parts) > 1 else "## Set aside\n\nNone."


def _example(sample: TrainingSample) -> str:
    """Return a rejected sample in a line: why, and the text it is about."""
    assert sample.rejection
    said = f"; Q: {sample.turns[0].question} A: {sample.turns[0].answer}" if sample.turns else ""
    text = " ".join(f"{sample.rejection.detail}{said}".split())
    text = text if len(text) <= 2 * _WIDE else f"{text[: 2 * _WIDE]} …"
    # Generated texts may have Markdown; a code span shows it as it is.
    return f"{sample.id} ({sample.image or 'no image'}): `{text.replace('`', chr(39))}`"


def _costs(samples: Sequence[TrainingSample], recipe: DataRecipe) -> str:
    if isinstance(recipe, FormatPairs):
        # Their answers were paid for by the build that they are from.
        samples = [_sampled_alone(sample) for sample in samples]
    usage = counts.usage_by_role(samples, recipe.endpoints)
    if not usage:
        return "## Cost\n\nNo model was asked."
    usage["all"] = counts.RoleUsage(*map(sum, zip(*usage.values(), strict=True)))
    lines = [
        (role, *(f"{value:,}" for value in one[:3]), f"{one.money:,.4f}")
        for role, one in usage.items()
    ]
    head = ("role", "calls", "input tokens", "output tokens", "cost")
    note = (
        "In the currency of the recipe's prices; calls whose response did not arrive are not "
        f"counted.{_unpriced(usage, recipe)}"
    )
    return f"## Cost\n\n{table(head, lines)}\n\n{note}{_not_taken(samples)}"


def _unpriced(roles: Iterable[str], recipe: DataRecipe) -> str:
    """Return which roles have no price, so that their cost is not known."""
    default = recipe.endpoints.get("default")
    endpoints = {role: recipe.endpoints.get(role) or default for role in roles}
    names = [role for role, one in endpoints.items() if one and not one.is_priced]
    return f" No price is given for {', '.join(names)}: 0 is not its cost." if names else ""


def _not_taken(samples: Sequence[TrainingSample]) -> str:
    """Return how many responses were not taken, most of which were asked for again."""
    counted = counts.not_taken(samples)
    lines = [(f"{role}: {reason}", f"{n:,}") for (role, reason), n in counted.most_common()]
    return f"\n\n{table(('responses that were not taken', 'n'), lines)}" if lines else ""


def _sampled_alone(sample: TrainingSample) -> TrainingSample:
    own = tuple(attempt for attempt in sample.attempts if attempt.role == "completion")
    return replace(sample, attempts=own)


def draw(samples: Sequence[TrainingSample], stages: Sequence[str], file: Path) -> None:
    """Draw the yield of stages and instructions, and the lengths of answers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    yields = counts.stage_yields(samples, stages) | counts.instruction_yields(samples)
    names = [name.rpartition(":")[2].replace("_", " ") for name in yields]
    bars = ["#0072B2" if name in stages else "#56B4E9" for name in yields]
    left.barh(names, [100 * one.share for one in yields.values()], color=bars)
    left.invert_yaxis()
    left.set_xlim(0, 100)
    left.set_xlabel("records that went on (%)")
    accepted = [sample for sample in samples if sample.rejection is None]
    colours = {"question": "#E69F00", "answer": "#009E73", "completion": "#CC79A7"}
    for name, colour in colours.items():
        if words := counts.lengths(accepted).get(name):
            right.hist(words, bins=30, histtype="step", label=name, color=colour, linewidth=1.5)
            right.legend(frameon=False)
    right.set_xlabel("words")
    right.set_ylabel("texts")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    write_whole(file, drawn.getvalue())
