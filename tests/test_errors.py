"""However a command ends, it says so in one line: what is wrong, or what is kept."""

import logging
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lm_eval.loggers import EvaluationTracker

from tests.conftest import REPOSITORY
from verbalizer_bench import __main__ as entry_point
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.reports import gathering
from verbalizer_bench.models.adapters.journal import Journal
from verbalizer_bench.trainers.training.progress_bar import TrainingProgressBar

TASK = "verbalizer_sst2_neutral_foo_bar"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval's log goes on writing to the stream that pytest gave another test."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.strip().split("\n")[-1]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RuntimeError("boom\n  and more"), 1, "error: RuntimeError: boom and more; the traceback"),
        (KeyError("rows"), 1, "error: KeyError: 'rows'; the traceback is in "),
        (RecursionError(), 1, "error: RecursionError: no text; the traceback is in "),
        (ModuleNotFoundError("No module named 'tenacity'", name="tenacity"), 2, "pip install ten"),
        (MemoryError("too large"), 2, "verbalizer-bench: error: too large"),
        (OSError(28, "No space left on device", "a/b"), 2, "a/b: No space left on device; make ro"),
        (PermissionError(13, "Permission denied", "a"), 2, "a: Permission denied; give a place th"),
        (OSError(5, "Input/output error"), 2, "[Errno 5] Input/output error"),
    ],
)
def test_what_nobody_expected_is_one_line_and_a_file(
    error: Exception,
    code: int,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(paths: list[Path]) -> None:
        raise error

    monkeypatch.setattr(gathering, "find_runs", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["report", "out"]) == code
    said = last_line(capsys)
    assert line in said
    written = re.search(r"the traceback is in (\S+)$", said)
    assert bool(written) == (not isinstance(error, (OSError, MemoryError)))
    if written:
        text = Path(written[1]).read_text()
        assert "Traceback (most recent call last)" in text and "in fail" in text


def test_an_error_of_a_library_names_its_type_and_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`int` complains of a value that no user wrote: the line alone would help nobody."""
    monkeypatch.setattr(gathering, "find_runs", lambda paths: int("x"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["report", "out"]) == 2
    assert "error: ValueError: invalid literal for int()" in last_line(capsys)
    assert list(tmp_path.glob("verbalizer-bench-*.traceback.txt"))


def test_what_was_done_stands_below_an_error_that_nobody_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step of the demo is named, and its log."""

    def fail(paths: list[Path]) -> None:
        error = RuntimeError("boom")
        error.add_note("train LLM-FOIT; what it printed is in a.log")
        raise error

    monkeypatch.setattr(gathering, "find_runs", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["report", "out"]) == 1
    *_, line, note = capsys.readouterr().err.splitlines()
    assert "error: RuntimeError: boom; the traceback is in" in line
    assert note == "  train LLM-FOIT; what it printed is in a.log"


def test_no_room_for_the_traceback_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gathering, "find_runs", lambda paths: {}["x"])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert main(["report", "out"]) == 1
    error = capsys.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert error.strip().split("\n")[-1] == "verbalizer-bench: error: KeyError: 'x'"


def test_interrupted_while_it_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "verbalizer_bench.cli", Interrupting("cli"))
    assert entry_point.main() == 130
    assert capsys.readouterr().err == (
        "verbalizer-bench: interrupted: the same command starts again\n"
    )


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what has a signal come when the n-th response is written."""

    def stop(number: int, response: int) -> None:
        left = iter(range(response - 1, -1, -1))
        add = Journal.add

        def added(self: Journal, *arguments: Any) -> None:
            add(self, *arguments)
            if next(left, None) == 0:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Journal, "add", added)

    return stop


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_an_interrupted_run_says_what_is_kept_and_goes_on(
    number: int,
    code: int,
    word: str,
    stopping: Any,
    toys: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "a run"
    stopping(number, 3)
    arguments = [
        *("--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"),
        *("--tasks", TASK, "--data", "sample", "--device", "cpu", "--limit", "6"),
        *("--output_path", str(out)),
    ]
    before = signal.getsignal(signal.SIGTERM)
    assert main(["run", *arguments]) == code
    assert signal.getsignal(signal.SIGTERM) is before
    line = last_line(capsys)
    command = f"verbalizer-bench run --resume {shlex.quote(str(out))}"
    found = re.fullmatch(
        rf"verbalizer-bench: {word}: (\d) responses are kept in (.*); `(.*)` goes on", line
    )
    assert found and (found[2], found[3]) == (str(out), command)
    assert 3 <= int(found[1]) <= 6
    assert main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize("file", ["results_*.json", "samples_*.jsonl"])
def test_results_that_lm_eval_could_not_write_are_named(
    file: str,
    toys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a full disk it writes half a file, warns, and goes on."""
    save = EvaluationTracker.save_results_samples

    def saved(self: EvaluationTracker, *arguments: Any, **options: Any) -> None:
        save(self, *arguments, **options)
        (path,) = tmp_path.rglob(file)
        path.write_bytes(path.read_bytes()[:-20])

    monkeypatch.setattr(EvaluationTracker, "save_results_samples", saved)
    model = ["--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"]
    rest = ["--tasks", TASK, "--data", "sample", "--limit", "2", "--output_path", str(tmp_path)]
    assert main(["run", *model, *rest]) == 2
    line = last_line(capsys)
    assert "run: lm-eval could not write its results whole (" in line
    assert "2 responses are kept in" in line and "--resume" in line
    monkeypatch.setattr(EvaluationTracker, "save_results_samples", save)
    for path in tmp_path.rglob("results_*"):
        path.unlink()
    assert main(["run", "--resume", str(tmp_path)]) == 0


def test_an_interrupted_run_without_a_journal_says_so(
    toys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lm_eval.simple_evaluate", stop)
    for model, text in (
        ("hf", "nothing is kept: --model hf has no journal; verbalizer-llm and"),
        ("verbalizer-llm", "no response was there yet; the same command starts again"),
    ):
        arguments = ["--model", model, "--model_args", f"pretrained={toys[0]}", "--tasks", TASK]
        rest = ["--data", "sample", "--output_path", str(tmp_path / model)]
        assert main(["run", *arguments, *rest]) == 130
        assert f"verbalizer-bench: interrupted: {text}" in last_line(capsys)
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_an_interrupted_training_keeps_a_state_of_the_step_and_says_so(
    number: signal.Signals,
    code: int,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step_end = TrainingProgressBar.on_step_end

    def stop(self: TrainingProgressBar, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step_end(self, args, state, control, **kwargs)
        if state.global_step == 3:
            os.kill(os.getpid(), number)

    words = ["train", str(REPOSITORY / "recipes" / "tiny" / "sft.yaml"), f"cache={tmp_path}/cache"]
    words += [f"output={tmp_path}/out", "num_train_epochs=1"]
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgressBar, "on_step_end", stop)
        assert main(words) == code
    line = last_line(capsys)
    assert line.startswith(f"verbalizer-bench: {word}: the state of step 3 is kept")
    (command,) = re.findall("`(.*)`", line)
    assert command == shlex.join(["verbalizer-bench", *words, "resume=true"])
    assert main(shlex.split(command)[1:]) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
