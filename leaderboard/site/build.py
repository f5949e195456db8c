"""The leaderboard as a static site: one page, and the same as JSON, CSV and SVG.

verbalizer-bench leaderboard build SUBMISSIONS -o SITE

Every submission is validated; one that is not valid is left out. The same submissions give the same
bytes.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.leaderboard.pages.figures import ranking_bars
from verbalizer_bench.leaderboard.pages.html import embedded_json, render, shade, svg_image
from verbalizer_bench.leaderboard.site.entries import COLUMNS, read_board
from verbalizer_bench.leaderboard.site.ranges import differing_documents, paired_errors
from verbalizer_bench.leaderboard.site.ranking import Table, rank
from verbalizer_bench.leaderboard.site.records import as_csv, as_json
from verbalizer_bench.results.few import FEW
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import DATASETS
from verbalizer_bench.version import __version__

FILES = ("index.html", "leaderboard.json", "leaderboard.csv", "leaderboard.svg")
# More would not be read in one figure.
_SHOWN = 20
# Of a longer table the page would hold too many pairs.
_PAIRED = 100


@dataclasses.dataclass(frozen=True)
class Site:
    """What was written.

    Attributes:
        files: The page first.
        tables: What they show.
        left_out: What is wrong with each submission that is not shown, a line each.
    """

    files: tuple[Path, ...]
    tables: tuple[Table, ...]
    left_out: tuple[str, ...] = ()


def build_site(submissions: Path, output: Path, *, trusted: bool = False) -> Site:
    """Validate submissions and build their site.

    Args:
        submissions: The folder of `<org>__<model>/<YYYYMMDD>-<8 hex>/`.
        output: The site's folder; an earlier site in it is replaced.
        trusted: Take each `verified.json` as it is: for a job that has just written them.

    Raises:
        ValueError: No submission is valid, or `output` holds something else.
        FileNotFoundError: There is no submission.
    """
    _check_output(output)
    board = read_board(submissions, trusted=trusted)
    tables = rank(board.entries)
    output.mkdir(parents=True, exist_ok=True)
    drawn = output / ".leaderboard.svg"
    _draw(tables, (drawn,))
    table_json = as_json(tables)
    contents = {
        "index.html": _page(tables, table_json),
        "leaderboard.json": json.dumps(table_json, indent=1, ensure_ascii=False) + "\n",
        "leaderboard.csv": as_csv(tables),
        "leaderboard.svg": drawn.read_text(encoding="utf-8"),
    }
    drawn.unlink()
    for name, text in contents.items():
        write_whole(output / name, text)
    return Site(tuple(output / name for name in FILES), tables, board.left_out)


def _check_output(output: Path) -> None:
    if output.is_file():
        raise ValueError(f"leaderboard build: {output} is a file; give a folder with -o")
    if output.is_dir():
        # With what a killed build left.
        known = {left for name in FILES for left in (name, f".{name}", f"{name}.part")}
        # Writing to a link would change a file elsewhere.
        if others := sorted(
            path.name
            for path in output.iterdir()
            if path.name not in known or path.is_symlink() or not path.is_file()
        ):
            raise ValueError(
                f"leaderboard build: {output} holds other files ({others[0]}); give another -o"
            )


def _draw(tables: Sequence[Table], files: Sequence[Path]) -> None:
    panels = []
    for table in tables:
        rows = [(row.entry.id, row.entry.verified.label_types) for row in table.rows[:_SHOWN]]
        first = f", the first {_SHOWN} of {len(table.rows)}" if len(table.rows) > _SHOWN else ""
        unknown = "" if table.verified else ", prompts not verified"
        panels.append((f"Protocol {table.protocol}{unknown}{first}", rows))
    ranking_bars(panels, files)


def _errors(table: Table) -> dict[str, Any]:
    """Return the standard error of the difference in All of each two rows, a triangle.

    None where few documents differ, of which it would say too little.
    """
    entries = [row.entry for row in table.rows]
    errors = paired_errors(entries)

    def shown(i: int, j: int) -> float | None:
        few = differing_documents(entries[i], entries[j]) < FEW
        return None if few or np.isnan(errors[i, j]) else round(float(errors[i, j]), 5)

    triangle = [[shown(i, j) for j in range(i)] for i in range(len(entries))]
    return {"paths": [entry.path for entry in entries], "errors": triangle}


def _page(tables: Sequence[Table], table_json: Mapping[str, Any]) -> str:
    rows = {row["path"]: row for table in table_json["tables"] for row in table["rows"]}
    data = {
        "rows": rows,
        "verbalizers": table_json["verbalizers"],
        "datasets": DATASETS,
        "shades": [shade(step / 100) for step in range(101)],
        "columns": COLUMNS,
        "errors": [_errors(table) for table in tables if len(table.rows) <= _PAIRED],
        "outcomes": OUTCOMES,
    }
    return render(
        "site.html.jinja",
        scripts=("tables.js", "site.js"),
        tables=table_json["tables"],
        count=len(rows),
        columns=COLUMNS,
        data=embedded_json(data),
        figure=svg_image(
            lambda files: _draw(tables, files),
            "Bars of F1 by label type for the first models of each protocol; the tables have the "
            "numbers.",
        ),
        version=__version__,
    )
