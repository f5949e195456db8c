"""Vision-language models with processors of their own: a step is that of a bare loop, and asked as
trained.

Families whose processor is there without torchvision are tested everywhere, those that read videos
without their half for videos; `make test-lmms` has torchvision, and tests all of them as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.helpers.family_training import (
    RECORDS,
    BareLoop,
    Turn,
    as_pair,
    as_row,
    first_loss,
    recipe,
    write_images,
)
from tests.helpers.image_training_table import row
from tests.helpers.other_processors import OTHER_PROCESSORS
from tests.helpers.own_processors import (
    OWN_PROCESSORS,
    TORCHVISION,
    ProcessorFamily,
    without_videos,
)
from tests.helpers.processors import save
from verbalizer_bench.io.conversations import conversation
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.train import train
from verbalizer_bench.trainers.training.inputs import checkpoint_encoder

HERE = tuple(one for one in OWN_PROCESSORS if TORCHVISION or not one.needs_torchvision)
TABLE = Path(__file__).parents[2] / "docs" / "families.md"
# The others are much like one of these.
FIRST = ("llava_next", "llava_onevision", "qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm", "gemma3")
# A grid of patches, tiles, and image tokens that see each other.
KINDS = ("qwen2_5_vl", "smolvlm", "gemma3")
REFUSED = tuple(one.make.__name__ for one in OTHER_PROCESSORS if one.refusal)


def families(these: Sequence[ProcessorFamily], default: Sequence[str]) -> pytest.MarkDecorator:
    """Parametrize a test by families, of which some are tested by default."""
    slow = {one.make.__name__: pytest.mark.slow for one in these}
    slow = {name: mark for name, mark in slow.items() if name not in default}
    values = [
        pytest.param(one, marks=slow.get(one.make.__name__, ()), id=one.make.__name__)
        for one in these
    ]
    return pytest.mark.parametrize("family", values)


@pytest.fixture(scope="module", autouse=True)
def _processors() -> Iterator[None]:
    with without_videos():
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def trained_prompts(made: Recipe) -> list[list[int]]:
    """Return the ids before the last answer of each record, as a checkpoint's training has them."""
    encoder: Any = checkpoint_encoder(made, load(made))[0]
    prompts = []
    for number, turns in enumerate(RECORDS):
        (record,) = conversation(number, as_row(turns))
        ids, mask = encoder.whole(record._replace(last_only=True))
        prompts.append(ids[: mask.index(True)])
    return prompts


def asked_prompts(folder: Path, images: Path) -> list[list[int]]:
    """Return the ids with which the adapter asks a saved checkpoint for each last answer."""
    settings = {"dtype": "float32", "device": "cpu", "engine": "generate", "max_images": 9}
    lm = VerbalizerLVLM(str(folder), **settings, image="none")
    return [asked(lm, turns[:-1], images) for turns in RECORDS]


def asked(lm: VerbalizerLVLM, turns: tuple[Turn, ...], images: Path) -> list[int]:
    history = [
        {"role": role, "content": "<image>" * len(names) + text} for role, text, names in turns
    ]
    shown = [Image.open(images / name) for _, _, names in turns for name in names]
    arguments: tuple[Any, ...] = (lm.apply_chat_template(history), {})
    arguments += ({"visual": shown},) if shown else ()
    request = Instance("generate_until", doc={}, arguments=arguments, idx=0)
    prompt = lm._prompt(request, 15)
    ids = lm._model_inputs([prompt], "right")["input_ids"][0].tolist()
    assert ids == prompt.ids
    return ids


def check_weights(made: Recipe, before: dict[str, torch.Tensor], bare: BareLoop) -> None:
    """Hold that a training changed what the bare loop did, alike, and the vision tower not."""
    after = AutoModelForImageTextToText.from_pretrained(made.output).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    for name in changed:
        torch.testing.assert_close(after[name], bare.model.state_dict()[name], rtol=1e-4, atol=1e-6)
    frozen = set(before) - changed
    assert all("vision" in name or "visual" in name for name in frozen), frozen
    assert not any(part in name for name in changed for part in (".encoder.", ".blocks.")), changed


