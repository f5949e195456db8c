"""What is loaded is what is in the folder: base, adapter, tokenizer; else one line that says so."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, Qwen3MoeConfig

from tests.helpers.asking import STORY, load, requests
from tests.helpers.checkpoints import Weights, clone, renamed, rewrite, without
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.checkpoints.strict_loading import load_whole


def with_extra(*names: str) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {name: torch.ones(4) for name in names}


def whole(folder: Path) -> Any:
    return load_whole(AutoModelForCausalLM, str(folder), f"pretrained={folder}")


FAULTS: list[tuple[Callable[[Weights], Weights], dict[str, Any], str]] = [
    (
        renamed("model.", "_orig_mod.model."),
        {},
        r"21 weights of LlamaForCausalLM are not in it, such as lm_head.weight, and 20 weights in "
        r"it are none of LlamaForCausalLM's, such as _orig_mod.model.embed_tokens.weight; names "
        r"begin with _orig_mod.: save the model without its wrapper",
    ),
    (renamed("model.", "module.model."), {}, "21 weights .*; names begin with module.:"),
    (
        without("layers.1."),
        {},
        r"9 weights of LlamaForCausalLM are not in it, such as "
        r"model.layers.1.input_layernorm.weight; copy or save the checkpoint again",
    ),
    (dict, {"tie_word_embeddings": False}, "1 weights .* are not in it, such as lm_head.weight"),
    (dict, {"num_hidden_layers": 1}, "9 weights in it are none of .*, such as model.layers.1.inp"),
    (with_extra("model.layers.0.self_attn.q_proj.bias"), {}, "1 weights in it are none of .*bias"),
    (
        dict,
        {"vocab_size": 700},
        r"1 weights have another shape than LlamaForCausalLM's, such as model.embed_tokens.weight: "
        r"\(1024, 64\) in it, \(700, 64\) by its config.json; give the config.json that belongs",
    ),
    (
        dict,
        {"intermediate_size": 161},
        r"6 weights have another shape .*down_proj.weight: \(64, 16",
    ),
]


@pytest.mark.parametrize(("change", "config", "message"), FAULTS)
def test_weights_that_are_not_the_models_are_refused(
    toys: tuple[Path, Path],
    tmp_path: Path,
    change: Callable[[Weights], Weights],
    config: dict[str, Any],
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = rewrite(clone(toys[0], tmp_path / "bad", **config), change)
    with pytest.raises(ValueError, match=f"^pretrained={folder}: {message}"):
        whole(folder)
    assert "LOAD REPORT" not in caplog.text


def test_what_a_model_can_do_without_is_no_fault(toys: tuple[Path, Path], tmp_path: Path) -> None:
    """Tables of older versions, a value head, heads that guess ahead, the other senses' towers."""
    spare = (
        *("model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.1.self_attn.masked_bias"),
        *("v_head.summary.weight", "mtp.layers.0.proj.weight", "model.layers.2.mlp.up_proj.weight"),
        *("vision_tower.layers.0.mlp.weight", "model.visual.patch.weight", "audio_tower.weight"),
        *("transformer.h.0.attn.bias", "transformer.h.0.attn.attention.bias"),
        *("transformer.h.0.attn.causal_mask", "h.0.self_attention.maybe_rotary.inv_freq"),
    )
    folder = clone(toys[0], tmp_path / "rich", num_nextn_predict_layers=1)
    model = whole(rewrite(folder, with_extra(*spare)))
    expected = AutoModelForCausalLM.from_pretrained(toys[0])
    for name, weight in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    # One layer more than it says is none of them.
    rewrite(folder, with_extra("model.layers.3.mlp.up_proj.weight"))
    with pytest.raises(ValueError, match=r"1 weights in it are none of .*layers\.3\.mlp"):
        whole(folder)


