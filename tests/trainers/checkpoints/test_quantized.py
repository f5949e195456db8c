"""QLoRA with bitsandbytes, on a CPU: the loss of a bare loop, and what is written of it."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available

from tests.conftest import REPOSITORY
from tests.helpers.family_training import RECORDS, as_row, recipe, write_images
from tests.helpers.own_processors import (
    OWN_PROCESSORS,
    TORCHVISION,
    ProcessorFamily,
    without_videos,
)
from tests.helpers.processors import save
from tests.helpers.training_records import conversation, write
from verbalizer_bench.cli import main
from verbalizer_bench.models.checkpoints.model_parts import LANGUAGE_MODEL, parameter_parts
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.checkpoints.trainable import count_parameters
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.train import train as training
from verbalizer_bench.trainers.training.inputs import encoded_data, make_collator, sample_order

TINY = REPOSITORY / "recipes" / "tiny"
HERE = is_bitsandbytes_available()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERE, reason="needs bitsandbytes: pip install -e '.[qlora]'"),
]
NF4 = "quantization={load_in_4bit: true}"
DOUBLE = "quantization={load_in_4bit: true, bnb_4bit_use_double_quant: true}"
FP4 = "quantization={load_in_4bit: true, bnb_4bit_quant_type: fp4}"
INT8 = "quantization={load_in_8bit: true}"
CONNECTOR, TOWER = "multi_modal_projector.linear_1", "vision_tower"
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a text model and a LLaVA in bfloat16 and float32."""
    folder = tmp_path_factory.mktemp("bases")
    for name, tiny in (("sft_lora", "sft"), ("vit_lora", "pretrain")):
        found = load(read_recipe(TINY / f"{tiny}.yaml"))
        kept = torch.bfloat16 if name == "vit_lora" else torch.float32
        found.model.to(kept).save_pretrained(folder / name)
        found.processor.save_pretrained(folder / name)
    return {name: folder / name for name in ("sft_lora", "vit_lora")}


@pytest.fixture(scope="module")
def train(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Train:
    root = tmp_path_factory.mktemp("trained")
    count = iter(range(100))

    def run(name: str, *words: str) -> Path:
        folder = root / str(next(count))
        words = (*command(name, bases, root), f"output={folder}", *words)
        assert main(["train", str(TINY / f"{name}.yaml"), *words]) == 0
        return folder

    return run


def command(name: str, bases: dict[str, Path], root: Path) -> tuple[str, ...]:
    words = (f"model.path={bases[name]}", "model.config=null", "trained_parameters=null")
    return (*words, f"cache={root / 'cache'}", "num_train_epochs=0.34", "warmup_ratio=0")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open() as file:
        return list(csv.DictReader(file))


def quantized_alone(place: Path, settings: dict[str, Any]) -> Any:
    """Return the model as plain transformers quantises it, but for the output layer."""
    config = BitsAndBytesConfig(**settings, llm_int8_skip_modules=["lm_head"])
    model = AutoModelForCausalLM.from_pretrained(
        place, quantization_config=config, dtype=torch.float32
    )
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


@pytest.mark.parametrize("setting", [NF4, DOUBLE, FP4, INT8])
def test_two_steps_are_those_of_a_bare_loop(
    setting: str, bases: dict[str, Path], train: Train, tmp_path: Path
) -> None:
    """Loss and gradient of PEFT and bitsandbytes alone, with torch's AdamW, in float32."""
    words = [setting, "learning_rate=1e-2", "lr_scheduler_type=constant"]
    folder = train("sft_lora", *words)
    recipe = read_recipe(folder / "recipe.yaml", [f"output={tmp_path / 'x'}"])
    checkpoint = load(recipe)
    assert recipe.quantization
    base = quantized_alone(bases["sft_lora"], vars(recipe.quantization))
    torch.manual_seed(recipe.seed)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=layers))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        # Random at the start: TRL's rounding of them changes nothing else.
        weight.data = weight.data.bfloat16().float()
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0)
    data = encoded_data(recipe, checkpoint, recipe.data)
    order = sample_order(recipe, data.lengths, data.has_image).order()
    collate = make_collator(recipe, checkpoint)
    for step, row in enumerate(rows(folder)[:2]):
        batch = collate([data.dataset[int(one)] for one in order[8 * step : 8 * step + 8]])
        labels = batch.pop("labels")[:, 1:].flatten()
        logits = model(**batch).logits[:, :-1].flatten(0, 1)
        loss = cross_entropy(logits, labels, ignore_index=-100)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        found = float(row["loss"]), float(row["grad_norm"])
        # 8 bits multiply in float16, whose rounding depends on the rows beside.
        near = 3e-3 if setting is INT8 else 1e-5
        assert found == pytest.approx((float(loss.detach()), float(norm)), rel=near)


@pytest.mark.parametrize("setting", [NF4, INT8])
@pytest.mark.parametrize("name", ["sft_lora", "vit_lora"])
def test_the_merged_checkpoint_is_the_unquantised_base_and_the_adapter(
    name: str, setting: str, bases: dict[str, Path], train: Train
) -> None:
    folder = train(name, setting, "learning_rate=0.05", "precision=bf16")
    before, after = (load_file(p / "model.safetensors") for p in (bases[name], folder))
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert all(after[key].dtype == before[key].dtype for key in before)
    assert all(weight.dtype == torch.float32 for weight in adapter.values())
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    down = {key: weight for key, weight in adapter.items() if "lora_A" in key}
    merged = {}
    for key, weight in down.items():
        module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        file = next(k for k in before if ending(k) == ending(f"{module}.weight"))
        update = 2 * adapter[key.replace("lora_A", "lora_B")] @ weight
        merged[file] = (before[file].float() + update).to(before[file].dtype)
    connector = {key for key in before if CONNECTOR in key}
    assert changed == set(merged) | connector and bool(connector) == (name == "vit_lora")
    for key, wanted in merged.items():
        torch.testing.assert_close(after[key], wanted, rtol=0, atol=1e-6)
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config and "attn_implementation" not in str(config)
    record = json.loads((folder / "training.json").read_text())
    assert record["quantization"]["quantized_layers"] == 14
    card = (folder / "README.md").read_text()
    assert "The adapter was trained on a base with 14 linear layers" in card
    assert "the unquantised base's with the adapter added" in card


