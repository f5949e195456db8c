"""The benchmark for GPUs runs on a CPU, tiny, by the same code. Its numbers mean nothing there."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import device, engine
from benchmarks.device import CASES, DeviceCase, DevicePlan, matching, run
from benchmarks.device_table import render
from benchmarks.prompts import SomePrompts, choose_prompts, read_prompts
from benchmarks.prompts import main as write_prompts

PLAN = DevicePlan("cpu", True, seconds=2, minutes=9, sizes=(1, 2), compared=2)
MEASURED = (DeviceCase("LLaVA-1.5-7B", 10), DeviceCase("Qwen2.5-VL-7B", 10))
MEASURED += (DeviceCase("Llama-3.1-8B", 1),)


@pytest.fixture(scope="module")
def chosen() -> SomePrompts:
    return choose_prompts("sample", 9)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def result(chosen: SomePrompts, output: Path) -> dict[str, Any]:
    return run(MEASURED, PLAN, chosen, output, resume=False)


def test_both_arms_answer_every_case(result: dict[str, Any], output: Path) -> None:
    assert [case["case"] for case in result["cases"]] == [case.name for case in MEASURED]
    assert not result["not_run"]
    for case in result["cases"]:
        assert all(min(times) > 0 for times in case["seconds_a_prompt"].values())
        assert len(case["ratio"]) == 3 and case["stock_batch"] in (1, 2)
        same = case["agreement"]
        assert same["compared"] >= 1 and set(same["equal"]) == {"ours", "stock", "stock, alone"}
        # Two prompts, two responses: what is compared depends on the prompt.
        assert same["distinct"] == same["asked"] == 2
    assert json.loads((output / "engine-gpu-quick.json").read_text()) == result


def test_images_stand_in_front_of_a_vision_language_models_prompts(result: dict[str, Any]) -> None:
    llava, qwen, llama = (case["prompt_tokens"]["min"] for case in result["cases"])
    # 56 pixels: 4 x 4 patches; Qwen's are merged by four and have a start.
    assert llava - llama == 16 and qwen - llama == 5


def test_the_table_says_what_it_ran_on(result: dict[str, Any]) -> None:
    table = render(result)
    for case in MEASURED:
        assert f"| {case.name} |" in table
    assert "a rehearsal on tiny models" in table and "bfloat16" in table
    assert "Not measured:" in table and "missed" not in table


def test_on_a_gpu_the_table_says_which_target_is_met(result: dict[str, Any]) -> None:
    met, missed = (
        case | {"ratio": [ratio], "target": 12.0}
        for case, ratio in zip(result["cases"][:2], (12.5, 11.9), strict=True)
    )
    slow = {"ours": [1.0], "stock": [12.0]}
    fast = {"ours": [0.5], "stock": [6.0]}
    cases = [met | {"seconds_a_prompt": fast}, missed | {"seconds_a_prompt": slow}]
    table = render(result | {"cases": cases, "suite_prompts": 3600})
    rows = [line for line in table.splitlines() if line.startswith(("| LLaVA", "| Qwen"))]
    assert "| 12: met | 0 h 30 min (30 min: met) |" in rows[0]
    assert "| 12: missed | 1 h 00 min (30 min: missed) |" in rows[1]


def test_a_case_that_is_done_is_not_run_again(
    result: dict[str, Any], chosen: SomePrompts, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "run_case", lambda *_: pytest.fail("it was run again"))
    assert run(MEASURED, PLAN, chosen, output, resume=True)["cases"] == result["cases"]


def test_a_case_without_time_is_named(chosen: SomePrompts, tmp_path: Path) -> None:
    found = run(CASES[:1], PLAN._replace(minutes=0), chosen, tmp_path, resume=False)
    assert found["not_run"] == {"LLaVA-1.5-7B, 10 beams": "0 of 0 s were left"}
    assert "Not run:\n\n- LLaVA-1.5-7B, 10 beams" in render(found)


def test_where_one_case_fails_on_a_gpu_the_others_are_kept(
    chosen: SomePrompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(device, "run_case", fails)
    plan = PLAN._replace(tiny=False)
    found = run(CASES[:2], plan, chosen, tmp_path, resume=False)
    assert list(found["not_run"].values()) == ["RuntimeError: no kernel image"] * 2


def test_prompts_are_chosen_by_a_data_sets_share_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "prompts.json"
    write_prompts([str(file), "--data", "sample", "--count", "27"])
    found = read_prompts(file)
    # The samples have as many documents of each: three of each of nine.
    assert len(found.prompts) == 27 and found.suite_prompts == 24 * 108
    assert set(found.sources.values()) == {"sample"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu"], "real sizes are for cuda; add --quick"),
        (["--device", "cuda"], "finds no GPU here"),
        (["--device", "cpu", "--quick", "--cases", "GPT*"], "none of LLaVA-1.5-7B, 10 beams;"),
    ],
)
def test_wrong_options_are_one_line(arguments: list[str], message: str) -> None:
    if "cuda" in arguments and device.torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(SystemExit, match=message):
        engine.main(arguments)


def test_real_shapes_are_of_the_published_sizes() -> None:
    """On the meta device, where nothing is drawn: 7.06, 8.03 and 8.29 thousand million weights."""
    import torch

    from benchmarks.real_shapes import SHAPES

    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    counts = {}
    for name, shape in SHAPES.items():
        with torch.device("meta"):
            model = shape.make._from_config(shape.config(False, special))
        counts[name] = round(sum(weight.numel() for weight in model.parameters()) / 1e9, 2)
    assert counts == {"LLaVA-1.5-7B": 7.06, "Llama-3.1-8B": 8.03, "Qwen2.5-VL-7B": 8.29}


def test_prompts_of_nobody_are_not_matched() -> None:
    assert matching("*greedy") == CASES[3:] and not matching("nothing")
