"""Steps wait for those before them, give back results, and name the one that failed."""

import math
import os
from pathlib import Path

import pytest

from verbalizer_bench.experiments.steps import Step, clock, run_steps
from verbalizer_bench.experiments.works import Work


def step(folder: Path, name: str, function: object, *values: object, after: str = "") -> Step:
    assert callable(function)
    return Step(Work(name, name, folder / f"{name}.log", function, values), tuple(after.split()))


def test_steps_run_behind_those_that_they_wait_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    steps = [
        step(tmp_path, "read", Path.read_text, file, after="write"),
        step(tmp_path, "write", Path.write_text, file, "said"),
    ]
    assert run_steps(steps, 2) == {"write": 4, "read": "said"}
    lines = capsys.readouterr().out.splitlines()
    assert ["1 of 2  write" in lines[0], "2 of 2  read" in lines[1]] == [True, True]


def test_a_step_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"math domain|nonnegative") as raised:
        run_steps([step(tmp_path, "root", math.sqrt, -1)], 1)
    assert raised.value.__notes__ == [f"root; what it printed is in {tmp_path / 'root.log'}"]


def test_a_process_that_is_killed_is_said_so(tmp_path: Path) -> None:
    """By somebody, or by the system that has no memory left."""
    log = tmp_path / "gone.log"
    with pytest.raises(ChildProcessError, match=f"^gone, or .* was killed, .* is in {log}; make"):
        run_steps([step(tmp_path, "gone", os._exit, 9)], 1)


def test_a_circle_is_an_error(tmp_path: Path) -> None:
    steps = [step(tmp_path, "a", len, "", after="b"), step(tmp_path, "b", len, "", after="a")]
    with pytest.raises(ValueError, match="wait for ever: a, b"):
        run_steps(steps, 1)


def test_a_duration_reads_as_minutes_and_seconds() -> None:
    assert [clock(0.4), clock(59.6), clock(187)] == ["0:00", "1:00", "3:07"]
