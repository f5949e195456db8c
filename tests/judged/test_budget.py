"""What a judge may cost: the budget, and what a dry run says of it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.endpoint_server import Server
from tests.helpers.judging import Judge, write_answers, write_mtbench
from verbalizer_bench.cli.app import main
from verbalizer_bench.io.jsonl import read_objects
from verbalizer_bench.judged import answering

Serve = Callable[..., Server]


def command(folder: Path, *words: str, count: int = 4) -> list[str]:
    """Return the command that has a made MT-Bench judged, with its answers as a file."""
    if not (folder / "bench").is_dir():
        write_mtbench(folder / "bench", count)
        write_answers(folder / "made.jsonl", count)
    options = {"data": "bench", "answers": "made.jsonl", "output": "out"}
    files = [word for key, name in options.items() for word in (f"--{key}", str(folder / name))]
    limits = ["concurrency=1", "parameters.max_tokens=50"]
    return ["judge", "mtbench", "--judge", "gpt-4", *files, *limits, *words]


def calls(folder: Path) -> list[dict[str, object]]:
    file = folder / "out" / "judge-gpt-4" / "calls.jsonl"
    return [row for _, row in read_objects(file) if "key" in row]


def test_a_judge_stops_at_its_budget_and_goes_on(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = Judge()
    server = serve(judge)
    words = command(tmp_path, f"base_url={server.url}", "retries=0")
    assert main([*words, "budget.tokens=150"]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert "stopped: budget.tokens=150: " in error and "raise the budget and run the same" in error
    assert not (tmp_path / "out" / "judge-gpt-4" / "result.json").exists()
    first = len(calls(tmp_path))
    assert 0 < first < 8 and len(judge.asked) == first
    # It is for all commands in the folder: the same one asks nobody.
    assert main([*words, "budget.tokens=150"]) == 2 and len(judge.asked) == first
    assert main([*words, "budget.tokens=100000"]) == 0
    assert len(judge.asked) == len(calls(tmp_path)) == 8


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("budget.money=5", "budget.money=5: judge has no input_price and output_price; give them"),
        ("budget.token=5", "token: no such key; did you mean tokens?"),
        ("budget=5", "budget=5: give budget.tokens=… or budget.money=…"),
        ("budget.tokens=-1", "tokens=-1: at least 0"),
    ],
)
def test_wrong_budgets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, word: str, message: str
) -> None:
    assert main(command(tmp_path, word)) == 2
    assert message in capsys.readouterr().err


def dry_run(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*words, "--dry-run"]) == 0
    return capsys.readouterr().out


def test_a_dry_run_asks_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    said = dry_run(command(tmp_path, "input_price=10", "output_price=30"), capsys)
    assert "MT-Bench, judge gpt-4 at https://api.openai.com/v1: 8 verdicts, 0 of them" in said
    counts = re.search(r"about (\d+) tokens of prompts, at most (\d+) of verdicts; at most", said)
    assert counts and int(counts[2]) == 8 * 50
    # Three bytes a token, of prompts of some 30 to 90 letters.
    assert 8 * 20 < int(counts[1]) < 8 * 60
    assert "budget" not in said and not (tmp_path / "out").exists()


def test_a_dry_run_knows_what_is_stored(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = Judge(lambda answer: "none" if answer == "answer 0-1" else 7)
    words = command(tmp_path, f"base_url={serve(judge).url}", "retries=0", "budget.tokens=200")
    assert main(words) == 2
    capsys.readouterr()
    asked = len(judge.asked)
    said = dry_run(words, capsys)
    # The first question's first answer was asked about three times, and will be once more.
    assert f"8 verdicts, {asked - 3} of them stored, {11 - asked} left" in said
    assert "That may be more than budget.tokens=200 (" in said and len(judge.asked) == asked


def test_a_dry_run_of_answers_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "load", lambda how: pytest.fail("a checkpoint was loaded"))
    write_mtbench(tmp_path / "bench", 4)
    words = ["judge", "mtbench", "--data", str(tmp_path / "bench"), "--judge", "gpt-4"]
    words += ["-o", str(tmp_path / "out"), "--model_args", "pretrained=nowhere"]
    said = dry_run([*words, "--max-tokens", "100"], capsys)
    assert "The 8 answers are not there yet: each is counted as 100 tokens" in said
    assert not (tmp_path / "out").exists()
