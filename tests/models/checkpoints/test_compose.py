import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPVisionConfig,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    GenerationConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    PhiConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SwinConfig,
    ViTConfig,
    ViTImageProcessor,
)

from verbalizer_bench.models.checkpoints.choices import CONNECTORS
from verbalizer_bench.models.checkpoints.compose import (
    IMAGE_TOKEN,
    compose,
    extract_llm,
    join_configs,
    load_parts,
)
from verbalizer_bench.models.checkpoints.connector import (
    CONNECTOR_KEY,
    connector_of,
    fix_identity,
    fixed_layer,
    new_connector,
)
from verbalizer_bench.models.checkpoints.language_parts import lora_targets
from verbalizer_bench.models.images import make_image

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION = SMALL | {"image_size": 32, "patch_size": 8}
SQUARE = {"height": 32, "width": 32}
TEXT = SMALL | {"vocab_size": 100}
WORDS = ["hello", "a", "park", "USER:", "ASSISTANT:"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
)
CROP = {"size": {"shortest_edge": 32}, "crop_size": SQUARE}


def save_tower(folder: Path, config: Any, image_processor: Any) -> str:
    torch.manual_seed(1)
    AutoModel.from_config(config).save_pretrained(folder)
    if image_processor is not None:
        image_processor.save_pretrained(folder)
    return str(folder)


