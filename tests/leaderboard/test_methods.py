import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.echo import write_run
from tests.helpers.endpoint_fixtures import key, serve
from tests.helpers.endpoint_server import Server
from tests.helpers.judging import Judge, write_answers, write_mtbench
from tests.helpers.lmms_results import LETTER, VALUES, Made, choice, write_lmms
from verbalizer_bench.cli.app import main
from verbalizer_bench.leaderboard.reports.gathering import report_of

__all__ = ["key", "serve"]
Serve = Callable[..., Server]


def write_result(folder: Path, weights: str = "ab12", **changes: Any) -> Path:
    """Write what `judge mtbench` does, of a checkpoint called llava."""
    asked = {"model_args": {"pretrained": f"/x/{weights}/llava"}, "weights": weights}
    record: dict[str, Any] = {
        "benchmark": "mtbench",
        "questions": {"asked": 80, "of": 80, "part": None},
        "answered": {"asked": asked | {"questions": "c0ffee00", "max_tokens": 1024}},
        "score": {"mean": 6.125, "interval": [5.5, 6.75], "questions": 80},
        "judge": {
            **{"model": "gpt-4", "served": {"gpt-4-0613": 160}, "date": "2026-11-29"},
            **{"parameters": {"temperature": 0}, "prompts_sha256": "beef" * 16},
        },
        "references_sha256": "feed" * 16,
        "verdicts": {"wanted": 160, "left_out": 0},
        "answers": {"mean_characters": 1070.2},
    }
    if (judge := changes.pop("judge", {})) is None:
        record["judge"] = None
    else:
        record["judge"] |= judge
    record["answered"]["asked"] |= changes.pop("asked", {})
    record |= changes
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(record))
    return folder


def table_of(folder: Path) -> str:
    return str(report_of([folder]).benchmarks)


