"""From pairs to questions: a form, drafts that stay drafts, and a benchmark as MMVP's."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.endpoint_fixtures import key, serve
from tests.helpers.endpoint_server import Server, images
from verbalizer_bench.cli import main
from verbalizer_bench.io.files import file_sha256
from verbalizer_bench.tasks.mmvp.questions import check_pictures, read_folder

__all__ = ["key", "serve"]
NAMES = ("0.jpg", "turned.jpg", "rgba.png", "a b\n.png", "palette.gif", "plain.png")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    for number, name in enumerate(NAMES):
        image = Image.new("RGB", (20, 10 + number), (40 * number, 90, 60))
        mode = {"rgba.png": "RGBA", "palette.gif": "P"}.get(name, "RGB")
        more = {"exif": turned} if name == "turned.jpg" else {}
        image.convert(mode).save(folder / name, **more)
    return folder


@pytest.fixture
def pairs(tmp_path: Path, photographs: Path) -> Path:
    """Write what `blind-pairs` does, of three pairs."""
    folder = tmp_path / "blind"
    folder.mkdir()
    rows = [
        {
            "similar": 0.97,
            "different": 0.1 * (place + 1),
            "images": NAMES[place : place + 2],
            "sha256": [file_sha256(photographs / name) for name in NAMES[place : place + 2]],
        }
        for place in (0, 2, 4)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tower = {"model": "tower", "embedding": "cls", "weights": "0" * 64}
    counts = dict.fromkeys(
        ("images", "no_features", "copies", "searched", "near", "blind", "near_duplicates")
        + ("placeholders", "crowded", "capped", "pairs"),
        3,
    )
    record = {"similar": tower, "different": tower, "counts": counts, "rule": {"above": 0.95}}
    record["choice"] = {"below": 0.6, "cap": 3, "crowd": 100, "duplicate": 0.95}
    (folder / "result.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def form(tmp_path: Path, pairs: Path, photographs: Path) -> Path:
    folder = tmp_path / "form"
    assert main(["pair-questions", "export", str(pairs), str(photographs), "-o", str(folder)]) == 0
    return folder


def rows_of(form: Path) -> list[dict[str, str]]:
    with (form / "Questions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fill(form: Path, *changes: tuple[int, dict[str, str]], pairs: tuple[int, ...] = (1, 2)) -> None:
    """Fill pairs in as people do, and then change cells of rows by Index."""
    rows = rows_of(form)
    for row in rows:
        index = int(row["Index"])
        if (index + 1) // 2 in pairs:
            row["Question"], row["Options"] = "Is the cup, there, full?", "(a) Full (b) Empty"
            row["Correct Answer"] = "(a)" if index % 2 else "(b)"
            row["Pattern"] = "state and condition"
    for index, cells in changes:
        rows[index - 1].update(cells)
    with (form / "Questions.csv").open("w", newline="", encoding="utf-8") as file:
        # As spreadsheets do.
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)


def test_the_form_has_the_images_as_the_towers_saw_them(form: Path, photographs: Path) -> None:
    folder = form / "MMVP Images"
    assert sorted(file.name for file in folder.iterdir()) == [
        *("1.jpg", "2.png", "3.png", "4.png", "5.png", "6.png")
    ]
    assert (folder / "1.jpg").read_bytes() == (photographs / "0.jpg").read_bytes()
    assert (folder / "6.png").read_bytes() == (photographs / "plain.png").read_bytes()
    # Its orientation is a quarter turn, which no viewer applies any more.
    assert Image.open(folder / "2.png").size == (20, 11)
    assert all(Image.open(folder / f"{number}.png").mode == "RGB" for number in range(2, 7))
    rows = rows_of(form)
    assert [row["Image"] for row in rows] == list(NAMES)
    assert not any(row["Question"] or row["Draft"] for row in rows)
    assert (form / "contact_sheet.html").read_text().count("data:image/jpeg") == 6


def test_a_finished_form_is_read_as_mmvp_is(
    form: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(form, pairs=(1, 3))
    output = tmp_path / "mine"
    assert main(["pair-questions", "finish", str(form), "-o", str(output)]) == 0
    assert "2 pairs; 1 empty ones are left out" in capsys.readouterr().out
    questions = read_folder(output)
    check_pictures(questions)
    assert [question.number for question in questions] == [1, 2, 3, 4]
    assert [question.answer for question in questions] == ["a", "b", "a", "b"]
    assert questions[2].options == ("Full", "Empty")
    assert {question.pattern for question in questions} == {"state and condition"}
    # The third pair's images, under new numbers.
    source = (form / "MMVP Images" / "5.png").read_bytes()
    assert (output / "MMVP Images" / "3.png").read_bytes() == source
    header = (output / "Questions.csv").read_text().splitlines()[0]
    assert header == "Index,Question,Options,Correct Answer,Pattern"


@pytest.mark.parametrize(
    ("index", "cells", "error"),
    [
        (2, {"Correct Answer": "(a)"}, "pair 1: both answers are (a); ask what differs"),
        (2, {"Options": "(a) Empty (b) Full"}, "pair 1: Options differs"),
        (2, {"Question": "Else?"}, "pair 1: Question differs"),
        (2, {"Pattern": ""}, "pair 1: Pattern differs"),
        (2, {"Correct Answer": "b"}, "pair 1: Index 2: Correct Answer='b': give (a) or (b)"),
        (2, {"Correct Answer": ""}, "pair 1: Index 2: Correct Answer is empty; fill in both rows"),
        (1, {"Draft": "some-model"}, "pair 1: Index 1 is a draft by some-model; look at it"),
    ],
)
def test_what_a_pair_lacks_is_one_line(
    form: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    index: int,
    cells: dict[str, str],
    error: str,
) -> None:
    fill(form, (index, cells))
    assert main(["pair-questions", "check", str(form)]) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert error in lines[0]
    assert lines[1] == "1 pairs are finished, 1 are empty, 1 are to be mended"
    assert main(["pair-questions", "finish", str(form), "-o", str(tmp_path / "mine")]) == 2
    assert error in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("cells", "error"),
    [
        (
            {"Options": "(a) Quite full (b) Empty"},
            "option 'Quite full' has 2 words; give at most 1, or --words 2",
        ),
        ({"Options": "Full or empty"}, "two are expected, such as"),
        ({"Options": "(a) Full (b) full"}, "both say the same"),
        ({"Pattern": "colour"}, "'colour' is no pattern of MMVP"),
    ],
)
def test_options_and_pattern_are_checked(
    form: Path, capsys: pytest.CaptureFixture[str], cells: dict[str, str], error: str
) -> None:
    fill(form, (1, cells), (2, cells))
    assert main(["pair-questions", "check", str(form)]) == 0
    assert error in capsys.readouterr().out
    if "Quite" in str(cells):
        assert main(["pair-questions", "check", str(form), "--words", "2"]) == 0
        assert "2 pairs are finished" in capsys.readouterr().out


def test_images_that_are_gone_or_broken_are_said(
    form: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(form)
    (form / "MMVP Images" / "2.png").unlink()
    (form / "MMVP Images" / "3.png").write_bytes(b"")
    assert main(["pair-questions", "check", str(form)]) == 0
    printed = capsys.readouterr().out
    assert "2.jpg (or .png) is not there; put it back" in printed
    assert "3.png is no image that can be read" in printed


def test_a_table_that_lost_a_row_or_a_column_is_one_line(
    form: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = form / "Questions.csv"
    text = file.read_text()
    for changed, error in (
        ("".join(text.splitlines(True)[:-1]), "Index 5 has no other row of its pair"),
        (text.replace("\n4,", "\n3,"), "Index 3 has no other row of its pair, or two"),
        (text.replace("\n4,", "\nfour,"), "Index='four': leave it as it was"),
        (text.replace(",Draft", ",Drafts"), "no column Draft; it has Index, Question"),
        (text.replace(",", "|"), "no column Index; it has Index|Question"),
    ):
        file.write_text(changed)
        assert main(["pair-questions", "check", str(form)]) == 2
        assert error in capsys.readouterr().err


def test_a_form_that_was_saved_with_semicolons_is_read(
    form: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(form, (1, {"Question": "Full, or empty?"}), (2, {"Question": "Full, or empty?"}))
    file = form / "Questions.csv"
    rows = list(csv.reader(file.read_text().splitlines()))
    with file.open("w", newline="") as stream:
        csv.writer(stream, delimiter=";").writerows(rows)
    assert main(["pair-questions", "check", str(form)]) == 0
    assert "2 pairs are finished, 1 are empty" in capsys.readouterr().out
    file.write_text(file.read_text().replace("\n3;", "\n3;;"))
    assert main(["pair-questions", "check", str(form)]) == 2
    assert "put cells with semicolons between quotation marks" in capsys.readouterr().err


def test_other_images_an_empty_form_and_a_folder_that_is_there_are_refused(
    form: Path,
    pairs: Path,
    photographs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    export = ["pair-questions", "export", str(pairs), str(photographs), "-o"]
    assert main([*export, str(form)]) == 2
    assert "it is there already" in capsys.readouterr().err
    assert main(["pair-questions", "finish", str(form), "-o", str(tmp_path / "mine")]) == 2
    assert "no pair is filled in" in capsys.readouterr().err
    (photographs / "plain.png").write_bytes((photographs / "rgba.png").read_bytes())
    assert main([*export, str(tmp_path / "other")]) == 2
    assert "plain.png: it is not the image that was searched" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def drafting(body: dict[str, Any]) -> Any:
    """Answer by the first image: its width is 20, its height says which."""
    assert len(images(body)) == 2
    return {
        "question": f"Which? {len(images(body)[0])}",
        "first_answer": "Red.",
        "second_answer": "Blue",
        "pattern": "color and appearance",
    }


def draft(form: Path, server: Server, *words: str) -> int:
    command = ["pair-questions", "draft", str(form), "--model", "seer", f"base_url={server.url}"]
    return main([*command, *words])


def test_a_draft_is_marked_and_is_never_finished_by_itself(
    form: Path,
    tmp_path: Path,
    serve: Callable[..., Server],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(drafting)
    fill(form, pairs=(1,))
    assert draft(form, server, "--dry-run", "input_price=2", "output_price=10") == 0
    printed = capsys.readouterr().out
    assert "3 pairs, 2 of them empty; 2 drafts left to ask seer at" in printed
    assert "at most 1,024 of drafts; at most 0.0" in printed and not server.requests
    assert draft(form, server) == 0
    assert "2 pairs drafted" in capsys.readouterr().out
    rows = rows_of(form)
    assert [row["Draft"] for row in rows] == ["", "", *["seer-served"] * 4]
    assert rows[0]["Question"] == "Is the cup, there, full?"
    for one, other in ((rows[2], rows[3]), (rows[4], rows[5])):
        told = {"(a)": one["Options"][4:].split(" (b) ")[0], "(b)": one["Options"].split("(b) ")[1]}
        assert (told[one["Correct Answer"]], told[other["Correct Answer"]]) == ("Red", "Blue")
    assert json.loads((form / "form.json").read_text())["drafts"]["model"] == "seer"
    assert main(["pair-questions", "finish", str(form), "-o", str(tmp_path / "mine")]) == 2
    assert "Index 3 is a draft by seer-served" in capsys.readouterr().err
    # Nothing is empty any more, and nothing is asked again.
    assert draft(form, server) == 0 and len(server.requests) == 2
    fill(form, *((index, {"Draft": ""}) for index in range(3, 7)), pairs=())
    assert main(["pair-questions", "finish", str(form), "-o", str(tmp_path / "mine")]) == 0
    assert len(read_folder(tmp_path / "mine")) == 6


def test_drafts_that_cannot_be_had_are_said_and_stay_empty(
    form: Path, serve: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    said = iter([{"second_answer": "red"}, {"first_answer": "A red cup"}, {"question": " "}] * 3)
    server = serve(lambda body: drafting(body) | next(said))
    assert draft(form, server, "concurrency=1") == 0
    printed = capsys.readouterr().out
    assert printed.count(": no draft: ") == 3 and "0 pairs drafted" in printed
    assert len(server.requests) == 9
    assert not any(row["Question"] for row in rows_of(form))


def test_a_budget_ends_drafts_and_what_was_answered_is_kept(
    form: Path, serve: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(drafting)
    assert draft(form, server, "concurrency=1", "budget.tokens=3100", "image_tokens=1000") == 2
    captured = capsys.readouterr()
    assert "stopped: " in captured.err and "budget" in captured.err
    drafted = sum(bool(row["Draft"]) for row in rows_of(form))
    assert drafted == 2 * len(server.requests) and 0 < drafted < 6
    assert draft(form, server) == 0
    assert all(row["Draft"] for row in rows_of(form))
