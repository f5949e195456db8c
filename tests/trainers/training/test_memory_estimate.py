"""The estimate of memory: by hand at true shapes, and beside what torch allocates."""

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoConfig,
    CLIPVisionConfig,
    LlamaConfig,
    Qwen2_5_VLConfig,
)
from transformers.utils import is_bitsandbytes_available

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.models.checkpoints.compose import join_configs
from verbalizer_bench.trainers import train
from verbalizer_bench.trainers.checkpoints.load import load, load_shapes
from verbalizer_bench.trainers.checkpoints.trainable import count_parameters
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.training.inputs import encoded_data
from verbalizer_bench.trainers.training.memory_estimate import (
    MicroBatch,
    cards,
    each_device,
    gathered,
    heaviest,
    memory,
)

TINY = REPOSITORY / "recipes" / "tiny"
GIB = 2**30
LORA = "lora={r: 16, alpha: 32}"
TWO_BYTES = ["precision=bf16", "gradient_checkpointing=true"]
# 512 MiB of a buffer of TRL's, and twice 1 GiB in float32: 4,096 tokens and 32,768 words.
LOSS = 4_096 * 32_768 * (2 + 8)
BATCH = MicroBatch(1, 4_096)
Read = Callable[..., tuple[Recipe, Any]]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Return what reads a tiny recipe with the shapes of a large model in place of its own."""
    folder = tmp_path_factory.mktemp("shapes")
    llama = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4_096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    )
    vicuna = LlamaConfig(vocab_size=32_000, tie_word_embeddings=False)
    tower = CLIPVisionConfig(
        hidden_size=1_024,
        intermediate_size=4_096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    text = dict(
        vocab_size=152_064,
        hidden_size=3_584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    vision = dict(depth=32, hidden_size=1_280, intermediate_size=3_420, out_hidden_size=3_584)
    qwen = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False)
    llama.save_pretrained(folder / "llama")
    join_configs(tower, vicuna, "mlp2x_gelu", 32_000, 32_001).save_pretrained(folder / "llava")
    qwen.save_pretrained(folder / "qwen")

    def recipe(name: str, shapes: str, *words: str) -> tuple[Recipe, Any]:
        place = [f"model={{config: {folder / shapes}}}", "trained_parameters=null", *TWO_BYTES]
        found = read_recipe(TINY / f"{name}.yaml", [*place, *words])
        return found, load_shapes(found)

    return recipe


def test_an_adapter_of_eight_billion_weights(read: Read) -> None:
    """Llama 3.1 8B: 218,103,808 weights a layer that an adapter is added to."""
    recipe, model = read("sft", "llama", LORA)
    trained, frozen = count_parameters(model, recipe)
    assert frozen == 8_030_261_248
    # r times inputs and outputs of q and o, k and v, gate, up and down.
    assert trained == 16 * 32 * (2 * 8_192 + 2 * 5_120 + 3 * 18_432) == 41_943_040
    batch = MicroBatch(2, 4_096)
    parts = {name: value * GIB for name, value in memory(recipe, model, batch).items()}
    assert parts["weights"] == pytest.approx(4 * trained + 2 * frozen)
    assert parts["gradients"] == pytest.approx(4 * trained)
    assert parts["optimizer"] == pytest.approx(8 * trained)
    assert parts["autocast copies"] == pytest.approx(2 * trained)
    assert parts["activations"] == pytest.approx(2 * 8_192 * 4_096 * 32)
    # The inputs of q, k, v, o, gate and up once more, and of down; the mask.
    layer = 18 * 4_096 + 3 * 14_336 + 6 * 4_096 + 14_336
    assert parts["one layer"] == pytest.approx(2 * 8_192 * layer + 2 * 4_096**2 * 3)
    # Of one row the loss is more.
    parts = memory(recipe, model, BATCH)
    assert parts["loss"] * GIB == pytest.approx(LOSS) and "one layer" not in parts
    assert 17 < sum(parts.values()) < 19
    assert cards(sum(parts.values())).startswith("fits 24 GB (")


@pytest.mark.parametrize(
    ("setting", "bytes_each"),
    [
        ("load_in_4bit: true", 0.5 + 4 / 64),
        ("load_in_4bit: true, bnb_4bit_use_double_quant: true", 0.5 + (1 + 4 / 256) / 64),
        ("load_in_8bit: true", 1),
    ],
)
def test_few_bits(setting: str, bytes_each: float, read: Read) -> None:
    recipe, model = read("sft", "llama", LORA, f"quantization={{{setting}}}")
    trained, frozen = count_parameters(model, recipe)
    inside = 32 * 218_103_808
    parts = {name: value * GIB for name, value in memory(recipe, model, BATCH).items()}
    # The largest matrix is there once as it is multiplied by.
    held = inside * bytes_each + 2 * (frozen - inside) + 2 * 4_096 * 14_336
    assert parts["weights"] == pytest.approx(4 * trained + held)
    assert parts["weights"] < 9.2 * GIB
    plain = memory(*read("sft", "llama", LORA), BATCH)
    assert {name: parts[name] / GIB for name in plain if name != "weights"} == pytest.approx(
        {name: value for name, value in plain.items() if name != "weights"}
    )


@pytest.mark.parametrize(
    ("optim", "bytes_each"),
    [
        ("adamw_torch_fused", 8),
        ("sgd", 0),
        ("lion_32bit", 4),
        ("adamw_8bit", 2 * (1 + 4 / 256)),
    ],
)
def test_optimisers_of_all_weights(optim: str, bytes_each: float, read: Read) -> None:
    recipe, model = read("sft", "llama", f"optim={optim}")
    kept = memory(recipe, model, BATCH)["optimizer"] * GIB
    # transformers has bitsandbytes keep 32 bits of embeddings.
    more = (8 - bytes_each) * 128_256 * 4_096 if optim == "adamw_8bit" else 0
    assert kept == pytest.approx(bytes_each * 8_030_261_248 + more, rel=1e-6)


def test_full_training_spread_over_devices(read: Read) -> None:
    """LLaVA-1.5 7B: 4 + 4 + 8 bytes and a copy in 2 of what is trained; the tower in 4."""
    recipe, model = read("vit", "llava")
    trained, frozen = count_parameters(model, recipe)
    language = 6_738_415_616 + 2 * 4_096 * (model.config.text_config.vocab_size - 32_000)
    assert trained == language + 1_024 * 4_096 + 4_096 + 4_096**2 + 4_096
    assert 3.0e8 < frozen < 3.1e8
    parts = memory(recipe, model, MicroBatch(4, 2_048))
    embedded = model.get_input_embeddings().weight.numel()
    copies = trained - embedded - 65 * 4_096 - 2 * 4_096
    assert parts["autocast copies"] * GIB == pytest.approx(2 * copies, rel=1e-6)
    assert parts["weights"] * GIB == pytest.approx(4 * (trained + frozen))
    total = sum(parts.values())
    assert "80 GB (by" in cards(total) and "fits" not in cards(total)
    # Two layers, and what is in none but gathered at once: embeddings, output layer, tower.
    layer = 4 * 4_096**2 + 3 * 4_096 * 11_008 + 2 * 4_096
    beside = frozen + trained - 32 * layer - embedded - 4_096
    assert gathered(recipe, model) * GIB == pytest.approx(2 * (2 * layer + embedded + beside))
    own = parts["activations"] + (parts.get("loss") or parts["one layer"])
    for devices in (2, 4, 8):
        wanted = (total - own) / devices + own + gathered(recipe, model)
        assert each_device(recipe, model, parts, devices) == pytest.approx(wanted)
    assert cards(each_device(recipe, model, parts, 8)).startswith("fits 24 GB (")


def test_a_model_whose_images_are_dynamic(read: Read) -> None:
    """Qwen2.5-VL 7B, whose language model and output layer have 7.6 billion of its 8.3."""
    recipe, model = read(
        "vit", "qwen", LORA, "format=tokenizer", "quantization={load_in_4bit: true}"
    )
    trained, frozen = count_parameters(model, recipe)
    merger = sum(weight.numel() for name, weight in model.named_parameters() if ".merger." in name)
    each = 2 * (3_584 + 3_584) + 2 * (3_584 + 512) + 3 * (3_584 + 18_944)
    assert frozen + merger == 8_292_166_656 and trained == merger + 28 * 16 * each
    parts = memory(recipe, model, BATCH)
    inside = 28 * (2 * 3_584**2 + 2 * 3_584 * 512 + 3 * 3_584 * 18_944)
    held = inside * 0.5625 + 2 * (frozen - inside) + 2 * 3_584 * 18_944
    # PEFT keeps the merger as it was beside the one that is trained.
    assert parts["weights"] * GIB == pytest.approx(4 * trained + 4 * merger + held)
    assert cards(sum(parts.values())).startswith("fits 24 GB")


def test_the_heaviest_micro_batch() -> None:
    """Without padding the one of all epochs with the most tokens, not the longest record's."""
    words = ["packing=true", "per_device_batch_size=2", "global_batch_size=4", "max_length=100"]
    recipe = read_recipe(TINY / "sft.yaml", [*words, "num_train_epochs=2.5", "group=none"])
    lengths = np.array([90, 1, 2, 3, 50, 4, 5, 6])
    found = heaviest(recipe, lengths, np.zeros(8, bool))
    assert found.rows == 1 and 90 < found.longest <= 140
    assert heaviest(recipe, None, None) == (1, 200)
    padded = read_recipe(TINY / "sft.yaml", [*words[1:], "max_length=80"])
    assert heaviest(padded, lengths, np.zeros(8, bool)) == (2, 80)
    pairs = read_recipe(TINY / "dpo.yaml", ["images=null", "model={path: x}"])
    rows = 2 * pairs.per_device_batch_size
    assert heaviest(pairs, None, None) == (rows, pairs.max_length)


