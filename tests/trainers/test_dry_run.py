"""`--dry-run`: counts of true shapes without a weight, and what it says of what is missing."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, CLIPVisionConfig, LlamaConfig

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.models.llava import join_configs
from verbalizer_bench.trainers.checkpoint import count, load, load_shapes
from verbalizer_bench.trainers.dry_run import memory
from verbalizer_bench.trainers.recipe import read_recipe

TINY = REPOSITORY / "recipes" / "tiny"
PAPER = sorted((REPOSITORY / "recipes" / "paper").glob("*.yaml"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders with nothing but the configurations of the paper's models."""
    folder = tmp_path_factory.mktemp("shapes")
    llama = LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        tie_word_embeddings=False,
    )
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
    )
    llama.save_pretrained(folder / "sft")
    join_configs(vision, llama, "linear", 32000, 32001).save_pretrained(folder / "llava")
    return {"sft": folder / "sft", "pretrain": folder / "llava", "vit": folder / "llava"}


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_papers_recipes(
    path: Path, shapes: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = read_recipe(path)
    assert recipe.trained_parameters
    data = {"sft": "text.jsonl", "pretrain": "captions.json", "vit": "instruct.json"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words = [f"model.config={shapes[recipe.method]}", f"data={TINY / 'data' / data[recipe.method]}"]
    assert main(["train", str(path), "--dry-run", f"tokenizer={TINY / 'llava'}", *words]) == 0
    text = capsys.readouterr().out
    assert f"{recipe.trained_parameters:,} trained" in text
    assert f"{TINY / 'llava'}, " in text and "a stand-in" in text
    assert "First sample; the loss is on what stands between ⟦ and ⟧" in text and "NOT" not in text
    # 27 GB of weights are not allocated.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_what_is_not_at_hand_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "paper/llm_foit", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12].strip() for line in lines] == ["method", "MISSING", "model", "tokenizer"]
    assert "data=data/foit.json: no such file; give" in lines[1]
    assert all("NOT RESOLVED, left out of what follows" in line for line in lines[2:])


@pytest.mark.parametrize("name", ["pretrain", "sft", "sft_lora"])
def test_counts_are_those_of_training(name: str) -> None:
    recipe = read_recipe(TINY / f"{name}.yaml")
    checkpoint = load(recipe)
    model: Any = checkpoint.model
    if recipe.lora:
        from peft import get_peft_model

        from verbalizer_bench.trainers.checkpoint import lora_config

        model = get_peft_model(model, lora_config(model, recipe))
    trained = sum(w.numel() for w in model.parameters() if w.requires_grad)
    frozen = sum(w.numel() for w in model.parameters() if not w.requires_grad)
    assert count(load_shapes(recipe), recipe) == (trained, frozen)


def test_a_sample_shows_what_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((TINY / "data" / "captions.json").read_text())[0]
    caption = record["conversations"][1]["value"]
    assert main(["train", str(TINY / "pretrain.yaml"), "--dry-run"]) == 0
    shown = capsys.readouterr().out.split("⟧:\n")[1]
    assert shown == f"<s><image x 16>⟦{caption}\n⟧\n"


def test_memory_by_hand() -> None:
    recipe = read_recipe(TINY / "sft.yaml")
    model = load_shapes(recipe)
    config = AutoConfig.from_pretrained(TINY / "llama")
    parts = memory(recipe, model, longest=50)
    weights = sum(w.numel() for w in model.parameters())
    assert parts["weights"] == parts["gradients"] == pytest.approx(4 * weights / 2**30)
    assert parts["optimizer"] == pytest.approx(8 * weights / 2**30)
    layer = recipe.device_batch * 50 * (18 * config.hidden_size + 3 * config.intermediate_size)
    kept = recipe.device_batch * 50 * config.hidden_size
    layers = config.num_hidden_layers
    kept = kept if recipe.gradient_checkpointing else layer
    assert parts["activations"] == pytest.approx(4 * (kept * layers + layer) / 2**30)
    assert all(weight.is_meta for weight in model.parameters())
