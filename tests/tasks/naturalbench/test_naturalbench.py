"""NaturalBench: groups from the hub's layout and ours, asked four times, scored G, Q and I."""

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lm_eval.tasks import TaskManager

from tests.helpers.echo import write_run
from verbalizer_bench.leaderboard.reports.gathering import report_of
from verbalizer_bench.results.picture_scores import read_picture_scores
from verbalizer_bench.tasks.naturalbench import sample
from verbalizer_bench.tasks.naturalbench.groups import FILE, IMAGES, read_groups
from verbalizer_bench.tasks.naturalbench.scoring import COLUMNS, METRICS, group_values
from verbalizer_bench.tasks.spec import TASKS_FOLDER


def load(data: str | Path = "sample") -> dict[str, Any]:
    manager = TaskManager(
        include_path=str(TASKS_FOLDER / "naturalbench"),
        include_defaults=False,
        metadata={"data": str(data)},
    )
    return dict(manager.load(["naturalbench", "naturalbench_blind"])["tasks"])


def run_of(task: Any, says: Any) -> dict[str, float]:
    made = [task.process_results(doc, [says(doc)]) for doc in task.eval_docs]
    return {name: task.aggregation()[name]([one[name] for one in made]) for name in METRICS}


def hub_rows() -> list[dict[str, Any]]:
    """Return the sample's groups as the hub has them."""
    with (sample.SAMPLE / FILE).open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        for i in (0, 1):
            content = (sample.SAMPLE / IMAGES / f"{row['Index']}_{i}.png").read_bytes()
            row[f"Image_{i}"] = {"bytes": content, "path": None}
        row["Index"] = int(row["Index"])
    return rows


def test_the_sample_is_what_is_drawn(tmp_path: Path) -> None:
    sample.write(tmp_path)
    for file in sorted(tmp_path.rglob("*.*")):
        committed = sample.SAMPLE / file.relative_to(tmp_path)
        if file.suffix == ".csv":
            assert committed.read_bytes() == file.read_bytes()
    for one, two in zip(read_groups(sample.SAMPLE), read_groups(tmp_path), strict=True):
        assert one[:5] == two[:5]
        for mine, drawn in zip(one.pictures, two.pictures, strict=True):
            assert mine.rgb().tobytes() == drawn.rgb().tobytes()


@pytest.mark.parametrize("type_column", ["Question_Type", "Question Type"])
def test_the_hubs_layout_has_the_same_questions(tmp_path: Path, type_column: str) -> None:
    rows = hub_rows()
    for row in rows:
        row[type_column] = row.pop("Question_Type")
    (tmp_path / "data").mkdir()
    for part in (0, 1):
        table = pa.Table.from_pylist(rows[3 * part : 3 * part + 3])
        pq.write_table(table, tmp_path / "data" / f"train-0000{part}-of-00002.parquet")
    ours, hub = load()["naturalbench"], load(tmp_path)["naturalbench"]
    for one, two in zip(ours.eval_docs, hub.eval_docs, strict=True):
        assert one | {"image": ""} == two | {"image": ""}
        assert ours.doc_to_image(one)[0].tobytes() == hub.doc_to_image(two)[0].tobytes()
    assert ours.config.metadata["identity"] == hub.config.metadata["identity"]


def test_prompts_and_options() -> None:
    task, blind = load().values()
    docs = task.eval_docs
    assert len(docs) == 24 and task.MULTIMODAL and not getattr(blind, "MULTIMODAL", False)
    assert task.doc_to_text(docs[0]) == (
        "<image>Does the arrow point left? Please answer Yes or No."
    )
    assert blind.doc_to_text(docs[0]) == task.doc_to_text(docs[0]).removeprefix("<image>")
    assert [task.doc_to_target(doc) for doc in docs[:4]] == ["Yes", "No", "No", "Yes"]
    assert [doc["image"] for doc in docs[:4]] == ["0_0.png", "0_1.png", "0_0.png", "0_1.png"]
    assert task.doc_to_text(docs[16]).endswith(
        "B: below the line; Please output the letter corresponding to the correct option."
    )
    assert (docs[16]["a"], docs[16]["b"]) == ("above the line", "below the line")
    assert (docs[18]["a"], docs[18]["b"]) == ("below the line", "above the line")
    assert task.doc_to_target(docs[16]) == "A" and not task.notices


