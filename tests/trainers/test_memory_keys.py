"""What saves memory and is not at hand is said in a line; how attention is computed is recorded."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.trainers import prerequisites
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import read_recipe

TINY = REPOSITORY / "recipes" / "tiny"
SFT, LORA = str(TINY / "sft.yaml"), str(TINY / "sft_lora.yaml")
FOUR_BITS = "quantization={load_in_4bit: true}"


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["train", *words]) == 2
    return capsys.readouterr().err


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "is_bitsandbytes_available", lambda: False)
    monkeypatch.setattr(prerequisites, "is_liger_kernel_available", lambda: False)
    monkeypatch.setattr(prerequisites, "_FLASH", dict.fromkeys(prerequisites._FLASH, lambda: False))


@pytest.mark.parametrize(
    ("recipe", "word", "said"),
    [
        (
            LORA,
            FOUR_BITS,
            "quantization: needs bitsandbytes; pip install bitsandbytes",
        ),
        (SFT, "optim=paged_adamw_8bit", "optim=paged_adamw_8bit: needs bitsandbytes; pip install"),
        (
            SFT,
            "attn_implementation=flash_attention_2",
            "attn_implementation=flash_attention_2: it is not installed, or there is no GPU",
        ),
        (SFT, "use_liger_kernel=true", "use_liger_kernel: needs liger-kernel; pip install it"),
    ],
)
def test_packages_that_are_missing(
    recipe: str,
    word: str,
    said: str,
    nothing_installed: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Training ends; a plan is made all the same, for the machine that has them."""
    assert said in fails(capsys, recipe, word, f"output={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()
    assert main(["train", recipe, word, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("MISSING") and said in line for line in lines)
    assert any(line.startswith("memory") for line in lines)


def test_liger_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prerequisites, "is_liger_kernel_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = [SFT, "use_liger_kernel=true", f"output={tmp_path / 'out'}"]
    assert "there is no GPU for its kernels; leave it out" in fails(capsys, *words)


@pytest.mark.parametrize("method", ["FSDP", "DEEPSPEED"])
def test_quantised_weights_are_not_spread(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{method}", "true")
    said = fails(capsys, LORA, FOUR_BITS, f"output={tmp_path / 'out'}")
    assert f"weights in few bits are not spread by {method}; start with torchrun" in said


@pytest.mark.parametrize("optim", ["adafactor", "adamw_8bit"])
def test_optimisers_of_whole_weights_are_not_used_on_spread_ones(
    optim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", SFT, f"optim={optim}", "--dry-run"]) == 0
    assert "on each of 8 (ZeRO-3): fits" in capsys.readouterr().out
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    said = fails(capsys, SFT, f"optim={optim}", f"output={tmp_path / 'out'}")
    assert f"optim={optim}: it does not work on weights that FSDP spreads; start with" in said


def test_weights_that_are_in_no_file_are_not_quantised(tmp_path: Path) -> None:
    recipe = read_recipe(LORA, [FOUR_BITS, f"output={tmp_path / 'out'}"])
    with pytest.raises(
        ValueError, match=r"quantised from files; give model\.path, or leave it out"
    ):
        load(recipe)


def test_a_base_that_is_quantised_already_is_refused(tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(TINY / "llama")
    config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    config.save_pretrained(tmp_path)
    words = ["model.config=null", f"model.path={tmp_path}", "trained_parameters=null"]
    with pytest.raises(ValueError, match="its weights are quantised already"):
        load(read_recipe(LORA, words))


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_attention_is_recorded_and_not_saved(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(TINY / "vit.yaml"), "model.path=null", f"model.config={TINY / 'llava'}"]
    words += [
        f"output={tmp_path / 'out'}",
        f"cache={tmp_path}",
        "num_train_epochs=0.08",
        "warmup_ratio=0",
    ]
    assert main(["train", *words, f"attn_implementation={name}"]) == 0
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["attn_implementation"] == name
    assert name not in (tmp_path / "out" / "config.json").read_text()
    recipe = read_recipe(tmp_path / "out" / "recipe.yaml")
    parts = [m for m in load(recipe).model.modules() if hasattr(m, "config")]
    used = {getattr(part.config, "_attn_implementation", name) for part in parts}
    assert used == {name}


def test_a_model_that_keeps_its_attention_is_refused(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "bloom", vocab_size=512, hidden_size=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2
    )
    config.save_pretrained(tmp_path)
    words = [f"model.config={tmp_path}", f"tokenizer={TINY / 'llama'}", "trained_parameters=null"]
    with pytest.raises(ValueError, match=r"attn_implementation=sdpa: .*; leave it out"):
        load(read_recipe(SFT, [*words, "attn_implementation=sdpa"]))
