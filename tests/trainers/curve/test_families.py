"""Vision-language models of other families are evaluated as their checkpoints are asked."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.family_training import RECORDS, as_row, recipe, write_images
from tests.helpers.own_processors import (
    OWN_PROCESSORS,
    TORCHVISION,
    ProcessorFamily,
    without_videos,
)
from tests.helpers.processors import save
from verbalizer_bench import api
from verbalizer_bench.trainers.train import train

TASKS = ["verbalizer_sst2_natural_1_0", "verbalizer_sst2_neutral_sfo_lax"]
# A grid of patches by default: what costs most time is to compare all of them.
KINDS = ("qwen2_5_vl",)
FAMILIES = [
    pytest.param(
        one,
        marks=() if one.make.__name__ in KINDS else pytest.mark.slow,
        id=one.make.__name__,
    )
    for one in OWN_PROCESSORS
    if TORCHVISION or not one.needs_torchvision
]


@pytest.fixture(scope="module", autouse=True)
def _processors() -> Iterator[None]:
    with without_videos():
        yield


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_asked_as_its_checkpoint_is(family: ProcessorFamily, tmp_path: Path) -> None:
    base, images = tmp_path / "base", write_images(tmp_path / "images")
    save(family.make, base)
    rows = [as_row(turns) for turns in RECORDS]
    asked = {"steps": 1, "tasks": TASKS, "limit": 2, "data": "sample"}
    plain = recipe(base, tmp_path / "plain", images, rows)
    curve = recipe(base, tmp_path / "curve", images, rows, evaluation=asked)
    train(plain)
    train(curve)
    one, other = (load_file(made.output / "model.safetensors") for made in (plain, curve))
    assert all(torch.equal(one[name], other[name]) for name in one)
    lines = (curve.output / "curve" / "responses-0000001.jsonl").read_text().splitlines()
    found = {(r["task"], r["doc_id"]): r["response"] for r in map(json.loads, lines)}
    run = api.evaluate(
        "verbalizer-lvlm",
        {"pretrained": curve.output, "dtype": "float32", "image": "white"},
        output=tmp_path / "run",
        tasks=TASKS,
        data="sample",
        limit=2,
        device="cpu",
        apply_chat_template=True,
        batch_size="auto",
    )
    assert found == {
        (task.task, sample.doc_id): sample.response
        for task in run.tasks
        for sample in run.samples(task.task)
    }
