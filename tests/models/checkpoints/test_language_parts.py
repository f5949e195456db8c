"""Parts of a language model that are trained alone: which layers, in full and by LoRA."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GPT2Config,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
)

from tests.conftest import REPOSITORY
from verbalizer_bench.models.checkpoints.language_parts import lora_targets, part_layers
from verbalizer_bench.trainers.checkpoints.trainable import choose_trained, count_parameters
from verbalizer_bench.trainers.recipe import read_recipe

TINY = REPOSITORY / "recipes" / "tiny"
SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    # As wide inside as outside: only names tell what goes into an MLP.
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
OPT = {"ffn_dim": 16, "word_embed_proj_dim": 16, "max_position_embeddings": 32}
KINDS: dict[str, tuple[Any, str, set[str], set[str]]] = {
    "qwen2": (
        Qwen2Config(**SIZES),
        "model.layers",
        {f"self_attn.{name}_proj" for name in "qkvo"},
        {"mlp.gate_proj", "mlp.up_proj"},
    ),
    "phi3": (
        Phi3Config(**SIZES),
        "model.layers",
        {"self_attn.qkv_proj", "self_attn.o_proj"},
        {"mlp.gate_up_proj"},
    ),
    "gpt2": (
        GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2),
        "transformer.h",
        {"attn.c_attn", "attn.c_proj"},
        {"mlp.c_fc"},
    ),
    "opt": (
        OPTConfig(**SIZES | OPT),
        "model.decoder.layers",
        {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"},
        {"fc1"},
    ),
}
MLP_OUT = {"qwen2": "mlp.down_proj", "phi3": "mlp.down_proj", "gpt2": "mlp.c_proj", "opt": "fc2"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["attention", "mlp", "mlp_in"])
def test_the_layers_of_a_part(kind: str, part: str) -> None:
    config, place, attention, inner = KINDS[kind]
    model = AutoModelForCausalLM.from_config(config)
    names = {"attention": attention, "mlp": inner | {MLP_OUT[kind]}, "mlp_in": inner}[part]
    wanted = {f"{place}.{layer}.{name}" for layer in (0, 1) for name in names}
    assert set(part_layers(model, part)) == wanted
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=lora_targets(model, part)))
    found = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A")
        for name, _ in adapted.named_modules()
        if name.endswith(".lora_A")
    }
    assert found == wanted


def test_attention_of_a_mixture_of_experts_and_not_its_experts() -> None:
    model = AutoModelForCausalLM.from_config(MixtralConfig(**SIZES, num_local_experts=2))
    assert all(".self_attn." in name for name in part_layers(model, "attention"))
    with pytest.raises(
        ValueError, match=r"trained_modules=mlp_in: layers\.0\..* holds the stacked"
    ):
        part_layers(model, "mlp_in")


def test_a_model_without_a_known_part_names_what_it_has() -> None:
    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = torch.nn.Linear(2, 2)

        def get_decoder(self) -> torch.nn.Module:
            return self

    for part in ("attention", "mlp_in"):
        with pytest.raises(ValueError, match=rf"trained_modules={part}: Decoder has no .* of mix;"):
            part_layers(Decoder(), part)


def hand(part: str, lora: bool) -> int:
    """Return what is trained of the tiny LLaVA's language model, from its sizes."""
    if part == "attention":
        shapes = [(64, 64), (64, 32), (64, 32), (64, 64)]
    else:
        shapes = [(64, 160), (64, 160)]
    return 2 * sum(8 * (a + b) if lora else a * b for a, b in shapes)


@pytest.mark.parametrize("method", ["sft", "vit", "dpo"])
@pytest.mark.parametrize("part", ["attention", "mlp_in"])
@pytest.mark.parametrize("lora", [False, True])
def test_what_is_trained_of_a_tiny_model(
    method: str, part: str, lora: bool, tmp_path: Path
) -> None:
    text, connector = method == "sft", 0 if method == "sft" else 2_112
    words = ["model.path=null", f"model.config={TINY / ('llama' if text else 'llava')}"]
    words += ["lora.r=8", "lora.alpha=8"] if lora else []
    number = hand(part, lora) + connector
    recipe = read_recipe(
        f"tiny/{method}", [*words, f"trained_modules={part}", f"trained_parameters={number}"]
    )
    auto: Any = AutoModelForCausalLM if text else AutoModelForImageTextToText
    model = auto.from_config(AutoConfig.from_pretrained(str(recipe.model.config)))
    if not text:
        # The fixed layer of the linear connector.
        layer = model.model.multi_modal_projector.linear_2
        layer.weight.data.copy_(torch.eye(len(layer.weight)))
        layer.bias.data.zero_()
    choose_trained(model, recipe)
    assert count_parameters(model, recipe)[0] == number
    names = {name for name, weight in model.named_parameters() if weight.requires_grad}
    kept = {name for name in names if "multi_modal_projector.linear_1" not in name}
    assert bool(kept) != lora
    assert all((".self_attn." in name) == (part == "attention") for name in kept)
    assert not any("down_proj" in name or "vision_tower" in name for name in kept)
