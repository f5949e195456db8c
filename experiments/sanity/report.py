"""The tables of docs/sanity.md, made of `answers.csv` and `ways.csv` alone.

python -m verbalizer_bench.experiments.sanity.report experiments/sanity/results docs/sanity.md
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from verbalizer_bench.experiments.page import spread
from verbalizer_bench.experiments.rows import read_rows
from verbalizer_bench.experiments.sanity.answers import ANSWERERS
from verbalizer_bench.experiments.sanity.gathering import FILE as WAYS_FILE
from verbalizer_bench.experiments.sanity.scores import ALL_SETS, FILE, GROUPS
from verbalizer_bench.experiments.sanity.sensitivity import REFERENCE, WAYS
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.results.tables import markdown_table
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

Row = Mapping[str, str]
# Below it a difference is called beyond doubt.
LEVEL = 0.05
# As headers have them.
_GROUPS = tuple(group.capitalize() for group in GROUPS)


def answers_table(rows: Sequence[Row]) -> str:
    """Return what answers without a model score, over all data sets and in each."""
    cells = []
    for name, answerer in ANSWERERS.items():
        of_answer = [row for row in rows if row["answer"] == name]
        whole = [row for row in of_answer if row["data_set"] == ALL_SETS]
        f1 = [spread(_column(whole, group)) for group in GROUPS]
        outcomes = [f"{_column(whole, outcome).mean():.0f}" for outcome in OUTCOMES]
        cells.append([answerer.what, *f1, _over_sets(of_answer), *outcomes])
    header = ["Every answer is", *_GROUPS, "All, by data set", *OUTCOMES]
    return markdown_table(header, cells)


def _over_sets(rows: Sequence[Row]) -> str:
    """Return the least and the most of the data sets' All, each the mean of its draws."""
    sets: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["data_set"] != ALL_SETS:
            sets[row["data_set"]].append(float(row["All"]))
    means = [np.mean(values) for values in sets.values()]
    low, high = f"{min(means):.1f}", f"{max(means):.1f}"
    return low if low == high else f"{low} to {high}"


def ways_table(rows: Sequence[Row]) -> str:
    """Return F1 of each model in each way to ask, and the differences from the reference."""
    cells = []
    for row in rows:
        types = _types(row)
        f1 = [f"{value:.1f}" for value in (*types, types.mean())]
        outcomes = [_outcome(row, outcome) for outcome in OUTCOMES]
        asked = [row["model"], WAYS[row["way"]].what, row["bos"] or "none"]
        cells.append([*asked, *f1, _change(row), *outcomes])
    header = ["Model", "Asked", "BOS", *_GROUPS, "All against the first", *OUTCOMES]
    return markdown_table(header, cells)


def changes_table(rows: Sequence[Row]) -> str:
    """Return the differences by label type."""
    cells = [
        [row["model"], WAYS[row["way"]].what, *(_change(row, group) for group in LABEL_TYPES)]
        for row in rows
        if row["way"] != REFERENCE
    ]
    return markdown_table(["Model", "Asked", *_GROUPS[:-1]], cells)


def findings(rows: Sequence[Row]) -> str:
    """Return how far each model's scores, and differences of them, go from wording to wording."""
    f1 = {(row["model"], row["way"]): _types(row) for row in rows}
    models = list(dict.fromkeys(model for model, _ in f1))
    lines = []
    for model in models:
        asked = [way for one, way in f1 if one == model]
        whole = {way: float(f1[model, way].mean()) for way in asked}
        gap = {way: float(f1[model, way][0] - f1[model, way][-1]) for way in asked}
        lines.append(
            f"- {model}: *All* is {_over_wordings(whole)}; natural minus unnatural is "
            f"{_over_wordings(gap)}."
        )
    for one, other in combinations(models, 2):
        both = [way for way in WAYS if (one, way) in f1 and (other, way) in f1]
        apart = {way: float((f1[other, way] - f1[one, way]).mean()) for way in both}
        lines.append(f"- {other} minus {one}: *All* differs by {_over_wordings(apart)}.")
    return "\n".join(lines)


