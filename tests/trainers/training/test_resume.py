"""Training that was cut off goes on from what is whole, and from the same data alone."""

import csv
import errno
import json
import multiprocessing
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState
from transformers import AutoModelForCausalLM

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.io.files import file_sha256, try_lock
from verbalizer_bench.trainers import train
from verbalizer_bench.trainers.checkpoints import export
from verbalizer_bench.trainers.recipe import RENAMED, Recipe, read_recipe
from verbalizer_bench.trainers.training import inputs, state_saving
from verbalizer_bench.trainers.training.progress_bar import TrainingProgressBar
from verbalizer_bench.trainers.training.resume_states import newest_whole
from verbalizer_bench.trainers.training.supervised import SupervisedTrainer

SFT = REPOSITORY / "recipes" / "tiny" / "sft.yaml"
STATES = ["save_steps=2"]
# Seconds after which a test of processes has failed.
TIMEOUT = 900
Words = Callable[..., list[str]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 24 records: six steps of four."""
    lines = (SFT.parent / "data" / "text.jsonl").read_text().splitlines(keepends=True)
    file = tmp_path_factory.mktemp("data") / "records.jsonl"
    file.write_text("".join(lines[:24]))
    return file


@pytest.fixture
def words(cache: Path, data: Path, tmp_path: Path) -> Words:
    """Return what makes the words of a command that trains six steps into tmp_path/out."""

    def command(*more: str) -> list[str]:
        return [
            "train",
            str(SFT),
            f"output={tmp_path / 'out'}",
            f"cache={cache}",
            f"data={data}",
            "held_out=null",
            "num_train_epochs=1",
            "global_batch_size=4",
            "per_device_batch_size=4",
            *more,
        ]

    return command


@pytest.fixture(scope="module")
def whole(cache: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what training without a disturbance makes."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    overrides = [
        f"output={folder}",
        f"cache={cache}",
        f"data={data}",
        "held_out=null",
        "num_train_epochs=1",
    ]
    train.train(read_recipe(SFT, [*overrides, "global_batch_size=4", "per_device_batch_size=4"]))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    return found


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open() as file:
        return list(csv.DictReader(file))


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return found


def assert_same(folder: Path, whole: Path) -> None:
    """Check that weights, losses, tokens and steps are those of the undisturbed training."""
    one, other = weights(folder), weights(whole)
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert rows(folder) == rows(whole) and len(rows(whole)) == 6
    for key in ("steps", "tokens", "loss", "weights", "data"):
        assert record(folder)[key] == record(whole)[key], key


class Stopped(Exception):
    """Stands for a kill."""


def stop_at(step: int, patch: pytest.MonkeyPatch) -> None:
    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == step:
            raise Stopped

    patch.setattr(TrainingProgressBar, "on_step_end", stop)


@pytest.fixture
def stopped(words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a training that was stopped at step 5 and has the states 2 and 4."""
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(5, patch)
        train.train(read_recipe(SFT, words(*STATES)[2:]))
    states = sorted(entry.name for entry in (tmp_path / "out" / "state").glob("checkpoint-*"))
    assert states == ["checkpoint-2", "checkpoint-4"]
    return tmp_path / "out"


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


BROKEN: list[tuple[str, Callable[[Path], None], str]] = [
    ("whole.json", Path.unlink, "it was not written to its end"),
    ("whole.json", cut, "it was not written to its end"),
    ("trainer_state.json", Path.unlink, "trainer_state.json is missing"),
    ("optimizer.pt", cut, "optimizer.pt has"),
    ("model.safetensors", cut, "model.safetensors has"),
]


def test_a_half_written_state_is_passed_over(stopped: Path, tmp_path: Path) -> None:
    for number, (name, damage, why) in enumerate(BROKEN):
        states = shutil.copytree(stopped / "state", tmp_path / str(number))
        damage(states / "checkpoint-4" / name)
        found = newest_whole([states])
        assert found.state and found.state.step == 2
        (line,) = found.passed_over
        assert line.startswith(f"{states / 'checkpoint-4'}: {why}")


def test_training_goes_on_from_the_newest_whole_state(
    stopped: Path, whole: Path, words: Words, caplog: pytest.LogCaptureFixture
) -> None:
    cut(stopped / "state" / "checkpoint-4" / "optimizer.pt")
    # As older versions have written it.
    old_keys = {new: old for old, new in RENAMED.items()}
    recipe = yaml.safe_load((stopped / "recipe.yaml").read_text())
    old = {old_keys.get(key, key): value for key, value in recipe.items()}
    assert "global_batch" in old
    (stopped / "recipe.yaml").write_text(yaml.safe_dump(old))
    assert main(words(*STATES, "resume=true")) == 0
    assert yaml.safe_load((stopped / "recipe.yaml").read_text()) == recipe | {"resume": True}
    assert f"Passed over, {stopped / 'state' / 'checkpoint-4'}: optimizer.pt" in caplog.text
    assert "Training goes on from step 2" in caplog.text
    assert_same(stopped, whole)
    attempts = record(stopped)["attempts"]
    assert [(one["from_step"], one["to_step"]) for one in attempts] == [(0, 2), (2, 6)]
    seconds = sum(one["seconds"] for one in attempts)
    assert record(stopped)["seconds"] == pytest.approx(seconds, abs=0.06)
    assert all(one["seconds"] > 0 for one in attempts)


def test_without_a_whole_state_it_begins_again_and_says_so(
    stopped: Path, whole: Path, words: Words, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (2, 4):
        (stopped / "state" / f"checkpoint-{step}" / "whole.json").unlink()
    assert main(words(*STATES, "resume=true")) == 0
    assert f"output={stopped}: NO WHOLE STATE in it: training starts from the BEGINNING" in (
        caplog.text
    )
    assert_same(stopped, whole)
    assert [one["from_step"] for one in record(stopped)["attempts"]] == [0]


def test_a_kill_while_a_state_is_written(
    whole: Path, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(self: Any, folder: str) -> None:
        if folder.endswith("checkpoint-4"):
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(state_saving.SealingTrainer, "_save_rng_state", kill)
        recipe = read_recipe(SFT, words(*STATES)[2:])
        context = multiprocessing.get_context("fork")
        process = context.Process(target=train.train, args=(recipe,))
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "out" / "state" / "checkpoint-4" / "model.safetensors").is_file()
    assert main(words(*STATES, "resume=true")) == 0
    assert_same(tmp_path / "out", whole)
    assert [one["from_step"] for one in record(tmp_path / "out")["attempts"]] == [0, 2]


def test_a_kill_while_the_card_is_written(
    words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any) -> str:
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr("verbalizer_bench.trainers.output.folder.model_card", stop)
        train.train(read_recipe(SFT, words("save_steps=6")[2:]))
    assert main(words("save_steps=6", "resume=true")) == 0
    assert (tmp_path / "out" / "README.md").is_file()


@pytest.mark.parametrize("name", ["training.json", "recipe.yaml"])
@pytest.mark.parametrize("content", ["{", "", "- 1"])
def test_notes_that_were_changed_are_named(
    stopped: Path, words: Words, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (stopped / name).write_text(content)
    assert main(words(*STATES, "resume=true")) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if "error:" in row]
    assert f"output={stopped}: {name} in it " in line and "traceback" not in line


def test_other_data_does_not_go_on(
    stopped: Path, words: Words, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = data.read_bytes()
    (old,) = record(stopped)["data"]
    try:
        data.write_bytes(before.replace(b"a", b"A", 1))
        assert main(words(*STATES, "resume=true")) == 2
        new = file_sha256(data)
    finally:
        data.write_bytes(before)
    line = capsys.readouterr().err
    assert f"it was started with {data} of sha256 {old['sha256']}, now {new}" in line
    assert record(stopped)["data"] == [old]


@pytest.mark.parametrize("key", ["images", "base_weights", "data"])
def test_what_is_other_is_named(
    stopped: Path, words: Words, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old: Any = [{"file": "gone.json", "sha256": "0ld"}] if key == "data" else "0ld"
    (stopped / "training.json").write_text(json.dumps(record(stopped) | {key: old}))
    assert main(words(*STATES, "resume=true")) == 2
    line = capsys.readouterr().err
    assert f"output={stopped}: it was started with " in line and "of sha256 0ld, now " in line


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("states", [[], STATES])
def test_a_full_disk_at_the_end_costs_the_copy_alone(
    states: list[str],
    whole: Path,
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(checkpoint: Any, state: Any, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise FULL

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(export, "save", full)
        assert main(words(*states)) == 2
    assert f"kept in {out / 'state' / 'checkpoint-6'}: make room" in capsys.readouterr().err
    assert not (out / "model.safetensors").exists() and "seconds" not in record(out)
    with monkeypatch.context() as patch:
        patch.setattr(SupervisedTrainer, "training_step", None)
        assert main(words(*states, "resume=true")) == 0
    assert_same(out, whole)
    assert not (out / "checkpoint.part").exists() and not (out / "lock").exists()


def test_what_was_trained_is_kept_on_another_disk(
    whole: Path,
    words: Words,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    save_model = state_saving.Trainer.save_model

    def full(self: Any, folder: str, **kwargs: Any) -> None:
        if Path(folder).is_relative_to(out):
            raise FULL
        save_model(self, folder, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(state_saving.Trainer, "save_model", full)
        patch.setattr(export, "save", lambda *_: full(None, str(out)))
        assert main(words()) == 2
    assert f"kept in {cache / 'kept'}/" in capsys.readouterr().err
    # The start is not one that came to nothing.
    assert main(words()) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(words("resume=true")) == 0
    assert_same(out, whole)
    assert not any((cache / "kept").iterdir())


def test_a_state_that_cannot_be_written_does_not_end_the_training(
    whole: Path,
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(self: Any, folder: str) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/7: file write failed")

    monkeypatch.setattr(state_saving.SealingTrainer, "_save_optimizer_and_scheduler", full)
    assert main(words(*STATES)) == 0
    assert caplog.text.count("this state could not be written (PytorchStreamWriter failed") == 3
    assert_same(tmp_path / "out", whole)
    assert not any((tmp_path / "out" / "state").glob("checkpoint-*"))


def test_older_states_make_room_for_what_was_trained(
    whole: Path, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, states = export.save, tmp_path / "out" / "state"

    def full(*arguments: Any) -> Any:
        if (states / "checkpoint-4").exists():
            raise FULL
        return save(*arguments)

    monkeypatch.setattr(export, "save", full)
    assert main(words(*STATES)) == 0
    assert_same(tmp_path / "out", whole)
    assert [entry.name for entry in states.glob("checkpoint-*")] == ["checkpoint-6"]


def test_a_start_that_fails_blocks_nothing(
    whole: Path,
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(1, patch)
        train.train(read_recipe(SFT, words("learning_rate=1")[2:]))
    assert (tmp_path / "out" / "recipe.yaml").is_file()
    assert main(words()) == 0
    assert f"output={tmp_path / 'out'}: a start that came to nothing is begun" in caplog.text
    assert_same(tmp_path / "out", whole)
    assert record(tmp_path / "out")["attempts"][0]["from_step"] == 0


def test_two_do_not_train_into_one_folder(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with try_lock(tmp_path / "out" / "lock") as mine:
        assert mine
        assert main(words()) == 2
    message = f"output={tmp_path / 'out'}: process {os.getpid()} trains into it"
    assert message in capsys.readouterr().err


def test_who_was_slower_overwrites_nothing(
    whole: Path, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = inputs.build

    def slow(*arguments: Any, **keys: Any) -> Any:
        shutil.copytree(whole, tmp_path / "out")
        return build(*arguments, **keys)

    monkeypatch.setattr(inputs, "build", slow)
    assert main(words("learning_rate=1")) == 2
    assert_same(tmp_path / "out", whole)


def of_two(rank: int, port: int, recipe: Recipe, log: Path) -> None:
    """Train as one of two processes; leave what ended it."""
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(
        world | {"MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    )
    # This process was forked from one that may have trained already.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    text = "done"
    try:
        train.train(recipe)
    except (OSError, ValueError) as error:
        text = str(error)
    log.write_text(text)
    # Neither pytest's exit nor the parent's.
    os._exit(0)


def in_two(recipe: Recipe, folder: Path) -> list[str]:
    """Train in two forked processes, which have imported everything; return how each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs = [folder / f"{rank}.txt" for rank in range(2)]
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=of_two, args=(rank, port, recipe, log))
        for rank, log in enumerate(logs)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(TIMEOUT)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [log.read_text() for log in logs]


@pytest.mark.skipif(torch.cuda.is_available(), reason="two processes on CPUs")
def test_two_processes_lose_nothing_to_a_full_disk(
    whole: Path, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first one writes: the other one learns that it could not, and waits for nothing."""
    out, more = tmp_path / "out", ["per_device_batch_size=2", *STATES]
    barrier = Exception("a barrier would time out while records are encoded")

    def full(*_: Any) -> None:
        raise FULL

    def no_barrier(*_: Any, **__: Any) -> None:
        raise barrier

    save = state_saving.SealingTrainer._save_rng_state

    def half(self: Any, folder: str) -> None:
        if folder.endswith("checkpoint-4") and os.environ["RANK"] == "1":
            raise FULL
        save(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(export, "save", full)
        patch.setattr(train.SFTConfig, "main_process_first", no_barrier)
        patch.setattr(state_saving.SealingTrainer, "_save_rng_state", half)
        recipe = read_recipe(SFT, [*words(*more)[2:], f"cache={tmp_path / 'cache'}"])
        first, second = in_two(recipe, tmp_path)
    kept = f"what was trained is kept in {out / 'state' / 'checkpoint-6'}: make room"
    assert kept in first and "No space left on device" in first
    assert kept in second and "(another process could not write)" in second
    # Of step 4 one process's part could not be written: both have left that state out.
    assert [entry.name for entry in (out / "state").glob("checkpoint-*")] == ["checkpoint-6"]
    resumed = read_recipe(SFT, [*words(*more, "resume=true")[2:]])
    assert in_two(resumed, tmp_path) == ["done", "done"]
    assert record(out)["processes"] == 2
    assert [one["from_step"] for one in record(out)["attempts"]] == [0, 6]
    losses = [float(row["loss"]) for row in rows(out)]
    assert losses == pytest.approx([float(row["loss"]) for row in rows(whole)], abs=1e-4)
