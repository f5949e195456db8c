"""What is written after training: frozen weights bit for bit, an adapter merged without loss."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    CLIPVisionModel,
    MixtralConfig,
    MixtralForCausalLM,
)

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.trainers.checkpoints.dtypes import merge_adapter, stored_dtypes
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import read_recipe

TINY = REPOSITORY / "recipes" / "tiny"
CONNECTOR, TOWER = "multi_modal_projector.linear_1", "vision_tower"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one LLaVA in several types; `mixed` has its tower in float32, the rest in bfloat16."""
    folder = tmp_path_factory.mktemp("bases")
    found = load(read_recipe(TINY / "pretrain.yaml"))
    places = {}
    for name, dtype in (
        ("float32", torch.float32),
        ("float16", torch.float16),
        ("bfloat16", torch.bfloat16),
        ("mixed", torch.bfloat16),
    ):
        places[name] = folder / name
        tensors = {k: v.to(dtype) for k, v in found.model.state_dict().items()}
        model = AutoModelForImageTextToText.from_config(found.model.config, dtype=dtype)
        model.load_state_dict(tensors)
        model.save_pretrained(folder / name)
        found.processor.save_pretrained(folder / name)
    file = places["mixed"] / "model.safetensors"
    whole = load_file(places["float32"] / "model.safetensors")
    mixed = {k: whole[k] if TOWER in k else v for k, v in load_file(file).items()}
    save_file(mixed, file, {"format": "pt"})
    return places


Train = Callable[..., Path]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Return what trains a tiny recipe in bfloat16 for two steps and returns its folder."""
    root = tmp_path_factory.mktemp("trained")
    count = iter(range(100))

    def run(name: str, *words: str) -> Path:
        folder = root / str(next(count))
        steps = "num_train_epochs=0.25" if name == "pretrain" else "num_train_epochs=0.17"
        words = (f"output={folder}", f"cache={root / 'cache'}", "precision=bf16", steps, *words)
        words += ("model.config=null", "trained_parameters=null")
        assert main(["train", str(TINY / f"{name}.yaml"), *words]) == 0
        return folder

    return run


def weights(folder: Path) -> Tensors:
    return load_file(folder / "model.safetensors")


def assert_frozen(before: Tensors, after: Tensors, trained: Callable[[str], bool]) -> None:
    """Assert that all types are the base's, all frozen bits too, and that the rest was trained."""
    assert before.keys() == after.keys()
    assert {k: v.dtype for k, v in before.items()} == {k: v.dtype for k, v in after.items()}
    same = {
        k for k in before if torch.equal(before[k].view(torch.uint8), after[k].view(torch.uint8))
    }
    assert same == {k for k in before if not trained(k)}


def adapted(name: str) -> bool:
    linear = any(f".{layer}_proj." in name for layer in ("q", "k", "v", "o", "gate", "up", "down"))
    return CONNECTOR in name or (linear and TOWER not in name)


@pytest.mark.parametrize("base", ["float16", "float32", "bfloat16", "mixed"])
@pytest.mark.parametrize("name", ["pretrain", "vit_lora", "vit"])
def test_frozen_weights_are_those_of_the_base(
    bases: dict[str, Path], train: Train, name: str, base: str
) -> None:
    trained: dict[str, Callable[[str], bool]] = {
        "pretrain": lambda key: CONNECTOR in key,
        "vit_lora": adapted,
        "vit": lambda key: TOWER not in key and "linear_2" not in key,
    }
    # So far that every type shows it: bfloat16 has 8 bits.
    folder = train(name, f"model.path={bases[base]}", "learning_rate=0.1")
    assert_frozen(weights(bases[base]), weights(folder), trained[name])
    configs = [AutoConfig.from_pretrained(place) for place in (bases[base], folder)]
    assert configs[0].dtype == configs[1].dtype


def test_parts_keep_their_own_types(bases: dict[str, Path], train: Train, tmp_path: Path) -> None:
    """A language model in float16 and a tower in float32, as paper/connector.yaml has them."""
    assert main(["extract-llm", str(bases["float16"]), "-o", str(tmp_path / "llm")]) == 0
    llava = AutoModelForImageTextToText.from_pretrained(bases["float32"])
    CLIPVisionModel(llava.config.vision_config).save_pretrained(tmp_path / "tower")
    tower = load_file(tmp_path / "tower" / "model.safetensors")
    processor = json.loads((TINY / "llava" / "processor_config.json").read_text())
    (tmp_path / "tower" / "preprocessor_config.json").write_text(
        json.dumps(processor["image_processor"])
    )
    words = [f"model.llm={tmp_path / 'llm'}", f"model.vision_tower={tmp_path / 'tower'}"]
    after = weights(train("pretrain", *words, "model.connector=linear"))
    llm = load_file(tmp_path / "llm" / "model.safetensors")
    kinds = {key: after[key].dtype for key in after if CONNECTOR not in key}
    for key, kind in kinds.items():
        assert kind == (torch.float32 if TOWER in key else torch.float16), key
    ends = {key.split("vision_tower.")[-1]: key for key in after if TOWER in key}
    assert all(torch.equal(after[ends[k.split("vision_model.")[-1]]], v) for k, v in tower.items())
    layers = [key for key in llm if ".layers." in key]
    found = {key.split(".layers.")[-1]: key for key in after if TOWER not in key}
    assert layers and all(
        torch.equal(after[found[k.split(".layers.")[-1]]], llm[k]) for k in layers
    )