@families(HERE, FIRST)
def test_a_step_is_that_of_a_bare_loop_and_asked_as_trained(
    family: ProcessorFamily, images: Path, tmp_path: Path
) -> None:
    check_step(family, images, tmp_path)


def check_step(family: ProcessorFamily, images: Path, folder: Path) -> None:
    base = folder / "base"
    save(family.make, base)
    rows = [as_row(turns) for turns in RECORDS]
    size = family.batch or len(rows)
    made = recipe(base, folder / "out", images, rows, per_device_batch_size=size)
    train(made)
    bare = BareLoop(family, base, images)
    before = {name: weight.clone() for name, weight in bare.model.state_dict().items()}
    loss = bare.step(RECORDS, made.learning_rate)
    assert first_loss(made.output) == pytest.approx(loss, rel=1e-6)
    check_weights(made, before, bare)
    AutoProcessor.from_pretrained(made.output)
    assert asked_prompts(made.output, images) == trained_prompts(made)
    assert row(family) in TABLE.read_text(encoding="utf-8").splitlines()


@families(OTHER_PROCESSORS, REFUSED)
def test_other_families_are_trained_alike_or_refused(
    family: ProcessorFamily, images: Path, tmp_path: Path
) -> None:
    if family.refusal is None:
        check_step(family, images, tmp_path)
        return
    save(family.make, tmp_path / "base")
    made = recipe(tmp_path / "base", tmp_path / "out", images, [as_row(RECORDS[0])])
    with pytest.raises(ValueError, match=family.refusal) as caught:
        train(made)
    assert "\n" not in str(caught.value)
    assert row(family) in TABLE.read_text(encoding="utf-8").splitlines()


@families(HERE, KINDS)
def test_a_step_on_pairs_is_that_of_a_bare_loop(
    family: ProcessorFamily, images: Path, tmp_path: Path
) -> None:
    base, pairs = tmp_path / "base", [(RECORDS[n], f"Never {n}, I think") for n in (0, 1, 2, 4)]
    save(family.make, base)
    rows = [as_pair(number, *pair) for number, pair in enumerate(pairs)]
    made = recipe(base, tmp_path / "out", images, rows, method="dpo", per_device_batch_size=2)
    train(made)
    bare = BareLoop(family, base, images)
    before = {name: weight.clone() for name, weight in bare.model.state_dict().items()}
    loss = bare.preference_step(pairs, 0.1, made.learning_rate)
    assert first_loss(made.output) == pytest.approx(loss, rel=1e-5)
    check_weights(made, before, bare)


def test_what_a_recipe_cannot_ask_of_another_family(images: Path, tmp_path: Path) -> None:
    save(OWN_PROCESSORS[0].make, tmp_path / "base")
    rows = [as_row(RECORDS[0])]
    for key, value, message in (
        ("format", "vicuna-v1", "a llava_next model is trained with its own chat template"),
        ("image_aspect_ratio", "pad", "is trained with its own image processor"),
        ("method", "pretrain", "does not train a llava_next model"),
    ):
        changes = {key: value} | ({"format": "plain"} if value == "pretrain" else {})
        made = recipe(tmp_path / "base", tmp_path / "out", images, rows, **changes)
        with pytest.raises(ValueError, match=message):
            load(made)
    of_text = replace(recipe(tmp_path / "base", tmp_path / "out", images, rows), images=None)
    with pytest.raises(ValueError, match="method=sft does not train a llava_next model; give a te"):
        load(replace(of_text, method="sft"))


def test_a_batch_of_a_model_with_cross_attention_is_one_record(
    images: Path, tmp_path: Path
) -> None:
    (family,) = (one for one in OTHER_PROCESSORS if one.batch)
    save(family.make, tmp_path / "base")
    rows = [as_row(turns) for turns in RECORDS]
    with pytest.raises(ValueError, match="per_device_batch_size=6: in a batch of a mllama"):
        load(recipe(tmp_path / "base", tmp_path / "out", images, rows))
