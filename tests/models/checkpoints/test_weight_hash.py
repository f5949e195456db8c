"""The hash of a checkpoint: of what is stored, by name, whatever loads it and in whatever type."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256, weights_sha256

TENSORS = {
    "b": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    "a": torch.tensor([1.5], dtype=torch.bfloat16),
}


def test_by_hand(tmp_path: Path) -> None:
    """A line a tensor, sorted: name, type, shape, sha256 of its little-endian bytes."""
    save_file(TENSORS, tmp_path / "model.safetensors")
    bytes_a = hashlib.sha256(b"\xc0\x3f").hexdigest()
    bytes_b = hashlib.sha256(TENSORS["b"].numpy().tobytes()).hexdigest()
    text = f"a\tBF16\t[1]\t{bytes_a}\nb\tF32\t[2, 2]\t{bytes_b}\n"
    assert checkpoint_sha256(tmp_path) == hashlib.sha256(text.encode()).hexdigest()


def _sharded(folder: Path) -> None:
    for name, tensor in TENSORS.items():
        save_file({name: tensor}, folder / f"model-{name}.safetensors")
    index = {"weight_map": {name: f"model-{name}.safetensors" for name in TENSORS}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _old_pickle(folder: Path) -> None:
    torch.save(TENSORS, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def _beside_others(folder: Path) -> None:
    """Loading takes the first of these."""
    save_file(TENSORS, folder / "model.safetensors")
    torch.save({"c": torch.zeros(3)}, folder / "pytorch_model.bin")
    save_file({"d": torch.zeros(3)}, folder / "other.safetensors")


@pytest.mark.parametrize(
    "write",
    [
        _sharded,
        _old_pickle,
        _beside_others,
        lambda folder: torch.save(TENSORS, folder / "pytorch_model.bin"),
        lambda folder: save_file(
            dict(reversed(TENSORS.items())), folder / "model.safetensors", {"format": "pt"}
        ),
    ],
)
def test_neither_shards_nor_format_change_it(tmp_path: Path, write: Any) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    save_file(TENSORS, tmp_path / "one" / "model.safetensors")
    write(tmp_path / "other")
    assert checkpoint_sha256(tmp_path / "one") == checkpoint_sha256(tmp_path / "other")


@pytest.mark.parametrize(
    "changed",
    [
        {"b": TENSORS["b"]},
        {**TENSORS, "b": TENSORS["b"].T.contiguous()},
        {**TENSORS, "b": TENSORS["b"].flatten()},
        {**TENSORS, "b": TENSORS["b"].half()},
        {"b": TENSORS["b"], "c": TENSORS["a"]},
        {**TENSORS, "a": torch.tensor([1.5078125], dtype=torch.bfloat16)},
    ],
)
def test_every_change_shows(tmp_path: Path, changed: dict[str, torch.Tensor]) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    before = checkpoint_sha256(tmp_path)
    save_file(changed, tmp_path / "model.safetensors")
    assert checkpoint_sha256(tmp_path) != before


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    for damaged in (whole[:-1], whole[:20], b""):
        (tmp_path / "model.safetensors").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.safetensors: damaged: .*; copy or save"):
            checkpoint_sha256(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors.index.json", b"{}"),
        ("model.safetensors.index.json", b'{"weight_map": [1]}'),
        ("model.safetensors.index.json", b"\xff"),
        ("model.safetensors", (100_000).to_bytes(8, "little") + b"[" * 100_000),
        ("pytorch_model.bin", b"not torch's"),
        ("pytorch_model.bin", b""),
    ],
)
def test_whatever_is_damaged_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(name)}: damaged: .*; copy or save"):
        checkpoint_sha256(tmp_path)


def test_the_type_it_is_loaded_in_does_not_count(toys: tuple[Path, Path], tmp_path: Path) -> None:
    stored = checkpoint_sha256(toys[0])
    loaded = set()
    for dtype in ("float32", "bfloat16"):
        model = VerbalizerLLM(str(toys[0]), dtype=dtype, device="cpu")
        found = model.get_model_info()["verbalizer_bench"]["fingerprint"]
        assert (found["weights"], found["weights_kind"]) == (stored, "stored")
        loaded.add(found["weights_loaded"])
    assert len(loaded) == 2
    AutoModelForCausalLM.from_pretrained(toys[0]).save_pretrained(tmp_path, max_shard_size="100kB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert checkpoint_sha256(tmp_path) == stored


def test_a_lora_is_its_base_and_its_adapter(toys: tuple[Path, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(toys[0])
    get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM")).save_pretrained(tmp_path / "a")
    base = str(toys[0])
    found = weights_sha256(base, peft=str(tmp_path / "a"))
    assert len(found) == 64 and found != weights_sha256(base)
    file = tmp_path / "a" / "adapter_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "base_model_name_or_path": "elsewhere"}))
    assert weights_sha256(base, peft=str(tmp_path / "a")) == found
    file.write_text(json.dumps({**settings, "lora_alpha": 99}))
    assert weights_sha256(base, peft=str(tmp_path / "a")) != found


def test_what_has_no_files_is_unknown(toys: tuple[Path, Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(toys[0])
    assert weights_sha256(model) == "unknown: a model in memory"
    assert weights_sha256(str(tmp_path)) == "unknown: no files of weights"
    assert weights_sha256("org/never-loaded") == "unknown: no files of weights"
    assert weights_sha256(str(toys[0]), delta="org/delta") == "unknown: delta weights"
    assert weights_sha256(str(toys[0]), peft=str(tmp_path)) == "unknown: no files of the adapter"
