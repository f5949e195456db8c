"""MMVP and NaturalBench of lmms-eval's folders in reports and comparisons."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.echo import write_run
from tests.helpers.lmms_results import VALUES, write_lmms, write_lmms_pictures
from verbalizer_bench.api import compare, load_run, report
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.reports.gathering import report_of
from verbalizer_bench.results.picture_runs import picture_runs
from verbalizer_bench.results.picture_scores import read_picture_scores

OTHER = {"a": "b", "b": "a"}


@pytest.fixture(autouse=True)
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "sample")


def right(doc: Mapping[str, Any]) -> str:
    return f"({doc['answer']})" if "pair" in doc else str(doc["target"])


def half(doc: Mapping[str, Any]) -> str:
    """Answer the first six pairs; of the others one letter throughout."""
    return right(doc) if doc["pair"] <= 6 else "(a)"


def test_it_is_what_lm_eval_has(tmp_path: Path) -> None:
    """Scores, units, patterns and the documents' hash, of the same responses."""
    file = write_lmms_pictures(tmp_path / "lmms", {"mmvp_options": half})
    folder = write_run(tmp_path, "lm", ["mmvp_options"], says=lambda request: half(request.doc))
    (theirs,) = read_picture_scores(folder)
    ((ours,),) = picture_runs(tmp_path / "lmms")
    assert ours.run.file == file and ours.run.name == "llava" and not ours.run.is_ours
    assert ours.means == theirs.means and ours.means["pair"].mean == 0.5
    assert ours.by_category == theirs.by_category
    assert ours.documents_sha256 == theirs.documents_sha256
    assert ours.asked == theirs.asked
    assert ours.samples == theirs.samples
    assert "with the adapter's chat template" in ours.how and "float32" in ours.how


