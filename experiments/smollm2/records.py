"""What is kept of a point when its weights and runs are gone: its rows of the study's tables.

So a study goes on from the tables of a report in a folder that is new, on another machine too.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.experiments.grids import keep_weights
from verbalizer_bench.experiments.rows import read_rows
from verbalizer_bench.experiments.smollm2.arms import ARMS
from verbalizer_bench.experiments.smollm2.grid import Place, Point, read_grid
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_record

Rows = Sequence[Mapping[str, str]]
MEASURED, TRAINED = "measured.json", "trained.json"
# The tables that have rows of each.
_TABLES = {MEASURED: ("points", "documents", "ifeval", "examples"), TRAINED: ("rates", "curve")}
_TEXTS = "texts_sha256"


def keep(place: Place, point: Point, kind: str, tables: Mapping[str, Rows]) -> None:
    """Note a point's rows.

    Args:
        place: Where.
        point: The point.
        kind: `MEASURED` or `TRAINED`.
        tables: Its rows by table, without the columns that say whose they are.
    """
    key = key_of(point)
    rows = {name: [{**key, **row} for row in found] for name, found in tables.items()}
    file = place.point(point) / kind
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(rows, indent=1) + "\n")


def is_kept(place: Place, point: Point, kind: str) -> bool:
    """Return whether a point's rows are there."""
    return (place.point(point) / kind).exists()


def is_measured(place: Place, point: Point) -> bool:
    """Return whether a model was measured, with whatever learning rate."""
    if point.model not in ARMS:
        return is_kept(place, point, MEASURED)
    folder = place.point(point).parent
    return any(folder.glob(f"{point.model}-lr-*/{MEASURED}"))


def kept(place: Place, point: Point, kind: str) -> dict[str, Any]:
    """Return a point's rows by table."""
    return read_record(place.point(point) / kind)


def key_of(point: Point) -> dict[str, str]:
    """Return the columns that say whose a row is."""
    seed = "" if point.seed is None else str(point.seed)
    rate = "" if point.rate is None else f"{point.rate:g}"
    return {"base": point.base, "seed": seed, "model": point.model, "learning_rate": rate}


def point_of(row: Mapping[str, str]) -> Point:
    """Return the point of a row."""
    seed, rate = row["seed"], row["learning_rate"]
    return Point(
        row["base"], int(seed) if seed else None, row["model"], float(rate) if rate else None
    )


def restore(place: Place, report: Path) -> int:
    """Note in a study's folder what the tables of a report have and it has not.

    Returns:
        How many models that are.

    Raises:
        ValueError: The tables are of other sizes, texts or bases than what is there.
    """
    if not (report / "points.csv").exists():
        return 0
    place.keep(read_grid(report / "grid.yaml"))
    about = read_record(report / "study.json")
    for base, sha256 in about["bases"].items():
        keep_weights(place.folder / base / "weights_sha256", sha256, base)
    _keep_texts(place, about["texts"])
    found = 0
    for kind, names in _TABLES.items():
        by_point: dict[Point, dict[str, list[Mapping[str, str]]]] = {}
        for name in names:
            if (file := report / f"{name}.csv").exists():
                for row in read_rows(file):
                    tables = by_point.setdefault(point_of(row), {one: [] for one in names})
                    tables[name].append(row)
        for point, tables in by_point.items():
            if not is_kept(place, point, kind):
                keep(place, point, kind, tables)
                found += kind == MEASURED
    return found


def keep_texts(place: Place) -> None:
    """Note which texts all points have alike.

    Raises:
        ValueError: What is there was made with others.
    """
    held_out = place.items(None)
    files = [place.data / "ifeval.jsonl", *sorted(place.data.glob("suite*/*/*.jsonl"))]
    files += [held_out / name for name in ("format.json", "plain.json")]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(place.data).as_posix().encode() + file.read_bytes())
    _keep_texts(place, digest.hexdigest())


def texts_sha256(place: Place) -> str:
    """Return the sha256 of the texts that all points have alike."""
    return (place.folder / _TEXTS).read_text(encoding="utf-8").strip()


def _keep_texts(place: Place, now: str) -> None:
    if (place.folder / _TEXTS).exists() and (was := texts_sha256(place)) != now:
        raise ValueError(
            f"{place.folder}: the study there is of texts {was[:12]}, these are {now[:12]}; give "
            "the same --data, --gsm8k and --ifeval, or another folder and --report"
        )
    write_whole(place.folder / _TEXTS, now + "\n")
