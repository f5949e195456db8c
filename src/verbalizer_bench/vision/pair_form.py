"""From blind pairs to questions: a form in MMVP's layout that people fill in, and its check.

A form is a folder: `MMVP Images/1.png …`, and `Questions.csv` with a row for each image, of which
2k - 1 and 2k are a pair. Beside MMVP's columns it has Draft, Image, Similar and Different. A row
whose Draft is not empty is a model's: it is finished once a person has emptied that cell. A pair of
which both rows are empty is left out; what a pair lacks is a line each. What is finished is written
without our columns, numbered anew, and read by MMVP's own reader.
"""

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from verbalizer_bench.io.csv_reading import read_csv
from verbalizer_bench.io.files import file_sha256, write_whole
from verbalizer_bench.io.images import IMAGE_ERRORS, is_turned, read_image
from verbalizer_bench.tasks.mmvp.patterns import pattern_named
from verbalizer_bench.tasks.mmvp.questions import (
    COLUMNS,
    FILE,
    IMAGES,
    alone,
    check_pictures,
    parse_options,
    read_folder,
)
from verbalizer_bench.vision.blind_pairs import Found, Pair

RECORD = "form.json"
# What people fill in, and what they find filled in.
FILLED = ("Question", "Options", "Correct Answer", "Pattern")
GIVEN = ("Draft", "Image", "Similar", "Different")
HEADER = (*COLUMNS, "Pattern", *GIVEN)
_KEPT = {"JPEG": ".jpg", "PNG": ".png"}


class FormRow(NamedTuple):
    """A row of a form.

    Attributes:
        place: File and line.
        number: Its Index.
        cells: By column.
    """

    place: str
    number: int
    cells: Mapping[str, str]

    @property
    def is_empty(self) -> bool:
        """Whether nobody has filled it in."""
        return not any(self.cells[name] for name in FILLED)

    @property
    def draft(self) -> str:
        """Return which model wrote it; "" if a person did, or has looked at it."""
        return self.cells["Draft"]


class Checked(NamedTuple):
    """What is wrong with a form, and what is whole.

    Attributes:
        pairs: Rows of pairs that are finished.
        empty: How many pairs nobody has filled in.
        faults: A line for each pair that is not finished.
    """

    pairs: tuple[tuple[FormRow, FormRow], ...]
    empty: int
    faults: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return what is printed of it."""
        return [
            *self.faults,
            f"{len(self.pairs)} pairs are finished, {self.empty} are empty, "
            f"{len(self.faults)} are to be mended",
        ]


def export_form(found: Found, images: Path, form: Path, most: int) -> int:
    """Write an empty form of the first pairs; return of how many.

    A JPEG or PNG is copied as it is unless it is no plain RGB or has an EXIF orientation, which
    viewers would apply and towers do not: then, as any other format, it is saved as PNG as the
    towers saw it.

    Args:
        found: The pairs.
        images: The folder of the images.
        form: A new folder.
        most: How many pairs at most.

    Raises:
        FileExistsError: The folder is there.
        ValueError: There is no pair, or an image is another than the one that was searched.
    """
    if form.exists():
        raise FileExistsError(f"{form}: it is there already; give a new folder")
    pairs = found.pairs[:most]
    if not pairs:
        raise ValueError("no pair was found: there is nothing to ask; widen the search")
    (form / IMAGES).mkdir(parents=True)
    try:
        rows = [row for k, pair in enumerate(pairs) for row in _rows(pair, k, images, form)]
        record = {"search": dict(found.record), "pairs": len(pairs), "drafts": None}
        write_whole(form / RECORD, json.dumps(record, indent=1) + "\n")
        write_rows(form / FILE, HEADER, rows)
    except BaseException:
        shutil.rmtree(form, ignore_errors=True)
        raise
    return len(pairs)


def _rows(pair: Pair, number: int, images: Path, form: Path) -> Iterator[dict[str, str]]:
    for place in (0, 1):
        index = 2 * number + place + 1
        _copy(images / pair.images[place], pair.sha256[place], form / IMAGES / str(index))
        name = pair.images[place].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        yield {
            **dict.fromkeys(HEADER, ""),
            "Index": str(index),
            "Image": name,
            "Similar": f"{pair.similar:.4f}",
            "Different": f"{pair.different:.4f}",
        }


def _copy(file: Path, sha256: str, name: Path) -> None:
    if not file.is_file() or file_sha256(file) != sha256:
        raise ValueError(
            f"{ascii(str(file))[1:-1]}: it is not the image that was searched; give the folder as "
            "it was, or search again"
        )
    with Image.open(file) as image:
        suffix = _KEPT.get(image.format or "")
        turned = is_turned(image)
        plain = image.mode == "RGB" and not image.has_transparency_data
    if suffix and plain and not turned:
        shutil.copyfile(file, name.with_suffix(suffix))
    else:
        read_image(file).save(name.with_suffix(".png"))


def write_rows(file: Path, header: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Write a CSV.

    Raises:
        OSError: It cannot be written.
    """
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(file, stream.getvalue())