def save_llm(folder: Path, config: Any, **tokens: str) -> str:
    """Write an LLM of random weights; its tokenizer knows ten tokens and those given."""
    torch.manual_seed(2)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(["</s>", *WORDS, "b", "c", "d", "e"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="e"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **({"eos_token": "</s>"} | tokens)
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("towers")
    text = SMALL | {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    return {
        "clip": save_tower(folder / "clip", CLIPVisionConfig(**VISION), CLIPImageProcessor(**CROP)),
        "siglip": save_tower(
            folder / "siglip", SiglipVisionConfig(**VISION), SiglipImageProcessor(size=SQUARE)
        ),
        "whole clip": save_tower(
            folder / "whole-clip",
            CLIPConfig(vision_config=VISION, text_config=text),
            CLIPImageProcessor(**CROP),
        ),
        "whole siglip": save_tower(
            folder / "whole-siglip",
            SiglipConfig(vision_config=VISION, text_config=text),
            SiglipImageProcessor(size=SQUARE),
        ),
    }


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_llm(tmp_path_factory.mktemp("llms") / "llama", LlamaConfig(**TEXT))


@pytest.fixture(scope="module")
def composed(
    towers: dict[str, str], stories: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """Return what gives the folder of a tower and a connector before the real small Llama."""
    folder = tmp_path_factory.mktemp("composed")

    def of(tower: str, connector: str) -> Path:
        output = folder / f"{tower}-{connector}"
        if not output.exists():
            compose(towers[tower], str(stories), connector, output, chat_template=TEMPLATE)
        return output

    return of


ALL = [(tower, connector) for tower in ("clip", "siglip") for connector in CONNECTORS]


@pytest.mark.parametrize(("tower", "connector"), ALL)
def test_composed_folder(
    composed: Callable[[str, str], Path],
    towers: dict[str, str],
    stories: Path,
    tower: str,
    connector: str,
) -> None:
    folder = composed(tower, connector)
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    config, tokenizer = model.config, processor.tokenizer
    assert (connector_of(config), config.vision_feature_layer) == (connector, -2)
    assert config.projector_hidden_act == {"linear": "linear", "mlp2x_gelu": "gelu"}[connector]
    strategy = {"clip": "default", "siglip": "full"}[tower]
    assert config.vision_feature_select_strategy == strategy
    assert processor.vision_feature_select_strategy == strategy
    assert (config.image_seq_length, processor.patch_size) == (16, 8)
    assert tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) == config.image_token_id == 512
    assert len(tokenizer) == config.text_config.vocab_size == 513
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
    generation = model.generation_config
    assert (generation.bos_token_id, generation.eos_token_id) == (1, 2)
    assert generation.pad_token_id == config.text_config.pad_token_id == 0
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert processor.chat_template == tokenizer.chat_template == TEMPLATE
    assert str(stories.parent) not in (folder / "config.json").read_text()

    original = AutoModel.from_pretrained(towers[tower]).state_dict()
    assert same(model.model.vision_tower.state_dict(), original)
    inputs = processor(text=f"{IMAGE_TOKEN}\nOne day", images=[image((50, 40))], **RETURN)
    assert inputs["input_ids"][0].tolist().count(512) == 16
    seen = model(**inputs).logits
    inputs["pixel_values"] = inputs["pixel_values"] + 1
    assert seen.isfinite().all() and not torch.equal(seen, model(**inputs).logits)
    assert tokenizer.decode([1, 512, 441, 2], skip_special_tokens=True) == "O"


RETURN: dict[str, Any] = {"return_tensors": "pt"}


def image(size: tuple[int, int], mode: str = "noise") -> Any:
    return make_image(mode, size)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_text_answers_are_the_llms(composed: Callable[[str, str], Path], stories: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(composed("clip", "linear"))
    old_tokenizer = AutoTokenizer.from_pretrained(stories)
    ids = tokenizer("One day, Lily met a Shoggoth", **RETURN)["input_ids"]
    assert (
        ids.tolist()
        == old_tokenizer("One day, Lily met a Shoggoth", **RETURN)["input_ids"].tolist()
    )
    llava = LlavaForConditionalGeneration.from_pretrained(composed("clip", "linear"))
    old = AutoModelForCausalLM.from_pretrained(stories)(ids).logits
    logits = llava(ids).logits
    assert torch.equal(logits[..., :512], old)
    assert (logits[..., 512] < old.max(-1).values).all()


def test_plain_transformers_loads_it(composed: Callable[[str, str], Path]) -> None:
    program = """
import sys, torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
for folder in sys.argv[1:]:
    model, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    processor = AutoProcessor.from_pretrained(folder)
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "One day"}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True)
    inputs = processor(text=text, images=[Image.new("RGB", (40, 50))], return_tensors="pt")
    print(processor.decode(model.generate(**inputs, max_new_tokens=4, do_sample=False)[0]))
assert not any(name.startswith("verbalizer_bench") for name in sys.modules)
"""
    folders = [str(composed(tower, connector)) for tower, connector in ALL]
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *folders], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("user: " + IMAGE_TOKEN * 16) == 4


def test_the_adapter_asks_it_with_a_white_image(composed: Callable[[str, str], Path]) -> None:
    from tests.helpers.asking import requests
    from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM

    lm = VerbalizerLVLM(str(composed("siglip", "linear")), dtype="float32", device="cpu")
    prompt = lm.apply_chat_template([{"role": "user", "content": "One day"}])
    (found,) = lm.generate_until(requests([prompt], num_beams=1), disable_tqdm=True)
    inputs = lm.processor(
        text=f"user: {IMAGE_TOKEN}\nOne day", images=[image((32, 32), "white")], **RETURN
    )
    output = lm.model.generate(**inputs, max_new_tokens=15, do_sample=False)
    start = inputs["input_ids"].shape[1]
    assert found == lm.tokenizer.decode(output[0, start:], skip_special_tokens=True) != ""
    record = lm.get_model_info()["verbalizer_bench"]
    assert record["first_input_ids"].count(512) == record["image"]["tokens"] == 16


@pytest.mark.parametrize("whole", ["whole clip", "whole siglip"])
def test_vision_half_of_a_whole_model(towers: dict[str, str], llm: str, whole: str) -> None:
    model = load_parts(towers[whole], llm, "linear").model
    expected = AutoModel.from_pretrained(towers[whole]).vision_model.state_dict()
    assert same(model.model.vision_tower.state_dict(), expected)
    assert not any(weight.requires_grad for weight in model.model.vision_tower.parameters())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_linear_connector_is_its_first_layer_bit_for_bit(
    towers: dict[str, str], llm: str, tmp_path: Path, dtype: str
) -> None:
    """After training, saving and loading: only the first layer has changed, and it is all."""
    model, processor = load_parts(towers["clip"], llm, "linear", dtype=dtype)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    optimiser = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.1)
    inputs = processor(text=f"{IMAGE_TOKEN} hello", images=[image((32, 32))], **RETURN)
    model(**inputs.to(model.dtype), labels=inputs["input_ids"]).loss.backward()
    optimiser.step()
    model.save_pretrained(tmp_path)
    loaded = LlavaForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.model.multi_modal_projector.linear_2.weight.requires_grad
    fix_identity(loaded)
    connector = loaded.model.multi_modal_projector
    assert not any(weight.requires_grad for weight in connector.linear_2.parameters())
    assert torch.equal(connector.linear_2.weight, torch.eye(32, dtype=loaded.dtype))
    assert not connector.linear_2.bias.any() and str(loaded.dtype) == f"torch.{dtype}"
    features = torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(0)).to(loaded.dtype)
    assert torch.equal(connector(features), connector.linear_1(features))
    changed = {k for k, v in loaded.state_dict().items() if not torch.equal(v, start[k])}
    assert any("multi_modal_projector.linear_1" in key for key in changed)
    assert not any("vision_tower" in key or "linear_2" in key for key in changed)


@pytest.mark.parametrize("damage", ["weight", "bias"])
def test_a_linear_connector_that_is_none_is_refused(
    towers: dict[str, str], llm: str, damage: str
) -> None:
    model = load_parts(towers["clip"], llm, "linear").model
    getattr(model.model.multi_modal_projector.linear_2, damage).data[0] += 1e-7
    with pytest.raises(ValueError, match="linear_2 of this verbalizer_connector=linear checkpoint"):
        fix_identity(model)


def test_other_connectors_stay_trainable(towers: dict[str, str], llm: str) -> None:
    model = load_parts(towers["clip"], llm, "mlp2x_gelu").model
    fix_identity(model)
    assert all(weight.requires_grad for weight in model.model.multi_modal_projector.parameters())
    fix_identity(AutoModelForCausalLM.from_pretrained(llm))


def test_connectors_are_seeded(towers: dict[str, str], llm: str) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    weights = [
        load_parts(towers["clip"], llm, "mlp2x_gelu", seed=seed).model.state_dict()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.rand(1), expected)
    assert same(weights[0], weights[1])
    changed = [key for key in weights[0] if not torch.equal(weights[0][key], weights[2][key])]
    assert changed == [f"model.multi_modal_projector.linear_{i}.weight" for i in (1, 2)]
    assert weights[0][changed[0]].std() == pytest.approx(0.02, rel=0.1)
    assert not weights[0]["model.multi_modal_projector.linear_1.bias"].any()


def test_connector_of() -> None:
    vision, text = CLIPVisionConfig(**VISION), LlamaConfig(**TEXT)
    parts = {"vision_config": vision, "text_config": text}
    assert connector_of(LlavaConfig(**parts)) == "mlp2x_gelu"
    unmarked = LlavaConfig(**parts, projector_hidden_act="linear")
    assert (connector_of(unmarked), connector_of(text)) == (None, None)
    linear = join_configs(vision, text, "linear", 99)
    assert fixed_layer(linear) == "multi_modal_projector.linear_2"
    for config in (join_configs(vision, text, "mlp2x_gelu", 99), unmarked, text):
        assert fixed_layer(config) is None
    with pytest.raises(ValueError, match="verbalizer_connector=linear and projector_hidden_act=ge"):
        connector_of(LlavaConfig(**parts, **{CONNECTOR_KEY: "linear"}))
    with pytest.raises(ValueError, match="verbalizer_connector=resampler: one of linear, mlp2x_g"):
        connector_of(LlavaConfig(**parts, **{CONNECTOR_KEY: "resampler"}))
    with pytest.raises(ValueError, match="its connector is unknown; compose"):
        new_connector(LlavaForConditionalGeneration(unmarked), 0)


def test_marker_survives(composed: Callable[[str, str], Path], tmp_path: Path) -> None:
    LlavaConfig.from_pretrained(composed("clip", "linear")).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())[CONNECTOR_KEY] == "linear"


