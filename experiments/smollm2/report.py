"""The study's page: Markdown and figures, made of its tables alone.

python -m verbalizer_bench.experiments.smollm2.report experiments/smollm2/results
"""

from collections.abc import Sequence
from pathlib import Path

from verbalizer_bench.experiments.page import write_from_tables, write_page
from verbalizer_bench.experiments.smollm2 import sections
from verbalizer_bench.experiments.smollm2.figures import draw_curves, draw_scores
from verbalizer_bench.experiments.smollm2.findings import models
from verbalizer_bench.experiments.smollm2.tables import StudyTables, read_tables
from verbalizer_bench.experiments.smollm2.verdicts import verdicts


def write(folder: Path) -> Path:
    """Write `README.md` and the figures beside the tables of a folder."""
    tables = read_tables(folder)
    parts = [sections.head(tables)]
    for base in dict.fromkeys(point.base for point in tables.points):
        parts += _of_base(tables, base, folder)
    return write_page(folder, [*parts, sections.data(tables), sections.files()])


def _of_base(tables: StudyTables, base: str, folder: Path) -> list[str]:
    """Return a base's parts of the page, and draw its figures."""
    draw_scores(tables, base, folder / f"{base}-scores.png")
    parts = [
        f"# {sections.named(tables, base)}",
        verdicts(tables, base),
        f"![F1 by label type]({base}-scores.png)",
        sections.scores(tables, base),
        *([sections.differences(tables, base)] if len(models(tables, base)) > 1 else []),
        sections.outcomes(tables, base),
        sections.formats(tables, base),
    ]
    if tables.chosen_curves(base):
        draw_curves(tables, base, folder / f"{base}-curves.png")
        parts += [sections.curve(tables, base), f"![F1 over the steps]({base}-curves.png)"]
    if any(own == base for own, _ in tables.rates):
        parts.append(sections.rates(tables, base))
    return [
        *parts,
        sections.costs(tables, base),
        sections.responses(tables, base),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report."""
    write_from_tables("verbalizer_bench.experiments.smollm2.report", write, argv)


if __name__ == "__main__":
    main()
