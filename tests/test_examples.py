"""Each script of examples/ runs as a user starts it, and what it prints and writes is so."""

import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.endpoint_fixtures import key as key
from tests.helpers.endpoint_fixtures import serve as serve
from tests.helpers.endpoint_server import Server, prompt

EXAMPLES = REPOSITORY / "examples"
PUBLIC = {"verbalizer_bench", "verbalizer_bench.cli", "verbalizer_bench.experiments.miniature.arms"}
LIBRARIES = {"argparse", "collections.abc", "csv", "importlib.resources", "json", "pathlib"}
LIBRARIES |= {"matplotlib.pyplot", "transformers"}
FIRST = "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"
SECOND = "[{'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 1}]"
Example = Callable[..., str]


@pytest.fixture
def example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Example:
    """Return what runs a copy of one file in an empty folder and gives what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *words: str) -> str:
        source = EXAMPLES / name
        target = Path(shutil.copy(source, tmp_path))
        monkeypatch.setattr(sys, "argv", [target.name, *words])
        try:
            runpy.run_path(str(target), run_name="__main__")
        except SystemExit as end:
            assert not end.code, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def scripts() -> list[Path]:
    return sorted(EXAMPLES.rglob("*.py"))


def f1_by_type(folder: Path | str) -> dict[str, float]:
    """Return a run's F1 in %, computed again from its samples."""
    found: dict[str, list[float]] = {}
    for file in Path(folder).rglob("samples_*.jsonl"):
        name = next(
            kind for kind in ("unnatural", "natural", "neutral") if f"_{kind}_" in file.name
        )
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        found.setdefault(name, []).append(sum(row["f1"] for row in rows) / len(rows))
    return {name: 100 * sum(tasks) / len(tasks) for name, tasks in found.items()}


def test_each_says_what_it_shows_prints_and_costs_and_stands_in_the_table() -> None:
    page = (EXAMPLES / "README.md").read_text("utf-8")
    assert len(scripts()) == 8
    for script in scripts():
        text = script.read_text("utf-8")
        assert re.match(r'""".+\n\nShows: .+\nPrints: .+\nCosts: .+\n', text), script
        imported = set(re.findall(r"^\s*(?:from|import) ([\w.]+)", text, re.MULTILINE))
        assert imported <= PUBLIC | LIBRARIES, script
        assert text.count("\n") <= 70, script
        place = script.relative_to(EXAMPLES).as_posix()
        assert f"]({place})" in page or f"]({script.parent.name})" in page, script


def test_a_model_is_evaluated(example: Example) -> None:
    printed = example("evaluate_a_model.py", "--limit", "1")
    scores = f1_by_type("out/evaluated")
    row = next(line for line in printed.splitlines() if line.startswith("| base"))
    assert [cell.split()[0] for cell in row.split("|")[3:6]] == [
        f"{scores[name]:.1f}" for name in ("natural", "neutral", "unnatural")
    ]
    assert "Expected   " in printed and Path("out/evaluated/report.html").is_file()


def test_two_models_are_compared(example: Example) -> None:
    printed = example("compare_two.py", "--limit", "3")
    base, other = (f1_by_type(f"out/compared/{name}") for name in ("base", "other"))
    differences = dict(
        re.findall(r"^\| without-last-layer \| (\w+) +\|.*? ([-+\d.]+) \[", printed, re.M)
    )
    for name in base:
        assert float(differences[name]) == pytest.approx(other[name] - base[name], abs=0.051)
    assert other["natural"] < base["natural"]


def test_a_model_is_trained_and_scored(example: Example) -> None:
    printed = example("train_and_score.py", "--epochs", "1", "--limit", "1")
    record = json.loads(Path("out/trained/checkpoint/training.json").read_text())
    assert f"{record['steps']} steps" in printed
    assert f"loss {record['loss']['first']:.4f} to {record['loss']['last']:.4f}" in printed
    tuned = f1_by_type("out/trained/tuned")
    row = next(line for line in printed.splitlines() if line.startswith("| checkpoint   | natural"))
    assert row.split("|")[4].strip() == f"{tuned['natural']:.1f}"