@pytest.mark.parametrize(("tower", "connector"), [("clip", "linear"), ("siglip", "mlp2x_gelu")])
def test_extract_llm(
    composed: Callable[[str, str], Path],
    stories: Path,
    tmp_path: Path,
    tower: str,
    connector: str,
) -> None:
    folder = composed(tower, connector)
    assert extract_llm(str(folder), tmp_path / "llm") == tmp_path / "llm"
    llm, report = AutoModelForCausalLM.from_pretrained(tmp_path / "llm", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    old = AutoModelForCausalLM.from_pretrained(stories).state_dict()
    new = llm.state_dict()
    assert new["lm_head.weight"].shape[0] == 513
    assert same({k: v[:512] if len(v) == 513 else v for k, v in new.items()}, old)
    assert llm.lm_head.weight is llm.model.embed_tokens.weight
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "llm")
    assert (len(tokenizer), tokenizer.chat_template) == (513, TEMPLATE)
    assert "Llava" not in "".join(file.read_text() for file in (tmp_path / "llm").glob("*.json"))
    ids = tokenizer("One day, Lily", **RETURN)["input_ids"]
    llava = LlavaForConditionalGeneration.from_pretrained(folder)
    assert torch.equal(llm(ids).logits, llava(ids).logits)
    assert llm.generation_config.to_dict() == llava.generation_config.to_dict()


