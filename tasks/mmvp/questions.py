"""MMVP's questions: from a folder in the hub's layouts, ours or yours, checked.

A folder holds `Questions.csv` (Index, Question, Options, Correct Answer, optionally Pattern) and
`MMVP Images/<Index>.jpg` or `.png`, as MMVP/MMVP has them; or one `.parquet`, also in `data`, with
these columns and `image`, as lmms-lab-eval/MMVP has it. Images are found by Index, never by the
order of files: that is 1, 10, 100, …
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io.csv_reading import read_csv
from verbalizer_bench.tasks.mmvp.patterns import pattern_named
from verbalizer_bench.tasks.picture_rows import (
    found_picture,
    image_files,
    parquet_files,
    parquet_rows,
    stored_picture,
)
from verbalizer_bench.tasks.pictures import Picture

FILE, IMAGES = "Questions.csv", "MMVP Images"
COLUMNS = ("Index", "Question", "Options", "Correct Answer")
# The hub has none; ours is the first, AMVICC's copy has the other.
PATTERN_COLUMNS = ("Pattern", "Category")
LETTERS = ("a", "b")
_OPTIONS = re.compile(r"\s*\(a\)(?P<a>.+?)\(b\)(?P<b>.+)", re.DOTALL | re.IGNORECASE)
_MARK = re.compile(r"\(([a-f])\)", re.IGNORECASE)
_ANSWER = re.compile(r"\(?([ab])\)?\.?", re.IGNORECASE)


class Question(NamedTuple):
    """A question on one image; the next or the one before asks the same of another.

    Attributes:
        number: Its Index, from 1; 2k - 1 and 2k are pair k.
        text: The question.
        options: What (a) and (b) say.
        answer: The letter of the right option, as the file has it.
        pattern: Its visual pattern, of `patterns.NAMES`; None where the file says none.
        picture: The image.
    """

    number: int
    text: str
    options: tuple[str, str]
    answer: str
    pattern: str | None
    picture: Picture

    @property
    def pair(self) -> int:
        """Return the pair's number, from 1."""
        return (self.number + 1) // 2


def read_folder(folder: Path) -> tuple[Question, ...]:
    """Return a folder's questions by Index, checked; images are not decoded, see `check_pictures`.

    Raises:
        FileNotFoundError: The folder, its table or an image is not there.
        ValueError: A row is not as MMVP has it, or two rows are no pair.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give one that holds {FILE}")
    table = folder / FILE
    if table.is_file():
        rows: Iterator[tuple[str, Mapping[str, Any]]] = read_csv(table, COLUMNS, "MMVP")
    else:
        table = _parquet(folder)
        rows = parquet_rows(table, (*COLUMNS, "image"), "MMVP")
    files = image_files(folder / IMAGES)
    found = [_question(place, row, files, folder / IMAGES) for place, row in rows]
    questions = tuple(sorted(found, key=lambda question: question.number))
    _check_indices(questions, table)
    _check_pairs(questions, table)
    return questions


def check_pictures(questions: Sequence[Question]) -> None:
    """Decode every image.

    Raises:
        ValueError: One cannot be read.
    """
    for question in questions:
        question.picture.rgb()


def parse_options(text: str) -> tuple[str, str]:
    """Return what `(a) Open (b) Closed` says of a and b.

    Raises:
        ValueError: There are not two options, one is empty, or both say the same.
    """
    marks = [mark.lower() for mark in _MARK.findall(text)]
    if len(marks) > len(LETTERS):
        found = ", ".join(f"({mark})" for mark in marks)
        raise ValueError(f"Options={text!r}: {found} are there; MMVP has two, (a) and (b)")
    match = _OPTIONS.fullmatch(text)
    options = tuple(" ".join(match[letter].split()) for letter in LETTERS) if match else ()
    if len(options) != 2 or not all(options):
        raise ValueError(f"Options={text!r}: two are expected, such as '(a) Open (b) Closed'")
    if options[0].casefold() == options[1].casefold():
        raise ValueError(f"Options={text!r}: both say the same; give two that differ")
    return options


def alone(numbers: Sequence[int]) -> int:
    """Return the first number of which the other one of its pair is not there, or is there twice.

    Args:
        numbers: They do not make pairs 2k - 1 and 2k.
    """
    return next(
        n for n in numbers if numbers.count(n) > 1 or (n + 1 if n % 2 else n - 1) not in numbers
    )


def _parquet(folder: Path) -> Path:
    files = parquet_files(folder)
    if len(files) != 1:
        what = f"{len(files)} .parquet files" if files else "no .parquet"
        raise FileNotFoundError(
            f"{folder}: no {FILE} in it, and {what}; give a folder in the layout of MMVP/MMVP "
            f"({FILE} and {IMAGES}) or of lmms-lab-eval/MMVP (one .parquet)"
        )
    return files[0]


def _question(
    place: str, row: Mapping[str, Any], files: Mapping[str, list[Path]], folder: Path
) -> Question:
    index = _index(place, row["Index"])
    text = str(row["Question"] or "").strip()
    if not text:
        raise ValueError(f"{place}: Question is empty; write one")
    answer = _ANSWER.fullmatch(str(row["Correct Answer"] or "").strip())
    if not answer:
        raise ValueError(f"{place}: Correct Answer={row['Correct Answer']!r}: give (a) or (b)")
    named = next((row[name] for name in PATTERN_COLUMNS if row.get(name)), None)
    try:
        options = parse_options(str(row["Options"] or ""))
        pattern = pattern_named(str(named)) if named and str(named).strip() else None
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    if "image" in row:
        picture = stored_picture(place, "image", row["image"])
    else:
        picture = found_picture(place, str(index), files, folder)
    return Question(index, text, options, answer[1].lower(), pattern, picture)


def _index(place: str, value: Any) -> int:
    text = str(value).strip()
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{place}: Index={value!r}: a whole number from 1 on is expected")
    return int(text)


def _check_indices(questions: Sequence[Question], table: Path) -> None:
    indices = [question.number for question in questions]
    if twice := sorted({index for index in indices if indices.count(index) > 1}):
        raise ValueError(f"{table}: Index {twice[0]} is there twice; number questions from 1 on")
    if not indices or len(indices) % 2:
        told = f": Index {alone(indices)} is alone" if indices else ""
        raise ValueError(
            f"{table}: {len(indices)} questions; MMVP has two a pair, 300 in all{told}"
        )
    if indices != list(range(1, len(indices) + 1)):
        missing = min(set(range(1, len(indices) + 1)) - set(indices))
        raise ValueError(
            f"{table}: Index {missing} is not there among {len(indices)} questions; number them "
            "from 1 on, the two of a pair one after the other"
        )


def _check_pairs(questions: Sequence[Question], table: Path) -> None:
    for one, other in zip(questions[::2], questions[1::2], strict=True):
        where = f"{table}: Index {one.number} and {other.number}, pair {one.pair}"
        for what in ("text", "options", "pattern"):
            if getattr(one, what) != getattr(other, what):
                raise ValueError(
                    f"{where}: {'questions' if what == 'text' else what} differ, "
                    f"{getattr(one, what)!r} and {getattr(other, what)!r}; a pair has one question "
                    "for two images"
                )
        if one.picture.same_as(other.picture):
            raise ValueError(
                f"{where}: both images are the same, {one.picture.name} and {other.picture.name}; "
                "a pair has two images"
            )
        if one.answer == other.answer:
            raise ValueError(
                f"{where}: both answers are ({one.answer}); a pair's answers differ, so that one "
                "constant answer gets no pair right"
            )
