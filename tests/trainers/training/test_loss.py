"""A step's loss and gradient by hand: the mean over tokens, or over micro-batches' means."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn.functional import cross_entropy

from tests.conftest import REPOSITORY
from verbalizer_bench.trainers import train
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.output.folder import OutputFolder
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.training.inputs import encoded_data, make_collator, sample_order

TINY = REPOSITORY / "recipes" / "tiny"


def by_hand(recipe: Recipe, over_tokens: bool) -> tuple[float, float]:
    """Return loss and norm of the gradient of the first step of two micro-batches."""
    checkpoint = load(recipe)
    data = encoded_data(recipe, checkpoint, recipe.data)
    order = sample_order(recipe, data.lengths, data.has_image).order()
    collate = make_collator(recipe, checkpoint)
    sums, counts = [], []
    for start in (0, 4):
        batch = collate([data.dataset[int(row)] for row in order[start : start + 4]])
        labels = batch.pop("labels")[:, 1:].flatten()
        logits = checkpoint.model(**batch).logits[:, :-1].flatten(0, 1)
        sums.append(cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
        counts.append(int((labels != -100).sum()))
    assert counts[0] != counts[1]
    means = [total / count for total, count in zip(sums, counts, strict=True)]
    loss = sum(sums) / sum(counts) if over_tokens else sum(means) / 2
    loss.backward()
    trained = [w for w in checkpoint.model.parameters() if w.requires_grad and w.grad is not None]
    norm = torch.stack([weight.grad.norm() for weight in trained]).norm()
    return float(loss.detach()), float(norm)


@pytest.mark.parametrize("loss", ["tokens", "micro_batches"])
def test_the_first_step_is_that_made_by_hand(loss: str, tmp_path: Path) -> None:
    words = [
        "model.path=null",
        f"model.config={TINY / 'llava'}",
        f"loss={loss}",
        "num_train_epochs=0.05",
        "warmup_ratio=0",
    ]
    words += [f"output={tmp_path / 'out'}", f"cache={tmp_path / 'cache'}"]
    recipe = read_recipe(TINY / "vit.yaml", words)
    train.train(recipe)
    with (tmp_path / "out" / "losses.csv").open() as file:
        (row,) = csv.DictReader(file)
    hand = by_hand(recipe, over_tokens=loss == "tokens")
    assert (float(row["loss"]), float(row["grad_norm"])) == pytest.approx(hand, rel=1e-5)
    other = by_hand(recipe, over_tokens=loss != "tokens")
    assert float(row["loss"]) != pytest.approx(other[0], rel=1e-4)


def test_a_llava_of_experts_trains_without_their_balance(tmp_path: Path) -> None:
    """Its output does not have what TRL makes that of."""
    folder = shutil.copytree(TINY / "llava", tmp_path / "llava")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"model_type": "mixtral", "num_local_experts": 2}
    config["text_config"].pop("architectures", None)
    (folder / "config.json").write_text(json.dumps(config))
    words = ["model.path=null", f"model.config={folder}", "trained_parameters=null"]
    words += [
        "num_train_epochs=0.05",
        "warmup_ratio=0",
        f"output={tmp_path / 'out'}",
        f"cache={tmp_path / 'c'}",
    ]
    recipe = read_recipe(TINY / "vit.yaml", words)
    train.train(recipe)
    with (tmp_path / "out" / "losses.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["loss"]) == pytest.approx(by_hand(recipe, over_tokens=True)[0], rel=1e-5)


@pytest.mark.parametrize("loss", ["tokens", "micro_batches"])
def test_a_run_goes_on_with_other_micro_batches_where_they_count_nothing(
    loss: str, tmp_path: Path
) -> None:
    words = [f"output={tmp_path / 'out'}", "resume=true", f"loss={loss}"]
    recipe = read_recipe(TINY / "sft.yaml", words)
    (tmp_path / "out" / "adapter").mkdir(parents=True)
    before = recipe.as_dict() | {"per_device_batch_size": 2}
    if loss == "tokens":
        # As recipes of before there was a choice have it.
        del before["loss"]
    (tmp_path / "out" / "recipe.yaml").write_text(yaml.safe_dump(before))
    if loss == "tokens":
        OutputFolder(recipe, main=True)
        return
    with pytest.raises(ValueError, match="it was started with per_device_batch_size=2, not 4"):
        OutputFolder(recipe, main=True)