def read_form(form: Path) -> list[tuple[FormRow, FormRow]]:
    """Return the rows of a form, pair by pair.

    Raises:
        FileNotFoundError: It is no form.
        ValueError: Its table is none, or rows are missing.
    """
    if not (form / FILE).is_file():
        raise FileNotFoundError(f"{form}: no {FILE} in it; give what `pair-questions export` wrote")
    rows = []
    for place, cells in read_csv(form / FILE, HEADER, "a form"):
        trimmed = {name: text.strip() for name, text in cells.items()}
        number = trimmed["Index"]
        if not number.isascii() or not number.isdecimal():
            raise ValueError(f"{place}: Index={number!r}: leave it as it was")
        rows.append(FormRow(place, int(number), trimmed))
    rows.sort(key=lambda row: row.number)
    numbers = [row.number for row in rows]
    pairs = [(one, other) for one, other in zip(rows[::2], rows[1::2], strict=False)]
    ends = [(one.number, other.number) for one, other in pairs]
    if len(rows) % 2 or any(one % 2 == 0 or other != one + 1 for one, other in ends):
        raise ValueError(
            f"{form / FILE}: Index {alone(numbers)} has no other row of its pair, or two; rows "
            "2k - 1 and 2k are a pair: leave out both or none"
        )
    return pairs


def check_form(form: Path, words: int = 1) -> Checked:
    """Check a form.

    Args:
        form: Its folder.
        words: The most words of an option.

    Raises:
        FileNotFoundError: It is no form.
        ValueError: Its table is none, or rows are missing.
    """
    finished, faults, empty = [], [], 0
    for pair in read_form(form):
        if all(row.is_empty for row in pair):
            empty += 1
            continue
        try:
            _check_pair(form, pair, words)
        except ValueError as error:
            faults.append(f"{form / FILE}, pair {(pair[1].number) // 2}: {error}")
        else:
            finished.append(pair)
    return Checked(tuple(finished), empty, tuple(faults))


def _check_pair(form: Path, pair: tuple[FormRow, FormRow], words: int) -> None:
    """Raise ValueError with the first thing that a pair lacks."""
    for row in pair:
        if row.draft:
            raise ValueError(
                f"Index {row.number} is a draft by {row.draft}; look at it, and empty its Draft"
            )
        if missing := [name for name in FILLED[:3] if not row.cells[name]]:
            raise ValueError(
                f"Index {row.number}: {missing[0]} is empty; fill in both rows or none"
            )
    one, other = pair
    for name in ("Question", "Options", "Pattern"):
        if one.cells[name] != other.cells[name]:
            raise ValueError(
                f"{name} differs, {one.cells[name]!r} and {other.cells[name]!r}; a pair has one "
                "question, with the same options in the same order"
            )
    for option in parse_options(one.cells["Options"]):
        if len(option.split()) > words:
            raise ValueError(
                f"option {option!r} has {len(option.split())} words; give at most {words}, "
                f"or --words {len(option.split())}"
            )
    if one.cells["Pattern"]:
        pattern_named(one.cells["Pattern"])
    answers = [row.cells["Correct Answer"] for row in pair]
    for row, answer in zip(pair, answers, strict=True):
        if answer not in ("(a)", "(b)"):
            raise ValueError(f"Index {row.number}: Correct Answer={answer!r}: give (a) or (b)")
    if answers[0] == answers[1]:
        raise ValueError(f"both answers are {answers[0]}; ask what differs between the images")
    for row in pair:
        _readable(image_of(form, row.number))


def image_of(form: Path, index: int) -> Path:
    """Return the image of a row.

    Raises:
        ValueError: It is not there.
    """
    for suffix in _KEPT.values():
        file = form / IMAGES / f"{index}{suffix}"
        if file.is_file():
            return file
    raise ValueError(f"{form / IMAGES / str(index)}.jpg (or .png) is not there; put it back")


def _readable(file: Path) -> None:
    try:
        read_image(file)
    except IMAGE_ERRORS as error:
        raise ValueError(f"{file} is no image that can be read ({error}); put it back") from error


def finish_form(form: Path, output: Path, words: int = 1) -> Checked:
    """Write the finished pairs as a benchmark in MMVP's layout, and read it as MMVP is read.

    Args:
        form: The form.
        output: A new folder.
        words: The most words of an option.

    Raises:
        FileExistsError: The folder is there.
        ValueError: A pair is to be mended, or none is finished.
    """
    if output.exists():
        raise FileExistsError(f"{output}: it is there already; give a new folder")
    checked = check_form(form, words)
    if checked.faults:
        more = len(checked.faults) - 1
        raise ValueError(checked.faults[0] + (f" (and {more} more pairs: check)" if more else ""))
    if not checked.pairs:
        raise ValueError(f"{form / FILE}: no pair is filled in; fill some in")
    try:
        _write_finished(form, output, checked)
        check_pictures(read_folder(output))
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        raise
    return checked


def _write_finished(form: Path, output: Path, checked: Checked) -> None:
    (output / IMAGES).mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for number, row in enumerate((row for pair in checked.pairs for row in pair), 1):
        file = image_of(form, row.number)
        shutil.copyfile(file, output / IMAGES / f"{number}{file.suffix}")
        rows.append({**row.cells, "Index": str(number)})
    header = (*COLUMNS, "Pattern") if any(row["Pattern"] for row in rows) else COLUMNS
    write_rows(output / FILE, header, rows)
    shutil.copyfile(form / RECORD, output / RECORD)
