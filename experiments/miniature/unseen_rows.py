"""The second measure's rows: what was answered about unseen scenes, a digit a record."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from verbalizer_bench.experiments.rows import Point, read_rows

UNSEEN = ("exact", "follows", "right")


def read_unseen(
    file: Path, point_of: Callable[[Mapping[str, str]], Point]
) -> dict[Point, dict[str, np.ndarray]]:
    """Read what `unseen_row` gave: a value for each record, NaN where there is no verifier."""
    return {
        point_of(row): {
            name: np.array([np.nan if bit == "-" else float(bit) for bit in row[name]])
            for name in UNSEEN
        }
        for row in read_rows(file)
    }


def unseen_row(file: Path) -> dict[str, str]:
    """Return the measures of answers about unseen scenes, a digit a record (`-`: no verifier)."""
    answers = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: "".join("-" if a[name] is None else str(int(a[name])) for a in answers)
        for name in UNSEEN
    }
