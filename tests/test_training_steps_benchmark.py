"""The benchmark of training steps runs on a CPU, tiny. Its numbers mean nothing there."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.training_steps import CASES, main, run


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)))
def test_both_arms_train_the_same(number: int, tmp_path: Path) -> None:
    case = CASES[number]
    if case.shape.startswith("Qwen") and not find_spec("torchvision"):
        pytest.skip("the processor of Qwen2.5-VL needs torchvision")
    result = run([case], "cpu", True, 1, tmp_path)
    (found,) = result["cases"]
    assert found["largest_difference_of_losses"] < 0.01 < found["first_loss"]
    assert min(speed["min"] for speed in found["tokens_a_second"].values()) > 0
    table = (tmp_path / "training-steps-quick.md").read_text()
    assert f"| {case.name} |" in table and "a rehearsal, whose numbers mean nothing" in table


def test_real_sizes_are_for_a_gpu() -> None:
    with pytest.raises(SystemExit, match="real sizes are for cuda; add --quick"):
        main(["--device", "cpu"])
    with pytest.raises(SystemExit, match=r"none of LLaVA-1\.5-7B, LoRA; Qwen2\.5-VL-7B, LoRA; "):
        main(["--device", "cpu", "--quick", "--cases", "nothing"])