def test_a_report_of_both_benchmarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lmms_pictures(
        tmp_path, {"mmvp_options": half, "mmvp_letters": right, "naturalbench_rule": right}
    )
    assert main(["report", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert (
        re.search(r"\| llava +\| prompt options \| +50\.0 \[", text) and "12 (made sample)" in text
    )
    assert re.search(r"prompt letters \| +100\.0 \[", text) and "Rows: sample." in text
    assert "NaturalBench:" in text and "6 (made sample)" in text
    assert "not shown" not in text
    assert (tmp_path / "report" / "report.md").is_file()


def test_beside_other_benchmarks_it_has_columns(tmp_path: Path) -> None:
    write_lmms(tmp_path, {"gqa": VALUES})
    write_lmms_pictures(tmp_path, {"mmvp_options": half}, date="20261130_113213")
    text = str(report_of([tmp_path]))
    (header,) = [line for line in text.splitlines() if line.startswith("| Checkpoint")]
    assert "GQA" in header and "MMVP pair" in header and "MMVP single" in header
    (row,) = [
        line
        for line in text.splitlines()
        if line.startswith("| llava") and "50.0" in line and "options" not in line
    ]
    assert row.count("50.0 [") == 2


def test_runs_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    """lmms-eval writes every run of a model into the same folder."""
    write_lmms_pictures(tmp_path, {"mmvp_options": right})
    later = "20261130_113213"
    write_lmms_pictures(tmp_path, {"mmvp_letters": half}, date=later)
    text = str(report_of([tmp_path]))
    assert "llava (x__llava)" not in text or later in text
    assert re.search(rf"{later} +\| prompt letters \| +50\.0 \[", text)
    with pytest.raises(ValueError, match=r"holds 2 runs .*give one of them"):
        load_run(tmp_path)
    write_lmms_pictures(tmp_path, {"mmvp_letters": right}, date="20261130_113214")
    write_lmms(tmp_path, {"gqa": VALUES})
    with pytest.raises(ValueError, match="two results of llava in one column"):
        report_of([tmp_path])


def test_the_trade_off_joins_by_what_was_loaded(tmp_path: Path) -> None:
    suite = write_run(tmp_path / "suite", "1", ["verbalizer_sst2_unnatural_0_1"])
    (file,) = suite.glob("results_*.json")
    table = json.loads(file.read_text())
    table["config"]["model_args"] = "pretrained=/x/llava,dtype=float32"
    file.write_text(json.dumps(table))
    write_lmms_pictures(tmp_path / "lmms", {"mmvp_options": half})
    made = report_of([tmp_path]).trade_off
    assert made and [(point.name, point.pairs.mean) for point in made.points] == [("1", 0.5)]
    write_lmms_pictures(tmp_path / "lmms", {"mmvp_options": half}, pretrained="/x/other")
    assert report_of([tmp_path]).trade_off is None


def test_two_of_them_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_lmms_pictures(tmp_path / "base", {"mmvp_options": half})
    other = write_lmms_pictures(tmp_path / "other", {"mmvp_options": right}, "/x/seeing")
    folders = [str(file.parents[1]) for file in (base, other)]
    assert main(["compare", *folders, "-o", str(tmp_path / "c")]) == 0
    said = capsys.readouterr().out
    assert "MMVP (mmvp_options), pairs right: seeing against llava: " in said
    assert "100.0 % against 50.0 %, +50.0 [" in said
    loaded = [load_run(file) for file in (base.parent, other)]
    assert str(compare(*loaded)) in said
    assert "100.0 [" in str(report(loaded[1]))
    bfloat16 = "pretrained=/x/seeing,dtype=bfloat16"
    write_lmms_pictures(
        tmp_path / "other", {"mmvp_options": right}, "/x/seeing", model_args=bfloat16
    )
    with pytest.raises(ValueError, match="differ in precision: float32 and bfloat16"):
        compare(*folders)


def test_what_a_blind_task_was_shown(tmp_path: Path) -> None:
    base = write_lmms_pictures(tmp_path / "base", {"mmvp_options_blind": right})
    none = "pretrained=/x/llava,dtype=float32,image=none"
    other = write_lmms_pictures(tmp_path / "o", {"mmvp_options_blind": right}, model_args=none)
    with pytest.raises(ValueError, match="differ in image: white image and no image"):
        compare(base, other)


def test_lmms_evals_against_lm_evals(tmp_path: Path) -> None:
    lmms = write_lmms_pictures(tmp_path / "lmms", {"mmvp_options": half})
    lm = write_run(tmp_path, "lm", ["mmvp_options"], says=lambda request: half(request.doc))
    with pytest.raises(ValueError, match="a run of lm-eval, the other of lmms-eval"):
        compare(lm, lmms)


def test_nothing_is_left_out_of_a_comparison(tmp_path: Path) -> None:
    """A path without a run is an error, not one run fewer."""
    runs = [write_lmms_pictures(tmp_path / n, {"mmvp_options": half}, f"/x/{n}") for n in "ab"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="lmms-eval's results, and no run of"):
        compare(*runs, tmp_path / "empty")


def test_what_is_not_read(tmp_path: Path) -> None:
    file = write_lmms_pictures(tmp_path, {"mmvp_options": half})
    samples = file.with_name(file.name.replace("results.json", "samples_mmvp_options.jsonl"))
    lines = samples.read_text().splitlines()
    row = json.loads(lines[0])
    bare = {key: value for key, value in row.items() if key != "verbalizer_bench"}
    for changed, message in (
        (json.dumps(bare), "line 1: no document in it, as an earlier version's tasks wrote it"),
        (json.dumps(row | {"filtered_resps": "(b)"}), "document 0: its accuracy is not what"),
        (json.dumps(row | {"filtered_resps": None}), "no scored response of mmvp"),
        (json.dumps(row | {"verbalizer_bench": {"doc": {}}}), "source: Field required"),
    ):
        samples.write_text("\n".join([changed, *lines[1:]]) + "\n")
        with pytest.raises(ValueError, match=message):
            report_of([tmp_path])
    samples.write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(ValueError, match=r"22 samples of 24 documents that .*; run the task again"):
        report_of([tmp_path])
    samples.unlink()
    with pytest.raises(FileNotFoundError, match="run lmms-eval with --log_samples"):
        report_of([tmp_path])


def test_a_part_of_it(tmp_path: Path) -> None:
    write_lmms_pictures(tmp_path, {"mmvp_options": right}, limit=5)
    text = str(report_of([tmp_path]))
    assert "2 of 12 (made sample)" in text and "1 pairs were not asked whole" in text


def test_a_report_says_nothing_of_files_times(tmp_path: Path) -> None:
    """lmms-eval's date has no time zone: the file's own is taken."""
    file = write_lmms_pictures(tmp_path, {"mmvp_options": right})
    os.utime(file, (100, 100))
    assert load_run(tmp_path).results.date == 100
