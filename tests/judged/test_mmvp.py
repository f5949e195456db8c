"""MMVP by a judge: the responses of a run, its verdicts, and what a report says of both."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.helpers.echo import write_run
from tests.helpers.endpoint_server import Server, prompt
from tests.helpers.mmvp import rows, table, write_folder
from verbalizer_bench.cli.app import main
from verbalizer_bench.judged.mmvp import PROMPT, read_mmvp, yes_or_no
from verbalizer_bench.judged.mmvp_scores import Judged, scores_of
from verbalizer_bench.leaderboard.reports.gathering import report_of

Serve = Callable[..., Server]
# What the rule cannot read and a judge can.
VAGUE = "Certainly what stands second in your list."


def says(request: Any) -> str:
    """Answer all pairs right but the first one's second question and the second's, vaguely."""
    doc = request.doc
    if doc["index"] == 2:
        return f"({'ab'['ba'.index(doc['answer'])]})"
    return VAGUE if doc["index"] in (3, 4) else f"({doc['answer']})"


def judge(body: dict[str, Any]) -> Any:
    """Take a response for right if it has the right letter; the vague one means (b)."""
    text = prompt(body)
    letter = re.findall(r"Right option: \((.)\)", text)[-1]
    response = re.findall(r"-{10}\n(.*?)\n-{10}", text, re.DOTALL)[-1]
    return (
        "Yes." if f"({letter})" in response or (VAGUE in response and letter == "b") else "**No**"
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the sample's twelve pairs, which no test changes."""
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder, "seeing", ["mmvp_options", "mmvp_letters"], says=says)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """Return a copy of that run."""
    return Path(shutil.copytree(made, tmp_path / "seeing"))


def command(run: Path, url: str, *words: str) -> list[str]:
    base = ["judge", "mmvp", "--run", str(run), "--judge", "gpt-4"]
    return [*base, f"base_url={url}", "retries=0", "backoff=0.001", *words]


def result(run: Path, task: str = "mmvp_options") -> dict[str, Any]:
    file = run / f"judged_{task}" / "judge-gpt-4" / "result.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_a_run_is_judged(serve: Serve, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(judge)
    assert main(command(run, server.url)) == 0
    said, found = capsys.readouterr().out, result(run)
    assert len(server.requests) == 24 and found["verdicts"]["wanted"] == 24
    # Pairs 1 and 2 have one right each.
    assert found["score"]["mean"] == pytest.approx(100 * 10 / 12, abs=1e-3)
    assert found["score"]["pairs"] == 12 and len(found["score"]["interval"]) == 2
    assert found["single"]["mean"] == pytest.approx(100 * 22 / 24, abs=1e-3)
    assert found["rule"]["single"]["mean"] == pytest.approx(100 * 21 / 24, abs=1e-3)
    assert found["score_corrected"] is None and found["labels"] == "as released"
    assert found["patterns"]["orientation and direction"] == {
        **{"mean": 0, "interval": [0, pytest.approx(84.19, abs=0.01)], "pairs": 2}
    }
    assert found["agreement"] == {
        **{"responses": 24, "alike": 23, "judge_only": 1, "rule_only": 0},
        **{"unparsed": 2, "unparsed_right": 1},
    }
    assert found["judge"]["model"] == "gpt-4" and len(found["judge"]["prompts_sha256"]) == 64
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["judge"]["date"])
    assert found["questions"]["part"] == "24 of 300 questions: not the benchmark"
    assert "judge and rule say the same of 23 of 24 responses (95.8%)" in said
    assert "of 2 responses in which the rule finds no choice the judge takes 1 for right" in said
    # The same command asks nobody; another task has a folder of its own.
    assert main(command(run, server.url)) == 0 and len(server.requests) == 24
    assert main(command(run, server.url, "--task", "mmvp_letters")) == 0
    assert result(run, "mmvp_letters")["score"] == found["score"]


