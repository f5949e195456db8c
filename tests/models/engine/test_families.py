"""The engine against `generate` for each family of models, and the table of them in docs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
)

from tests.helpers.asking import requests
from tests.helpers.families import (
    Family,
    Outcome,
    build,
    image_prompts,
    language_prompts,
    outcome,
)
from tests.helpers.families_table import outcomes, row, versions
from tests.helpers.language_families import LANGUAGE_FAMILIES
from tests.helpers.vision_families import VISION_FAMILIES
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.engine import support

TABLE = Path(__file__).parents[3] / "docs" / "families.md"


@pytest.mark.parametrize(
    "family", [*LANGUAGE_FAMILIES, *VISION_FAMILIES], ids=lambda family: family.name
)
def test_responses_are_those_of_generate_or_there_is_a_reason(family: Family) -> None:
    if family.model_type not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {family.model_type}")
    found = row(family, outcomes(family))
    # Another version may make other rows; that responses agree was just seen.
    if versions() in TABLE.read_text(encoding="utf-8"):
        assert found in TABLE.read_text(encoding="utf-8"), "run make families"


def test_the_table_has_each_family_once() -> None:
    lines = TABLE.read_text(encoding="utf-8").partition("## Training")[0].splitlines()
    named = [line.split(" | ")[0] for line in lines if line.startswith("| `")]
    families = [*LANGUAGE_FAMILIES, *VISION_FAMILIES]
    assert named == [f"| `{family.model_type}`" for family in families]
    assert len({family.name for family in families}) == len(families)
    assert len({family.model_type for family in LANGUAGE_FAMILIES}) >= 25
    assert len({family.model_type for family in VISION_FAMILIES}) >= 15


def _family(model_type: str) -> Family:
    return next(f for f in [*LANGUAGE_FAMILIES, *VISION_FAMILIES] if f.model_type == model_type)


@pytest.mark.parametrize("model_type", ["qwen2", "gemma2", "mixtral", "deepseek_v3", "qwen2_5_vl"])
def test_lora(model_type: str) -> None:
    family = _family(model_type)
    config = LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False)
    model = get_peft_model(build(family), config).eval()
    prompts = image_prompts(family) if family.images else language_prompts()
    assert outcome(model, prompts) == Outcome(None)


def test_quantised_weights(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    # Blocks have 64 weights.
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    build(Family("llama", "", sizes)).save_pretrained(tmp_path)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=config, dtype=torch.float32, device_map="cpu"
    )
    assert outcome(model, language_prompts()) == Outcome(None)


def test_llama_4_where_its_temperature_changes(
    toys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its layers count places in transformers' cache, which the engine has not."""
    tokenizer = AutoTokenizer.from_pretrained(toys[0])
    tokenizer.save_pretrained(tmp_path)
    sizes = {"vocab_size": len(tokenizer), "floor_scale": 16, "attn_scale": 1.0}
    family = _family("llama4_text")
    build(replace(family, sizes={**family.sizes, **sizes})).save_pretrained(tmp_path)
    prompts = ["good", "good and " * 20]

    def engines() -> list[str]:
        lm = VerbalizerLLM(str(tmp_path), dtype="float32", device="cpu")
        lm.generate_until(requests(prompts, num_beams=2, max_gen_toks=4), disable_tqdm=True)
        return list(lm.get_model_info()["verbalizer_bench"]["engine"])

    assert engines() == ["generate"]
    # A reason that no list has is found, too, if only in long prompts.
    monkeypatch.setattr(support, "_temperature_limit", lambda config: None)
    assert engines() == ["generate"]
    prompts = prompts[:1]
    assert engines() == ["shared_prefix"]
