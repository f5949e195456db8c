"""The benchmark runs, and what it writes is whole. Its numbers mean nothing at this size."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.arms import EngineCase, lmms_installed
from benchmarks.checkpoints import by_length
from benchmarks.engine import QUICK_PLAN, run
from benchmarks.table import render


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    plan = QUICK_PLAN._replace(
        documents=1, repetitions=2, requests=(2, 4), prefixes=(64,), growth_prompts=8
    )
    return run(plan, "sample", threads=1)


def test_every_arm_is_measured_and_ours_gives_the_reference(result: dict[str, Any]) -> None:
    assert [EngineCase(*list(c["case"].values())[:4]) for c in result["cases"]] == list(
        QUICK_PLAN.cases
    )
    for case in result["cases"]:
        low = case["case"]["dtype"] != "float32"
        arms = {"ours", "stock"} if low else {"ours", "stock", "cached"}
        assert set(case["arms"]) - {"llava_hf"} == arms
        ours = case["arms"]["ours"]
        assert ours["compared"] > 0
        # Low precision approximates it, as stock's does.
        assert low or ours["identical"] == ours["compared"]
        assert (case["target"] is None) == low
        assert case["distinct_responses"] > 1
        for name, arm in case["arms"].items():
            for cost in (arm["cpu_seconds_a_prompt"], arm["wall_seconds_a_prompt"]):
                assert 0 < cost["min"] <= cost["median"] <= cost["max"], name
            assert arm["peak_mib"] > 0
        for name, sizes in case["sizes_tried"].items():
            best = min(sizes, key=lambda size, sizes=sizes: sizes[size]["cpu"])
            assert case["arms"][name]["batch_size"] == int(best)


def test_it_says_what_it_ran_on_and_what_it_did_not_measure(result: dict[str, Any]) -> None:
    where = result["environment"]
    assert {"cpu", "cores", "threads", "git_commit", "versions"} <= set(where)
    assert {"torch", "transformers", "lm_eval"} <= set(where["versions"])
    assert where["gpu"] == "not run on a GPU"
    text = json.dumps(result)
    assert str(Path.home()) not in text and '"/' not in text, "no paths"
    assert any("GPU" in line for line in result["not_measured"])
    assert lmms_installed() or any("lmms-eval" in line for line in result["not_measured"])


def test_how_cost_grows(result: dict[str, Any]) -> None:
    assert [(row["grows"], row["value"]) for row in result["growth"]] == [
        ("requests", 2),
        ("requests", 4),
        ("prefix tokens", 64),
        ("beams", 1),
        ("beams", 4),
    ]
    assert all(row["ours"]["cpu"] > 0 for row in result["growth"])


def test_the_table_holds_every_case(result: dict[str, Any]) -> None:
    table = render(result)
    for case in QUICK_PLAN.cases:
        assert f"| {case.name} |" in table
    assert "Not measured:" in table


def test_some_prompts_stand_evenly_in_the_order_of_lengths() -> None:
    def tokenizer(text: str) -> dict[str, list[int]]:
        return {"input_ids": [0] * len(text)}

    prompts = ["x" * n for n in (5, 1, 4, 2, 3, 6)]
    assert [len(prompts[i]) for i in by_length(prompts, tokenizer, 3)] == [2, 4, 6]
    assert [len(prompts[i]) for i in by_length(prompts, tokenizer, 6)] == [1, 2, 3, 4, 5, 6]
