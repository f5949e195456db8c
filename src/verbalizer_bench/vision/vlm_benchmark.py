"""MMVP-VLM's files: for each visual pattern pairs of images, each image with a statement.

`Questions.csv` has Question ID, Type and Statement; rows 2k - 1 and 2k are a pair of one type. The
images are `MLLM_VLM Images/<Type>/<Question ID>.jpg`, or below `MMVP_VLM_Images`, as the README at
the hub calls the folder.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from verbalizer_bench.io.csv_reading import read_csv
from verbalizer_bench.io.files import file_sha256
from verbalizer_bench.tasks.mmvp.patterns import NAMES, pattern_named

QUESTIONS = "Questions.csv"
FOLDERS = ("MLLM_VLM Images", "MMVP_VLM_Images")
COLUMNS = ("Question ID", "Type", "Statement")
LAYOUT = f"{QUESTIONS} ({', '.join(COLUMNS)}) and {FOLDERS[0]}/<Type>/<Question ID>.jpg"
SUFFIXES = (".jpg", ".jpeg", ".png")
# What the paper's benchmark has of each pattern.
WHOLE = 15
# The hub's short names of the patterns; which is which is our reading.
_SHORT = {
    "orientation": "orientation and direction",
    "presence": "presence of specific features",
    "state": "state and condition",
    "quantity": "quantity and count",
    "spatial": "positional and relational context",
    "color": "color and appearance",
    "structural character": "structural and physical characteristics",
    "text": "text",
    "camera perspective": "viewpoint and perspective",
}


class StatementPair(NamedTuple):
    """Two images and the statement of each.

    Attributes:
        ids: Question IDs.
        pattern: The visual pattern, of MMVP's names where the type is one of them.
        statements: What is true of each image.
        images: Their files.
    """

    ids: tuple[str, str]
    pattern: str
    statements: tuple[str, str]
    images: tuple[Path, Path]


class VlmBenchmark(NamedTuple):
    """The benchmark.

    Attributes:
        pairs: Its pairs, in the file's order.
        sha256: Of the table.
    """

    pairs: tuple[StatementPair, ...]
    sha256: str

    @property
    def patterns(self) -> tuple[str, ...]:
        """Return its patterns: MMVP's in their order, then others."""
        there = dict.fromkeys(pair.pattern for pair in self.pairs)
        return (*(name for name in NAMES if name in there), *(n for n in there if n not in NAMES))

    def lines(self) -> list[str]:
        """Return what makes it another benchmark than the paper's."""
        counts = Counter(pair.pattern for pair in self.pairs)
        if counts == dict.fromkeys(NAMES, WHOLE):
            return []
        unknown = [repr(name) for name in self.patterns if name not in NAMES]
        told = f"; {', '.join(unknown)} is none of them" if unknown else ""
        return [
            f"{len(self.pairs)} pairs of {len(counts)} patterns: not MMVP-VLM, which has {WHOLE} "
            f"of each of the {len(NAMES)} ({', '.join(_SHORT)}){told}"
        ]


def read_vlm_benchmark(folder: Path) -> VlmBenchmark:
    """Read a folder in MMVP-VLM's layout; images are not decoded.

    Raises:
        FileNotFoundError: The table, the folder of images or an image is not there.
        ValueError: A row is not as MMVP-VLM has it, or two rows are no pair.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give one with {LAYOUT}")
    file = folder / QUESTIONS
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: no {QUESTIONS} in it; give a folder with {LAYOUT}")
    rows = _rows(file)
    images = next((folder / name for name in FOLDERS if (folder / name).is_dir()), None)
    if images is None:
        raise FileNotFoundError(f"{folder}: neither {' nor '.join(FOLDERS)} in it; add the images")
    if not rows or len(rows) % 2:
        alone = f"; Question ID {_alone(rows)} is alone" if rows else ""
        raise ValueError(
            f"{file}: {len(rows)} statements; two are a pair, one after the other{alone}"
        )
    ids = Counter(row["Question ID"] for _, row in rows)
    if twice := [name for name, count in ids.items() if count > 1]:
        raise ValueError(f"{file}: Question ID {twice[0]} is there twice; number statements apart")
    pairs = tuple(
        _pair(one, other, images) for one, other in zip(rows[::2], rows[1::2], strict=True)
    )
    return VlmBenchmark(pairs, file_sha256(file))


def _alone(rows: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """Return the first Question ID whose neighbour is of another Type; else the last."""
    found = (
        one["Question ID"]
        for (_, one), (_, other) in zip(rows[::2], rows[1::2], strict=False)
        if one["Type"] != other["Type"]
    )
    return next(found, rows[-1][1]["Question ID"])


def _rows(file: Path) -> list[tuple[str, Mapping[str, str]]]:
    return [(place, _cells(place, row)) for place, row in read_csv(file, COLUMNS, "MMVP-VLM")]


def _cells(place: str, row: Mapping[str, str]) -> dict[str, str]:
    cells = {name: row[name].strip() for name in COLUMNS}
    if empty := [name for name, text in cells.items() if not text]:
        raise ValueError(f"{place}: {empty[0]} is empty; fill it in")
    return cells


def _pair(
    one: tuple[str, Mapping[str, str]], other: tuple[str, Mapping[str, str]], images: Path
) -> StatementPair:
    (place, first), (_, second) = one, other
    where = f"{place} and the next"
    if first["Type"] != second["Type"]:
        raise ValueError(
            f"{where}: Types differ, {first['Type']!r} and {second['Type']!r}; a pair has one"
        )
    if first["Statement"] == second["Statement"]:
        raise ValueError(
            f"{where}: both statements are {first['Statement']!r}; no image is its own"
        )
    files = [_image(place, row, images) for place, row in (one, other)]
    return StatementPair(
        (first["Question ID"], second["Question ID"]),
        _pattern(first["Type"]),
        (first["Statement"], second["Statement"]),
        (files[0], files[1]),
    )


def _pattern(text: str) -> str:
    plain = " ".join(text.replace("_", " ").split()).casefold()
    try:
        return pattern_named(_SHORT.get(plain, plain))
    except ValueError:
        return text


def _image(place: str, row: Mapping[str, str], images: Path) -> Path:
    name = images / row["Type"] / row["Question ID"]
    for suffix in SUFFIXES:
        file = name.with_name(name.name + suffix)
        if file.is_file():
            return file
    raise FileNotFoundError(f"{place}: {name}.jpg (or .png) is not there; add the image")
