"""The recipes of recipes/alignment at true shapes, and what they have of the paper."""

from pathlib import Path

import pytest
from transformers import CLIPVisionConfig, LlamaConfig

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.models.checkpoints.compose import join_configs
from verbalizer_bench.trainers.recipe import read_recipe

TINY = REPOSITORY / "recipes" / "tiny"
FOLDER = REPOSITORY / "recipes" / "alignment"
# One of each shape and method is shown by default.
SHOWN = ("dpo_13b", "steerlm_13b", "rejection_7b", "dpo_7b_attention", "vit_7b_mlp_in")
NAMES = [
    pytest.param(file.stem, marks=() if file.stem in SHOWN else pytest.mark.slow)
    for file in sorted(FOLDER.glob("*.yaml"))
]
ROWS = {"sft": "vit", "steerlm": "steerlm", "rejection": "rejection", "dpo": "dpo"}
DATA = {
    "vit": "instruct.json",
    "dpo": "pairs.jsonl",
    "rejection": "completions.jsonl",
    "steerlm": "completions.jsonl",
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders with nothing but the configurations of LLaVA-1.5."""
    folder = tmp_path_factory.mktemp("shapes")
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    for name, width, inner, layers in (("7b", 4096, 11_008, 32), ("13b", 5120, 13_824, 40)):
        llama = LlamaConfig(
            vocab_size=32_000,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=layers,
            tie_word_embeddings=False,
        )
        config = join_configs(vision, llama, "mlp2x_gelu", 32_000, 32_001)
        config.save_pretrained(folder / name)
    return {name: folder / name for name in ("7b", "13b")}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_at_true_shapes(
    name: str, shapes: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = read_recipe(FOLDER / f"{name}.yaml")
    words = [f"model.config={shapes['13b' if '13b' in name else '7b']}"]
    words += [f"data={TINY / 'data' / DATA[recipe.method]}", "data_weights=null"]
    words += [f"tokenizer={TINY / 'llava'}"]
    assert main(["train", str(FOLDER / f"{name}.yaml"), "--dry-run", *words]) == 0
    text = capsys.readouterr().out
    assert f"{recipe.trained_parameters:,} trained" in text
    assert "First sample; the loss is on what stands between ⟦ and ⟧" in text
    assert "NOT" not in text
    assert ("reference   " in text) == (recipe.method == "dpo")
    assert ("The same with the rejected answer:\n" in text) == (recipe.method == "dpo")
    method = text.partition("\n")[0]
    assert ("attention" in method) == (recipe.trained_modules == "attention")
    assert ("0.8 sigmoid + 0.2 bco_pair + sft" in method) == name.startswith("mpo")
    assert "1 epochs" not in text


@pytest.mark.parametrize("size", ["7b", "13b"])
@pytest.mark.parametrize("row", ROWS)
def test_the_papers_settings(row: str, size: str) -> None:
    recipe = read_recipe(f"alignment/{row}_{size}")
    assert recipe.method == ROWS[row]
    assert recipe.model.path == f"llava-hf/llava-1.5-{size}-hf"
    assert recipe.lora is not None
    assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.dropout) == (128, 256, 0.05)
    assert recipe.connector_learning_rate == 2e-5
    assert recipe.learning_rate == (5e-5 if row == "dpo" else 4e-4)
    assert (recipe.num_train_epochs, recipe.global_batch_size) == (3, 128)
    assert (recipe.lr_scheduler_type, recipe.warmup_ratio, recipe.weight_decay) == (
        "cosine",
        0.03,
        0,
    )
    if recipe.dpo:
        assert (recipe.dpo.beta, recipe.dpo.loss_type) == (0.1, ("sigmoid",))


def test_a_variant_changes_one_thing() -> None:
    base = read_recipe("alignment/dpo_7b").as_dict()
    for name, changed in (
        ("dpo_7b_no_image", {"data"}),
        ("dpo_7b_format_pairs", {"data", "images"}),
        ("mpo_7b", {"dpo"}),
        ("dpo_7b_attention", {"trained_modules", "trained_parameters"}),
    ):
        other = read_recipe(f"alignment/{name}").as_dict()
        assert {key for key in base if base[key] != other[key]} - {"output"} == changed, name
    ladder = read_recipe("llava15/8_sharegpt").as_dict()
    for name, changed in (
        ("vit_7b_attention", {"trained_modules", "trained_parameters"}),
        ("vit_7b_mlp_in", {"trained_modules", "trained_parameters"}),
        ("vit_7b_text_replay", {"data", "data_weights"}),
    ):
        other = read_recipe(f"alignment/{name}").as_dict()
        assert {key for key in ladder if ladder[key] != other[key]} - {"output"} == changed, name


def test_what_the_data_recipes_make_is_what_is_trained_on() -> None:
    made = (REPOSITORY / "recipes" / "data" / "preference.yaml").read_text()
    assert "output: data/preference\n" in made
    for name in ("pairs", "pairs_no_image"):
        assert f"\n  {name}: {{" in made
    assert read_recipe("alignment/dpo_13b").data == (Path("data/preference/pairs.jsonl"),)
