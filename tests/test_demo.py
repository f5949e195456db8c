import json
from pathlib import Path

import pytest

from verbalizer_bench.demo import TOY_WARNING, demo
from verbalizer_bench.leaderboard.runs import find_runs


def check_demo(folder: Path, text: str) -> None:
    *_, report, leaderboard, warning = text.strip().split("\n")
    assert report == f"Report: {folder / 'report' / 'report.html'}"
    assert leaderboard == f"Leaderboard: {folder / 'leaderboard' / 'site' / 'index.html'}"
    assert warning == TOY_WARNING
    for name in ("report.html", "report.md", "scores.png", "scores.svg"):
        assert (folder / "report" / name).stat().st_size > 500
    board = json.loads((folder / "leaderboard" / "site" / "leaderboard.json").read_text())
    assert "toy" in json.dumps(board)


def test_demo_with_little_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMEVAL_LOG_LEVEL", raising=False)
    demo(tmp_path / "demo", steps=9)
    check_demo(tmp_path / "demo", capsys.readouterr().out)
    assert [len(run.tasks) for run in find_runs([tmp_path / "demo"])] == [108, 108]


def test_demo_replaces_its_own_folder_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds other files; give another folder with --output"):
        demo(tmp_path, steps=1)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.slow
def test_the_toys_learn_to_answer_with_label_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo(tmp_path / "demo", steps=600)
    check_demo(tmp_path / "demo", capsys.readouterr().out)
    runs = find_runs([tmp_path / "demo"])
    assert [len(run.tasks) for run in runs] == [108, 108]
    for run in runs:
        words = [task.scores[name].mean() for task in run.tasks for name in ("follows", "flipped")]
        assert sum(words) / len(run.tasks) > 0.8, run.name
