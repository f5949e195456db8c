"""How long a run takes: measured on whole batches, never invented, and few lines in a file."""

import io
import itertools

import pytest

from verbalizer_bench.models.adapters import progress as module
from verbalizer_bench.models.adapters.progress import Pace, duration, progress


def batches(pace: Pace, size: int, seconds: float, count: int) -> None:
    """Have so many batches come, each after so many seconds."""
    for _ in range(count):
        now = pace.start if pace._began is None else pace._last
        for place in range(size):
            pace.add(1, now + seconds + 0.001 * place)


def test_nothing_is_said_before_a_batch_is_known_to_be_done() -> None:
    pace = Pace(100, 0, 50.0)
    assert pace.text == "measuring the time"
    batches(pace, 8, 60.0, 1)
    # The first of a batch comes with the whole batch's time on it.
    assert pace.seconds_left is None
    pace.add(1, pace._last + 60.0)
    assert pace.seconds_left == pytest.approx(60 / 8 * 91, rel=0.01)
    assert pace.text == "about 11 min 23 s left"


def test_what_was_kept_says_nothing_of_the_time() -> None:
    pace = Pace(100, 40, 0.0)
    batches(pace, 2, 10.0, 2)
    assert pace.seconds_left == pytest.approx(5 * 56, rel=0.01)
    pace = Pace(100, 0, 0.0)
    for now in range(10):
        pace.keep(float(now))
    assert pace.seconds_left is None
    batches(pace, 2, 10.0, 2)
    assert pace.seconds_left == pytest.approx(5 * 86, rel=0.01)


def test_responses_that_come_one_after_the_other_without_a_pause_are_measured_too() -> None:
    pace = Pace(10_000, 0, 0.0)
    for place in range(1, 301):
        pace.add(1, 0.01 * place)
    assert pace.seconds_left == pytest.approx(97, rel=0.02)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_file_gets_a_few_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    with progress("Generating", 1000) as bar:
        for _ in range(1000):
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Generating: 1000 responses"
    assert lines[1] == "Generating: 2 of 1000, about 16 min 38 s left"
    assert lines[2] == "Generating: 100 of 1000, about 15 min 0 s left"
    assert lines[-1] == "Generating: 1000 of 1000, took 16 min 40 s" and len(lines) == 12


def test_a_run_that_ends_early_says_how_far_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), progress("Scoring", 9, 3, "score") as bar:
        bar.update()
        raise KeyboardInterrupt
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["Scoring: 6 of 9 scores", "Scoring: 4 of 9, measuring the time"]


def test_a_terminal_gets_a_bar_with_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    clock = itertools.count()
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("sys.stderr", screen := Screen())
    with progress("Generating", 10, 4) as bar:
        bar.keep()
        for _ in range(4):
            bar.update()
        bar.set_postfix_str("prefix hits 62%")
    drawn = screen.getvalue().split("\r")
    assert "| 4/10 [measuring the time]" in drawn[1]
    assert "| 9/10 [about 1 s left, prefix hits 62%]" in drawn[-1]
    monkeypatch.setattr("sys.stderr", screen := Screen())
    with progress("Generating", 2, quiet=True) as bar:
        bar.update()
    assert not screen.getvalue()
