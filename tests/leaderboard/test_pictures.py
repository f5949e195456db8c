"""MMVP in reports and comparisons: the pair is the unit, and a point of the trade-off."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.echo import write_run
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.reports.gathering import report_of
from verbalizer_bench.leaderboard.reports.opening import opening
from verbalizer_bench.results.picture_scores import read_picture_scores
from verbalizer_bench.results.statistics import Interval

SUITE = [f"verbalizer_sst2_{kind}" for kind in ("natural_1_0", "neutral_foo_bar", "unnatural_0_1")]
OTHER = {"a": "b", "b": "a"}


def pairs_right(pairs: int) -> Callable[[Any], str]:
    """Answer so many pairs right, of each later one the first question only."""

    def says(request: Any) -> str:
        doc = request.doc
        first = doc["index"] % 2 == 1
        letter = doc["answer"] if doc["pair"] <= pairs or first else OTHER[doc["answer"]]
        return f"({letter})"

    return says


def write_mmvp(
    folder: Path, name: str, pairs: int, weights: str | None = None, **options: Any
) -> Path:
    says = options.pop("says", pairs_right(pairs))
    tasks = options.pop("tasks", ["mmvp_options"])
    return known(write_run(folder, name, tasks, says=says, **options), weights)


def known(folder: Path, weights: str | None) -> Path:
    """Put a record of these weights into a run's results."""
    (file,) = folder.glob("results_*.json")
    table = json.loads(file.read_text())
    if weights:
        table["config"]["verbalizer_bench"] = {"fingerprint": {"weights": weights}}
    file.write_text(json.dumps(table))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three checkpoints, of which two have both kinds of runs."""
    folder = tmp_path_factory.mktemp("runs")
    write_mmvp(folder / "mmvp", "seeing", 9, "aa11", tasks=["mmvp_options", "mmvp_letters"])
    write_mmvp(folder / "mmvp", "blinder", 3, "bb22")
    write_mmvp(folder / "mmvp", "alone", 6, "cc33")
    for name, weights in (("1", "aa11"), ("foo", "bb22"), ("0", "dd44")):
        known(write_run(folder / "suite", name, SUITE), weights)
    return folder


def test_means_are_over_pairs(runs: Path) -> None:
    options, letters = read_picture_scores(runs / "mmvp" / "seeing")
    assert (options.task, letters.task) == ("mmvp_options", "mmvp_letters")
    assert options.units == tuple(range(1, 13)) and options.table.shape == (12, 5)
    assert options.means["pair"].mean == 0.75
    assert options.means["single"].mean == 21 / 24
    assert options.means["unparsed"] == Interval(0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 12)))
    pair = options.means["pair"]
    assert pair.low is not None and pair.high is not None
    # Clopper and Pearson of 9 in 12: few differ.
    assert (pair.low, pair.high) == (
        pytest.approx(0.4281, abs=0.03),
        pytest.approx(0.9451, abs=0.03),
    )
    assert options.by_category["orientation and direction"][0].mean == 1
    assert options.by_category["text"] == (Interval(0.0, None, None), 1)
    assert options.left_out == 0 and options.counted("pairs") == "12 pairs (made sample)"
    assert options.columns == ("pair", "single", "unparsed")


def test_a_report_of_mmvp_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(report_of([runs / "mmvp"]))
    assert "| seeing" in text and "75.0 [" in text and "12 (made sample)" in text
    assert "MMVP by pattern" in text and "viewpoint and perspective" in text
    assert "Rows: sample." in text and "one letter throughout: 0" in text
    # No question of the sample is disputed.
    assert "of 150" not in text and "corrected" not in text.lower()
    assert main(["report", str(runs / "mmvp")]) == 0
    assert (runs / "mmvp" / "report" / "report.md").is_file()
    page = (runs / "mmvp" / "report" / "report.html").read_text()
    assert "<h1>Report of 3 runs</h1>" in page and "MMVP by pattern" in page
    assert "<strong>Toy:</strong> made data. These numbers" in page
    assert 'href="#scores"' not in page and 'id="provenance"' not in page


def test_the_swapped_control_is_read_out(tmp_path: Path) -> None:
    """Who likes (a) keeps the letter, who sees keeps what the option says."""
    tasks = ["mmvp_letters", "mmvp_letters_swapped", "mmvp_options", "mmvp_options_swapped"]
    write_mmvp(tmp_path, "letter", 0, "aa11", tasks=tasks, says=lambda request: "(a)")
    write_mmvp(tmp_path, "seeing", 12, "bb22", tasks=tasks)

    def half(request: Any) -> str:
        return f"({request.doc['answer']})" if request.doc["pair"] <= 6 else "I do not know."

    write_mmvp(tmp_path, "half", 6, "cc33", tasks=tasks, says=half)
    text = str(report_of([tmp_path]))
    for name, told in (
        ("letter", "(a) 100 %, (b) 0 %; swapped (a) 100 %, (b) 0 %; the choice stayed with what "),
        ("letter", "option says in 0 % of 24 questions, with the letter in 100 %, and 0 % lack"),
        ("seeing", "(a) 50 %, (b) 50 %; swapped (a) 50 %, (b) 50 %; the choice stayed with what "),
        ("seeing", "option says in 100 % of 24 questions, with the letter in 0 %, and 0 % lack"),
        ("half", "option says in 50 % of 24 questions, with the letter in 0 %, and 50 % lack"),
    ):
        lines = [line for line in text.splitlines() if line.startswith(f"{name}, prompt options: ")]
        assert len(lines) == 1 and told in lines[0]
    rows = [line for line in text.splitlines() if line.startswith("| seeing")]
    ways = [row.split("|")[2].strip() for row in rows]
    assert ways[:2] == ["prompt options", "prompt options, options swapped"]
    assert ways[2:] == ["prompt letters", "prompt letters, options swapped"]
    # Twelve columns side by side would be too many.
    assert "MMVP by pattern, mmvp_letters_swapped:" in text


def test_what_is_made_data_is_said_of_that_alone(runs: Path, tmp_path: Path) -> None:
    real = report_of([runs / "suite" / "1"])
    scores = list(read_picture_scores(runs / "mmvp" / "seeing"))
    own = [
        dataclasses.replace(one, asked=one.asked.model_copy(update={"source": "local"}))
        for one in scores
    ]
    assert own[0].counted() == "12 (own questions)"
    first = opening([run.file for run in real.runs], real.summaries, own, 0)
    assert first == ("Report of 2 runs", "verbalizer suite: 1; MMVP: 1", "F1 of every run")
    assert opening([], [], own, 0) == ("seeing", "", None)
    assert opening([], [], scores, 3).heading == "Report of 4 runs"
    made = scores[0].asked.model_copy(update={"source": "local", "documents": 300})
    assert dataclasses.replace(scores[0], asked=made).counted("pairs") == "12 of 150 pairs"


def test_the_trade_off(runs: Path, tmp_path: Path) -> None:
    made = report_of([runs])
    assert made.trade_off is not None
    found = {point.name: point for point in made.trade_off.points}
    assert set(found) == {"1", "foo"} and made.trade_off.task == "mmvp_options"
    assert (found["1"].pairs.mean, found["foo"].pairs.mean) == (0.75, 0.25)
    # Always "1": half right by the natural labels, and by the unnatural.
    assert found["1"].f1["unnatural"].mean == 0.5 and found["foo"].f1["unnatural"].mean == 0
    assert found["1"].f1["All"].low is not None
    assert made.trade_off.alone == ("0", "alone (mmvp_options)")
    text = str(made)
    assert "Following instructions against seeing" in text
    assert "Without the other one: 0, alone (mmvp_options)." in text
    files = {file.name for file in made.write(tmp_path)}
    assert files >= {"report.html", "trade_off.png", "trade_off.svg"}
    page = (tmp_path / "report.html").read_text()
    assert "Points of F1 against pairs of MMVP" in page and "MMVP by pattern" in page
    assert "F1 of every run" not in page and "Report of 6 runs" in page
    assert {point.protocol for point in made.trade_off.points} == {"toy (made data), partial"}
    assert {point.asked for point in made.trade_off.points} == {"12 pairs (made sample)"}
    svg = (tmp_path / "trade_off.svg").read_text()
    assert svg.count("MMVP: 12 pairs (made sample); F1: toy (made data), partial") == 2
    assert svg.count("LineCollection") >= 8
    assert "![Following instructions against seeing](trade_off.png)" in (
        (tmp_path / "report.md").read_text()
    )


def test_no_weights_in_common_is_no_figure(runs: Path) -> None:
    made = report_of([runs / "mmvp" / "alone", runs / "suite"])
    assert made.trade_off is None and "MMVP" in made.pictures


def test_an_odd_limit_leaves_half_a_pair_out(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path, "part", 12, limit=5)
    (scores,) = read_picture_scores(folder)
    assert (scores.units, scores.left_out) == ((1, 2), 1)
    assert "1 pairs were not asked whole" in str(report_of([folder]))
    with pytest.raises(ValueError, match="no whole pair in it"):
        list(read_picture_scores(write_mmvp(tmp_path, "single", 12, limit=1)))


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path, "one", 6)
    (file,) = folder.glob("samples_*.jsonl")
    lines = file.read_text().splitlines()
    row = json.loads(lines[0])
    row["filtered_resps"], row["resps"] = [["(b)"], [["(b)"]]]
    for changed, message in (
        (json.dumps(row | {"filtered_resps": ["(b)"]}), "document 0: its accuracy is not what"),
        (json.dumps(row | {"doc": {}}), "no scored response of mmvp"),
        (json.dumps(row | {"bypass": None}), "--predict_only scores nothing"),
    ):
        file.write_text("\n".join([changed, *lines[1:]]) + "\n")
        with pytest.raises(ValueError, match=message):
            list(read_picture_scores(folder))
    file.unlink()
    with pytest.raises(FileNotFoundError, match="run lm_eval with --log_samples"):
        list(read_picture_scores(folder))


def test_compare_is_paired_over_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_mmvp(tmp_path, "blinder", 3, "bb22")
    other = write_mmvp(tmp_path, "seeing", 9, "aa11")
    assert main(["compare", str(base), str(other), "-o", str(tmp_path / "c")]) == 0
    assert "MMVP (mmvp_options), pairs right: seeing against blinder" in capsys.readouterr().out
    table = json.loads((tmp_path / "c" / "compare.json").read_text())
    (pair,) = table["pairs"]
    found = {one["name"]: one for one in pair["differences"]}
    assert (found["pair"]["base"], found["pair"]["model"]) == (0.25, 0.75)
    assert found["pair"]["difference"] == 0.5 and found["pair"]["documents"] == 12
    # Six of twelve pairs differ, all to one side: 2 / 64 of the sign flips are as far.
    assert found["pair"]["p"] == pytest.approx(2 / 64, abs=0.006)
    assert found["pair"]["low"] < 0.5 < found["pair"]["high"]
    assert found["unparsed"]["difference"] == 0 and pair["differs"] == ["tuning"]


def test_runs_of_both_kinds_are_compared_over_both(tmp_path: Path) -> None:
    from verbalizer_bench.api import compare

    tasks = ["mmvp_options", *SUITE]

    def says(request: Any) -> str:
        return "1" if "first" not in request.doc and "answer" not in request.doc else "(a)"

    runs = [write_mmvp(tmp_path, name, 0, tasks=tasks, says=says) for name in ("one", "two")]
    text = str(compare(*runs))
    assert "F1 over all" in text and "MMVP (mmvp_options), pairs right: two against one" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 4}, "pair 3 was asked in one of them only"),
        ({"tasks": ["mmvp_letters"]}, "lacks the task"),
        ({"gen_kwargs": {"max_gen_toks": 5}}, "differ in generation_kwargs"),
    ],
)
def test_what_is_not_compared(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    from verbalizer_bench.api import compare

    base = write_mmvp(tmp_path, "base", 3)
    with pytest.raises(ValueError, match=message):
        compare(base, write_mmvp(tmp_path, "other", 3, **options))


def test_other_images_are_other_documents(tmp_path: Path) -> None:
    from verbalizer_bench.api import compare

    base, other = (write_mmvp(tmp_path, name, 3) for name in ("base", "other"))
    (file,) = other.glob("samples_*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[3]["doc"]["image_sha256"] = "0" * 64
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="their questions, answers or images differ"):
        compare(base, other)


def test_a_copy_that_lacks_whole_pairs_is_refused(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path, "cut-off", 9)
    (samples,) = folder.glob("samples_*")
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:-4]))
    with pytest.raises(ValueError, match=r"20 of the 24 responses that .* counts; copy"):
        next(read_picture_scores(folder))
