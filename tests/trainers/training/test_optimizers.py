"""Optimisers by transformers' names: the connector's own rate, resumption, what they keep."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments
from transformers.utils import is_bitsandbytes_available

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.trainers.optimizers import OPTIMIZERS, state_bytes

TINY = REPOSITORY / "recipes" / "tiny"
CONNECTOR = "multi_modal_projector.linear_1"
BITSANDBYTES = pytest.mark.skipif(
    not is_bitsandbytes_available(), reason="needs bitsandbytes: pip install -e '.[qlora]'"
)


def marked(names: list[str]) -> list[object]:
    """Return optimisers as parameters; those of bitsandbytes are skipped where it is not."""
    return [
        pytest.param(name, marks=BITSANDBYTES) if OPTIMIZERS[name].package else name
        for name in names
    ]


@pytest.mark.parametrize(
    "optim", marked(["adafactor", "adamw_8bit", "paged_adamw_32bit", "lion_8bit"])
)
def test_a_connectors_rate_and_resumption(optim: str, tmp_path: Path) -> None:
    """The connector, at a rate of next to nothing, stays; a run that was cut in two is the same."""
    out = tmp_path / "out"
    words = [str(TINY / "vit.yaml"), "model.path=null", f"model.config={TINY / 'llava'}"]
    words += [f"output={out}", f"cache={tmp_path / 'cache'}", f"optim={optim}", "warmup_ratio=0"]
    words += ["connector_learning_rate=1e-12", "save_steps=1", "num_train_epochs=0.16"]
    assert main(["train", *words]) == 0
    first = load_file(out / "model.safetensors")
    begin = out / "state" / "checkpoint-1"
    states = sorted((out / "state").glob("checkpoint-*"))
    assert begin in states and len(states) == 2
    kept = load_file(begin / "model.safetensors")
    moved = {name: float((first[name] - kept[name]).abs().max()) for name in first}
    assert all(moved[name] < 1e-9 for name in moved if CONNECTOR in name)
    assert moved["lm_head.weight" if "lm_head.weight" in moved else "language_model.lm_head.weight"]
    shutil.rmtree(states[1])
    record = json.loads((out / "training.json").read_text())
    record.pop("seconds")
    (out / "training.json").write_text(json.dumps(record))
    assert main(["train", *words, "resume=true"]) == 0
    again = load_file(out / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("optim", marked(list(OPTIMIZERS)))
def test_what_an_optimiser_keeps(optim: str, tmp_path: Path) -> None:
    model = torch.nn.ModuleDict(
        {
            "words": torch.nn.Embedding(64, 128),
            "wide": torch.nn.Linear(256, 512),
            "small": torch.nn.Linear(16, 16),
        }
    )
    arguments = TrainingArguments(str(tmp_path), optim=optim, use_cpu=True, report_to=[])
    optimizer = Trainer(model, arguments).create_optimizer()
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    shapes = [(w.shape, name == "words.weight") for name, w in model.named_parameters()]
    kept = sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for name, value in state.items()
        # A table of 256 values, the same for all; counters.
        if torch.is_tensor(value) and "qmap" not in name and value.dim()
    )
    assert kept == pytest.approx(state_bytes(optim, shapes), rel=1e-3)