def test_what_the_judge_sees(run: Path) -> None:
    bench = read_mmvp(run, "mmvp_options", PROMPT)
    answers = bench.answers()
    first = bench.wanted(answers)[0]
    (message,) = first.request(0).messages
    lines = message["content"].splitlines()
    assert "Question: Does the arrow point left or right?" in lines
    assert "Options: (a) Left (b) Right" in lines and "Right option: (a) Left" in lines
    assert lines[lines.index("-" * 10) + 1] == "(a)" and "{" not in message["content"]
    (again,) = first.request(1).messages
    assert again["content"].startswith(message["content"] + "\nAnswer with the single word")


def test_a_report_has_both_in_columns_of_their_own(serve: Serve, run: Path) -> None:
    assert main(command(run, serve(judge).url)) == 0
    text = str(report_of([run]).benchmarks)
    header = next(line for line in text.split("\n") if line.startswith("| Checkpoint"))
    cells = [cell.strip() for cell in header.strip("|").split("|")]
    assert cells.count("MMVP pair, judged") == 1 and "MMVP pair #1" in cells
    (row,) = [line for line in text.split("\n") if line.startswith("| seeing")]
    assert "83.3 [" in row and ", partial" in row
    assert "MMVP pair, judged: % of pairs, judged by gpt-4 (served as gpt-4-served), pr" in text
    assert "prompt options, without a chat template, rows sample, " in text
    assert "judge and rule agree on 23 of 24 responses" in text
    assert "has a newer run" not in text
    newer = next(run.glob("results_*.json"))
    for file in run.glob("*_20*.json*"):
        (run / re.sub(r"_20\d\d-", "_2100-", file.name)).write_bytes(file.read_bytes())
    assert f"of {newer.name}, and the folder has a newer run" in str(report_of([run]).benchmarks)


@pytest.mark.parametrize("weights", [{"fingerprint": {"weights": "aa11"}}, None])
def test_rule_and_judge_share_a_row(
    serve: Serve, run: Path, weights: dict[str, Any] | None
) -> None:
    (file,) = run.glob("results_*.json")
    record = json.loads(file.read_text())
    record["config"] |= {"model_args": "pretrained=x/llava-1.5", "verbalizer_bench": weights}
    file.write_text(json.dumps(record))
    assert main(command(run, serve(judge).url)) == 0
    lines = str(report_of([run]).benchmarks).split("\n")
    assert len([line for line in lines if line.startswith("| llava-1.5")]) == 1
    assert not any(line.startswith("| seeing") for line in lines)


