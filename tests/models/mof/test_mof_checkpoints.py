"""Checkpoints of two towers: what is saved, loaded, taken out, merged and refused."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
)

from tests.conftest import REPOSITORY
from tests.helpers.checkpoints import clone, rewrite, without
from tests.helpers.mof import PATCHES, save_tower
from verbalizer_bench.cli import main
from verbalizer_bench.models.checkpoints.compose import extract_llm
from verbalizer_bench.models.checkpoints.merge_weights import merge_weights
from verbalizer_bench.models.checkpoints.strict_loading import load_whole
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256
from verbalizer_bench.models.mof import MofLlavaConfig

RETURN: dict[str, Any] = {"return_tensors": "pt"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("towers")


def features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack(model.get_image_features(pixels).pooler_output)


def test_what_is_saved(mofs: dict[str, Path], tmp_path: Path) -> None:
    for mixture, made in mofs.items():
        config = json.loads((made / "config.json").read_text())
        assert (config["model_type"], config["mixture"]) == ("mof_llava", mixture)
        assert config["auto_map"] == {
            "AutoConfig": "configuration_mof_llava.MofLlavaConfig",
            "AutoModelForImageTextToText": "modeling_mof_llava.MofLlavaForConditionalGeneration",
        }
        first = AutoConfig.from_pretrained(made)
        assert isinstance(first, MofLlavaConfig)
        first.save_pretrained(tmp_path / mixture)
        again = AutoConfig.from_pretrained(tmp_path / mixture)
        assert again.to_dict() | {"_name_or_path": str(made)} == first.to_dict()
        for name in ("configuration_mof_llava.py", "modeling_mof_llava.py"):
            code = (REPOSITORY / "models" / "mof" / name).read_text()
            assert (made / name).read_text() == code
            assert imported(code) <= {"typing", "torch", "transformers", "configuration_mof_llava"}
        processor = AutoProcessor.from_pretrained(made)
        assert type(processor).__name__ == "LlavaProcessor"
    assert MofLlavaConfig().second_vision_config.model_type == "dinov2"


def imported(code: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture": "sum"}, "mixture=sum: one of additive"),
        ({"alpha": 0.5}, "alpha=0.5: mixture=channel has no share"),
        ({"second_vision_config": {"model_type": "dinov9"}}, "transformers has no model_type=dino"),
        ({"second_normalization": {"mean": [0, 0, 0]}}, "second_normalization has mean; give"),
        ({"second_vision_feature_layer": 7}, "second_vision_feature_layer=7: dinov2 has hidden"),
    ],
)
def test_a_wrong_config_json_is_an_error_of_one_line(
    mofs: dict[str, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = clone(mofs["channel"], tmp_path / "copy", **changes)
    with pytest.raises(ValueError, match=message) as error:
        load_whole(AutoModelForImageTextToText, str(folder), f"model_args pretrained={folder}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["second_vision_tower", "second_multi_modal_projector.linear_2"])
def test_a_checkpoint_that_lacks_weights_is_refused(
    mofs: dict[str, Path], tmp_path: Path, part: str
) -> None:
    folder = rewrite(clone(mofs["interleaved"], tmp_path / "copy"), without(part))
    with pytest.raises(ValueError, match=f"not in it, such as model.{part}"):
        load_whole(AutoModelForImageTextToText, str(folder), f"model_args pretrained={folder}")


def test_the_language_model_comes_out_and_is_merged(
    toys: tuple[Path, Path], mofs: dict[str, Path], tmp_path: Path
) -> None:
    made = mofs["interleaved"]
    extract_llm(str(made), tmp_path / "llm")
    one, other = (AutoModelForCausalLM.from_pretrained(f) for f in (toys[0], tmp_path / "llm"))
    ids = torch.arange(40)[None]
    assert torch.equal(one(ids).logits, other(ids).logits)
    merge_weights(str(toys[0]), [str(made)], [(1.0,)], tmp_path / "merged")
    whole = load_whole(AutoModelForImageTextToText, str(tmp_path / "merged"), "merged")
    before = AutoModelForImageTextToText.from_pretrained(made).state_dict()
    assert all(torch.equal(w, before[name]) for name, w in whole.state_dict().items())
    assert checkpoint_sha256(tmp_path / "merged") == checkpoint_sha256(made)
    assert (tmp_path / "merged" / "modeling_mof_llava.py").is_file()


def test_a_device_map(mofs: dict[str, Path]) -> None:
    model = AutoModelForImageTextToText.from_pretrained(mofs["interleaved"], device_map="auto")
    assert {str(weight.device) for weight in model.parameters()} == {"cpu"}
    plain = AutoModelForImageTextToText.from_pretrained(mofs["interleaved"])
    pixels = torch.rand(1, 3, 32, 32)
    assert torch.equal(features(model, pixels), features(plain, pixels))


def test_arguments_that_the_configuration_decides(mofs: dict[str, Path]) -> None:
    model = AutoModelForImageTextToText.from_pretrained(mofs["channel"])
    for name, value in (("vision_feature_layer", -1), ("vision_feature_select_strategy", "full")):
        with pytest.raises(ValueError, match=f"{name}={value}: .*configuration decides"):
            model.get_image_features(torch.rand(1, 3, 32, 32), **{name: value})


def test_compose_on_the_command_line(
    toys: tuple[Path, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compose", "--vision-tower", save_tower(folder, "clip"), "--llm", str(toys[0])]
    words += ["--connector", "linear", "-o", str(tmp_path / "out")]
    second = ["--second-tower", save_tower(folder, "dinov2")]
    for wrong, said in (
        (second, "give --mixture: additive, interleaved or channel"),
        (["--alpha", "0.5"], "alpha is of a second tower; give --second-tower"),
        ([*second, "--mixture", "additive"], "additive takes alpha"),
        ([*second, "--mixture", "mean"], "mixture=mean: one of"),
    ):
        assert main([*words, *wrong]) == 2 and said in capsys.readouterr().err
    more = ["--mixture", "additive", "--alpha", "0.25", "--normalize", "--second-layer", "2"]
    assert main([*words, *second, *more, "--second-pixels", "own"]) == 0
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert (config.mixture, config.alpha, config.normalize_features) == ("additive", 0.25, True)
    assert (config.second_vision_feature_layer, config.image_seq_length) == (2, PATCHES)
    assert config.second_normalization
