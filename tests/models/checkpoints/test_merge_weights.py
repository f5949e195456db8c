import json
import math
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from tests.helpers.checkpoints import clone, renamed, rewrite, without
from verbalizer_bench.cli.app import main
from verbalizer_bench.models.checkpoints import stored_weights
from verbalizer_bench.models.checkpoints.compose import compose, extract_llm
from verbalizer_bench.models.checkpoints.merge_rules import add, add_ties, least_kept
from verbalizer_bench.models.checkpoints.merge_weights import merge_weights
from verbalizer_bench.models.checkpoints.strict_loading import load_whole
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4}
WORDS = ["</s>", "e", *"abcdfghijklmnop"]
IN_LLAVA = "language_model.model."


def save_llm(folder: Path, **config: Any) -> Path:
    torch.manual_seed(1)
    settings = SMALL | {"vocab_size": len(WORDS), "eos_token_id": 0} | config
    AutoModelForCausalLM.from_config(LlamaConfig(**settings)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "e"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="e")
    fast.save_pretrained(folder)
    return folder


def moved(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights after some training: all of them are others."""
    torch.manual_seed(2)
    return {name: weight + torch.randn_like(weight) * 0.1 for name, weight in weights.items()}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a base and the tuned LLaVA over it, which has two tokens more."""
    folder = tmp_path_factory.mktemp("pair")
    base = save_llm(folder / "base")
    vision = CLIPVisionConfig(
        **SMALL, image_size=32, patch_size=8, projection_dim=32, num_channels=3
    )
    CLIPVisionModel(vision).save_pretrained(folder / "clip")
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder / "clip")
    compose(str(folder / "clip"), str(base), "mlp2x_gelu", folder / "tuned")
    return base, rewrite(folder / "tuned", moved)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: w for file in folder.glob("*.safetensors") for name, w in load_file(file).items()}


def in_llava(name: str) -> str:
    return f"language_model.{name}"