@pytest.mark.parametrize("base", ["float32", "float16", "bfloat16"])
def test_an_adapter_is_merged_in_float32(bases: dict[str, Path], train: Train, base: str) -> None:
    """One rounding of the sum is all that is lost of the update.

    Merged into a base that is held in bfloat16, as training holds it, much more is lost, unless the
    base is of that type.
    """
    folder = train("vit_lora", f"model.path={bases[base]}", "learning_rate=1e-3")
    model = AutoModelForImageTextToText.from_pretrained(bases[base], dtype=torch.float32)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    exact, held = (
        PeftModel.from_pretrained(one, folder / "adapter").merge_and_unload().state_dict()
        for one in (
            model,
            AutoModelForImageTextToText.from_pretrained(bases[base], dtype=torch.bfloat16),
        )
    )
    ours = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    names = [k for k in before if adapted(k) and CONNECTOR not in k]
    assert all(torch.equal(ours[k], exact[k].to(ours[k].dtype)) for k in names)
    change = sum(float((exact[k] - before[k]).square().sum()) for k in names)
    lost = [
        (sum(float((found[k].float() - exact[k]).square().sum()) for k in names) / change) ** 0.5
        for found in (ours, held)
    ]
    bounds = {"float32": (0, 0.3), "float16": (0.1, 0.3), "bfloat16": (0.4, 0.3)}
    assert lost[0] <= bounds[base][0], lost
    assert lost[1] > bounds[base][1], lost


def test_a_merge_leaves_the_types(bases: dict[str, Path], train: Train) -> None:
    folder = train("vit_lora", f"model.path={bases['bfloat16']}")
    base = AutoModelForImageTextToText.from_pretrained(bases["bfloat16"])
    found, lost = merge_adapter(PeftModel.from_pretrained(base, folder / "adapter"), {})
    assert 0 < lost < 1
    assert {weight.dtype for weight in found.parameters()} <= {torch.bfloat16, torch.float32}
    assert not any("lora" in name for name, _ in found.named_parameters())


def test_types_in_files(bases: dict[str, Path], tmp_path: Path) -> None:
    assert set(stored_dtypes(str(bases["float16"])).values()) == {torch.float16}
    kinds = stored_dtypes(str(bases["mixed"]))
    assert {kind for key, kind in kinds.items() if TOWER in key} == {torch.float32}
    assert {kind for key, kind in kinds.items() if TOWER not in key} == {torch.bfloat16}
    model = AutoModelForImageTextToText.from_pretrained(bases["mixed"])
    model.save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert set(stored_dtypes(str(tmp_path / "shards"))) == set(kinds)
    torch.save(load_file(bases["mixed"] / "model.safetensors"), tmp_path / "pytorch_model.bin")
    assert stored_dtypes(str(tmp_path)) == kinds
    assert stored_dtypes(str(TINY)) == {}


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    """Return a mixture of experts in bfloat16 whose routing is in float32, as DeepSeek's are."""
    llama = TINY / "llama"
    config = AutoConfig.from_pretrained(llama).to_dict()
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "eos_token_id")
    settings = {key: config[key] for key in kept}
    model = MixtralForCausalLM(
        MixtralConfig(num_hidden_layers=1, num_key_value_heads=2, num_local_experts=2, **settings)
    ).bfloat16()
    model.model.layers[0].mlp.gate.float()
    model.save_pretrained(tmp_path / "experts")
    AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path / "experts")
    return tmp_path / "experts"


@pytest.mark.parametrize("name", ["sft", "sft_lora"])
def test_experts_that_are_stacked_keep_their_types(experts: Path, train: Train, name: str) -> None:
    folder = train(name, f"model.path={experts}", "learning_rate=0.1")
    trained: dict[str, Callable[[str], bool]] = {
        "sft": lambda _: True,
        "sft_lora": lambda key: "self_attn" in key,
    }
    assert_frozen(weights(experts), weights(folder), trained[name])
    # Trainers set in it what they need: no cache, the logits of routing.
    before, after = (json.loads((f / "config.json").read_text()) for f in (experts, folder))
    assert before == after
