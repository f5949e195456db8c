"""Schedules that cannot work are refused, before records are encoded where that can be known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import SchedulerType

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.trainers import train
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.training.schedule import check_schedule, check_steps, total_steps

SFT = REPOSITORY / "recipes" / "tiny" / "sft.yaml"


def recipe(*overrides: str) -> Recipe:
    return read_recipe(SFT, overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["lr_scheduler_type=cosine_with_min_lr"],
            "lr_scheduler_type=cosine_with_min_lr: cannot be used here",
        ),
        (
            ["lr_scheduler_type=warmup_stable_decay"],
            "lr_scheduler_type=warmup_stable_decay: cannot be used here",
        ),
        (["lr_scheduler_type=reduce_lr_on_plateau"], "(it needs evaluations during training)"),
        (
            ["lr_scheduler_type=polynomial", "learning_rate=1e-8"],
            "lr_scheduler_type=polynomial: cannot be used",
        ),
        (
            ["warmup_ratio=0.9999"],
            "warmup_ratio=0.9999 of 1000 steps is 1000: the learning rate would not",
        ),
        (["warmup_ratio=1"], "warmup_ratio=1.0: a share from 0 to below 1"),
        (["num_train_epochs=0"], "num_train_epochs=0.0: above 0"),
        (["save_steps=0"], "save_steps=0: at least 1"),
        (["save_steps=-5"], "save_steps=-5: at least 1"),
        (["held_out=[]"], "held_out=[]: at least one file, or leave it out"),
        (
            ["global_batch_size=6"],
            "global_batch_size=6 is no multiple of per_device_batch_size=4 on 1 processes",
        ),
    ],
)
def test_what_is_refused_before_anything_is_encoded(
    overrides: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("load", "training_data"):
        monkeypatch.setattr(train, name, None)
    assert main(["train", str(SFT), f"output={tmp_path / 'out'}", *overrides]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if "error:" in row]
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        # 64 records.
        (
            ["global_batch_size=128"],
            "global_batch_size=128: there are 64 records, so that a step would show",
        ),
        (
            ["global_batch_size=64", "num_train_epochs=1"],
            "warmup_ratio=0.03 of 1 steps is 1: the learning rate would",
        ),
        (
            ["held_out={same}"],
            "same.jsonl: 64 of 64 of its records are trained on too, ",
        ),
    ],
)
def test_what_is_refused_before_the_first_step(
    overrides: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = tmp_path / "same.jsonl"
    same.write_bytes((SFT.parent / "data" / "text.jsonl").read_bytes())
    words = [word.format(same=same) for word in overrides]
    words += [f"output={tmp_path / 'out'}", f"cache={tmp_path}"]
    assert main(["train", str(SFT), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_schedules_that_work() -> None:
    refused = set()
    for kind in SchedulerType:
        try:
            check_schedule(recipe(f"lr_scheduler_type={kind.value}"))
        except ValueError:
            refused.add(kind.value)
    assert refused >= {
        "greedy",
        "reduce_lr_on_plateau",
        "cosine_with_min_lr",
        "warmup_stable_decay",
    }
    assert not refused & {"cosine", "linear", "constant", "constant_with_warmup", "inverse_sqrt"}


def test_steps_by_hand() -> None:
    # 7 full batches; half a batch is rounded up, as transformers does.
    assert total_steps(recipe("num_train_epochs=1"), 56) == 7
    assert total_steps(recipe("num_train_epochs=1.5"), 56) == 11
    assert total_steps(recipe("num_train_epochs=0.01"), 56) == 1
    check_schedule(recipe("warmup_ratio=0"), 1)
    check_schedule(recipe("warmup_ratio=0.5"), 2)


def test_what_hardly_works_is_said(caplog: pytest.LogCaptureFixture) -> None:
    check_steps(recipe("save_steps=9"), np.array([True] * 3 + [False] * 8), 8)
    first, second = caplog.messages
    assert first.startswith("3 records with images: fewer than global_batch_size=8, and a step")
    assert second == "save_steps=9, and training has 8 steps: no state is kept before the last one"
    caplog.clear()
    check_steps(recipe("group=none", "save_steps=8"), np.array([True] * 3 + [False] * 8), 8)
    assert not caplog.messages
    check_steps(recipe("group=none", "lr_scheduler_type=constant"), np.array([True] * 9), 8)
    assert caplog.messages[0].startswith("warmup_ratio=0.03: lr_scheduler_type=constant has none")


def test_steps_are_those_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    check = train.check_steps

    def spy(*arguments: Any) -> None:
        seen.append(arguments[-1])
        check(*arguments)

    monkeypatch.setattr(train, "check_steps", spy)
    words = [f"output={tmp_path / 'out'}", f"cache={tmp_path}", "num_train_epochs=0.3"]
    train.train(recipe(*words))
    losses = (tmp_path / "out" / "losses.csv").read_text().splitlines()
    # 0.3 epochs of 8 steps.
    assert seen == [3] and len(losses) == 1 + 3


def test_records_without_images_do_not_train_what_sees_them() -> None:
    words = ["train.language_model=none", "trained_parameters=null", "warmup_ratio=0"]
    asked = read_recipe("tiny/vit", words)
    with pytest.raises(ValueError, match="1 of 16 records have no image, and train neither"):
        check_steps(asked, np.arange(16) > 0, 2)
    check_steps(asked, np.ones(16, dtype=bool), 2)