def test_a_tied_model_with_two_matrices_keeps_both(toys: tuple[Path, Path], tmp_path: Path) -> None:
    """lm-eval ties weights after every load, which dropped the head that stands in the file."""
    folder = clone(toys[0], tmp_path / "two")
    embeddings = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    rewrite(folder, lambda weights: weights | {"lm_head.weight": embeddings.roll(1, 0)})
    lm = load(VerbalizerLLM, folder)
    assert torch.equal(lm.model.lm_head.weight, embeddings.roll(1, 0))
    assert torch.equal(lm.model.model.embed_tokens.weight, embeddings)
    assert not lm.model.config.tie_word_embeddings
    lm.model.save_pretrained(tmp_path / "again")
    assert torch.equal(whole(tmp_path / "again").lm_head.weight, embeddings.roll(1, 0))
    tied = load(VerbalizerLLM, toys[0])
    assert tied.model.lm_head.weight is tied.model.model.embed_tokens.weight


def test_shards_and_pickles(toys: tuple[Path, Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(toys[0])
    sharded = clone(toys[0], tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    model.save_pretrained(sharded, max_shard_size="200KB")
    shards = sorted(sharded.glob("model-*.safetensors"))
    assert len(shards) > 1
    pickled = clone(toys[0], tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    for folder in (sharded, pickled):
        assert torch.equal(whole(folder).lm_head.weight, model.lm_head.weight)

    (pickled / "pytorch_model.bin").write_bytes((pickled / "pytorch_model.bin").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"pickled: cannot be read: .*; give a folder"):
        whole(pickled)
    shards[1].write_bytes(shards[1].read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"sharded: cannot be read: .*; give a folder"):
        whole(sharded)
    shards[1].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(ValueError, match=r"sharded: cannot be read: .*; give a folder"):
        whole(sharded)
    shards[1].unlink()
    with pytest.raises(ValueError, match=f"sharded: cannot be read: .*{shards[1].name}"):
        whole(sharded)
    (sharded / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ValueError, match="sharded: cannot be read: a value of another kind"):
        whole(sharded)


def test_an_index_that_lacks_a_shard(toys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = clone(toys[0], tmp_path / "short")
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(toys[0]).save_pretrained(folder, max_shard_size="200KB")
    file = folder / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    last = max(index["weight_map"].values())
    index["weight_map"] = {k: shard for k, shard in index["weight_map"].items() if shard != last}
    file.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"short: \d+ weights of LlamaForCausalLM are not in it"):
        whole(folder)


def test_a_layer_that_lacks_an_expert(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Experts stand apart in the file and as one tensor in the model."""
    config = Qwen3MoeConfig(
        **{
            "vocab_size": 64,
            "hidden_size": 16,
            "intermediate_size": 16,
            "moe_intermediate_size": 8,
        },
        **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8},
        **{"num_experts": 4, "num_hidden_layers": 1},
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "half")
    shutil.copytree(tmp_path / "half", tmp_path / "less")
    rewrite(tmp_path / "half", without("experts.2.up_proj"))
    rewrite(tmp_path / "less", without("experts.2."))
    level = logging.getLogger("transformers").level
    for quiet in (logging.WARNING, logging.ERROR):
        logging.getLogger("transformers").setLevel(quiet)
        with pytest.raises(ValueError, match=r"half: 1 weights cannot be put together .*experts\."):
            whole(tmp_path / "half")
    logging.getLogger("transformers").setLevel(level)
    with pytest.raises(
        ValueError, match=r"less: 2 weights have another shape .*\(3, 16, 8\) in it"
    ):
        whole(tmp_path / "less")
    assert "LOAD REPORT" not in caplog.text


def test_a_generation_config_that_cannot_be_read_is_not_passed_over(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = clone(toys[0], tmp_path / "half")
    file = folder / "generation_config.json"
    for content in (file.read_text()[:20], "[]"):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"generation_config.json: cannot be read: .*correct"):
            whole(folder)


def test_a_generation_config_of_the_hub_is_read_too(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    repository = tmp_path / "models--org--toy"
    folder = clone(toys[0], repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")

    def hub() -> Any:
        return load_whole(AutoModelForCausalLM, "org/toy", "pretrained=org/toy", cache_dir=tmp_path)

    assert hub().generation_config.eos_token_id == 2
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"^pretrained=org/toy: generation_config\.json: cannot"):
        hub()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "llama", "num_attention_heads": "4"}', "its config.json: cannot be read"),
        ('{"model_type": "llama", "hidden_size": NaN}', "its config.json: cannot be read"),
        ("null", "its config.json: cannot be read: a value of another kind"),
        ('{"model_type": "newest"}', "its config.json: cannot be read: .*newest"),
    ],
)
def test_a_config_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    for adapter in (VerbalizerLLM, VerbalizerLVLM):
        with pytest.raises(ValueError, match=f"^model_args pretrained={tmp_path}: {message}"):
            load(adapter, tmp_path)


def test_code_of_a_checkpoint_is_not_run_unasked(
    toys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asks on the terminal"))
    own = {"AutoConfig": "mine.MyConfig", "AutoModelForCausalLM": "mine.MyModel"}
    folder = clone(toys[0], tmp_path / "mine", model_type="mine", auto_map=own)
    (folder / "mine.py").write_text("raise SystemExit")
    with pytest.raises(ValueError, match=r"mine: its config.json: .*; give trust_remote_code=True"):
        load(VerbalizerLLM, folder)


def test_an_adapter_is_no_base(toys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = clone(toys[0], tmp_path / "both")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "other"}))
    with pytest.raises(ValueError, match=f"both: is an adapter; .*peft={folder}"):
        whole(folder)
    # As `save_pretrained` of an adapter leaves it: nothing to read an architecture from.
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=f"pretrained={folder}: is an adapter; .*peft={folder}"):
        load(VerbalizerLLM, folder)


def test_a_delta_of_another_base(toys: tuple[Path, Path], tmp_path: Path) -> None:
    lm = load(VerbalizerLLM, toys[0], delta=str(toys[0]))
    base = AutoModelForCausalLM.from_pretrained(toys[0])
    layer = "model.layers.0.mlp.up_proj"
    weight, own = lm.model.get_submodule(layer).weight, base.get_submodule(layer).weight
    assert torch.equal(weight, 2 * own)
    half = rewrite(clone(toys[0], tmp_path / "half"), without("layers.1."))
    with pytest.raises(ValueError, match=r"delta=.*half: 9 weights of .* are not in it"):
        load(VerbalizerLLM, toys[0], delta=str(half))
    short = clone(toys[0], tmp_path / "short", num_hidden_layers=1)
    rewrite(short, without("layers.1."))
    with pytest.raises(ValueError, match=r"delta=.*short: cannot be added to pretrained=.*llama"):
        load(VerbalizerLLM, toys[0], delta=str(short))


def test_llava_with_the_names_of_its_authors(toys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = clone(toys[1], tmp_path / "authors")
    rewrite(folder, renamed("language_model.model.", "model."))
    rewrite(folder, renamed("multi_modal_projector.linear_1", "model.mm_projector.0"))
    with pytest.raises(ValueError, match=r"pretrained=.*authors: \d+ weights of LlavaForCondition"):
        load(VerbalizerLVLM, folder)
    rewrite(clone(toys[1], tmp_path / "blind"), without("vision_tower"))
    with pytest.raises(ValueError, match=r"not in it, such as model.vision_tower.embeddings"):
        load(VerbalizerLVLM, tmp_path / "blind")


@pytest.mark.parametrize("value", [1200, float("nan"), True])
@pytest.mark.parametrize("key", ["pretrained", "peft", "tokenizer"])
def test_names_that_were_taken_for_numbers(toys: tuple[Path, Path], key: str, value: Any) -> None:
    given = {"pretrained": str(toys[0]), key: value}
    for adapter in (VerbalizerLLM, VerbalizerLVLM):
        with pytest.raises(ValueError, match=f"model_args {key}={value}: was read as a .*./NAME"):
            adapter(**given, device="cpu")


@pytest.mark.parametrize(
    ("quantised", "message"),
    [
        (
            {"quant_method": "awq", "bits": 4, "group_size": 128},
            "a package is missing: .*gptqmodel",
        ),
        ({"quant_method": "gptq", "bits": 4}, "a package is missing: .*optimum"),
        ({"quant_method": "torchao"}, "its config.json: a package is missing: .*torchao"),
        ({"quant_method": "newest"}, "its config.json: cannot be read: Unknown quantization type"),
        ({"bits": 4}, "its config.json: cannot be read: .*quant_method"),
        ("int4", "its config.json: cannot be read: a value of another kind is expected"),
    ],
)
def test_quantised_weights_that_cannot_be_read_are_one_line(
    toys: tuple[Path, Path], tmp_path: Path, quantised: Any, message: str
) -> None:
    folder = clone(toys[0], tmp_path / "bits", quantization_config=quantised)
    with pytest.raises(ValueError, match=f"^model_args pretrained={folder}: {message}"):
        load(VerbalizerLLM, folder)


@pytest.mark.parametrize("adapter", [VerbalizerLLM, VerbalizerLVLM])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"peft": ""}, "peft=: is empty"),
        ({"tokenizer": ""}, "tokenizer=: is empty"),
        ({"mixed_precision_dtype": "int8"}, "mixed_precision_dtype=int8: one of float16, bfloat16"),
        ({"softmax_dtype": "half"}, "softmax_dtype=half: one of float32"),
        ({"gptqmodel": True}, "gptqmodel=True: cannot say which weights it found; leave it out"),
        (
            {"output_loading_info": True},
            "output_loading_info=True: neither .* has such an argument",
        ),
    ],
)
def test_arguments_that_would_load_something_else(
    toys: tuple[Path, Path], adapter: type, given: dict[str, Any], message: str
) -> None:
    folder = toys[adapter is VerbalizerLVLM]
    with pytest.raises(ValueError, match=f"^model_args {message}"):
        load(adapter, folder, **given)


# Tokenizers


def grown_tokenizer(toys: tuple[Path, Path], folder: Path, count: int = 2) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(toys[0])
    tokenizer.add_tokens([f"<step{i}>" for i in range(count)], special_tokens=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def test_tokens_without_an_embedding_are_one_line(toys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = clone(toys[0], tmp_path / "grown")
    grown_tokenizer(toys, folder)
    message = r"2 tokens of its tokenizer have no row in the 1024 of the embeddings, such as "
    with pytest.raises(ValueError, match=message + r"'<step0>' \(1024\); give tokenizer=DIR"):
        load(VerbalizerLLM, folder)
    with pytest.raises(ValueError, match=message + ".*; leave tokenizer= out"):
        load(VerbalizerLLM, toys[0], tokenizer=str(folder))
    lvlm = clone(toys[1], tmp_path / "lvlm")
    grown_tokenizer(toys, lvlm)
    with pytest.raises(ValueError, match=message):
        load(VerbalizerLVLM, lvlm)


def test_tokens_that_no_prompt_has_need_no_embedding(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    """Gemma 3's texts-only checkpoints have a row less than their tokenizer has tokens."""
    folder = clone(toys[0], tmp_path / "gemma")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    never = ["<image_soft_token>", "[PAD]", "<unused7>", "<|reserved_special_token_5|>"]
    tokenizer.add_tokens(never, special_tokens=True)
    tokenizer.save_pretrained(folder)
    expected = load(VerbalizerLLM, toys[0]).generate_until(requests([STORY]), disable_tqdm=True)
    lm = load(VerbalizerLLM, folder)
    assert lm.generate_until(requests([STORY]), disable_tqdm=True) == expected
    tokenizer.add_tokens(["<|paddle|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"1 tokens of its tokenizer have no row .*paddle"):
        load(VerbalizerLLM, folder)


def test_padding_needs_no_embedding(toys: tuple[Path, Path], tmp_path: Path) -> None:
    """Llama's folders often have a [PAD] behind the vocabulary; what is masked has no answer."""
    folder = clone(toys[0], tmp_path / "padded")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    prompts = requests([STORY, STORY[:40], "x"])
    answers = []
    for source in (toys[0], folder):
        lm = VerbalizerLLM(str(source), device="cpu", dtype="float32", engine="generate")
        lm.batch_size_per_gpu = 3
        answers.append(lm.generate_until(prompts, disable_tqdm=True))
    assert answers[0] == answers[1]


def test_a_tokenizer_that_cannot_be_read_is_named(toys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = clone(toys[0], tmp_path / "half")
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=f"tokenizer={folder}: its tokenizer: cannot be read: "):
        load(VerbalizerLLM, toys[0], tokenizer=str(folder))
    with pytest.raises(ValueError, match=f"pretrained={folder}: its tokenizer: cannot be read: "):
        load(VerbalizerLLM, folder)


def test_an_lvlm_takes_the_processor_that_it_is_given(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    bare = clone(toys[1], tmp_path / "bare")
    for name in ("processor_config.json", "preprocessor_config.json"):
        (bare / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=f"pretrained={bare}: its tokenizer: cannot be read: "):
        load(VerbalizerLVLM, bare)
    lm = load(VerbalizerLVLM, bare, tokenizer=str(toys[1]))
    prompts = requests(["x", "hello"])
    expected = load(VerbalizerLVLM, toys[1]).generate_until(prompts, disable_tqdm=True)
    assert lm.generate_until(prompts, disable_tqdm=True) == expected
    with pytest.raises(ValueError, match=f"tokenizer={toys[0]}: no processor is in it"):
        load(VerbalizerLVLM, toys[1], tokenizer=str(toys[0]))


# Adapters


def lora(base: Path | LlamaForCausalLM, folder: Path, **changes: Any) -> Path:
    """Write an adapter that changes answers."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base) if isinstance(base, Path) else base
    config = {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | changes
    tuned = get_peft_model(model, LoraConfig(init_lora_weights=False, **config))
    for name, weight in tuned.named_parameters():
        if "modules_to_save" in name:
            weight.data = weight.data.roll(1, 0)
    tuned.save_pretrained(folder)
    return folder


ADAPTER_FAULTS = [
    (
        renamed("base_model.model.", ""),
        r"8 of the 8 weights in it have no place in LlamaForCausalLM, such as model.lay.*, and "
        r"8 weights that LlamaForCausalLM would take are not in it, such as base_model.model.model",
    ),
    (renamed("model.model.", "model._orig_mod.model."), "8 of the 8 weights in it have no place"),
    (without("layers.1."), r"4 weights that .* would take are not in it, such as .*layers\.1\."),
    (renamed("layers.1.", "layers.7."), r"4 of the 8 weights in it have no place .*layers\.7\..*"),
    (lambda weights: {key: w[:, :3] for key, w in weights.items()}, "cannot be read: .*size mism"),
]


@pytest.mark.parametrize(("change", "message"), ADAPTER_FAULTS)
def test_adapter_weights_that_do_not_fit_are_refused(
    toys: tuple[Path, Path], tmp_path: Path, change: Callable[[Weights], Weights], message: str
) -> None:
    folder = rewrite(lora(toys[0], tmp_path / "lora"), change, "adapter_model")
    with pytest.raises(ValueError, match=f"^model_args peft={folder}: {message}") as refused:
        load(VerbalizerLLM, toys[0], peft=str(folder))
    assert "pretrained=" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_modules": ["query_key_value"]}, "cannot be read: Target modules .*not found"),
        ({"peft_type": "NEWEST"}, "cannot be read: "),
        ({"modules_to_save": ["lm_head"]}, "cannot be read: .*lm_head"),
        ({"use_dora": True}, "4 weights that .* would take are not in it, .*magnitude"),
    ],
)
def test_adapter_configs_that_do_not_fit_are_refused(
    toys: tuple[Path, Path], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = lora(toys[0], tmp_path / "lora")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=f"^model_args peft={folder}: {message}"):
        load(VerbalizerLLM, toys[0], peft=str(folder))


def test_an_adapter_of_another_base_is_said_to_be(
    toys: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its shapes fit, and nothing else tells."""
    folder = lora(toys[0], tmp_path / "lora")
    load(VerbalizerLLM, toys[0], peft=str(folder))
    assert "was trained on" not in caplog.text
    other = clone(toys[0], tmp_path / "other")
    load(VerbalizerLLM, other, peft=str(folder))
    assert f"was trained on {toys[0]}, it says; its base here is {other}" in caplog.text


def test_an_adapter_without_its_files(toys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = lora(toys[0], tmp_path / "lora")
    (folder / "adapter_model.safetensors").rename(folder / "kept")
    with pytest.raises(FileNotFoundError, match=f"peft={folder}: adapter_model.safetensors is not"):
        load(VerbalizerLLM, toys[0], peft=str(folder))
    torch.save(load_file(folder / "kept"), folder / "adapter_model.bin")
    load(VerbalizerLLM, toys[0], peft=str(folder))
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(ValueError, match=f"peft={folder}: cannot be read: a value of another ki"):
        load(VerbalizerLLM, toys[0], peft=str(folder))


def test_an_adapter_whose_weights_do_not_bear_its_name(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    from peft import AdaptionPromptConfig, get_peft_model

    config = AdaptionPromptConfig(adapter_len=2, adapter_layers=2, task_type="CAUSAL_LM")
    folder = tmp_path / "prompts"
    get_peft_model(AutoModelForCausalLM.from_pretrained(toys[0]), config).save_pretrained(folder)
    load(VerbalizerLLM, toys[0], peft=str(folder))
    rewrite(folder, without("layers.1.self_attn.adaption_gate"), "adapter_model")
    with pytest.raises(ValueError, match=f"peft={folder}: 1 weights that .* would take are not in"):
        load(VerbalizerLLM, toys[0], peft=str(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": "all-linear"},
        {"layers_to_transform": [1], "layers_pattern": "layers"},
        {"trainable_token_indices": [5, 6]},
    ],
)
def test_whole_adapters_load_and_answer_as_peft_says(
    toys: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    from peft import PeftModel

    folder = lora(toys[0], tmp_path / "lora", **changes)
    lm = load(VerbalizerLLM, toys[0], peft=str(folder))
    ids = torch.tensor([lm.tokenizer.encode(STORY)])
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(toys[0]), str(folder))
    with torch.no_grad():
        assert torch.equal(lm.model(ids).logits, plain(ids).logits)
        assert not torch.equal(lm.model(ids).logits, plain.get_base_model()(ids).logits[:, :1])
    lm.generate_until(requests(["x"]), disable_tqdm=True)


def test_a_base_in_shards_answers_as_the_whole_one(toys: tuple[Path, Path], tmp_path: Path) -> None:
    """Tied embeddings, several files and an adapter, by the engine."""
    folder = lora(toys[0], tmp_path / "lora")
    sharded = clone(toys[0], tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    base = AutoModelForCausalLM.from_pretrained(toys[0])
    base.save_pretrained(sharded, max_shard_size="200KB")
    assert base.config.tie_word_embeddings and len(list(sharded.glob("model-*.safetensors"))) > 1
    prompts, found = requests([STORY, STORY[:40], "x"]), []
    for place in (toys[0], sharded):
        lm = load(VerbalizerLLM, place, peft=str(folder), engine="shared_prefix")
        found.append(lm.generate_until(prompts, disable_tqdm=True))
        record = lm.get_model_info()["verbalizer_bench"]["fingerprint"]
        found[-1].append(record["weights"])
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def roomy(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a base whose embeddings have more rows than its tokenizer has tokens, as Qwen2.5."""
    folder = tmp_path_factory.mktemp("roomy") / "base"
    shutil.copytree(toys[0], folder)
    model = AutoModelForCausalLM.from_pretrained(toys[0])
    torch.manual_seed(0)
    model.resize_token_embeddings(1088, mean_resizing=False)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("changes", [{}, {"modules_to_save": ["embed_tokens", "lm_head"]}])
def test_a_base_with_rows_to_spare_keeps_them(
    roomy: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = lora(roomy, tmp_path / "lora", **changes)
    lm = load(VerbalizerLLM, roomy, peft=str(folder))
    assert lm.model.get_input_embeddings().weight.shape[0] == 1088
    lm.generate_until(requests(["x"]), disable_tqdm=True)


def test_an_adapter_that_was_trained_with_fewer_rows(roomy: Path, tmp_path: Path) -> None:
    """Many scripts cut the embeddings to the tokenizer's length before they train."""
    base = AutoModelForCausalLM.from_pretrained(roomy)
    base.resize_token_embeddings(1024, mean_resizing=False)
    folder = lora(base, tmp_path / "lora", modules_to_save=["embed_tokens", "lm_head"])
    lm = load(VerbalizerLLM, roomy, peft=str(folder))
    assert lm.model.get_input_embeddings().weight.shape[0] == 1024
    lm.generate_until(requests(["x"]), disable_tqdm=True)


def test_an_adapter_with_added_tokens_asks_for_its_tokenizer(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(toys[0])
    tokenizer = grown_tokenizer(toys, tmp_path / "lora")
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    folder = lora(base, tmp_path / "lora", modules_to_save=["embed_tokens", "lm_head"])
    own = str(folder)
    with pytest.raises(
        ValueError, match=f"peft={folder}: was trained with 1026 embeddings, 2 more than the base"
    ) as refused:
        load(VerbalizerLLM, toys[0], peft=own)
    assert f"give tokenizer={folder}" in str(refused.value)
    lm = load(VerbalizerLLM, toys[0], peft=own, tokenizer=own)
    weights = load_file(folder / "adapter_model.safetensors")
    assert torch.equal(
        lm.model.get_input_embeddings().weight,
        weights["base_model.model.model.embed_tokens.weight"],
    )
    lm.generate_until(requests(["<step1> x"]), disable_tqdm=True)
    # A tokenizer of more tokens than base and adapter have rows for.
    grown_tokenizer(toys, tmp_path / "more", 3)
    with pytest.raises(ValueError, match=f"peft={folder}: 1 tokens of its tokenizer have no row"):
        load(VerbalizerLLM, toys[0], peft=own, tokenizer=str(tmp_path / "more"))
    plain = lora(toys[0], tmp_path / "plain")
    with pytest.raises(ValueError, match=f"peft={plain}: 2 tokens of its tokenizer have no row"):
        load(VerbalizerLLM, toys[0], peft=str(plain), tokenizer=own)


def test_output_rows_that_no_adapter_brings_are_never_the_likeliest(
    toys: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = AutoModelForCausalLM.from_pretrained(toys[0])
    tokenizer = grown_tokenizer(toys, tmp_path / "lora")
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    # PEFT saves both matrices if the base's folder has fewer rows than the model that was trained.
    base.save_pretrained(tmp_path / "grown")
    folder = str(lora(tmp_path / "grown", tmp_path / "lora", modules_to_save=["embed_tokens"]))
    lm = load(VerbalizerLLM, toys[0], peft=folder, tokenizer=folder)
    assert "brings no output rows for 2 added tokens" in caplog.text
    ids = torch.tensor([lm.tokenizer.encode(STORY)])
    with torch.no_grad():
        assert int(lm.model(ids).logits.argmax(-1).max()) < 1024
