import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from verbalizer_bench.cli.app import main
from verbalizer_bench.io import jsonl
from verbalizer_bench.judged.pope import (
    SPLITS,
    SUFFIX,
    Pope,
    exact,
    first_sentence,
    lines,
    read_pope,
    scores,
)
from verbalizer_bench.judged.questions import Answer, Question, check_images
from verbalizer_bench.models.images import make_image

SAID = ["Yes", "No", "Yes", "No", "Yes", "No", "Yes", "Yes"]


def write_pope(folder: Path, labels: Sequence[str] = ("yes", "no")) -> Path:
    """Write two images, and a question about each with the label of its place, three times."""
    folder.mkdir()
    for split in SPLITS:
        rows = [
            {"question_id": n, "image": f"{n % 2}.png", "text": f"Is there a {n}?", "label": label}
            for n, label in enumerate(labels)
        ]
        (folder / f"coco_pope_{split}.json").write_text(jsonl.dumps(rows))
    for n in range(2):
        make_image(("white", "black")[n], (32, 32)).save(folder / f"{n}.png")
    return folder


def answered(bench: Pope, texts: Sequence[str]) -> dict[str, Answer]:
    return {
        question.id: Answer((texts[n % len(texts)],), (None,))
        for n, question in enumerate(bench.questions)
    }


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        ("Yes", "yes", "yes"),
        ("no\n", "no", "no"),
        ("Yes.", None, "yes"),
        ("Yes, there is a dog.", None, "yes"),
        ("No, there is none.", None, "no"),
        ("There is not.", None, "no"),
        ("There is one. No more.", None, "yes"),
        ("Notable", None, "yes"),
        ("", None, "yes"),
    ],
)
def test_rules(text: str, strict: str | None, lenient: str) -> None:
    assert (exact(text), first_sentence(text)) == (strict, lenient)


def test_scores_by_hand(tmp_path: Path) -> None:
    """Of six a split: 2 hits, 1 false alarm, 1 missed by a no, 1 by a sentence, 1 right no."""
    labels = ["yes", "yes", "no", "yes", "yes", "no"]
    bench = read_pope(write_pope(tmp_path / "pope", labels), tmp_path / "pope")
    answers = answered(bench, ["Yes", "yes", "yes", "no", "Yes, it is.", "No"])
    strict, lenient = (scores(bench, answers, rule) for rule in ("exact", "first_sentence"))
    one = strict.splits["popular"]
    assert (one.accuracy, one.precision, one.recall) == (3 / 6, 2 / 3, 2 / 4)
    assert one.f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 2)) and one.yes == 3 / 6
    assert lenient.splits["random"].f1 == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert strict.f1.value == pytest.approx(4 / 7)
    nothing = scores(bench, answered(bench, ["?"]), "exact")
    assert nothing.f1.value == 0 and nothing.splits["random"].accuracy == 0