def moves(rows: Sequence[Row]) -> str:
    """Return which differences of each model are beyond doubt, and what becomes of its format."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == model]
        first, others = of_model[0], of_model[1:]
        if not others:
            continue
        tried = len(others) * len(GROUPS)
        sure = [
            f"{WAYS[row['way']].what}, {group} (p {float(row[f'{group}_p_holm']):.3f})"
            for row in others
            for group in GROUPS
            if float(row[f"{group}_p_holm"]) < LEVEL
        ]
        named = f"{len(sure)} {'is' if len(sure) == 1 else 'are'}" if sure else "none is"
        formats = (
            f"*{outcome}* is {_outcome(first, outcome)} % with the suite's prompts, "
            f"{_range([float(_outcome(row, outcome)) for row in others])} % in the other ways"
            for outcome in ("follows", "neither")
        )
        lines.append(
            f"- {model}: adjusted for all {tried} differences {named} below p = {LEVEL}"
            f"{': ' if sure else ''}{'; '.join(sure)}. Of its answers {'; '.join(formats)}."
        )
    return "\n".join(lines)


def measured(rows: Sequence[Row]) -> str:
    """Return on what the ways were asked, of how many documents, and what one costs."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == model]
        documents, machines = (
            " and ".join(dict.fromkeys(row[said] for row in of_model))
            for said in ("documents", "machine")
        )
        seconds = _range([float(row["seconds"]) for row in of_model])
        lines.append(
            f"- {model}: {documents} documents, {machines}; {seconds} s of processor time a way."
        )
    return "\n".join(lines)


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def _types(row: Row) -> np.ndarray:
    return _column([row], *(f"{group}_f1" for group in LABEL_TYPES))


def _over_wordings(values: Mapping[str, float]) -> str:
    """Return a value with the suite's prompts, and the least and most of wordings and of all."""
    worded = [value for way, value in values.items() if way == REFERENCE or WAYS[way].wording]
    text = f"{values[REFERENCE]:.1f} with the suite's prompts"
    if len(worded) > 1:
        text += f", {min(worded):.1f} to {max(worded):.1f} over {len(worded)} wordings"
    if len(values) > len(worded):
        text += f", {min(values.values()):.1f} to {max(values.values()):.1f} over all ways"
    return text


def _outcome(row: Row, outcome: str) -> str:
    return f"{_column([row], *(f'{group}_{outcome}' for group in LABEL_TYPES)).mean():.0f}"


def _change(row: Row, group: str = "All") -> str:
    if row["way"] == REFERENCE:
        return ""
    mean, low, high = (float(row[f"{group}_{part}"]) for part in ("difference", "low", "high"))
    return f"{mean:+.1f} [{low:.1f}, {high:.1f}]"


def _column(rows: Sequence[Row], *names: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows for name in names])


def write(folder: Path, page: Path) -> Path:
    """Replace the tables of a page; its text stays.

    Raises:
        ValueError: The page has no place for a table.
    """
    ways = read_rows(folder / WAYS_FILE)
    tables = {
        "answers": answers_table(read_rows(folder / FILE)),
        "ways": ways_table(ways),
        "changes": changes_table(ways),
        "findings": findings(ways),
        "moves": moves(ways),
        "measured": measured(ways),
    }
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if start not in text or end not in text:
            raise ValueError(f"{page}: no {start.strip()} … {end} in it, where a table goes")
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{table}\n\n{end}{rest.partition(end)[2]}"
    write_whole(page, text)
    return page


def main(argv: Sequence[str] | None = None) -> None:
    """Write the tables into the page."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.sanity.report")
    parser.add_argument("folder", type=Path, help="where the tables are")
    parser.add_argument("page", type=Path, help="where they go")
    args = parser.parse_args(argv)
    print(f"Wrote {write(args.folder, args.page)}")


if __name__ == "__main__":
    main()