def test_a_data_set_is_added(tmp_path: Path, example: Example) -> None:
    for name in ("_tickets.yaml", "rows.jsonl"):
        shutil.copy(EXAMPLES / "add_a_data_set" / name, tmp_path)
    printed = example("add_a_data_set/add_a_data_set.py")
    assert "wrote 12 tasks (10 documents" in printed and "own-set" in printed
    (words,) = Path("out/tickets").rglob("samples_verbalizer_tickets_natural_complaint_*.jsonl")
    rows = [json.loads(line) for line in words.read_text("utf-8").splitlines()]
    assert [row["target"] for row in sorted(rows, key=lambda row: row["doc_id"])][:2] == [
        "complaint",
        "praise",
    ]


def test_a_served_model_is_evaluated(example: Example, serve: Callable[..., Server]) -> None:
    server = serve(lambda body: "foo")
    words = ["--base-url", server.url, "--limit", "2"]
    task = "verbalizer_sst2_neutral_foo_bar,verbalizer_sst2_neutral_bar_foo"
    printed = example("served_model.py", "org/m", *words, "--tasks", task)
    asked = [prompt(request.body) for request in server.requests]
    assert len(asked) == 4 and all('output "foo"' in text for text in asked)
    assert "4 requests, " in printed
    assert f"{f1_by_type('out/served')['neutral']:.1f} [" in printed


def by_length(body: dict[str, Any]) -> str:
    """Prefer the shorter of two outputs."""
    first, second = re.findall(r"^model_\d: (.*)$", prompt(body), re.MULTILINE)
    return FIRST if len(first) < len(second) else SECOND


def test_answers_are_judged(example: Example, serve: Callable[..., Server]) -> None:
    """Two are shorter, one is longer, one is the same: (2 + 1 / 2) / 4."""
    server = serve(by_length)
    printed = example("judge_answers.py", "judge", "--base-url", server.url)
    assert "win rate in %: 62.5" in printed and "2 won, 1 tied, 1 lost" in printed
    assert len(server.requests) == 3
    example("judge_answers.py", "judge", "--base-url", server.url)
    assert len(server.requests) == 3


def test_a_model_is_asked_mmvp(example: Example) -> None:
    """Blind, both questions of a pair are the same one, with another answer: none is right."""
    printed = example("mmvp.py")
    rows: dict[str, dict[int, Any]] = {}
    for file in Path("out/mmvp/run").rglob("samples_mmvp_letters*.jsonl"):
        samples = [json.loads(line) for line in file.open(encoding="utf-8")]
        rows[file.name.partition("_20")[0]] = {row["doc_id"]: row for row in samples}
    shown, blind = (rows[f"samples_mmvp_letters{which}"] for which in ("", "_blind"))
    images = [
        [row["arguments"]["gen_args_0"].get("arg_2") for row in one.values()]
        for one in (shown, blind)
    ]
    assert all(images[0]) and len(images[0]) == 24 and images[1] == [None] * 24
    for one, where in ((shown, "letters  "), (blind, "letters, without the images |")):
        right = [row["accuracy"] for _, row in sorted(one.items())]
        pairs = sum(a * b for a, b in zip(right[::2], right[1::2], strict=True))
        assert pairs > 9 if one is shown else (pairs, sum(right)) == (0, 12)
        row = next(line for line in printed.splitlines() if f"| prompt {where}" in line)
        cells = [cell.split()[0] for cell in row.split("|")[3:5]]
        assert cells == [f"{100 * pairs / 12:.1f}", f"{100 * sum(right) / 24:.1f}"]


def test_runs_are_drawn(example: Example) -> None:
    """Without arguments two are made; then those two are drawn again, at another place."""
    printed = example("plot_runs.py")
    runs = ["out/plotted/chat-template", "out/plotted/plain-text"]
    for run in runs:
        table = printed.partition(f"{run}\n")[2].partition("\n\n")[0]
        for name, score in f1_by_type(run).items():
            assert re.search(rf"^{name} +{score:.1f} ", table, re.MULTILINE), (run, name)
    again = example("plot_runs.py", *runs, "--output", "out/again")
    assert again.replace("out/again/f1", "out/plotted/f1") == printed
    first, second = (Path("out", name, "f1.png").read_bytes() for name in ("plotted", "again"))
    assert first == second and first.startswith(b"\x89PNG")
