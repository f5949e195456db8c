"""Every shipped recipe is read, explains itself, and trains what it says."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from verbalizer_bench.trainers.recipe import Recipe, read_recipe

RECIPES = REPOSITORY / "recipes"
FOLDERS = ("paper", "llava15", "alignment", "mof", "current", "tiny")
SHIPPED = sorted(
    file.relative_to(REPOSITORY).as_posix()
    for folder in FOLDERS
    for file in (RECIPES / folder).rglob("*.yaml")
)
ACCELERATE = sorted(file.name for file in (RECIPES / "accelerate").glob("*.yaml"))
PREFERENCE = ("dpo", "rejection", "steerlm")
LADDER = ("0_llava", "1_vqav2", "2_format_prompt", "3_mlp", "4_okvqa_ocr")
LADDER += ("5_region", "6_336px", "7_gqa", "8_sharegpt", "9_13b")


def opening(name: str) -> str:
    """Return the comment that a file opens with."""
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    ends = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[:ends])


def test_the_recipes_that_are_shipped() -> None:
    names = {folder: {Path(n).stem for n in SHIPPED if f"/{folder}/" in n} for folder in FOLDERS}
    assert names["paper"] == {
        "connector",
        "llm_foit",
        "llm_nofoit",
        "lvlm_fovit",
        "lvlm_nofovit",
        "lvlm_llava",
    }
    assert names["tiny"] == {"pretrain", "vit", "vit_lora", "sft", "sft_lora", *PREFERENCE}
    assert names["llava15"] >= set(LADDER)
    assert ACCELERATE == ["cpu2.yaml", "ddp.yaml", "fsdp2.yaml", "zero2.yaml", "zero3.yaml"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_is_read_and_explains_itself(name: str) -> None:
    recipe = read_recipe(REPOSITORY / name)
    comment = opening(name)
    assert comment.splitlines()[0] == f"# verbalizer-bench train {name}"
    assert f"Yields {recipe.output}:" in comment
    assert "Needs" in comment
    assert recipe.output == Path("checkpoints", *Path(name).with_suffix("").parts[1:])
    for command in re.findall(r"verbalizer_bench train (\S+)", comment):
        assert command == name
    for other in re.findall(r"recipes/\S+\.(?:yaml|md)", comment):
        assert (REPOSITORY / other).is_file()
    for processes in (1, 2, 4, 8) if "tiny" not in name else (1, 2):
        assert recipe.gradient_accumulation_steps(processes) >= 1


@pytest.mark.parametrize("name", [n for n in SHIPPED if "/tiny/" not in n])
def test_what_was_not_run_is_said(name: str) -> None:
    assert "It was not run at full size." in opening(name)
    assert read_recipe(REPOSITORY / name).trained_parameters


@pytest.mark.parametrize("name", [n for n in SHIPPED if not re.search("/(paper|current)/", n)])
def test_a_recipe_begins_with_what_another_makes(name: str) -> None:
    path = read_recipe(REPOSITORY / name).model.path
    made = {str(read_recipe(REPOSITORY / other).output) for other in SHIPPED}
    hub = {"llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-13b-hf"} if "/alignment/" in name else ()
    assert path is None or path in made or path in hub


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("llm_foit", 1024),
        ("llm_nofoit", 1024),
        ("lvlm_fovit", 512),
        ("lvlm_nofovit", 512),
        ("lvlm_llava", 512),
    ],
)
def test_the_papers_settings(name: str, length: int) -> None:
    recipe = read_recipe(f"paper/{name}")
    assert (recipe.num_train_epochs, recipe.global_batch_size, recipe.learning_rate) == (
        1,
        32,
        5e-5,
    )
    assert (recipe.lr_scheduler_type, recipe.max_length, recipe.lora) == ("cosine", length, None)
    connector = read_recipe("paper/connector")
    assert connector.model.connector == "linear"
    if name.startswith("lvlm"):
        assert recipe.model.path == str(connector.output)


def test_the_papers_recipes_differ_in_their_data_only() -> None:
    first, second, third = (
        read_recipe(f"paper/{name}").as_dict()
        for name in ("lvlm_fovit", "lvlm_nofovit", "lvlm_llava")
    )
    assert differences(first, second) == {"data", "output"}
    assert differences(first, third) == {"data", "images", "output", "save_steps"}
    texts = (read_recipe(f"paper/{name}").as_dict() for name in ("llm_foit", "llm_nofoit"))
    assert differences(*texts) == {"data", "output"}


def differences(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in one if one[key] != other[key]}


def test_a_step_of_the_ladder_changes_one_thing() -> None:
    steps = [read_recipe(f"llava15/{name}").as_dict() for name in LADDER]
    model = {"model", "trained_parameters"}
    changes = [differences(*pair) - {"output"} for pair in pairwise(steps)]
    assert changes == [
        {"data"},
        {"data"},
        model,
        {"data"},
        {"data"},
        {"model"},  # 336 px: as many parameters
        {"data"},
        {"data"},
        model | {"per_device_batch_size"},
    ]
    # Each begins with a connector of its own tower, connector and language model.
    stages = {read_recipe(step["model"]["path"].split("/", 1)[1]).model for step in steps}
    assert len(stages) == len({step["model"]["path"] for step in steps}) == 4


def linear(inner: int, outer: int) -> int:
    return inner * outer + outer


def llama(width: int, inner: int, layers: int, words: int = 32_000) -> int:
    """Return the parameters of a Llama 2 whose output layer is its own."""
    layer = 4 * width**2 + 3 * width * inner + 2 * width
    return 2 * words * width + layers * layer + width


def test_trained_parameters_by_hand() -> None:
    assert llama(4096, 11_008, 32) == 6_738_415_616
    small, large = llama(4096, 11_008, 32, 32_001), llama(5120, 13_824, 40, 32_001)
    one, two = linear(1024, 4096), linear(1024, 4096) + linear(4096, 4096)
    wide = linear(1024, 5120) + linear(5120, 5120)
    adapter = 32 * 128 * (4 * (4096 + 4096) + 3 * (4096 + 11_008))
    large_adapter = 40 * 128 * (4 * (5120 + 5120) + 3 * (5120 + 13_824))
    expected = {
        "paper/connector": one,
        "paper/llm_foit": llama(4096, 11_008, 32),
        "paper/llm_nofoit": llama(4096, 11_008, 32),
        **dict.fromkeys(("paper/lvlm_fovit", "paper/lvlm_nofovit"), small + one),
        "paper/lvlm_llava": small + one,
        "llava15/connector_linear": one,
        "llava15/connector_mlp": two,
        "llava15/connector_336px": two,
        "llava15/connector_13b": wide,
        **{f"llava15/{step}": small + (one if number < 3 else two) for number, step in ladder(9)},
        "llava15/9_13b": large + wide,
        "llava15/8_sharegpt_lora": adapter + two,
        **dict.fromkeys(("alignment/sft_7b", "alignment/steerlm_7b"), adapter + two),
        **dict.fromkeys(("alignment/rejection_7b", "alignment/mpo_7b"), adapter + two),
        "alignment/dpo_7b": adapter + two,
        **{f"alignment/dpo_7b_{name}": adapter + two for name in ("no_image", "format_pairs")},
        "alignment/dpo_7b_attention": 32 * 128 * 4 * (4096 + 4096) + two,
        **{f"alignment/{name}_13b": large_adapter + wide for name in ("sft", "steerlm", "dpo")},
        **{f"alignment/{n}": large_adapter + wide for n in ("rejection_13b", "dpo_13b_no_image")},
        "alignment/vit_7b_attention": 32 * 4 * 4096**2 + two,
        "alignment/vit_7b_mlp_in": 32 * 2 * 4096 * 11_008 + two,
        "alignment/vit_7b_text_replay": small + two,
        **mof(linear(1024, 5120), wide, two, small, large),
        "tiny/pretrain": 2_112,
        "tiny/vit": 153_984,
        **{f"tiny/{name}": 153_984 for name in PREFERENCE},
        "tiny/vit_lora": 20_032,
        "tiny/sft": 151_872,
        "tiny/sft_lora": 17_920,
    }
    stated = {
        name.removeprefix("recipes/").removesuffix(".yaml"): read_recipe(
            REPOSITORY / name
        ).trained_parameters
        for name in SHIPPED
        # Those of today's models are counted in test_current_recipes.py.
        if "/current/" not in name
    }
    assert stated == expected


def mof(line: int, wide: int, narrow: int, small: int, large: int) -> dict[str, int]:
    """Return what two towers train: interleaved ones have a connector each."""
    rows = {
        "llava_224": (line, large),
        "llava_336": (line, large),
        "llava_additive_224": (line, large),
        "llava_interleaved_224": (2 * line, large),
        "llava15_interleaved_224": (2 * wide, large),
        "llava15_interleaved_336": (2 * wide, large),
        "llava15_interleaved_336_7b": (2 * narrow, small),
    }
    stages = {f"mof/connector_{name}": connectors for name, (connectors, _) in rows.items()}
    return stages | {f"mof/{name}": sum(parts) for name, parts in rows.items()}


def ladder(steps: int) -> list[tuple[int, str]]:
    return list(enumerate(LADDER[:steps]))


@pytest.mark.parametrize("name", ["pretrain", "sft", "sft_lora", "vit", "vit_lora", *PREFERENCE])
def test_trained_parameters_of_the_tiny_models(name: str) -> None:
    from verbalizer_bench.trainers.checkpoints.load import load_shapes
    from verbalizer_bench.trainers.checkpoints.trainable import count_parameters

    part = "llama" if name.startswith("sft") else "llava"
    recipe = read_recipe(f"tiny/{name}", [f"model.config={RECIPES / 'tiny' / part}"])
    model = load_shapes(recipe)
    assert count_parameters(model, recipe)[0] == recipe.trained_parameters
    assert all(weight.is_meta for weight in model.parameters())


def test_another_adapter_is_another_number() -> None:
    """The page's `lora.r=64`: eight times the 17,920 of rank 8, whatever the recipe states."""
    from verbalizer_bench.trainers.checkpoints.load import load, load_shapes
    from verbalizer_bench.trainers.checkpoints.trainable import count_parameters

    assert "`lora.r=64`" in (REPOSITORY / "docs" / "training.md").read_text()
    recipe = read_recipe("tiny/sft_lora", ["lora.r=64"])
    assert count_parameters(load_shapes(recipe), recipe)[0] == 8 * 17_920
    whole = read_recipe("tiny/sft_lora", ["lora=null"])
    assert count_parameters(load_shapes(whole), whole)[0] == 151_872
    for words in (["seed=1"], ["lora.r=64", "trained_parameters=17920"]):
        assert read_recipe("tiny/sft_lora", words).trained_parameters == 17_920
    wrong = read_recipe("tiny/sft_lora", ["lora.r=64", "trained_parameters=17920"])
    with pytest.raises(ValueError, match=r"trains 143,360; .* give trained_parameters=143360"):
        load(wrong)


