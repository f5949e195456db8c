"""MMVP's questions are read by Index from each layout, or refused in one line."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.mmvp import SHARED, rows, table, write_folder
from verbalizer_bench.tasks.mmvp import sample
from verbalizer_bench.tasks.mmvp.labels import answers, is_mmvp
from verbalizer_bench.tasks.mmvp.patterns import NAMES, PATTERNS, pattern_named
from verbalizer_bench.tasks.mmvp.questions import (
    IMAGES,
    Question,
    check_pictures,
    parse_options,
    read_folder,
)


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (level,) * 3).save(file, "PNG")
    return file.getvalue()


def level(question: Question) -> int:
    red, *_ = question.picture.rgb().getpixel((0, 0))  # type: ignore[misc]
    return int(red)


def release(folder: Path) -> tuple[Question, ...]:
    if not SHARED.is_dir():
        pytest.skip("MMVP's questions are not here")
    content = (SHARED / "Questions_with_category.csv").read_bytes()
    return read_folder(write_folder(folder, content, 300, ".png"))


def test_each_question_has_the_image_of_its_index(tmp_path: Path) -> None:
    """In the order of files 10 comes before 2."""
    questions = read_folder(write_folder(tmp_path, table(rows(6)), 12, ".png"))
    assert [question.number for question in questions] == list(range(1, 13))
    assert [level(question) for question in questions] == [37 * n % 256 for n in range(1, 13)]
    assert [question.pair for question in questions[:4]] == [1, 1, 2, 2]
    assert questions[0][1:5] == ("Is the wing open or closed?", ("Open", "Closed"), "a", None)


def test_rows_in_another_order_are_the_same_pairs(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, table(rows(6)[::-1]), 12)
    assert [question.number for question in read_folder(folder)] == list(range(1, 13))


def test_a_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    lines = rows()
    lines[0][1] = lines[1][1] = 'Is "the, wing"\n open?'
    content = "\ufeff" + table(lines).replace("\n", "\r\n")
    questions = read_folder(write_folder(tmp_path, content, 4))
    assert [question.answer for question in questions] == ["a", "b", "a", "b"]
    assert questions[0].text.split() == ["Is", '"the,', 'wing"', "open?"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "LA"])
def test_images_of_any_kind_are_rgb(tmp_path: Path, mode: str) -> None:
    questions = read_folder(write_folder(tmp_path, table(rows()), 4, ".png", mode))
    check_pictures(questions)
    assert {question.picture.rgb().mode for question in questions} == {"RGB"}


def test_an_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, table(rows()), 4)
    image, exif = Image.new("RGB", (8, 4)), Image.Exif()
    exif[0x0112] = 6
    image.save(folder / IMAGES / "1.jpg", exif=exif)
    assert read_folder(folder)[0].picture.rgb().size == (8, 4)


@pytest.mark.parametrize("place", ["train.parquet", "data/train-00000-of-00001.parquet"])
def test_the_layout_of_lmms_evals_copy(tmp_path: Path, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    made = [
        {
            **dict(zip(("Index", "Question", "Options", "Correct Answer"), row, strict=True)),
            "image": {"bytes": png(row[0]), "path": None},
        }
        for row in rows(2)
    ]
    pq.write_table(pa.Table.from_pylist(made), file)
    questions = read_folder(tmp_path)
    assert [level(question) for question in questions] == [1, 2, 3, 4]
    assert len({question.picture.sha256() for question in questions}) == 4
    made[3]["image"] = made[2]["image"]
    pq.write_table(pa.Table.from_pylist(made), file)
    with pytest.raises(
        ValueError, match=r"Index 3 and 4, pair 2: both images are the same, .*row 4"
    ):
        read_folder(tmp_path)
    made[2]["image"] = None
    pq.write_table(pa.Table.from_pylist(made), file)
    with pytest.raises(ValueError, match=r"row 3: image holds no file"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (0, 0, "one", r"line 2: Index='one': a whole number from 1 on is expected"),
        (1, 0, 1, r"Index 1 is there twice"),
        (3, 0, 9, r"line 5: .*9.jpg \(or .png\) is not there"),
        (1, 1, "Another?", r"Index 1 and 2, pair 1: questions differ"),
        (1, 1, " ", r"line 3: Question is empty"),
        (1, 2, "(a) Closed (b) Open", r"pair 1: options differ"),
        (0, 2, "Open or closed", r"line 2: Options='Open or closed': two are expected"),
        (0, 2, "(a) Open (b)  ", r"line 2: Options='\(a\) Open \(b\)  ': two are expected"),
        (0, 2, "(a) x (b) y (c) z", r"line 2: .*: \(a\), \(b\), \(c\) are there; MMVP has two"),
        (0, 2, "(a) x (b) y (B) z", r"line 2: .*: \(a\), \(b\), \(b\) are there; MMVP has two"),
        (0, 2, "(a) Open (b) open", r"both say the same"),
        (1, 3, "(a)", r"pair 1: both answers are \(a\)"),
        (0, 3, "c", r"line 2: Correct Answer='c': give \(a\) or \(b\)"),
        (0, 3, "", r"line 2: Correct Answer=''"),
    ],
)
def test_a_wrong_row_is_one_line(
    tmp_path: Path, row: int, column: int, value: Any, message: str
) -> None:
    lines = rows()
    lines[row][column] = value
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        read_folder(write_folder(tmp_path, table(lines), 4))
    assert "\n" not in str(error.value)


def test_wrong_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder; give one that holds Questions"):
        read_folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no Questions.csv in it, and no .parquet"):
        read_folder(tmp_path)
    folder = write_folder(tmp_path, table(rows()), 4)
    (folder / IMAGES / "3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"line 4: .*3.jpg \(or .png\) is not there"):
        read_folder(folder)
    write_folder(tmp_path, table(rows()), 4, ".png")
    with pytest.raises(ValueError, match=r"1.jpg and 1.png are both there; remove one"):
        read_folder(folder)
    for content, message in (
        (table(rows()[:3]), "3 questions; MMVP has two a pair, 300 in all: Index 3 is alone"),
        (table([]), "0 questions"),
        (b"", "no column Index; it has none"),
        (table(rows(), ("Index", "Question", "Options", "Answer")), "no column Correct Answer"),
        (table(rows()) + "5,a\n", "line 6: . cells, and the header has 4"),
        (table(rows()) + "5,a,b,c,d\n", "line 6: . cells, and the header has 4"),
        (table(rows()).encode("utf-16"), "not in UTF-8"),
        (table(rows()) + '5,"a,b,c', "a quotation mark in line 6 is not closed"),
        (table([*rows(), [7, "x", "(a) y (b) z", "a"]]), r"7.jpg \(or .png\) is not there"),
    ):
        other = tmp_path / str(len(message))
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            read_folder(write_folder(other, content, 4))


def test_a_missing_index_is_said(tmp_path: Path) -> None:
    lines = rows()
    for row, index in zip(lines[2:], (4, 5), strict=True):
        row[0] = index
    with pytest.raises(ValueError, match="Index 3 is not there among 4 questions"):
        read_folder(write_folder(tmp_path, table(lines), 5))


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, table(rows()), 4)
    file = folder / IMAGES / "2.jpg"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"2\.jpg: cannot be read as an image"):
        check_pictures(read_folder(folder))


def test_a_pair_has_two_images(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, table(rows()), 4) / IMAGES
    # Images of different pairs may be the same.
    (folder / "3.jpg").write_bytes((folder / "2.jpg").read_bytes())
    read_folder(tmp_path)
    (folder / "1.jpg").write_bytes((folder / "2.jpg").read_bytes())
    message = r"Index 1 and 2, pair 1: both images are the same, .*1\.jpg and .*2\.jpg; a pair has"
    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path)


def test_options() -> None:
    assert parse_options("(a) To the left (from here) (b)  To the\n right ") == (
        *("To the left (from here)", "To the right"),
    )
    assert parse_options("(a) One apple(s) (b) Two") == ("One apple(s)", "Two")
    assert parse_options("(A) Yes(B) No") == ("Yes", "No")


def test_patterns_by_code_and_name(tmp_path: Path) -> None:
    assert len(set(NAMES)) == 9
    for code, name in PATTERNS.items():
        assert pattern_named(code) == pattern_named(f" {name.upper()} ") == name
    lines = [[*row, "colour"] for row in rows()]
    header = ("Index", "Question", "Options", "Correct Answer", "Pattern")
    with pytest.raises(ValueError, match="line 2: 'colour' is no pattern of MMVP; give one of od"):
        read_folder(write_folder(tmp_path, table(lines, header), 4))


def test_the_release_and_its_disputed_labels(tmp_path: Path) -> None:
    questions = release(tmp_path)
    assert (len(questions), is_mmvp(questions)) == (300, True)
    original, corrected = (answers(questions, version) for version in ("original", "corrected"))
    assert original == tuple("ab" * 150)
    changed = [n + 1 for n, (a, b) in enumerate(zip(original, corrected, strict=True)) if a != b]
    assert changed == [99, 100, 279, 280]
    # The same of a source that was corrected.
    turned = [question._replace(answer=corrected[question.number - 1]) for question in questions]
    assert answers(turned, "original") == original
    assert answers(turned, "corrected") == corrected
    assert {question.pattern for question in questions} == set(NAMES)
    # Its quotation marks are not doubled.
    assert questions[8].text == 'Can you see the key "Z" in the image?'
    assert questions[128].text.startswith("From the camera's perspective, are the words \"SCHOOL")
    assert questions[200].options == ('"Happy Easter"', '"Happy Easter!"')
    with pytest.raises(ValueError, match="labels='mine': give one of original, corrected"):
        answers(questions, "mine")


def test_the_sample_is_what_is_drawn(tmp_path: Path) -> None:
    sample.write(tmp_path)
    ours, drawn = read_folder(sample.SAMPLE), read_folder(tmp_path)
    assert [one._replace(picture=two.picture) for one, two in zip(ours, drawn, strict=True)] == [
        *drawn,
    ]
    for one, two in zip(ours, drawn, strict=True):
        assert one.picture.rgb().tobytes() == two.picture.rgb().tobytes()
    assert len({question.picture.rgb().tobytes() for question in ours}) == len(ours) == 24
    assert {question.pattern for question in ours} == set(NAMES)
    assert [question.answer for question in ours].count("a") == 12
    # Both orders are there: the letters of MMVP alternate throughout.
    assert {one.answer for one in ours[::2]} == {"a", "b"}
    assert answers(ours, "corrected") == answers(ours, "original")