def test_real_questions() -> None:
    """Whoever always says yes: F1 two thirds, half of them right, yes to all."""
    folder = SHARED / "data" / "pope"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    bench = read_pope(folder, folder)
    with pytest.raises(
        FileNotFoundError, match="500 of 500 images are not there, such as COCO_val"
    ):
        check_images(bench.questions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("verbalizer_bench.judged.pope.RESAMPLES", 100)
        found = scores(bench, answered(bench, ["Yes"]), "exact")
    assert len(bench.questions) == 9000 and bench.questions[0].turns[0].endswith(SUFFIX)
    assert found.f1.value == pytest.approx(2 / 3) and len(found.splits) == 3
    assert all((one.accuracy, one.yes) == (0.5, 1.0) for one in found.splits.values())


def test_only_the_images_of_the_questions_asked_are_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pope(tmp_path / "pope")
    (folder / "1.png").unlink()
    names = [f"{split}-{n}" for split in SPLITS for n in range(2)]
    answers = [{"question_id": name, "choices": [{"turns": ["yes"]}]} for name in names]
    (tmp_path / "made.jsonl").write_text(jsonl.dumps(answers))
    words = ["judge", "pope", "--data", str(folder), "--images", str(folder)]
    words += ["-o", str(tmp_path / "out"), "--answers", str(tmp_path / "made.jsonl")]
    assert main([*words, "--dry-run"]) == 0
    said = "1 of 2 images are not there, such as 1.png"
    assert f"{said}: the command will need them." in capsys.readouterr().out
    assert main(words) == 2 and said in capsys.readouterr().err
    assert main([*words, "--limit", "1"]) == 0


def test_a_checkpoint_answers(
    tmp_path: Path, toys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """It sees each question's own image: the same question about another is answered anew."""
    folder = write_pope(tmp_path / "pope", ["yes", "no"])
    for split in SPLITS:
        file = folder / f"coco_pope_{split}.json"
        file.write_text(file.read_text().replace("Is there a 1?", "Is there a 0?"))
    arguments = f"pretrained={toys[1]},dtype=float32,device=cpu"
    command = ["judge", "pope", "--data", str(folder), "--images", str(folder)]
    command += ["--output", str(tmp_path / "out")]
    assert main([*command, "--model_args", arguments]) == 0
    assert "first_sentence: mean F1" in capsys.readouterr().out
    record: dict[str, Any] = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["answers"]["count"] == 6 and record["judge"] is None
    rows = [row for _, row in jsonl.read_objects(tmp_path / "out" / "answers.jsonl")]
    texts = {row["question_id"]: row["choices"][0]["turns"][0] for row in rows}
    assert texts["random-0"] == texts["popular-0"] != texts["random-1"]
    assert main(command) == 0


def test_few_images_have_no_interval(tmp_path: Path) -> None:
    """Drawn out of one or two images a score is what it was, again and again."""
    bench = read_pope(write_pope(tmp_path / "pope", ["yes", "no"]), tmp_path / "pope")
    found = scores(bench, answered(bench, ["Yes", "Yes"]), "exact")
    assert found.f1.value == pytest.approx(2 / 3) and found.f1.record()["interval"] is None
    assert lines({"exact": found})[0] == (
        "exact: mean F1 0.667 (no interval of so few images, or of images that are all alike)"
    )
    eight = [(split, n) for split in SPLITS for n in range(8)]
    questions = tuple(Question(f"{s}-{n}", s, ("?",), 0.0, Path(f"{n}.png")) for s, n in eight)
    many = Pope(questions, {one.id: "yes" for one in questions})
    alike, unlike = (scores(many, answered(many, texts), "exact") for texts in (["Yes"], SAID))
    assert alike.f1.value == 1 and alike.f1.record()["interval"] is None
    assert unlike.f1.low < unlike.f1.value < unlike.f1.high


def test_the_first_questions_of_each_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pope(tmp_path / "pope", ["yes", "no", "yes"])
    texts = {f"{split}-{n}": "Yes" for split in SPLITS for n in range(2)}
    rows = ({"question_id": n, "choices": [{"turns": [t]}]} for n, t in texts.items())
    (tmp_path / "made.jsonl").write_text(jsonl.dumps(rows))
    command = ["judge", "pope", "--data", str(folder), "--images", str(folder), "--limit", "2"]
    command += ["--output", str(tmp_path / "out")]
    assert main([*command, "--dry-run"]) == 0
    assert "POPE: 6 answers of up to 16 tokens" in capsys.readouterr().out
    assert main([*command, "--answers", str(tmp_path / "made.jsonl")]) == 0
    assert "6 of 9,000 questions: not the benchmark" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["questions"]["asked"] == 6
    assert {one["yes"] for one in record["rules"]["exact"]["splits"].values()} == {1.0}


def test_wrong_labels(tmp_path: Path) -> None:
    folder = write_pope(tmp_path / "pope", ["yes", "maybe"])
    with pytest.raises(ValueError, match="line 2: label='maybe': yes or no is expected"):
        read_pope(folder, folder)
