import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.echo import write_run
from tests.helpers.endpoint_fixtures import key, serve
from tests.helpers.endpoint_server import Server
from tests.helpers.judging import Judge, write_answers, write_mtbench
from verbalizer_bench.cli.app import main
from verbalizer_bench.leaderboard.reports.gathering import report_of

__all__ = ["key", "serve"]
Serve = Callable[..., Server]


def write_result(folder: Path, weights: str = "ab12", **changes: Any) -> Path:
    """Write what `judge mtbench` does, of a checkpoint called llava."""
    asked = {"model_args": {"pretrained": f"/x/{weights}/llava"}, "weights": weights}
    record: dict[str, Any] = {
        "benchmark": "mtbench",
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
    record["judge"] |= changes.pop("judge", {})
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
    assert rows_of(printed)[1] == ["made", "7.00 [7.00, 7.00]"] and key not in printed
    assert (tmp_path / "out" / "report" / "report.md").read_text() in printed
    assert main(["report", str(tmp_path / "bench")]) == 2
    assert "no results_*.json at or below it" in capsys.readouterr().err
    write_result(tmp_path / "wrong", score=3)
    assert main(["report", str(tmp_path / "wrong")]) == 2
    assert "not what `judge` writes (TypeError" in capsys.readouterr().err
