"""Too little memory is one line that says which keys take less, with their present values."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.trainers.curve.suite import Suite
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.train import train
from verbalizer_bench.trainers.training.memory_errors import is_memory_error, smaller
from verbalizer_bench.trainers.training.supervised import SupervisedTrainer

TINY = REPOSITORY / "recipes" / "tiny"


def test_a_real_allocation_that_fails_is_one() -> None:
    with pytest.raises(RuntimeError) as fault:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_memory_error(fault.value)
    assert is_memory_error(torch.OutOfMemoryError("CUDA out of memory.")) and is_memory_error(
        MemoryError()
    )
    assert not is_memory_error(RuntimeError("shapes do not fit"))


def test_it_says_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")

    monkeypatch.setattr(SupervisedTrainer, "compute_loss", fail)
    words = ["train", str(TINY / "sft.yaml"), f"output={tmp_path / 'out'}", f"cache={tmp_path}/c"]
    assert main(words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("verbalizer-bench: error: out of memory: CUDA out of memory. Tried")
    for part in (
        "per_device_batch_size=2, it is 4",
        "gradient_checkpointing=true, it is false",
        "lora={r: 64",
        "max_length, it is 64",
    ):
        assert part in line


def test_an_evaluation_names_its_own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Suite, "ask", fail)
    words = [f"output={tmp_path / 'out'}", f"cache={tmp_path}/c", "evaluation.steps=9"]
    words += ["evaluation.tasks=verbalizer_sst2_natural_1_0", "evaluation.data=sample"]
    with pytest.raises(MemoryError, match=r"at step 0: out of memory.*num_beams=1, it is 10"):
        train(read_recipe(TINY / "sft.yaml", words))


def test_what_is_small_already_is_not_said_again() -> None:
    words = ["lora.r=4", "lora.alpha=8", "per_device_batch_size=1", "gradient_checkpointing=true"]
    found = smaller(read_recipe(TINY / "sft.yaml", words))
    assert [line.split("=")[0].split(",")[0] for line in found] == [
        "quantization",
        "a smaller max_length",
    ]
