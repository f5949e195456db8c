"""The training benchmark runs, both arms do the same work, and what it writes is whole.

Its numbers mean nothing at this size.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.trainers import GROUPED, OURS, PLAIN, QUICK_PLAN, Plan, run, verdict
from benchmarks.training_data import LARGER, TINY, mixed, write_architecture, write_images
from benchmarks.training_table import render


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    cases = tuple(case._replace(repetitions=1) for case in QUICK_PLAN.cases)
    return run(Plan(cases, sizes=(50, 500), batches=10), threads=1)


def test_every_arm_is_measured_on_the_same_work(result: dict[str, Any]) -> None:
    text, images = result["cases"]
    assert text["records"] == {"images": 0, "text": 16}
    assert images["records"] == {"images": 16, "text": 8}
    assert text["targets"] == {OURS: 1.0, GROUPED: 1.0}
    assert images["targets"] == {OURS: 1.0, GROUPED: 1.3}
    for found in result["cases"]:
        case = found["case"]
        assert set(found["arms"]) == {PLAIN, OURS, GROUPED}
        assert found["steps"] == case["records"] * case["epochs"] // case["global_batch"]
        assert found["largest_difference_of_losses"] < 1e-5 < found["first_loss"]
        for arm in found["arms"].values():
            assert len(arm) == 4
            for cost in arm.values():
                assert 0 < cost["min"] <= cost["median"] <= cost["max"]
        for arm, ratio in found["ratio"].items():
            plain, own = (found["arms"][name]["samples_a_cpu_second"] for name in (PLAIN, arm))
            assert ratio["cpu"]["median"] == pytest.approx(own["median"] / plain["median"])
            assert found["verdicts"][arm] in ("met", "within the range", "missed")


def test_a_verdict() -> None:
    found = {"median": 0.99, "min": 0.97, "max": 1.02}
    assert verdict(found, 0.98) == "met"
    assert verdict(found, 1.0) == "within the range"
    assert verdict(found, 1.3) == "missed"


def test_the_loader_is_weighed_at_both_sizes(result: dict[str, Any]) -> None:
    small, large = result["memory"]["sizes"]
    assert (small["records"], large["records"]) == (50, 500)
    assert large["rows_mib"] > small["rows_mib"] > 0
    for size in (small, large):
        assert size["peak_rss_mib"] >= size["before_rss_mib"] > 0
        assert size["peak_rss_mib"] > size["peak_anonymous_mib"] > 0
    grown = large["peak_rss_mib"] - small["peak_rss_mib"]
    assert result["memory"]["grown"]["peak_rss_mib"] == grown


def test_it_says_what_it_ran_on_and_what_it_did_not_measure(result: dict[str, Any]) -> None:
    where = result["environment"]
    assert {"cpu", "cores", "threads", "git_commit", "versions"} <= set(where)
    assert {"torch", "transformers", "trl", "datasets"} <= set(where["versions"])
    text = json.dumps(result)
    assert str(Path.home()) not in text and '"/' not in text, "no paths"
    assert any("GPU" in line for line in result["not_measured"])


def test_the_table_holds_every_arm(result: dict[str, Any]) -> None:
    table = render(result)
    for name in ("sft, text, tiny", "vit, mixed, tiny"):
        assert f"| {name} |" in table and f"| {name}, grouped |" in table
    assert "Not measured:" in table and "Memory of the loader" in table


def test_mixed_records_are_two_to_one_and_of_widely_differing_lengths() -> None:
    rows = mixed(300, ["a.png"])
    assert rows == mixed(300, ["a.png"])
    assert sum("image" in row for row in rows) == 200
    words = {
        kind: sorted(
            sum(len(turn["value"].split()) for turn in row["conversations"])
            for row in rows
            if ("image" in row) == kind
        )
        for kind in (True, False)
    }
    for lengths in words.values():
        tenth = len(lengths) // 10
        assert lengths[-tenth] > 5 * lengths[tenth] and lengths[-1] < 400
    assert words[False][50] > 1.5 * words[True][100]


def test_the_larger_shape_is_what_it_says(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoProcessor

    for shape in (TINY, LARGER):
        folder = tmp_path / shape.name
        folder.mkdir()
        write_architecture(shape, folder)
        write_images(shape, folder / "images")
        config = AutoConfig.from_pretrained(folder / "llava")
        assert config.image_seq_length == shape.image_tokens
        assert config.text_config.hidden_size == shape.width
        assert config.text_config.num_hidden_layers == shape.layers
        assert config.vision_config.hidden_size == shape.vision_width
        crop = AutoProcessor.from_pretrained(folder / "llava").image_processor.crop_size
        assert crop["height"] == shape.pixels
        assert len(list((folder / "images").iterdir())) == 24