def test_extract_llm_of_another_llava(toys: tuple[Path, Path], tmp_path: Path) -> None:
    extract_llm(str(toys[1]), tmp_path)
    new, old = (AutoModelForCausalLM.from_pretrained(folder) for folder in (tmp_path, toys[0]))
    assert same(new.state_dict(), old.state_dict())


@pytest.mark.parametrize(
    ("config", "pad", "new"),
    [
        # Qwen2's tokenizer class has a padding token of its own.
        (Qwen2Config(**TEXT, num_key_value_heads=2), "<|endoftext|>", [11]),
        (MistralConfig(**(TEXT | {"vocab_size": 10}), num_key_value_heads=1), "<pad>", [10, 11]),
    ],
)
def test_other_llms(
    towers: dict[str, str], tmp_path: Path, config: Any, pad: str, new: list[int]
) -> None:
    """One has spare rows, the other has none: new tokens get a row of their own in both."""
    llm = save_llm(tmp_path / "llm", config)
    compose(towers["siglip"], llm, "mlp2x_gelu", tmp_path / "llava")
    extract_llm(str(tmp_path / "llava"), tmp_path / "back")
    before, after = (AutoModelForCausalLM.from_pretrained(f) for f in (llm, tmp_path / "back"))
    assert type(after) is type(before)
    assert after.config.vocab_size == max(config.vocab_size, 12)
    for folder in (tmp_path / "llava", tmp_path / "back"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) == new[0]
        assert (tokenizer.pad_token, tokenizer.eos_token_id) == (pad, 0)
        assert tokenizer.pad_token_id == after.generation_config.pad_token_id
    for part in ("lm_head", "model.embed_tokens"):
        table, rows = (model.get_submodule(part).weight for model in (before, after))
        old = [row for row in range(len(table)) if row not in new]
        assert torch.equal(rows[old], table[old])
        assert torch.allclose(rows[new], table[: new[0]].mean(0).expand(len(new), -1))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ({}, "<pad>"),
        ({"pad_token": "</s>"}, "<pad>"),
        ({"unk_token": "e"}, "e"),
        ({"unk_token": "</s>"}, "<pad>"),
        ({"pad_token": "</s>", "unk_token": "e"}, "e"),
        ({"pad_token": "d", "unk_token": "e"}, "d"),
    ],
)
def test_padding_token(
    towers: dict[str, str], tmp_path: Path, tokens: dict[str, str], expected: str
) -> None:
    llm = save_llm(tmp_path, LlamaConfig(**TEXT), **tokens)
    model, processor = load_parts(towers["clip"], llm, "linear")
    assert processor.tokenizer.pad_token == expected
    assert model.config.text_config.pad_token_id == processor.tokenizer.pad_token_id
    assert model.get_input_embeddings().padding_idx == processor.tokenizer.pad_token_id


