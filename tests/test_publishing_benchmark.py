"""The benchmark of publishing runs, and what it writes is whole. Its numbers mean nothing here."""

from pathlib import Path

import pytest

from benchmarks.publishing import TARGETS, render, run
from verbalizer_bench.tasks.identity import TABLE_1


def test_every_command_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMEVAL_LOG_LEVEL", "ERROR")
    found = run(tmp_path, dict.fromkeys(TABLE_1, 3), submissions=4, repetitions=1)
    assert list(found) == ["compare", "report", "pack", "validate", "build"]
    assert set(TARGETS) <= set(found)
    for costs in found.values():
        for cost in costs.values():
            assert 0 < cost["min"] <= cost["median"] <= cost["max"]
    page = (tmp_path / "site-0" / "leaderboard.csv").read_text()
    assert page.count("made/model-") == 4
    page = dict.fromkeys(("painted", "sorted", "filtered"), 12.0)
    result = {
        "page": page,
        "rows": 324,
        "submissions": 4,
        "repetitions": 1,
        "machine": "m",
        "python": "p",
    }
    text = render({**result, "measured": found})
    assert "324 rows a run; 4 submissions" in text
    assert text.count("\n| ") == 6 and "20 s, 500 MiB" in text and "sorted in 12 ms" in text
