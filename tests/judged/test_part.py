"""`judge --limit`: a part of a benchmark, which never stands for the whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.endpoint_server import Server
from tests.helpers.judging import Judge, write_answers, write_mtbench
from verbalizer_bench.cli.app import main
from verbalizer_bench.io.jsonl import read_objects
from verbalizer_bench.judged.record import TITLES, WHOLE, part_of

Serve = Callable[..., Server]


@pytest.mark.parametrize("benchmark", TITLES)
def test_fewer_questions_are_not_the_benchmark(benchmark: str) -> None:
    whole = WHOLE[benchmark]
    assert part_of(benchmark, 3) == f"3 of {whole:,} questions: not the benchmark"
    assert part_of(benchmark, whole) is None


def mtbench(folder: Path, *words: str) -> list[str]:
    command = ["judge", "mtbench", "--data", str(folder / "bench"), "--judge", "gpt-4"]
    return [*command, "-o", str(folder / "out"), *words]


def record_of(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "out" / "judge-gpt-4" / "result.json").read_text())
    return read


def test_the_first_questions(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mtbench(tmp_path / "bench", 4)
    answers = ["--answers", str(write_answers(tmp_path / "made.jsonl", 3))]
    judge = Judge()
    server = f"base_url={serve(judge).url}"
    command = mtbench(tmp_path, *answers, server)
    assert main([*command, "--limit", "3", "--dry-run"]) == 0
    assert "3 of 80 questions: not the benchmark" in capsys.readouterr().out
    assert main([*command, "--limit", "3"]) == 0
    assert "3 of 80 questions: not the benchmark" in capsys.readouterr().out
    assert sorted(judge.asked) == [f"answer {n}-{turn}" for n in range(3) for turn in (1, 2)]
    record = record_of(tmp_path)
    assert record["questions"] == {
        "asked": 3,
        "of": 80,
        "part": "3 of 80 questions: not the benchmark",
    }
    assert record["score"]["questions"] == 3 and record["answered"]["asked"]["limit"] == 3
    assert [row["question_id"] for _, row in read_objects(tmp_path / "out" / "answers.jsonl")] == [
        *("0", "1", "2")
    ]
    # The folder's answers are to these alone, whoever judges them.
    for words in (answers, []):
        write_answers(tmp_path / "made.jsonl", 3)
        for limit in ([], ["--limit", "2"]):
            assert main([*mtbench(tmp_path, *words, server), *limit]) == 2
    assert "its answers are of limit=3, and 2 is asked for; give another" in capsys.readouterr().err
    assert main([*mtbench(tmp_path, server), "--limit", "3"]) == 0


def test_a_whole_of_what_is_there_is_a_part_too(serve: Serve, tmp_path: Path) -> None:
    write_mtbench(tmp_path / "bench", 4)
    answers = ["--answers", str(write_answers(tmp_path / "made.jsonl", 4))]
    assert main([*mtbench(tmp_path, *answers), f"base_url={serve(Judge()).url}"]) == 0
    assert record_of(tmp_path)["questions"]["part"] == "4 of 80 questions: not the benchmark"


@pytest.mark.parametrize("limit", ["0", "-1", "0.5", "all"])
def test_no_such_limit(limit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(mtbench(tmp_path, "--limit", limit)) == 2
    line = capsys.readouterr().err
    assert "error: Invalid value for '--limit': " in line and f"got '{limit}'; " in line
