"""NaturalBench's groups: from the hub's parquet, or a folder of ours, checked.

BaiqiL/NaturalBench has a row a group: Index, Image_0, Image_1, Question_0, Question_1, the four
answers `Image_<i>_Question_<q>`, Question_Type (some copies: Question Type) and Source. A folder of
ours has the same in `Groups.csv`, without the images, which are `Images/<Index>_0.png` and `_1`.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io.csv_reading import read_csv
from verbalizer_bench.tasks.picture_rows import (
    found_picture,
    image_files,
    parquet_files,
    parquet_rows,
    stored_picture,
)
from verbalizer_bench.tasks.pictures import Picture

FILE, IMAGES = "Groups.csv", "Images"
ANSWERS = tuple(f"Image_{i}_Question_{q}" for q in (0, 1) for i in (0, 1))
COLUMNS = ("Index", "Question_0", "Question_1", *ANSWERS)
# Of each type what a and b are in the file.
TYPES = {"yes_no": ("Yes", "No"), "multiple_choice": ("A", "B")}
_TYPE_COLUMNS = ("Question_Type", "Question Type")
_OPTIONS = re.compile(r"\bA\s*[:.)]\s*(.+?)[;,\n]\s*B\s*[:.)]\s*(.+?)[;.\s]*", re.DOTALL)


class Group(NamedTuple):
    """Two images with two questions, each of which has another answer for the other image.

    Attributes:
        number: Its Index.
        kind: `yes_no` or `multiple_choice`.
        questions: The two.
        options: What a and b say in each question; "A" and "B" where it does not say.
        answers: The right letters, of question 0 for both images, then of question 1.
        pictures: The two images.
    """

    number: int
    kind: str
    questions: tuple[str, str]
    options: tuple[tuple[str, str], tuple[str, str]]
    answers: tuple[str, str, str, str]
    pictures: tuple[Picture, Picture]


@cache
def read_groups(folder: Path) -> tuple[Group, ...]:
    """Return a folder's groups in the file's order, checked; images are not decoded.

    Raises:
        FileNotFoundError: The table or an image is not there.
        ValueError: A row is not as NaturalBench has it.
    """
    table, pictures = folder / FILE, image_files(folder / IMAGES)
    if table.is_file():
        rows = list(read_csv(table, COLUMNS, "NaturalBench"))
    else:
        wanted = (*COLUMNS, "Image_0", "Image_1")
        files = parquet_files(folder)
        rows = [row for file in files for row in parquet_rows(file, wanted, "NaturalBench")]
    if not rows:
        raise FileNotFoundError(
            f"{folder}: no row of NaturalBench in it; give a folder with the hub's .parquet files, "
            f"or with {FILE} and {IMAGES}"
        )
    groups = tuple(_group(place, row, pictures, folder / IMAGES) for place, row in rows)
    indices = [group.number for group in groups]
    if twice := sorted({index for index in indices if indices.count(index) > 1}):
        raise ValueError(f"{folder}: Index {twice[0]} is there twice; number the groups")
    return groups


def _group(
    place: str, row: Mapping[str, Any], files: Mapping[str, list[Path]], folder: Path
) -> Group:
    index, kind = str(row["Index"]).strip(), _kind(place, row)
    if not index.isascii() or not index.isdecimal():
        raise ValueError(f"{place}: Index={row['Index']!r}: a whole number is expected")
    first, second = (str(row[f"Question_{q}"] or "").strip() for q in (0, 1))
    if not first or not second:
        raise ValueError(f"{place}: Question_{0 if not first else 1} is empty; write one")
    q0i0, q0i1, q1i0, q1i1 = (_letter(place, name, row[name], kind) for name in ANSWERS)
    if q0i0 in (q0i1, q1i0) or q1i1 == q1i0:
        raise ValueError(
            f"{place}: the answers are {', '.join(str(row[name]) for name in ANSWERS)}; to each "
            "question the images have different ones, and to each image the questions"
        )
    if "Image_0" in row:
        one, other = (stored_picture(place, f"Image_{i}", row[f"Image_{i}"]) for i in (0, 1))
    else:
        one, other = (found_picture(place, f"{index}_{i}", files, folder) for i in (0, 1))
    if one.same_as(other):
        raise ValueError(
            f"{place}: Index {index}: both images are the same, {one.name} and {other.name}; "
            "a group has two images"
        )
    options = _options(first, kind), _options(second, kind)
    answers = (q0i0, q0i1, q1i0, q1i1)
    return Group(int(index), kind, (first, second), options, answers, (one, other))


def _kind(place: str, row: Mapping[str, Any]) -> str:
    given = next((row[name] for name in _TYPE_COLUMNS if row.get(name)), None)
    kind = re.sub(r"\W+", "_", str(given).strip().lower()).replace("yes_or_no", "yes_no")
    if kind not in TYPES:
        raise ValueError(f"{place}: Question_Type={given!r}: one of {', '.join(TYPES)} is expected")
    return kind


def _letter(place: str, name: str, value: Any, kind: str) -> str:
    text = str(value or "").strip().strip("().").casefold()
    known = [option.casefold() for option in TYPES[kind]]
    if text not in known:
        raise ValueError(f"{place}: {name}={value!r}: {' or '.join(TYPES[kind])} is expected")
    return "ab"[known.index(text)]


def _options(question: str, kind: str) -> tuple[str, str]:
    """Return what a and b say: Yes and No, or what a question says behind A and B."""
    found = list(_OPTIONS.finditer(question + "\n")) if kind == "multiple_choice" else []
    if not found or found[-1][1].casefold() == found[-1][2].casefold():
        return TYPES[kind]
    tail = question[found[-1].start() :]
    whole = _OPTIONS.fullmatch(tail)
    return (whole[1].strip(), whole[2].strip()) if whole else TYPES[kind]