def test_tokenizer_that_knows_the_image_token(
    toys: tuple[Path, Path], towers: dict[str, str]
) -> None:
    old = AutoModelForCausalLM.from_pretrained(toys[0]).model.state_dict()
    model, processor = load_parts(towers["clip"], str(toys[0]), "linear")
    assert same(model.model.language_model.state_dict(), old)
    assert model.config.image_token_id == processor.image_token_id == 3
    assert processor.chat_template == AutoTokenizer.from_pretrained(toys[0]).chat_template


def test_generation_config_is_kept(towers: dict[str, str], tmp_path: Path) -> None:
    """Vicuna's has sampling arguments without sampling, which transformers refuses to save."""
    llm = save_llm(tmp_path / "llm", LlamaConfig(**TEXT))
    values = {"eos_token_id": [0, 7], "max_length": 77, "temperature": 0.9, "top_p": 0.6}
    for sampled in (False, True):
        (Path(llm) / "generation_config.json").write_text(
            json.dumps(values | ({"do_sample": True} if sampled else {}))
        )
        output = tmp_path / f"out-{sampled}"
        compose(towers["clip"], llm, "linear", output)
        found = GenerationConfig.from_pretrained(output)
        assert (found.eos_token_id, found.max_length) == ([0, 7], 77)
        expected = (True, 0.9, 0.6) if sampled else (None, None, None)
        assert (found.do_sample, found.temperature, found.top_p) == expected


@pytest.mark.parametrize(
    ("config", "processor", "tokens"),
    [
        (ViTConfig(**VISION), ViTImageProcessor(size=SQUARE), 16),
        # Dinov2's processor crops to fewer pixels than its configuration says.
        (Dinov2Config(**(VISION | {"image_size": 48})), BitImageProcessor(**CROP), 16),
    ],
)
def test_other_towers(llm: str, tmp_path: Path, config: Any, processor: Any, tokens: int) -> None:
    tower = save_tower(tmp_path, config, processor)
    model, processor = load_parts(tower, llm, "linear")
    assert model.config.vision_feature_select_strategy == "default"
    inputs = processor(text=IMAGE_TOKEN, images=[image((50, 40))], **RETURN)
    assert inputs["input_ids"].shape[1] == model.config.image_seq_length == tokens
    assert model(**inputs).logits.shape == (1, tokens, 100)


