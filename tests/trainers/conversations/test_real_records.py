"""From parts to a score on real images: compose, align, tune, load without us, evaluate."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from tests.conftest import SHARED
from verbalizer_bench.cli import main

LOAD = """
import sys, torch
from transformers import AutoProcessor, LlavaForConditionalGeneration
from PIL import Image
folder = sys.argv[1]
model = LlavaForConditionalGeneration.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
turns = [{"role": "user", "content": content}]
text = processor.apply_chat_template(turns, add_generation_prompt=True)
image = Image.new("RGB", (32, 32))
inputs = processor(text=text, images=image, return_tensors="pt", add_special_tokens=False)
tokens = model.generate(**inputs, max_new_tokens=4)
layer = model.model.multi_modal_projector.linear_2
assert torch.equal(layer.weight, torch.eye(len(layer.weight))) and not layer.bias.any()
assert "verbalizer_bench" not in sys.modules
print(tokens.shape[1] - inputs["input_ids"].shape[1])
"""


@pytest.fixture(scope="module")
def llava_data() -> Path:
    folder = SHARED / "data" / "llava"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def captions(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "llava_bench_in_the_wild" / "context.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        {
            "id": row["id"],
            "image": f"llava_bench_in_the_wild/images/{row['image']}",
            "conversations": [
                {"from": "human", "value": "What is in the photo?\n<image>"},
                {"from": "gpt", "value": row["caption"]},
            ],
        }
        for row in rows
    ]


def write_recipe(file: Path, **keys: Any) -> Path:
    common = {
        "max_length": 480,
        "global_batch_size": 6,
        "per_device_batch_size": 3,
        "precision": "fp32",
        "cache": str(file.parent / "cache"),
        "gradient_checkpointing": False,
    }
    file.write_text(yaml.safe_dump(common | keys))
    return file


def losses(folder: Path) -> list[float]:
    with (folder / "losses.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_thirty_real_records(
    llava_data: Path, stories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    # With some random towers the loss falls by less than is asserted.
    torch.manual_seed(0)
    CLIPVisionModel(vision).save_pretrained(tmp_path / "tower")
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(tmp_path / "tower")
    composed, aligned, tuned = (tmp_path / name for name in ("composed", "aligned", "tuned"))
    assert not main(
        ["compose", "--vision-tower", str(tmp_path / "tower"), "--llm", str(stories)]
        + ["--connector", "linear", "--format", "llama-2", "-o", str(composed)]
    )
    records = captions(llava_data)
    (tmp_path / "captions.json").write_text(json.dumps(records))
    demo = json.loads((llava_data / "llamafactory_mllm_demo.json").read_text())
    (tmp_path / "all.json").write_text(json.dumps(records + demo))
    # Demo records name their images from the folder itself.
    pretrain = write_recipe(
        tmp_path / "pretrain.yaml",
        method="pretrain",
        format="plain",
        output=str(aligned),
        model={"path": str(composed)},
        data=str(tmp_path / "captions.json"),
        images=str(llava_data),
        num_train_epochs=6,
        learning_rate=2e-2,
    )
    vit = write_recipe(
        tmp_path / "vit.yaml",
        method="vit",
        format="llama-2",
        output=str(tuned),
        model={"path": str(aligned)},
        data=str(tmp_path / "all.json"),
        images=str(llava_data),
        num_train_epochs=6,
        learning_rate=2e-3,
    )
    for recipe, folder in ((pretrain, aligned), (vit, tuned)):
        assert not main(["train", str(recipe)])
        found = losses(folder)
        epoch = len(found) // 6
        assert sum(found[-epoch:]) < 0.9 * sum(found[:epoch]), found
    assert json.loads((tuned / "training.json").read_text())["records"] == 30
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD, str(tuned)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 1 <= int(done.stdout) <= 4
    capsys.readouterr()
    assert not main(
        ["run", "--model", "verbalizer-lvlm", "--model_args", f"pretrained={tuned},dtype=float32"]
        + ["--tasks", "verbalizer_sst2", "--data", "sample", "--limit", "1", "--device", "cpu"]
        + ["--apply_chat_template", "--output_path", str(tmp_path / "out")]
    )
    assert "\ntuned, protocol toy, partial (" in capsys.readouterr().out