def test_merged_weights(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = pair
    (folder,) = merge_weights(str(base), [str(tuned)], [(0.25,)], tmp_path / "merged")
    ours, theirs, found = weights_of(base), weights_of(tuned), weights_of(folder)
    assert found.keys() == theirs.keys()
    for name, weight in ours.items():
        other = theirs[in_llava(name)]
        wanted = other.clone()
        wanted[: len(weight)] = weight + 0.25 * (other[: len(weight)] - weight)
        assert torch.equal(found[in_llava(name)], wanted), name
    kept = theirs.keys() - set(map(in_llava, ours))
    assert len(kept) > 30 and all(torch.equal(found[name], theirs[name]) for name in kept)
    rows = found[f"{IN_LLAVA}embed_tokens.weight"]
    assert len(rows) == len(WORDS) + 1
    assert torch.equal(rows[-1], theirs[f"{IN_LLAVA}embed_tokens.weight"][-1])
    load_whole(LlavaForConditionalGeneration, str(folder), "merged")
    assert not (tmp_path / "merged.part").exists()


def test_record_and_card(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = pair
    (folder,) = merge_weights(str(base), [str(tuned)], [(0.25,)], tmp_path / "merged")
    record = json.loads((folder / "merge.json").read_text())
    assert record["base"]["weights"] == checkpoint_sha256(base)
    assert record["tuned"][0]["weights"] == checkpoint_sha256(tuned)
    assert record["tuned"][0]["coefficient"] == 0.25
    assert record["weights"] == checkpoint_sha256(folder)
    assert record["merged"] == {"weights": 21, "dtypes": {"float32": 21}}
    kept = record["kept of the first tuned"]
    assert kept["tokens"] == {str(len(WORDS)): "<image>"}
    assert kept["by part"].keys() == {"vision_tower", "multi_modal_projector"}
    card = (folder / "README.md").read_text()
    assert "0.25 of" in card and f"pretrained={folder},dtype=float32,image=white" in card


@pytest.mark.parametrize("coefficient", [0.0, 1.0])
def test_ends_are_bit_for_bit(pair: tuple[Path, Path], tmp_path: Path, coefficient: float) -> None:
    """In float16 too, where base + 1 * (tuned - base) would round, and of zeros with a sign."""
    base = rewrite(clone(pair[0], tmp_path / "base"), half)
    tuned = rewrite(clone(pair[1], tmp_path / "tuned"), half)
    (folder,) = merge_weights(str(base), [str(tuned)], [(coefficient,)], tmp_path / "merged")
    if coefficient:
        assert checkpoint_sha256(folder) == checkpoint_sha256(tuned)
        return
    found = weights_of(folder)
    for name, weight in weights_of(base).items():
        one = found[in_llava(name)][: len(weight)]
        assert torch.equal(one.view(torch.int16), weight.view(torch.int16)), name


def half(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    halved = {name: weight.half() for name, weight in weights.items()}
    for weight in halved.values():
        weight.view(-1)[0] = -0.0
    return halved


def test_pieces_and_shards_change_nothing(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned = pair
    (whole,) = merge_weights(str(base), [str(tuned)], [(0.5,)], tmp_path / "whole")
    monkeypatch.setattr(stored_weights, "_PIECE", 100)
    sharded = shard(tuned, tmp_path / "sharded")
    pickled = clone(base, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    (folder,) = merge_weights(str(pickled), [str(sharded)], [(0.5,)], tmp_path / "pieces")
    assert checkpoint_sha256(folder) == checkpoint_sha256(whole)
    assert sorted(file.name for file in folder.glob("model*")) == [
        *("model-a.safetensors", "model-b.safetensors", "model.safetensors.index.json"),
    ]
    load_whole(LlavaForConditionalGeneration, str(folder), "merged")


def shard(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"a": names[::2], "b": names[1::2]}
    for part, chosen in parts.items():
        content = {name: weights[name] for name in chosen}
        save_file(content, folder / f"model-{part}.safetensors", {"format": "pt"})
    table = {name: f"model-{part}.safetensors" for part, chosen in parts.items() for name in chosen}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": table})
    )
    return folder


def test_names_of_other_versions(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """`model.language_model.` and a head beside it are merged as `language_model.model.` is."""
    base, tuned = pair
    (one,) = merge_weights(str(base), [str(tuned)], [(0.5,)], tmp_path / "one")
    newer = rewrite(clone(tuned, tmp_path / "newer"), renamed(IN_LLAVA, "model.language_model."))
    rewrite(newer, renamed("language_model.lm_head.", "lm_head."))
    (other,) = merge_weights(str(base), [str(newer)], [(0.5,)], tmp_path / "other")
    found, wanted = weights_of(other), weights_of(one)
    assert "lm_head.weight" in found
    for name, weight in wanted.items():
        name = name.replace("language_model.lm_head.", "lm_head.")
        assert torch.equal(found[name.replace(IN_LLAVA, "model.language_model.")], weight)


def test_grid_of_several_checkpoints(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Of a text model too: two task vectors, a folder for each point."""
    base, llava = pair
    text = extract_llm(str(llava), tmp_path / "text")
    other = rewrite(clone(base, tmp_path / "other"), moved)
    folders = merge_weights(
        str(base), [str(text), str(other)], [(0.5, 0.25), (0.0, 1.0)], tmp_path / "grid"
    )
    assert [folder.name for folder in folders] == ["0.5_0.25", "0_1"]
    ours, one, two = weights_of(base), weights_of(text), weights_of(other)
    found, second = map(weights_of, folders)
    for name, weight in ours.items():
        rows = len(weight)
        wanted = weight + 0.5 * (one[name][:rows] - weight) + 0.25 * (two[name] - weight)
        torch.testing.assert_close(found[name][:rows], wanted)
        assert torch.equal(second[name][:rows], two[name])
    load_whole(AutoModelForCausalLM, str(folders[0]), "merged")
    assert "--model verbalizer-llm" in (folders[0] / "README.md").read_text()


def test_points_of_a_grid_that_are_near_have_folders_of_their_own(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    points = [(1 / 3,), (0.333333,), (0.25,)]
    folders = merge_weights(str(pair[0]), [str(pair[1])], points, tmp_path / "grid")
    assert [one.name for one in folders] == ["0.3333333333333333", "0.333333", "0.25"]
    assert len({checkpoint_sha256(folder) for folder in folders}) == 3


def test_types(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The sum is made in float32 and rounded once, to the tuned one's type."""
    base = rewrite(clone(pair[0], tmp_path / "base"), half)
    bfloat = rewrite(
        clone(pair[1], tmp_path / "tuned"),
        lambda weights: {name: w.bfloat16() for name, w in weights.items()},
    )
    (folder,) = merge_weights(str(base), [str(bfloat)], [(0.3,)], tmp_path / "merged")
    ours, theirs = weights_of(base)["model.norm.weight"], weights_of(bfloat)
    other = theirs[f"{IN_LLAVA}norm.weight"]
    wanted = (ours.float() + 0.3 * (other.float() - ours.float())).bfloat16()
    assert torch.equal(weights_of(folder)[f"{IN_LLAVA}norm.weight"], wanted)


def test_tied_embeddings(tmp_path: Path) -> None:
    """A tied base is merged with either kind; an untied one not into tied embeddings."""
    tied = save_llm(tmp_path / "tied", tie_word_embeddings=True)
    untied = save_llm(tmp_path / "untied")
    tuned = rewrite(clone(tied, tmp_path / "tuned"), moved)
    assert "lm_head.weight" not in weights_of(tuned)
    (folder,) = merge_weights(str(tied), [str(tuned)], [(0.5,)], tmp_path / "both")
    load_whole(AutoModelForCausalLM, str(folder), "merged")
    (folder,) = merge_weights(str(tied), [str(untied)], [(0.0,)], tmp_path / "one")
    assert torch.equal(
        weights_of(folder)["lm_head.weight"], weights_of(tied)["model.embed_tokens.weight"]
    )
    with pytest.raises(ValueError, match="its output head is its input embeddings, and that of"):
        merge_weights(str(untied), [str(tuned)], [(0.5,)], tmp_path / "refused")


def test_a_renamed_token_keeps_its_row(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base = pair[0]
    tuned = rewrite(clone(base, tmp_path / "tuned"), moved)
    rename(tuned, {"p": "<image>"})
    (folder,) = merge_weights(str(base), [str(tuned)], [(0.0,)], tmp_path / "merged")
    found, ours = (weights_of(one)["model.embed_tokens.weight"] for one in (folder, base))
    assert torch.equal(found[:-1], ours[:-1]) and not torch.equal(found[-1], ours[-1])


def rename(folder: Path, names: dict[str, str]) -> None:
    file = folder / "tokenizer.json"
    table = json.loads(file.read_text())
    vocabulary = table["model"]["vocab"]
    table["model"]["vocab"] = {names.get(word, word): i for word, i in vocabulary.items()}
    file.write_text(json.dumps(table))


def nan_in(name: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    def broken(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights[name].view(-1)[3] = float("nan")
        return weights

    return broken


def _adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def _nan_in_the_tower(folder: Path) -> None:
    rewrite(folder, nan_in("multi_modal_projector.linear_1.weight"))


def _nan(folder: Path) -> None:
    rewrite(folder, nan_in(f"{IN_LLAVA}layers.1.mlp.up_proj.weight"))


def _torn(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])


def _quantised(folder: Path) -> None:
    name = f"{IN_LLAVA}norm.weight"
    rewrite(folder, lambda weights: weights | {name: weights[name].to(torch.int8)})


def _in_four_bits(folder: Path) -> None:
    """As bitsandbytes writes it: bytes of another shape, and what they are to be scaled by."""
    name = f"{IN_LLAVA}layers.0.mlp.up_proj.weight"
    scales = {f"{name}.absmax": torch.ones(32)}
    packed = {name: torch.zeros(1024, 1, dtype=torch.uint8)}
    rewrite(folder, lambda weights: weights | packed | scales)


def _narrow(folder: Path) -> None:
    name = f"{IN_LLAVA}layers.0.mlp.up_proj.weight"
    rewrite(folder, lambda weights: weights | {name: weights[name][:32]})


def _heads(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"num_attention_heads": 2, "head_dim": 16}
    (folder / "config.json").write_text(json.dumps(config))


def _missing_shard(folder: Path) -> None:
    shard(folder, folder.with_name("sharded"))
    shutil.rmtree(folder)
    folder.with_name("sharded").rename(folder)
    (folder / "model-b.safetensors").unlink()


BROKEN = [
    (_adapter, r"--tuned \S+: is an adapter \(LoRA\); give the checkpoint with it merged in"),
    (_nan, r"--tuned \S+: language_model.model.layers.1.mlp.up_proj.weight holds NaN"),
    (_nan_in_the_tower, r"multi_modal_projector.linear_1.weight holds NaN"),
    (_torn, r"model.safetensors: damaged: \S+ ends beyond the file; copy or save it again"),
    (_quantised, r"language_model.model.norm.weight is stored as I8, quantised; give"),
    (
        _in_four_bits,
        r"--tuned \S+: \S+layers.0.mlp.up_proj.weight is stored as U8, quantised; give",
    ),
    (_narrow, r"1 weights have another shape than in --base \S+, such as .*layers.0.mlp.up_proj"),
    (_heads, r"num_attention_heads is 2, in --base \S+ 4: the same weights mean something else"),
    (_missing_shard, r"1 of its 2 files are not there, such as model-b.safetensors; copy"),
    (lambda folder: rewrite(folder, without("layers.1.")), r"9 weights of the language model of"),
    (lambda folder: rewrite(folder, without("embed_tokens")), r"not one language model but"),
    (lambda folder: rename(folder, dict(pairwise(WORDS))), "another vocab"),
    (lambda folder: (folder / "config.json").unlink(), "cannot be read: .*config.json"),
    (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors and no"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_what_is_refused(
    pair: tuple[Path, Path],
    tmp_path: Path,
    change: Callable[[Path], Any],
    message: str,
) -> None:
    base, tuned = pair
    change(clone(tuned, tmp_path / "broken"))
    with pytest.raises(ValueError, match=message) as caught:
        merge_weights(str(base), [str(tmp_path / "broken")], [(0.5,)], tmp_path / "merged")
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["broken"]


def test_overflow_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base = rewrite(clone(pair[0], tmp_path / "base"), half)
    tuned = rewrite(clone(pair[1], tmp_path / "tuned"), half)
    with pytest.raises(
        ValueError, match=r"--coefficient 10000000.0: .* becomes infinite in F16; give"
    ):
        merge_weights(str(base), [str(tuned)], [(0.5,), (1e7,)], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_command(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned = map(str, pair)
    words = ["merge-weights", "--base", base, "--tuned", tuned, "-o", str(tmp_path / "grid")]
    assert main([*words, "--coefficient", "0.5", "--coefficient", "1"]) == 0
    assert f"Wrote {tmp_path / 'grid' / '0.5'}; " in capsys.readouterr().out
    for extra, message in [
        (["--coefficient", "0.5"], f"output={tmp_path / 'grid'}: is there and not an empty folder"),
        (["-o", "x", "--coefficient", "half"], "--coefficient half: is no number, such as 0.5"),
        (["-o", "x", "--coefficient", "0.1,0.2"], "2 coefficients for 1 --tuned; give one for"),
        (["-o", "x", "--coefficient", "nan"], "--coefficient nan: give finite numbers"),
        (["-o", "x", "--ties", "0", "--coefficient", "1"], "--ties 0: give a share above 0, and 1"),
        (["-o", "x", "--ties", "0.2", "--coefficient", "1,1"], "by --ties there is one, of the me"),
        (["-o", "x"], "merge-weights: no --coefficient; give the tuned one's share, such as 0.5"),
    ]:
        assert main([*words, *extra]) == 2
        assert message in capsys.readouterr().err


def test_the_sum_in_double() -> None:
    base, tuned = torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64).split(1)
    assert add(base, [tuned], (0.5,)).item() == pytest.approx(1.0 + 5e-13, abs=1e-16)


def ties(base: torch.Tensor, tuned: list[torch.Tensor], density: float) -> torch.Tensor:
    """Return TIES of the task vectors of a tensor, value by value."""
    vectors = [(one - base).flatten().tolist() for one in tuned]
    for vector in vectors:
        kept = sorted(map(abs, vector), reverse=True)[: math.ceil(density * len(vector))]
        vector[:] = [value if abs(value) >= kept[-1] else 0.0 for value in vector]
    merged = []
    for values in zip(*vectors, strict=True):
        sign = math.copysign(1, sum(values))
        same = [value for value in values if value * sign > 0]
        merged.append(sum(same) / len(same) if same else 0.0)
    return torch.tensor(merged).reshape(base.shape)


@pytest.mark.parametrize("density", [0.2, 1.0])
def test_ties_is_what_a_naive_computation_gives(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, density: float
) -> None:
    """Of three text models, in pieces; the token that the first has alone is its own."""
    base, llava = pair
    first = extract_llm(str(llava), tmp_path / "first")
    others = [rewrite(clone(base, tmp_path / f"{scale}"), moved_by(scale)) for scale in (0.1, 0.3)]
    monkeypatch.setattr(stored_weights, "_PIECE", 100)
    models = [first, *others]
    (folder,) = merge_weights(
        str(base), list(map(str, models)), [(0.7,)], tmp_path / "merged", density
    )
    found, own = weights_of(folder), weights_of(first)
    for name, weight in weights_of(base).items():
        rows = len(weight)
        vector = ties(weight, [weights_of(one)[name][:rows] for one in models], density)
        wanted = weight + 0.7 * vector
        torch.testing.assert_close(found[name][:rows], wanted, rtol=1e-6, atol=1e-7)
        assert (found[name][:rows] == weight).any() == (density < 1), "else nothing was trimmed"
        assert torch.equal(found[name][rows:], own[name][rows:])
    record = json.loads((folder / "merge.json").read_text())
    assert f"of each tensor of them the largest {density:g} is kept" in record["rule"]
    assert [one["coefficient"] for one in record["tuned"]] == [0.7] * 3


def moved_by(scale: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    def move(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        torch.manual_seed(int(100 * scale))
        return {name: w + torch.randn_like(w) * scale for name, w in weights.items()}

    return move


def test_what_is_kept_is_the_largest_and_what_equals_the_last_of_them() -> None:
    most = 3 + 2**-22
    values = torch.tensor([0.5, -3.0, 1e-40, 2.0, -2.0, 0.0, most])
    for density, least in [(1e-9, most), (2 / 7, 3.0), (3 / 7, 2.0), (4 / 7, 2.0), (1, 0.0)]:
        found = least_kept(lambda: values.split(2), density)
        assert found == least, density
    assert least_kept(lambda: [torch.zeros(5)], 0.2) == least_kept(lambda: [], 0.2) == 0.0


def test_nothing_is_elected_where_the_sum_is_zero() -> None:
    base, one, other = (
        torch.zeros(3),
        torch.tensor([1.0, 2.0, 3.0]),
        torch.tensor([-1.0, 1.0, -1.0]),
    )
    assert add_ties(base, [one, other], [0.0, 0.0], 1.0).tolist() == [0.0, 1.5, 3.0]
    assert add_ties(base, [one, other], [2.0, 1.0], 1.0).tolist() == [-1.0, 1.5, 3.0]


def trained(folder: Path, source: Path, key: str = "path") -> Path:
    """Write beside a checkpoint what a training from another one leaves."""
    (folder / "recipe.yaml").write_text(json.dumps({"model": {key: str(source)}}))
    record = {"base_weights": checkpoint_sha256(source)}
    (folder / "training.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> Callable[[Path, Path], str]:
    """Return what merges and gives the warnings."""

    def merge(base: Path, tuned: Path) -> str:
        caplog.clear()
        folder = tmp_path / f"merged-{len(list(tmp_path.iterdir()))}"
        merge_weights(str(base), [str(tuned)], [(0.5,)], folder)
        return caplog.text

    return merge


def test_a_base_that_a_text_model_was_not_trained_from_is_said(
    said: Callable[[Path, Path], str], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    base = pair[0]
    other = rewrite(clone(base, tmp_path / "other"), moved)
    middle = trained(rewrite(clone(other, tmp_path / "middle"), moved), base)
    tuned = trained(rewrite(clone(middle, tmp_path / "tuned"), moved), middle)
    assert not said(base, tuned) and not said(middle, tuned)
    line = said(other, tuned)
    assert f"--tuned {tuned}: its training.json says that it was trained from {middle}" in line
    assert f"not those of --base {other}; " in line and line.count("\n") == 1
    middle.rename(tmp_path / "elsewhere")
    assert "trained from" in said(other, tuned)
    (tuned / "training.json").unlink()
    assert not said(other, tuned)


def test_the_base_of_an_lvlm_is_known_by_its_language_model(
    said: Callable[[Path, Path], str], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    base, lvlm = pair
    llm = extract_llm(str(lvlm), tmp_path / "llm")
    other = rewrite(clone(base, tmp_path / "other"), moved)
    rewrite(other, moved)
    tuned = trained(rewrite(clone(lvlm, tmp_path / "tuned"), moved), lvlm)
    assert not said(llm, tuned) and not said(lvlm, tuned)
    assert f"trained from {lvlm}, whose weights" in said(other, tuned)
    trained(tuned, base, "llm")
    assert not said(base, tuned)
    assert f"trained from {base}, whose weights" in said(other, tuned)
    trained(tuned, lvlm)
    (tuned / "recipe.yaml").write_text('{"model": {"path": "on/hub"}}')
    assert not said(other, tuned)