def test_the_tiny_data() -> None:
    from verbalizer_bench.io.conversation_files import read_records
    from verbalizer_bench.io.conversations import Conversation

    sizes = {}
    for name in ("captions.json", "instruct.json", "text.jsonl"):
        records = list(read_records(RECIPES / "tiny" / "data" / name))
        assert all(isinstance(record, Conversation) for record in records)
        with_image = sum(
            bool(record.images) for record in records if isinstance(record, Conversation)
        )
        sizes[name] = (with_image, len(records) - with_image)
    assert sizes == {"captions.json": (64, 0), "instruct.json": (64, 32), "text.jsonl": (0, 64)}
    # No batch of a tiny recipe is mixed.
    assert all(number % 8 == 0 for pair in sizes.values() for number in pair)
    assert len(list((RECIPES / "tiny" / "data" / "images").glob("*.png"))) == 24


@pytest.mark.parametrize("name", ACCELERATE)
def test_accelerate_reads_its_files(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(RECIPES / "accelerate" / name))
    assert config.mixed_precision == "no"  # the recipe's precision decides
    comment = opening(f"recipes/accelerate/{name}")
    for trained in re.findall(r"verbalizer_bench train (\S+\.yaml)", comment):
        assert (REPOSITORY / trained).is_file()
    if name == "cpu2.yaml":
        assert comment.startswith("# torchrun --nproc_per_node 2 -m verbalizer_bench train ")
    else:
        assert f"--config_file recipes/accelerate/{name}" in comment
        assert "Only written: it was not run" in comment