def test_verdicts_that_are_missing(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 300 verdicts two may be missing, and their pairs are left out; of 24 none."""
    folder = write_folder(tmp_path / "data", table(rows(150)), 300)

    def numbered(request: Any) -> str:
        return f"({request.doc['answer']}) of image {request.doc['index']}."

    def fails(body: dict[str, Any]) -> Any:
        found = re.search(r"of image (\d+)\.", prompt(body))
        if found and found[1] in broken:
            return web.json_response({"error": {"message": "no"}}, status=500)
        return "Perhaps" if found and found[1] in vague else "yes"

    run = write_run(tmp_path / "runs", "big", ["mmvp_options"], data=str(folder), says=numbered)
    vague, broken = set[str](), {"7", "8", "9", "11"}
    assert main(command(run, serve(fails).url)) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert "mmvp: 4 of 300 verdicts are missing (1.3%)" in error
    assert not (run / "judged_mmvp_options" / "judge-gpt-4" / "result.json").exists()
    text = str(report_of([run]).benchmarks)
    assert re.search(r"\| big +\| no score +\| 100.0 \[", text)
    assert re.search(r"MMVP pair, judged: .*no score: .*4 of 300 verdicts are missing", text)
    vague, broken = {"7", "8"}, set()
    server = serve(fails)
    assert main(command(run, server.url)) == 0
    # What failed is asked for again, what says nothing three times.
    assert len(server.requests) == 2 + 2 * 3
    found, said = result(run), capsys.readouterr().out
    assert found["score"]["mean"] == 100 and found["score"]["pairs"] == 149
    assert found["pairs_left_out"] == [4] and found["verdicts"]["left_out"] == 2
    assert found["agreement"]["responses"] == 298
    assert "left out, since a verdict is missing: pair 4\n" in said
    text = str(report_of([run]).benchmarks)
    assert "2 of 300 verdicts left out" in text
    assert "judge and rule agree on 298 of 298 responses; pair 4 left out" in text


def test_labels_that_are_corrected_are_asked_about_too(serve: Serve, tmp_path: Path) -> None:
    lines = rows(150)
    for index in (99, 100):
        lines[index - 1][1] = "Does the elephant have long tusks?"
    for index in (279, 280):
        lines[index - 1][1] = "Is the elderly person standing?"
    folder = write_folder(tmp_path / "data", table(lines), 300)
    run = write_run(
        *(tmp_path / "runs", "big", ["mmvp_options"]),
        data=str(folder),
        says=lambda request: f"({request.doc['answer_corrected']})",
    )
    server = serve(judge)
    assert main([*command(run, server.url), "--dry-run"]) == 0 and not server.requests
    assert not (run / "judged_mmvp_options").exists()
    assert main(command(run, server.url)) == 0
    found = result(run)
    assert found["verdicts"]["wanted"] == 304
    assert found["score"]["mean"] == pytest.approx(100 * 148 / 150, abs=1e-3)
    assert found["score_corrected"]["mean"] == found["single_corrected"]["mean"] == 100
    assert found["agreement"]["alike"] == 300 and found["questions"]["part"] is None


def test_a_budget_and_a_dry_run(
    serve: Serve, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(judge)
    words = command(run, server.url, "concurrency=1", "budget.tokens=1500")
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "MMVP, judge gpt-4 at " in said and "24 verdicts, 0 of them stored, 24 left" in said
    assert "That may be more than budget.tokens=1,500" in said and "not there yet" not in said
    assert main(words) == 2 and 0 < len(server.requests) < 24
    assert "stopped: budget.tokens=1,500: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("yes", "yes"), ("No", "no"), ("Yes.", "yes"), ("**Yes**", "yes"), ('"no"', "no")],
        *[("YES!\nIt says so.", "yes"), (" no, it refuses", "no"), ("(yes)", "yes")],
        *[
            ("Yes - by its letter", "yes"),
            ("The answer is: no.", "no"),
            ("Verdict: **yes**", "yes"),
        ],
        *[("Yes (the answer is no)", "yes"), ("Judgement: no", "no")],
        *[("", None), ("Yes and no", None), ("yes/no", None), ("No doubt it does", None)],
        *[("Yes. No.", None), ("nothing", None), ("yesterday", None), ("There is no choice", None)],
        *[("Maybe", None), ("1", None), ("not sure", None), ("yes or no?", None)],
    ],
)
def test_yes_or_no(text: str, value: str | None) -> None:
    assert yes_or_no(text) == value


def test_no_pair_is_no_score() -> None:
    half = [Judged(1, "", right, right, True, False, True) for right in (True, None)]
    with pytest.raises(ValueError, match="no pair has both verdicts"):
        scores_of(half)


def test_what_is_no_run_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(run, "http://localhost:1/v1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "prompt.txt").write_text("{question} {options} {answer}")
    for changed, message in (
        ([*words, "--task", "mmvp_blind"], "--task mmvp_blind: the run has mmvp_options, mmvp_l"),
        (
            [*words, "--run", str(tmp_path / "empty")],
            "empty: no run of MMVP in it; give the folder",
        ),
        (
            [*words, "--prompt", str(tmp_path / "prompt.txt")],
            "prompt.txt: no {response} in it; put",
        ),
        ([*words, "--prompt", str(tmp_path / "none.txt")], "none.txt"),
    ):
        assert main(changed) == 2
        assert message in capsys.readouterr().err