def test_attention_over_the_square(read: Read) -> None:
    long = MicroBatch(1, 16_384)
    square = 16_384**2
    found = {}
    for name in ("eager", "sdpa", "flash_attention_2"):
        recipe, model = read("sft", "llama", LORA, f"attn_implementation={name}")
        found[name] = memory(recipe, model, long)["one layer"] * GIB
    assert found["sdpa"] - found["flash_attention_2"] == pytest.approx(3 * square)
    assert found["eager"] - found["sdpa"] == pytest.approx(32 * square * 8)


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        (2.32, "fits 24 GB (20.0 GiB to spare), 48 GB (42.3 GiB to spare), 80 GB (72.1 GiB to"),
        (30, "fits 48 GB (14.6 GiB to spare), 80 GB (44.4 GiB to spare); too much for 24 GB (by 7"),
        (100, "too much for 24 GB (by 77.7 GiB), 48 GB (by 55.4 GiB), 80 GB (by 25.6 GiB)"),
    ],
)
def test_cards(needed: float, said: str) -> None:
    assert cards(needed).startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "on each of 8 (FSDP2 or ZeRO-3): fits 24 GB"),
        (["quantization={load_in_8bit: true}"], "the same on each of several devices: few bits"),
        (["optim=paged_adamw_8bit"], "one device, the optimizer's "),
    ],
)
def test_what_a_plan_says(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(TINY / "sft_lora.yaml"), "--dry-run", *words]) == 0
    assert said in capsys.readouterr().out


