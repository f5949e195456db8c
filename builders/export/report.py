"""Report: what became of the rows, as Markdown and a figure.

It counts rows and the responses stored for them: a build that was interrupted has the same report.
"""

import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from verbalizer_bench.builders.export import counts
from verbalizer_bench.builders.export.sets import Sets
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import Row
from verbalizer_bench.io.files import write_whole

_WIDE = 160


def write_report(
    rows: Sequence[Row], sets: Sets, recipe: DataRecipe, stages: Sequence[str]
) -> list[Path]:
    """Write `report.md` and `report.png`, and return them."""
    markdown, figure = recipe.output / "report.md", recipe.output / "report.png"
    write_whole(markdown, report(rows, sets, recipe, stages))
    draw(rows, stages, figure)
    return [markdown, figure]


def report(rows: Sequence[Row], sets: Sets, recipe: DataRecipe, stages: Sequence[str]) -> str:
    """Return the report."""
    parts = [
        f"# Report: {recipe.kind}",
        f"{len(rows):,} records: {len(sets.accepted):,} accepted, {len(sets.set_aside):,} set "
        "aside. ![yield](report.png)",
        _sets(sets, recipe),
        "## Yield by stage\n\n" + _yields(counts.stage_yields(rows, stages), "stage"),
        _instructions(rows),
        "## Lengths of accepted records, in words\n\n" + _lengths(sets.accepted),
        _rejections(rows),
        _costs(rows, recipe),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; columns after the first are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    cells = [head, rule, *([str(value) for value in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _sets(sets: Sets, recipe: DataRecipe) -> str:
    lines = []
    for name, chosen in sets.sets.items():
        absent = sum(row.image_sha256 is None for row in chosen)
        short = max(0, (recipe.sets or 0) - len(chosen))
        lines.append((f"{name}.json", f"{len(chosen):,}", f"{short:,}", f"{absent:,}"))
    head = ("set", "records", "fewer than `sets` by", "without an image file here")
    unused = {row.id for row in sets.accepted}
    unused -= {row.id for chosen in sets.sets.values() for row in chosen}
    note = f"Accepted and in no set, for they are full: {len(unused):,}."
    return f"## Sets\n\n{table(head, lines)}\n\n{note}"


def _yields(yields: Mapping[str, counts.Yield], what: str) -> str:
    lines = (
        (name, f"{one.rows:,}", f"{one.kept:,}", f"{one.share:.1%}") for name, one in yields.items()
    )
    return table((what, "in", "out", "share"), lines)


def _instructions(rows: Sequence[Row]) -> str:
    yields, first = counts.instruction_yields(rows), counts.first_attempts(rows)
    if not yields:
        return ""
    lines = (
        (name, f"{one.rows:,}", f"{first[name].share:.1%}", f"{one.kept:,}", f"{one.share:.1%}")
        for name, one in yields.items()
    )
    head = ("instruction", "records", "first answer taken", "accepted", "share")
    return f"## Yield by instruction\n\n{table(head, lines)}"


def _lengths(rows: Sequence[Row]) -> str:
    lines = (
        (name, len(found), min(found), statistics.median(found), max(found))
        for name, found in counts.lengths(rows).items()
    )
    return table(("text", "n", "least", "median", "most"), lines)


def _rejections(rows: Sequence[Row]) -> str:
    parts = ["## Set aside"]
    for (stage, reason), found in counts.reasons(rows).items():
        examples = "\n".join(f"- {_example(row)}" for row in found[: counts.EXAMPLES])
        parts.append(f"### {stage}: {reason} ({len(found):,})\n\n{examples}")
    return "\n\n".join(parts) if len(parts) > 1 else "## Set aside\n\nNone."


def _example(row: Row) -> str:
    """Return a row that was set aside in a line: why, and the text it is about."""
    assert row.set_aside
    said = f"; Q: {row.turns[0].question} A: {row.turns[0].answer}" if row.turns else ""
    text = " ".join(f"{row.set_aside.detail}{said}".split())
    text = text if len(text) <= 2 * _WIDE else f"{text[: 2 * _WIDE]} …"
    # Texts of models may have Markdown; in a code span it is shown as it is.
    return f"{row.id} ({row.image or 'no image'}): `{text.replace('`', chr(39))}`"


def _costs(rows: Sequence[Row], recipe: DataRecipe) -> str:
    found = counts.costs(rows, recipe.endpoints)
    if not found:
        return "## Cost\n\nNo model was asked."
    lines = [
        (role, *(f"{value:,}" for value in one[:3]), f"{one.money:,.4f}")
        for role, one in found.items()
    ]
    sums = [sum(one[place] for one in found.values()) for place in range(4)]
    lines.append(("all", *(f"{value:,}" for value in sums[:3]), f"{sums[3]:,.4f}"))
    head = ("role", "calls", "input tokens", "output tokens", "cost")
    note = "At the recipe's prices; calls whose response did not arrive are not counted."
    return f"## Cost\n\n{table(head, lines)}\n\n{note}"


def draw(rows: Sequence[Row], stages: Sequence[str], file: Path) -> None:
    """Draw the yield of stages and instructions, and the lengths of answers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    yields = counts.stage_yields(rows, stages) | counts.instruction_yields(rows)
    names = [name.rpartition(":")[2].replace("_", " ") for name in yields]
    colours = ["#0072B2" if name in stages else "#56B4E9" for name in yields]
    left.barh(names, [100 * one.share for one in yields.values()], color=colours)
    left.invert_yaxis()
    left.set_xlim(0, 100)
    left.set_xlabel("records that went on (%)")
    accepted = [row for row in rows if row.set_aside is None]
    for name, colour in (("question", "#E69F00"), ("answer", "#009E73")):
        if found := counts.lengths(accepted).get(name):
            right.hist(found, bins=30, histtype="step", label=name, color=colour, linewidth=1.5)
            right.legend(frameon=False)
    right.set_xlabel("words")
    right.set_ylabel("texts")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    write_whole(file, drawn.getvalue())