@pytest.mark.parametrize(
    ("config", "processor", "message"),
    [
        (LlamaConfig(**TEXT), None, "llama has image_size=None and patch_size=None"),
        (Dinov2WithRegistersConfig(**VISION), None, r"shape \(1, 21, 32\) of 16 patches"),
        (
            SwinConfig(image_size=56, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 1]),
            None,
            r"shape \(1, 49, 16\) of 196 patches",
        ),
        (CLIPVisionConfig(**VISION), None, "vision_tower=.*: cannot be read: .*image processor"),
        (
            CLIPVisionConfig(**VISION),
            CLIPImageProcessor(size={"shortest_edge": 32}, do_center_crop=False),
            r"makes images of the shapes \[\(1, 3, 32, 42\), \(1, 3, 42, 32\)\]",
        ),
        (
            CLIPVisionConfig(**VISION),
            CLIPImageProcessor(),
            "no features of an image of 224x224 pixels: Input image size",
        ),
    ],
)
def test_towers_that_are_refused(
    llm: str, tmp_path: Path, config: Any, processor: Any, message: str
) -> None:
    tower = save_tower(tmp_path, config, processor)
    with pytest.raises(ValueError, match=message) as error:
        load_parts(tower, llm, "linear")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CLIPVisionConfig(**VISION), "clip_vision_model, which is no causal language model"),
        (PhiConfig(**TEXT), "PhiForCausalLM is not laid out .* lm_head.weight, lm_head.bias"),
        (
            GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1),
            "not laid out .* tied embeddings: True",
        ),
        (GraniteConfig(**TEXT, logits_scaling=2.0), "GraniteForCausalLM does more to its logits"),
    ],
)
def test_llms_that_are_refused(
    towers: dict[str, str], llm: str, tmp_path: Path, config: Any, message: str
) -> None:
    if isinstance(config, CLIPVisionConfig):
        folder = save_tower(tmp_path, config, None)
        AutoTokenizer.from_pretrained(llm).save_pretrained(tmp_path)
    else:
        folder = save_llm(tmp_path, config)
    with pytest.raises(ValueError, match=message) as error:
        load_parts(towers["clip"], folder, "linear")
    assert "\n" not in str(error.value)


def test_missing_weights_are_refused(towers: dict[str, str], llm: str, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(llm).model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(llm).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"1 weights of LlamaForCausalLM .* lm_head\.weight"):
        load_parts(towers["clip"], str(tmp_path), "linear")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"connector": "resampler"}, "connector=resampler: one of linear, mlp2x_gelu"),
        ({"dtype": "float8"}, "dtype=float8: one of auto, float32"),
        ({"llm": "./nowhere"}, "llm=./nowhere: cannot be read: .*; give a folder"),
        ({"vision_tower": "./nowhere"}, "vision_tower=./nowhere: cannot be read: .*; give a fold"),
        ({"chat_template": "{% if %}"}, "chat_template: cannot render a turn with an image"),
        ({"chat_template": "{{ messages[0]['content'] + 'x' }}"}, "chat_template: cannot render"),
        ({"chat_template": "hello"}, "chat_template: renders a turn .* as 'hello'; write <image>"),
    ],
)
def test_arguments_that_are_refused(
    towers: dict[str, str], llm: str, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    parts = {"vision_tower": towers["clip"], "llm": llm, "connector": "linear"} | changes
    with pytest.raises(ValueError, match=message) as error:
        compose(**parts, output=tmp_path / "out")  # type: ignore[arg-type]
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_nothing_is_written_over(towers: dict[str, str], llm: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for output in (tmp_path, tmp_path / "config.json"):
        with pytest.raises(ValueError, match=f"output={output}: is there and not an empty folder"):
            compose(towers["clip"], llm, "linear", output)
        with pytest.raises(ValueError, match="is there and not an empty folder; give another"):
            extract_llm(llm, output)
    with pytest.raises(ValueError, match=f"folder={llm}: a checkpoint of llama, which has no"):
        extract_llm(llm, tmp_path / "out")
    with pytest.raises(ValueError, match=r"folder=\./nowhere: cannot be read"):
        extract_llm("./nowhere", tmp_path / "out")


def test_seven_billion_parameters_by_arithmetic() -> None:
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
    )
    llama = LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
    )
    width, seen = 4096, 1024
    attention, mlp = 4 * (seen * seen + seen), 2 * seen * width + width + seen
    tower = seen * (1 + 257 + 3 * 14 * 14 + 4) + 24 * (attention + mlp + 4 * seen)
    layer = 4 * width * width + 3 * width * 11008 + 2 * width
    language = 2 * 32001 * width + 32 * layer + width
    first, second = seen * width + width, width * width + width
    assert (tower, language - 2 * width) == (303_179_776, 6_738_415_616)
    for connector in CONNECTORS:
        config = join_configs(vision, llama, connector, 32000, vocab_size=32001)
        assert (config.image_seq_length, llama.vocab_size) == (256, 32000)
        with torch.device("meta"):
            model = LlavaForConditionalGeneration(config)
        fix_identity(model)
        total = sum(weight.numel() for weight in model.parameters())
        assert total == tower + language + first + second
        trained = sum(w.numel() for w in model.parameters() if w.requires_grad)
        assert trained == total - (second if connector == "linear" else 0)