BITS = pytest.mark.skipif(
    not is_bitsandbytes_available(), reason="needs bitsandbytes: pip install -e '.[qlora]'"
)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sft", []),
        ("sft", TWO_BYTES),
        ("sft", ["packing=true", "attn_implementation=eager", "gradient_checkpointing=false"]),
        ("sft_lora", ["precision=bf16"]),
        pytest.param("sft_lora", [*TWO_BYTES, "quantization={load_in_4bit: true}"], marks=BITS),
    ],
)
def test_the_estimate_is_near_what_training_takes(
    name: str, words: list[str], tmp_path: Path
) -> None:
    """Of what torch allocates on a CPU in two steps, with a model in which layers count."""
    config = AutoConfig.from_pretrained(TINY / "llama")
    config.hidden_size, config.intermediate_size, config.head_dim = 128, 352, 32
    base = save_random(config, tmp_path / "base")
    few = [f"output={tmp_path / 'out'}", f"cache={tmp_path}", "num_train_epochs=0.5"]
    few += ["global_batch_size=16", "per_device_batch_size=16", "trained_parameters=null"]
    recipe = read_recipe(TINY / f"{name}.yaml", [*few, f"model={{path: {base}}}", *words])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        train.train(recipe)
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    measured = max(accumulate(sizes))
    data = encoded_data(recipe, load(recipe), recipe.files)
    batch = heaviest(recipe, data.lengths, data.has_image)
    share = sum(memory(recipe, load_shapes(recipe), batch).values()) * GIB / measured
    print(name, words, share)
    assert 0.8 < share < 1.25


def save_random(config: Any, folder: Path) -> Path:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY / "llama").save_pretrained(folder)
    return folder
