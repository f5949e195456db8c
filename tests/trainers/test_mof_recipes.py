"""The recipes of recipes/mof at true shapes, and what they have of the paper."""

import re
from pathlib import Path

import pytest
from transformers import CLIPVisionConfig, Dinov2Config, LlamaConfig

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.models.checkpoints.compose import join_configs
from verbalizer_bench.models.checkpoints.second_tower import SecondTower
from verbalizer_bench.trainers.recipe import Recipe, read_recipe

TINY = REPOSITORY / "recipes" / "tiny"
FOLDER = REPOSITORY / "recipes" / "mof"
# One of each stage and size is shown by default.
SHOWN = ("llava_interleaved_224", "connector_llava15_interleaved_336_7b")
NAMES = [
    pytest.param(file.stem, marks=() if file.stem in SHOWN else pytest.mark.slow)
    for file in sorted(FOLDER.glob("*.yaml"))
]
TOKENS = {"224": 256, "336": 576}
SHARES = (1, 0.75, 0.5, 0.375, 0.25, 0.125, 0)


def connector_of(name: str) -> Recipe:
    return read_recipe(f"mof/connector_{name.removeprefix('connector_')}")


def shapes(name: str, folder: Path, alpha: float | None = None) -> Path:
    """Write nothing but the configuration that a recipe's parts would have; no hub is asked."""
    model = connector_of(name).model
    pixels = 336 if str(model.vision_tower).endswith("336") else 224
    sides = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    vision = CLIPVisionConfig(**sides, intermediate_size=4096, image_size=pixels, patch_size=14)
    width, inner, layers = (4096, 11_008, 32) if "7b" in str(model.llm) else (5120, 13_824, 40)
    llama = LlamaConfig(
        vocab_size=32_000,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=layers,
        tie_word_embeddings=False,
    )
    second = None
    if model.second:
        Dinov2Config(**sides, image_size=518, patch_size=14).save_pretrained(folder / "dinov2")
        given = model.second
        second = SecondTower(str(folder / "dinov2"), given.mixture, alpha or given.alpha)
    config = join_configs(vision, llama, str(model.connector), 32_000, 32_001, second=second)
    config.save_pretrained(folder / "shapes")
    mixed = 2 if second and second.mixture == "interleaved" else 1
    assert config.image_seq_length == mixed * TOKENS[str(pixels)]
    return folder / "shapes"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_at_true_shapes(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = read_recipe(FOLDER / f"{name}.yaml")
    data = "captions" if recipe.method == "pretrain" else "instruct"
    words = [f"model.config={shapes(name, tmp_path)}", f"tokenizer={TINY / 'llava'}"]
    words += [f"data={TINY / 'data' / f'{data}.json'}"]
    assert main(["train", str(FOLDER / f"{name}.yaml"), "--dry-run", *words]) == 0
    text = capsys.readouterr().out
    assert f"{recipe.trained_parameters:,} trained" in text
    assert "First sample; the loss is on what stands between ⟦ and ⟧" in text
    assert "NOT" not in text
    assert ("MofLlava" in text) == (connector_of(name).model.second is not None)


def test_the_table_has_each_recipe_and_its_numbers() -> None:
    page = (FOLDER / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)`(?: and its grid)? \| ([^\n]+) \|$", page, re.M))
    assert rows.keys() == {
        file.stem for file in FOLDER.glob("*.yaml") if not file.stem.startswith("connector_")
    }
    for name, row in rows.items():
        tokens, trained, numbers = row.split(" | ")
        recipe, first = read_recipe(f"mof/{name}"), connector_of(name)
        assert recipe.model.path == str(first.output)
        assert trained == f"{first.trained_parameters:,} and {recipe.trained_parameters:,}"
        mixed = 2 if first.model.second and first.model.second.mixture == "interleaved" else 1
        assert int(tokens.replace(",", "")) == mixed * TOKENS[name.split("_")[-1 - ("7b" in name)]]
        comment = " ".join((FOLDER / f"{name}.yaml").read_text().replace("#", "").split())
        if found := re.fullmatch(r"([\d.]+), ([\d.]+), ([\d.]+)", numbers):
            mmvp, bench, pope = found.groups()
            assert f"row has MMVP {mmvp}, LLaVA-Bench {bench}, POPE {pope}." in comment
    assert "`llava15/9_13b`" in page and "31,467,520 and 13,047,342,080" in page


@pytest.mark.parametrize("name", [param.values[0] for param in NAMES])
def test_the_papers_settings(name: str) -> None:
    recipe, first = read_recipe(f"mof/{name}"), connector_of(str(name))
    new = "llava15" in str(name)
    model = first.model
    assert model.connector == ("mlp2x_gelu" if new else "linear")
    assert str(model.llm).endswith("v1.5" if new else "v1.3")
    if model.second:
        assert (model.second.tower, model.second.pixels) == ("facebook/dinov2-large", "first")
        assert (model.second.layer, model.second.first_layer) == (None, -2)
    if recipe.method == "pretrain":
        assert (recipe.global_batch_size, recipe.learning_rate) == (256, 1e-3 if new else 2e-3)
    else:
        assert (recipe.global_batch_size, recipe.learning_rate) == (128, 2e-5)


def test_the_grid_of_the_additive_mixture() -> None:
    page = (FOLDER / "README.md").read_text()
    assert f"for share in {' '.join(f'{share:g}' for share in SHARES)}; do" in page
    for share in SHARES:
        recipe = read_recipe("mof/connector_llava_additive_224", [f"model.second.alpha={share:g}"])
        assert recipe.model.second and recipe.model.second.alpha == share
    one = read_recipe("mof/connector_llava_additive_224").as_dict()
    other = read_recipe("mof/connector_llava_224").as_dict()
    assert {key for key in one if one[key] != other[key]} == {"model", "output"}
    assert one["trained_parameters"] == other["trained_parameters"]