@pytest.mark.parametrize("connector", CONNECTORS)
def test_lora_and_connector_under_peft(
    towers: dict[str, str], llm: str, tmp_path: Path, connector: str
) -> None:
    model, _ = load_parts(towers["clip"], llm, connector)
    numbers = (1,) if connector == "linear" else (1, 2)
    kept = [f"multi_modal_projector.linear_{number}" for number in numbers]
    peft = get_peft_model(
        model, LoraConfig(r=2, target_modules=lora_targets(model), modules_to_save=kept)
    )
    fix_identity(peft)
    trained = {name for name, weight in peft.named_parameters() if weight.requires_grad}
    adapted = {name for name in trained if "lora" in name}
    assert all(".language_model.layers." in name for name in adapted)
    assert len(adapted) == 2 * 7 * 2
    expected = {f"{end}.modules_to_save.default.{w}" for end in kept for w in ("weight", "bias")}
    assert {name.partition(".model.model.")[2] for name in trained - adapted} == expected


def test_lora_targets_of_an_llm(llm: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(llm)
    peft = get_peft_model(model, LoraConfig(r=2, target_modules=lora_targets(model)))
    trained = {name for name, weight in peft.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * 7 * 2 and not any("lm_head" in name for name in trained)


def test_layers_that_peft_would_replace_by_experts_are_refused() -> None:
    """It takes the dense layers' `gate_proj` for that of transformers 4's experts."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    ranks = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
    config = DeepseekV3Config(
        **(sizes | ranks),
        vocab_size=64,
        num_attention_heads=4,
        num_key_value_heads=4,
        qk_nope_head_dim=8,
        first_k_dense_replace=1,
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
    )
    with torch.device("meta"):
        model = DeepseekV3ForCausalLM(config)
    with pytest.raises(ValueError, match=r"lora: of Deepseek.* experts' down_proj, gate_up_proj"):
        lora_targets(model)


def test_peft_on_the_identity_is_noticed(towers: dict[str, str], llm: str) -> None:
    """Which is what `all-linear` and `modules_to_save=["multi_modal_projector"]` would do."""
    model, _ = load_parts(towers["clip"], llm, "linear")
    peft = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    with pytest.raises(ValueError, match="was trained, adapted or quantised"):
        fix_identity(peft)


def test_a_model_without_linear_layers_has_no_lora_targets() -> None:
    class Decoder(torch.nn.Module):
        def get_decoder(self) -> torch.nn.Module:
            return self

    with pytest.raises(ValueError, match="Decoder has no linear layer"):
        lora_targets(Decoder())


def test_a_full_disk_leaves_no_half_of_a_checkpoint(
    toys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        (tmp_path / "llm" / "config.json").write_text("{}")
        raise SafetensorError("Error while serializing: No space left on device")

    (tmp_path / "llm").mkdir()
    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    with pytest.raises(ValueError, match=r"llm: cannot be written: .*No space left"):
        extract_llm(str(toys[1]), tmp_path / "llm")
    assert not (tmp_path / "llm").exists()