def test_scores() -> None:
    task = load()["naturalbench"]

    def right(doc: dict[str, Any]) -> str:
        return str(task.doc_to_target(doc))

    assert run_of(task, right) == dict(zip(METRICS, (1, 1, 1, 1, 0), strict=True))
    # One answer throughout: half the questions, and nothing else.
    for said in ("Yes.", "(a)"):
        half = 16 / 24 if said == "Yes." else 8 / 24
        found = run_of(task, lambda doc, said=said: said)
        assert found["group_accuracy"] == found["question_accuracy"] == 0
        assert found["image_accuracy"] == 0 and found["accuracy"] == pytest.approx(half / 2)
        assert found["unparsed"] == pytest.approx(1 - half)

    def first_question(doc: dict[str, Any]) -> str:
        return right(doc) if doc["question_number"] == 0 else "nothing of the kind"

    found = run_of(task, first_question)
    assert (found["question_accuracy"], found["image_accuracy"]) == (0.5, 0)

    def first_image(doc: dict[str, Any]) -> str:
        return right(doc) if doc["image_number"] == 0 else "nothing of the kind"

    found = run_of(task, first_image)
    assert (found["question_accuracy"], found["image_accuracy"]) == (0, 0.5)


def test_a_groups_values_are_their_means() -> None:
    task = load()["naturalbench"]
    docs = task.eval_docs[:4]
    said = ["Yes", "No", "No", "No"]
    assert dict(zip(COLUMNS, group_values(docs, said), strict=True)) == {
        **{"group": 0, "question": 0.5, "image": 0.5, "single": 0.75, "unparsed": 0},
    }


def test_a_run_is_reported_by_group(tmp_path: Path) -> None:
    def says(request: Any) -> str:
        kind = {"yes_no": ("Yes", "No"), "multiple_choice": ("A", "B")}[request.doc["type"]]
        return kind["ab".index(request.doc["answer"])] if request.doc["group"] < 3 else kind[0]

    folder = write_run(tmp_path, "half", ["naturalbench"], says=says)
    (scores,) = read_picture_scores(folder)
    assert scores.units == tuple(range(6)) and scores.means["group"].mean == 0.5
    assert scores.means["single"].mean == 0.75
    text = str(report_of([folder]))
    assert "NaturalBench by type" in text and "75.0 [" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Question_1": ""}, "Question_1 is empty"),
        ({"Image_1_Question_0": "Yes"}, "to each question the images have different ones"),
        ({"Image_0_Question_0": "A"}, "Image_0_Question_0='A': Yes or No is expected"),
        ({"Question_Type": "open"}, "Question_Type='open': one of yes_no, multiple_choice"),
        ({"Index": "x"}, "Index='x': a whole number is expected"),
        ({"Index": "1"}, "Index 1 is there twice"),
        ({"Index": "9"}, r"9_0.jpg \(or .png\) is not there"),
    ],
)
def test_a_wrong_row_is_one_line(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    sample.write(tmp_path)
    with (tmp_path / FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0] |= changes
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0])
    table.writeheader()
    table.writerows(rows)
    (tmp_path / FILE).write_text(text.getvalue())
    read_groups.cache_clear()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_groups(tmp_path)


def test_a_group_has_two_images(tmp_path: Path) -> None:
    sample.write(tmp_path)
    one, other = (tmp_path / IMAGES / f"2_{i}.png" for i in (0, 1))
    one.write_bytes(other.read_bytes())
    read_groups.cache_clear()
    with pytest.raises(ValueError, match=r"Index 2: both images are the same, .*2_0.png and .*2_1"):
        read_groups(tmp_path)


def test_options_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    sample.write(tmp_path)
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text.replace("A: a square; B: a disc;", "square or disc"))
    task = load(tmp_path)["naturalbench"]
    assert task.notices == [
        "naturalbench: of 1 questions the options could not be read (A: …; B: …;): only letters "
        "count as answers to them"
    ]
    with pytest.raises(FileNotFoundError, match="no row of NaturalBench in it"):
        load(tmp_path / "Images")