@pytest.mark.parametrize("kind", ["causal", "llava"])
def test_fsdp2_wraps_the_layers_of_both_kinds(kind: str) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy

    from verbalizer_bench.trainers.checkpoints.load import load_shapes

    recipe = read_recipe("tiny/sft" if kind == "causal" else "tiny/pretrain")
    text = (RECIPES / "accelerate" / "fsdp2.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(text)["fsdp_config"]
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=settings["fsdp_version"],
        auto_wrap_policy=settings["fsdp_auto_wrap_policy"],
        transformer_cls_names_to_wrap=[settings["fsdp_transformer_layer_cls_to_wrap"]],
    )
    model = load_shapes(recipe)
    wrapped = fsdp2_prepare_auto_wrap_policy(plugin, model)
    assert wrapped is not None
    assert sum(wrapped(module) for module in model.modules()) == 2


def test_a_shipped_recipe_has_a_name() -> None:
    recipe = read_recipe("paper/llm_foit")
    assert recipe == read_recipe(RECIPES / "paper" / "llm_foit.yaml")
    assert recipe == read_recipe("recipes/paper/llm_foit.yaml")
    assert isinstance(recipe, Recipe)


def test_a_shipped_recipe_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe("tiny/pretrain")
    assert recipe.data[0].is_file()
    assert recipe.images is not None and recipe.images.is_dir()
    assert recipe.model.config is not None and Path(recipe.model.config, "config.json").is_file()


def test_a_recipe_as_yaml_is_that_recipe(tmp_path: Path) -> None:
    for name in SHIPPED:
        recipe = read_recipe(REPOSITORY / name)
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(recipe.as_dict()), encoding="utf-8")
        # A default is not a path that was read: its ~ stays.
        assert differences(read_recipe(file).as_dict(), recipe.as_dict()) <= {"cache"}


@pytest.mark.parametrize("name", LADDER)
def test_the_ladder_groups_by_modality(name: str) -> None:
    assert read_recipe(f"llava15/{name}").group == "modality"
