"""A batch without padding has the losses and gradients of the padded one; else it is refused."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig

from tests.helpers.families import Family, build
from tests.helpers.language_families import LANGUAGE_FAMILIES
from verbalizer_bench.trainers.choices import LossWeights
from verbalizer_bench.trainers.data.collator import IGNORED, Collator
from verbalizer_bench.trainers.data.flat_batch import FLAT_FAMILIES, check_flat, flat_batch

SHOWN = [family for family in LANGUAGE_FAMILIES if family.model_type in FLAT_FAMILIES]
PLAIN = Collator(None, 0, None, 0, None)
Batch = dict[str, torch.Tensor]


def rows(*lengths: int) -> list[dict[str, Any]]:
    """Return rows of some lengths; the first token of the second row is trained too."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for number, length in enumerate(lengths):
        ids = torch.randint(3, 100, (length,), generator=draw).tolist()
        mask = [number == 1 or place >= length // 2 for place in range(length)]
        found.append({"record": number, "input_ids": ids, "assistant_mask": mask})
    return found


def losses(model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss of each token that is predicted and trained, and the gradients of the sum."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    model.zero_grad()
    logits = model(**inputs, use_cache=False).logits[:, :-1].flatten(0, 1).float()
    labels = batch["labels"][:, 1:].flatten()
    found = torch.nn.functional.cross_entropy(
        logits, labels, ignore_index=IGNORED, reduction="none"
    )[labels != IGNORED]
    found.sum().backward()
    grads = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    return found.detach(), grads


def differences(model: Any, padded: Batch, flat: Batch) -> tuple[float, float]:
    """Return the largest difference of a loss, and of a gradient as a share of its largest."""
    (first, one), (second, other) = losses(model, padded), losses(model, flat)
    assert first.shape == second.shape and len(first) > 20
    assert one.keys() == other.keys()
    shares = [
        float((one[name] - other[name]).abs().max() / one[name].abs().max().clamp(min=1e-3))
        for name in one
    ]
    return float((first - second).abs().max()), max(shares)


def batches(collator: Collator, *lengths: int) -> tuple[Batch, Batch]:
    return collator(rows(*lengths)), flat_batch(collator(rows(*lengths)))


@pytest.mark.parametrize("family", SHOWN, ids=lambda family: family.name)
def test_a_familys_losses_and_gradients(family: Family) -> None:
    model = build(family)
    padded, flat = batches(PLAIN, 24, 9, 1, 17)
    assert flat["input_ids"].shape == (1, 51) and "attention_mask" not in flat
    loss, gradient = differences(model, padded, flat)
    assert loss < 1e-4 and gradient < 1e-3


def test_each_family_that_is_taken_is_shown() -> None:
    assert {family.model_type for family in SHOWN} == FLAT_FAMILIES


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_either_way_of_attention(model_type: str, attention: str) -> None:
    model = build(next(family for family in SHOWN if family.model_type == model_type))
    model.set_attn_implementation(attention)
    loss, gradient = differences(model, *batches(PLAIN, 24, 9, 1, 17))
    assert loss < 1e-4 and gradient < 1e-3


@pytest.mark.parametrize("model_type", ["mamba", "qwen3_next", "opt", "bloom"])
def test_the_comparison_tells_records_that_see_each_other(model_type: str) -> None:
    family = next(one for one in LANGUAGE_FAMILIES if one.model_type == model_type)
    assert differences(build(family), *batches(PLAIN, 24, 9, 1, 17))[0] > 0.1
    with pytest.raises(ValueError, match=f"packing: that a model of type {model_type} keeps"):
        check_flat(AutoConfig.for_model(model_type))


def test_a_model_that_sees_is_refused_by_its_own_type() -> None:
    with pytest.raises(ValueError, match=r"of type qwen2_5_vl keeps.*llava, mof_llava; leave"):
        check_flat(AutoConfig.for_model("qwen2_5_vl"))


def test_a_row_by_hand() -> None:
    """Positions begin again; what nothing predicts has neither label nor weight."""
    weighted = Collator(None, 0, None, 0, None, LossWeights(prompt=0.5))
    flat = flat_batch(weighted(rows(4, 2, 1)))
    assert flat["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 0]]
    ids = [token for row in rows(4, 2, 1) for token in row["input_ids"]]
    assert flat["input_ids"].tolist() == [ids]
    assert flat["labels"].tolist() == [[-100, -100, *ids[2:4], -100, ids[5], -100]]
    assert flat["loss_weights"].tolist() == [[0, 0.5, 1, 1, 0, 1, 0]]
