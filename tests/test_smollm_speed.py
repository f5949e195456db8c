"""The benchmark of the engine against lm-eval on a real model runs, on a toy."""

import json
from pathlib import Path

import pytest

from benchmarks import smollm_speed


def test_both_arms_of_the_speed_benchmark(
    toys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a toy, so that its figures mean nothing."""
    monkeypatch.setattr(smollm_speed, "smollm_folder", lambda: toys[0])
    monkeypatch.setattr(smollm_speed, "is_whole", lambda folder: True)
    counts = ["--documents", "1", "--stock-prompts", "2", "--repetitions", "2", "--sizes", "1", "2"]
    where = ["--data", "sample", "--dtypes", "float32", "--output", str(tmp_path)]
    smollm_speed.main([*counts, *where])
    (row,) = json.loads((tmp_path / "smollm_speed.json").read_text())["measured"]
    assert row["prompts"] == {"engine": 9, "hf": 2} and set(row["sizes_tried"]) == {"1", "2"}
    assert row["ratio"]["min"] > 0
    assert "| float32" in (tmp_path / "smollm_speed.md").read_text()