def rows_of(table: str) -> list[list[str]]:
    lines = [line for line in table.split("\n") if line.startswith("|") and "--" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_checkpoints_by_benchmark(tmp_path: Path) -> None:
    write_result(tmp_path / "a" / "judge-gpt-4")
    score = {"mean": 68.75, "interval": None, "questions": 805}
    left = {"wanted": 805, "left_out": 5}
    write_result(tmp_path / "b" / "j", benchmark="alpacaeval", score=score, verdicts=left)
    rules = {"exact": {"f1": {"mean": 0.8701, "interval": [0.8, 0.9]}}}
    write_result(tmp_path / "c" / "j", "ff34", benchmark="pope", rules=rules, verdicts=None)
    table = table_of(tmp_path)
    assert rows_of(table) == [
        ["Checkpoint", "POPE (exact)", "MT-Bench", "AlpacaEval 1"],
        ["llava (ab12)", "-", "6.12 [5.50, 6.75]", "68.8, 1,070 characters"],
        ["llava (ff34)", "0.870 [0.800, 0.900]", "-", "-"],
    ]
    assert "MT-Bench: judged by gpt-4 (served as gpt-4-0613), prompts beefbeef" in table
    assert "AlpacaEval 1: judged on 2026-11-29, 5 of 805 verdicts left out" in table


@pytest.mark.parametrize(
    "judge",
    [{"model": "gpt-4o"}, {"served": {"gpt-4-1106": 160}}, {"prompts_sha256": "dead" * 16}],
)
def test_two_judges_are_two_columns(tmp_path: Path, judge: dict[str, Any]) -> None:
    write_result(tmp_path / "one")
    write_result(tmp_path / "other", judge=judge)
    table = table_of(tmp_path)
    assert rows_of(table)[0] == ["Checkpoint", "MT-Bench #1", "MT-Bench #2"]
    assert len(rows_of(table)) == 2


def test_a_blank_image_is_another_way_to_ask(tmp_path: Path) -> None:
    """An LVLM without an image is asked as its base is."""
    seen = {"benchmark": "mtbench", "model": "verbalizer-lvlm"}
    write_result(tmp_path / "base")
    for image in ("none", "white"):
        given = {"pretrained": "llava", "image": image}
        write_result(tmp_path / image, asked=seen | {"model_args": given, "weights": image})
    header, *_ = rows_of(table := table_of(tmp_path))
    assert header[1:] == ["MT-Bench #1", "MT-Bench #2"]
    assert "up to 1024 tokens, shown the image white" in table


def test_a_part_never_stands_as_the_whole(tmp_path: Path) -> None:
    """Its questions are others, and so is its column; the cell and a note say it besides."""
    write_result(tmp_path / "whole")
    part = {"asked": 3, "of": 80, "part": "3 of 80 questions: not the benchmark"}
    write_result(tmp_path / "part", questions=part, asked={"questions": "dead", "limit": 3})
    rules = {"exact": {"f1": {"mean": 0.8701, "interval": None}}}
    about = {"benchmark": "pope", "rules": rules, "verdicts": None, "judge": None}
    write_result(tmp_path / "pope", questions=part, **about)
    header, row = rows_of(table := table_of(tmp_path))
    assert header == ["Checkpoint", "POPE (exact)", "MT-Bench #1", "MT-Bench #2"]
    assert row[1:] == ["0.870, partial", "6.12 [5.50, 6.75], partial", "6.12 [5.50, 6.75]"]
    said = "3 of 80 questions: not the benchmark"
    assert f"llava, MT-Bench #1: {said}; judged on 2026-11-29" in table
    assert f"llava, POPE (exact): {said}\n" in table
    write_result(tmp_path / "older", questions=None)
    with pytest.raises(ValueError, match=r"not what `judge` writes .* have it judged again"):
        table_of(tmp_path)


def test_two_results_in_one_place(tmp_path: Path) -> None:
    write_result(tmp_path / "one")
    write_result(tmp_path / "other", judge={"date": "2026-12-24"})
    with pytest.raises(ValueError, match=r"two results of llava in one column \(MT-Bench\); give"):
        table_of(tmp_path)


def test_runs_are_columns_too(tmp_path: Path) -> None:
    write_run(tmp_path, "foo", ["verbalizer_sst2_neutral_foo_bar"])
    write_result(tmp_path / "judge-gpt-4")
    found = report_of([tmp_path])
    header, first, second = rows_of(table := str(found.benchmarks))
    assert header == ["Checkpoint", "MT-Bench", "F1 neutral"]
    assert first == ["llava", "6.12 [5.50, 6.75]", "-"] and second[2].startswith("50.0")
    assert "F1 neutral: F1 in %, protocol toy, partial, no image" in table
    assert str(found).endswith(table)
    found.write(tmp_path / "report")
    assert "6.12 [5.50, 6.75]" in (tmp_path / "report" / "report.html").read_text()


def test_a_refused_score_has_a_cell_and_a_reason(serve: Serve, tmp_path: Path) -> None:
    write_mtbench(tmp_path / "bench", 4)
    words = ["judge", "mtbench", "--data", str(tmp_path / "bench"), "-o", str(tmp_path / "out")]
    words += ["--answers", str(write_answers(tmp_path / "made.jsonl", 4))]
    judge = Judge(lambda answer: "Good." if answer == "answer 2-1" else 7)
    words += [f"base_url={serve(judge).url}", "retries=0"]
    assert main([*words, "--judge", "bad"]) == 2
    judge.rate = lambda answer: 7
    refused = "no score: mtbench: 1 of 8 verdicts are missing (12.5%), and with more than 1% there"
    alone = table_of(tmp_path / "out")
    assert rows_of(alone)[1:] == [["made", "no score, partial"]] and refused in alone
    assert main([*words, "--judge", "good"]) == 0
    both = table_of(tmp_path / "out")
    assert rows_of(both)[1][0] == "made" and len(rows_of(both)) == 2
    assert rows_of(both)[1][1:] == ["no score, partial", "7.00, partial"]
    assert "MT-Bench #1: judged by bad (served as bad-served)" in both and refused in both
    assert main([*words, "--judge", "bad"]) == 0
    mended = table_of(tmp_path / "out")
    assert rows_of(mended)[1][1:] == ["7.00, partial", "7.00, partial"]
    assert "no score" not in mended
    assert main([*words, "--judge", "third", "budget.tokens=100", "concurrency=1"]) == 2
    assert "no score: stopped: budget.tokens=100: " in table_of(tmp_path / "out")
    assert ", 1 asked for more than 3 times" in mended


def test_the_command(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """What `judge` wrote is what `report` reads."""
    write_mtbench(tmp_path / "bench", 2)
    words = ["judge", "mtbench", "--data", str(tmp_path / "bench"), "-o", str(tmp_path / "out")]
    words += ["--answers", str(write_answers(tmp_path / "made.jsonl", 2)), "--judge", "gpt-4"]
    assert main([*words, f"base_url={serve(Judge()).url}"]) == 0
    capsys.readouterr()
    assert main(["report", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert rows_of(printed)[1] == ["made", "7.00, partial"] and key not in printed
    assert (tmp_path / "out" / "report" / "report.md").read_text() in printed
    assert main(["report", str(tmp_path / "bench")]) == 2
    assert "no results_*.json at or below it" in capsys.readouterr().err
    write_result(tmp_path / "wrong", score=3)
    assert main(["report", str(tmp_path / "wrong")]) == 2
    assert "not what `judge` writes (TypeError" in capsys.readouterr().err


def test_lmms_evals_columns(tmp_path: Path) -> None:
    """A checkpoint's row is that of the weights that were loaded from the same folder."""
    write_result(tmp_path / "judged", "ab12")
    write_lmms(tmp_path / "lmms", {"gqa": VALUES, "mmlu": VALUES}, pretrained="/x/ab12/llava")
    write_lmms(tmp_path / "lmms", {"gqa": VALUES}, "/x/base", date="20261130_113213", limit=8)
    table = table_of(tmp_path)
    header, first, second = rows_of(table)
    assert header == ["Checkpoint", "MT-Bench", "GQA #1", "GQA #2"]
    assert first[:2] == ["llava", "6.12 [5.50, 6.75]"] and first[2].startswith("50.0 [")
    assert second[:3] == ["base", "-", "-"] and second[3].endswith("], partial")
    assert (
        "GQA #2: exact_match of lmms-eval's gqa (hub/made), 8 of 5,000 documents, asked by" in table
    )
    assert "_results.json: not in the recipe, and not shown: mmlu" in table


def test_a_folder_with_two_weights(tmp_path: Path) -> None:
    """Trained again in between: which of them lmms-eval had, nobody knows."""
    given = {"pretrained": "/x/llava"}
    for name in ("old", "new"):
        judge = {"model": name}
        write_result(tmp_path / name, name * 4, asked={"model_args": given}, judge=judge)
    write_lmms(tmp_path / "lmms", {"gqa": VALUES})
    table = table_of(tmp_path)
    assert len(rows_of(table)) == 4
    assert (
        "llava (/x/llava), GQA: /x/llava has had 2 different weights, and which of them this is"
        in table
    )


def written(folder: Path, time: float) -> Path:
    """Write a checkpoint's weights at a time, in seconds of the epoch."""
    folder.mkdir(exist_ok=True)
    (folder / "model-00001-of-00001.safetensors").touch()
    os.utime(folder / "model-00001-of-00001.safetensors", (time, time))
    return folder


@pytest.mark.parametrize(
    ("judged", "lmms", "order"),
    [
        (200.0, 50.0, "before"),
        (50.0, 200.0, "after"),
        (200.0, 201.0, None),
        (50.0, 51.0, None),
        (None, 50.0, None),
    ],
)
def test_weights_that_were_written_between_two_scores(
    judged: float | None, lmms: float, order: str | None, tmp_path: Path
) -> None:
    """The weights were written at 100; lmms-eval's score knows no hash."""
    llava = written(tmp_path / "llava", 100.0)
    time = judged and datetime.fromtimestamp(judged, UTC).isoformat()
    asked = {"model_args": {"pretrained": str(llava)}, "weights": "ab12", "questions": "c0ff"}
    write_result(tmp_path / "judged", answered={"asked": asked, "time": time})
    folder = write_lmms(tmp_path / "lmms", {"gqa": VALUES}, str(llava))
    for file in folder.iterdir():
        os.utime(file, (lmms, lmms))
    table = table_of(tmp_path)
    assert len(rows_of(table)) == 2
    if order is None:
        assert "were last written" not in table
        return
    other = {"before": "after", "after": "before"}[order]
    assert (
        f"llava, GQA: asked {order} the weights in {llava} were last written, and others of its "
        f"row {other}: it may be of other weights" in table
    )
    # The same hash on both sides: the same weights were written again.
    record = {"asked": asked, "time": datetime.fromtimestamp(lmms, UTC).isoformat()}
    write_result(tmp_path / "again", answered=record, benchmark="mmvet")
    assert "were last written" not in table_of(tmp_path)


def test_a_ladder_is_one_table(tmp_path: Path) -> None:
    """The six benchmarks in the paper's order, from three kinds of folders; nothing twice."""
    score = {"mean": 31.1, "interval": [28.0, 34.0], "questions": 218}
    for step in ("base", "dpo"):
        place = tmp_path / step
        about = {"asked": {"model_args": {"pretrained": f"/x/{step}"}}}
        write_result(place / "mtbench", step * 4, **about)
        write_result(place / "mmvet", step * 4, benchmark="mmvet", score=score, **about)
        tasks = {
            "mmbench_en_dev_static": Made("gpt_eval_score", 100.0, [choice(1, "A", "A")], LETTER)
        }
        write_lmms(place / "lmms", tasks | {"gqa": VALUES}, f"/x/{step}")
    found = report_of([tmp_path, tmp_path / "dpo"])
    header, *rows = rows_of(str(found))
    assert header == ["Checkpoint", "MM-Vet", "MMBench", "MT-Bench", "GQA"]
    assert [row[0] for row in rows] == ["base", "dpo"] and rows[0][1:] == rows[1][1:]
    assert rows[0][2] == "100.0" and found.rows()[1]["MM-Vet"] == "31.1 [28.0, 34.0]"
    assert [file.name for file in found.write(tmp_path / "report")] == ["report.html", "report.md"]


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x__llava").mkdir()
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "no results_*.json at or below it; give the --output_path of a run" in error
    write_lmms(tmp_path, {"mmlu": VALUES})
    assert main(["report", str(tmp_path)]) == 2
    assert "not shown: mmlu; give --evaluation RECIPE that has them" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--evaluation", "evaluation/llava"]) == 2
    assert "did you mean evaluation/llava15?" in capsys.readouterr().err