def ending(name: str) -> str:
    """Return a layer's name from its number on, which a LLaVA's file begins otherwise."""
    return name.partition("layers.")[2] if TOWER not in name else name


def test_what_is_quantised_and_what_is_not(bases: dict[str, Path], tmp_path: Path) -> None:
    words = [*command("vit_lora", bases, tmp_path), NF4, "precision=bf16"]
    recipe = read_recipe(TINY / "vit_lora.yaml", words)
    model = load(recipe).model
    bits = {name for name, w in model.named_parameters() if not w.is_floating_point()}
    assert len(bits) == 14
    assert all("language_model.layers" in name and "_proj.weight" in name for name in bits)
    dtypes = {name: w.dtype for name, w in model.named_parameters() if name not in bits}
    assert {dtypes[n] for n in dtypes if "linear_1" in n} == {torch.float32}
    assert {dtypes[n] for n in dtypes if "linear_1" not in n} == {torch.bfloat16}
    plain = read_recipe(TINY / "vit_lora.yaml", words[:-2])
    assert count_parameters(model, recipe) == count_parameters(load(plain).model, plain)


def test_held_out_and_resumed(train: Train, bases: dict[str, Path], tmp_path: Path) -> None:
    """A run that was cut in two gives the adapter of one that was not."""
    held = write(tmp_path / "held.jsonl", *(conversation("Who?", f"{n}") for n in range(5)))
    whole = train("sft_lora", DOUBLE, f"held_out={held}", "save_steps=2", "num_train_epochs=0.5")
    record = json.loads((whole / "training.json").read_text())
    assert 0 < record["held_out"]["loss"] < 20
    words = command("sft_lora", bases, whole.parent)
    cut = tmp_path / "cut"
    again = [f"output={cut}", DOUBLE, f"held_out={held}", "save_steps=2", "num_train_epochs=0.5"]
    assert main(["train", str(TINY / "sft_lora.yaml"), *words, *again]) == 0
    record = json.loads((cut / "training.json").read_text())
    (cut / "training.json").write_text(
        json.dumps({k: v for k, v in record.items() if k != "seconds"})
    )
    for state in sorted((cut / "state").glob("checkpoint-*"))[1:]:
        for file in sorted(state.rglob("*"), reverse=True):
            file.unlink()
        state.rmdir()
    assert main(["train", str(TINY / "sft_lora.yaml"), *words, *again, "resume=true"]) == 0
    first, second = (
        load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (whole, cut)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pairs_begin_at_the_quantised_base(
    bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their reference is the base in few bits: TRL's margin of the first step is 0."""
    words = [*command("sft_lora", bases, tmp_path), f"output={tmp_path / 'out'}", NF4]
    words += ["lora={r: 8, alpha: 16}", f"data={TINY / 'data' / 'pairs_text.jsonl'}"]
    words += ["images=null", "format=llama-2", "max_length=128"]
    assert main(["train", str(TINY / "dpo.yaml"), *words]) == 0, capsys.readouterr().err
    first = rows(tmp_path / "out")[0]
    assert float(first["loss"]) == pytest.approx(0.6931472, abs=1e-5)


@pytest.mark.parametrize(
    "family",
    [one for one in OWN_PROCESSORS if TORCHVISION or not one.needs_torchvision],
    ids=lambda family: family.make.__name__,
)
def test_other_families_that_see(family: ProcessorFamily, tmp_path: Path) -> None:
    """The language model's layers alone are in few bits; what is not trained is the base's."""
    with without_videos():
        base, images = tmp_path / "base", write_images(tmp_path / "images")
        save(family.make, base)
        made = recipe(
            *(base, tmp_path / "out", images, [as_row(turns) for turns in RECORDS]),
            lora={"r": 4, "alpha": 8},
            quantization={"load_in_4bit": True},
        )
        model = load(made).model
        parts = parameter_parts(model)
        bits = {name for name, weight in model.named_parameters() if weight.dtype == torch.uint8}
        assert bits and {parts[name] for name in bits} == {LANGUAGE_MODEL}
        assert not any(name.startswith("lm_head") for name in bits)
        plain = replace(made, quantization=None)
        assert count_parameters(model, made) == count_parameters(load(plain).model, plain)
        training(made)
    before, after = (load_file(place / "model.safetensors") for place in (base, made.output))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and 0 < len(changed) < len(before)
    assert not any("vision" in name and "merger" not in name for name in changed)


def test_the_adapter_loads_on_the_quantised_base(train: Train, bases: dict[str, Path]) -> None:
    folder = train("sft_lora", NF4, "learning_rate=0.05")
    base = quantized_alone(bases["sft_lora"], {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    model = PeftModel.from_pretrained(base, folder / "adapter").eval()
    ids = torch.arange(4, 20)[None]
    with torch.no_grad():
        here = model(input_ids=ids).logits
        with model.disable_adapter():
            without = model(input_ids=ids).logits
    assert not torch.equal(here, without)
