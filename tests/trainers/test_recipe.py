"""A wrong recipe is an error of one line: what, where, and the fix."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from verbalizer_bench.trainers.recipe import RENAMED, read_recipe

RIGHT: dict[str, Any] = {
    "method": "sft",
    "output": "out/model",
    "model": {"path": "llm"},
    "data": "data.json",
    "format": "llama-2",
    "max_length": 64,
    "num_train_epochs": 1,
    "global_batch_size": 8,
    "per_device_batch_size": 4,
    "learning_rate": "2e-5",
}


def write(folder: Path, changes: dict[str, Any]) -> Path:
    """Write a recipe; None removes a key."""
    found = {key: value for key, value in (RIGHT | changes).items() if value is not None}
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(found), encoding="utf-8")
    return file


LORA = {"r": 8, "alpha": 16}
VIT = {"method": "vit", "format": "vicuna-v1"}
PARTS = {"llm": "l", "vision_tower": "v", "connector": "linear"}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        # Keys that are not known, with the nearest one.
        ({"lerning_rate": 1}, ["lerning_rate: no such key", "did you mean learning_rate?"]),
        ({"model": {"paht": "x"}}, ["model.paht: no such key", "did you mean model.path?"]),
        ({"lora": {"rr": 8, "alpha": 16}}, ["lora.rr: no such key", "did you mean lora.r?"]),
        ({"zzz": 1}, ["zzz: no such key", "known: method, output, model"]),
        ({"streaming": True}, ["streaming=True: order, draws and resumption are exact"]),
        # Types.
        ({"num_train_epochs": "many"}, ["num_train_epochs='many'", "a number is expected"]),
        ({"global_batch_size": 2.5}, ["global_batch_size=2.5", "a whole number is expected"]),
        ({"global_batch_size": True}, ["global_batch_size=True", "a whole number is expected"]),
        ({"group": "yes please"}, ["group=yes please", "one of modality, length, none"]),
        ({"group": True}, ["group=True", "true is called length now, and LLaVA's is mod"]),
        ({"group": ["length"]}, ["group=['length']", "one of modality, length, none"]),
        ({"gradient_checkpointing": "yes"}, ["ing='yes'", "true or false is expected"]),
        ({"loss": "mean"}, ["loss=mean", "one of tokens, micro_batches"]),
        ({"output": 3}, ["output=3", "text is expected; quote it"]),
        ({"method": ["sft"]}, ["method=['sft']: one of pretrain, vit, sft"]),
        ({"model": "llm"}, ["model='llm'", "a block of keys is expected"]),
        ({"lora": 8}, ["lora=8", "a block of keys is expected"]),
        ({"data": [1]}, ["data=1", "text is expected; quote it"]),
        # Memory.
        ({"quantization": {"load_in_4bit": True}}, ["quantization: weights in few bits", "lora"]),
        (
            {"lora": LORA, "quantization": {"load_in_4bit": True, "load_in_8bit": True}},
            ["either load_in_4bit: true or load_in_8bit: true"],
        ),
        ({"lora": LORA, "quantization": {}}, ["either load_in_4bit: true or load_in_8bit"]),
        (
            {"lora": LORA, "quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf5"}},
            ["quantization.bnb_4bit_quant_type=nf5: nf4 or fp4"],
        ),
        (
            {
                "lora": LORA,
                "quantization": {"load_in_8bit": True, "bnb_4bit_use_double_quant": True},
            },
            ["bnb_4bit_… go with load_in_4bit alone"],
        ),
        ({"method": "dpo", "packing": True}, ["packing: method=dpo compares its rows; leave"]),
        ({"optim": "adamw"}, ["optim=adamw: one of adamw_torch_fused, adamw_torch, adafactor"]),
        ({"optim": "galore_adamw"}, ["optim=galore_adamw: one of"]),
        (
            {"optim": "adafactor", "adam_beta2": 0.95},
            ["adam_beta2=0.95: optim=adafactor has none; leave it out"],
        ),
        ({"attn_implementation": "flash"}, ["attn_implementation=flash: one of eager, sdpa, fla"]),
        (
            {"method": "tower", "format": "plain", "use_liger_kernel": True},
            ["method=tower trains a CLIP", "leave out use_liger_kernel"],
        ),
        # Keys that are missing.
        ({"method": None, "data": None}, ["missing: data, method"]),
        ({"lora": {"r": 8}}, ["missing: lora.alpha"]),
        ({"model": {}}, ["model: give path, or config, or all parts", "model.llm"]),
        ({"model": {"llm": "l"}, **VIT}, ["missing: model.vision_tower, model.connector"]),
        # Values.
        ({"method": "ppo"}, ["method=ppo", "one of pretrain, vit, sft"]),
        ({"trained_modules": "head"}, ["trained_modules=head", "of all, attention, mlp, mlp_in"]),
        ({"train": {"connector": "some"}, **VIT}, ["train.connector=some", "one of all, none"]),
        (
            {"train": {"language_model": "head"}},
            ["train.language_model=head", "mlp_in, lora, none"],
        ),
        ({"train": {"tower": "all"}}, ["train.tower: no such key", "known: vision_tower"]),
        ({"method": "dpo", "dpo": {"beta": 0}}, ["dpo.beta=0.0", "above 0"]),
        ({"method": "dpo", "dpo": {"loss_type": "dpo"}}, ["dpo.loss_type=dpo", "one of sigmoid"]),
        ({"method": "dpo", "dpo": {"loss_type": []}}, ["dpo.loss_type=[]", "one of sigmoid"]),
        (
            {"method": "dpo", "dpo": {"loss_type": ["sft", "sft"]}},
            ["dpo.loss_type=['sft', 'sft']", "each once"],
        ),
        (
            {"method": "dpo", "dpo": {"loss_type": ["ipo", "sft"], "loss_weights": 1}},
            ["dpo.loss_weights=[1]", "a weight above 0 for each of ipo, sft"],
        ),
        ({"format": "chatml"}, ["format=chatml", "one of plain, llama-2"]),
        ({"thoughts": "half"}, ["thoughts=half", "one of train, context, drop"]),
        (
            {"method": "pretrain", "format": "plain", "thoughts": "drop"},
            ["thoughts: method=pretrain trains captions; leave it out"],
        ),
        (
            {"method": "dpo", "thoughts": "context"},
            ["thoughts=context: the answers of method=dpo have one prompt", "give train or drop"],
        ),
        ({"trained_modules": ["q_proj"]}, ["trained_modules=['q_proj']", "one of all, attention"]),
        ({"precision": 32}, ["precision=32: one of bf16, fp32"]),
        ({"precision": "fp16"}, ["precision=fp16", "one of bf16, fp32"]),
        ({"image_aspect_ratio": "crop"}, ["image_aspect_ratio=crop", "one of square, pad"]),
        ({"bad_records": "drop"}, ["bad_records=drop", "one of error, skip"]),
        ({"max_length": 0}, ["max_length=0", "at least 1"]),
        ({"per_device_batch_size": -1}, ["per_device_batch_size=-1", "at least 1"]),
        ({"learning_rate": 0}, ["learning_rate=0.0", "above 0"]),
        ({"warmup_ratio": 1}, ["warmup_ratio=1.0", "a share from 0 to below 1"]),
        ({"data": []}, ["data=[]", "at least one file"]),
        ({"lora": {"r": 0, "alpha": 16}}, ["lora.r=0", "at least 1"]),
        ({"lora": {"r": 8, "alpha": 16, "dropout": 1}}, ["lora.dropout=1.0", "below 1"]),
        ({"max_length": float("inf")}, ["max_length=inf", "a whole number is expected"]),
        ({"num_train_epochs": float("inf")}, ["num_train_epochs=inf", "a number is expected"]),
        ({"connector_learning_rate": 0, **VIT}, ["connector_learning_rate=0.0", "above 0"]),
        ({"save_steps": 0}, ["save_steps=0", "at least 1"]),
        ({"dataloader_num_workers": -1}, ["dataloader_num_workers=-1", "at least 0"]),
        ({"weight_decay": -0.1}, ["weight_decay=-0.1", "at least 0"]),
        ({"lr_scheduler_type": "cosin"}, ["lr_scheduler_type=cosin", "one of linear, cosine"]),
        ({"lora": {"r": 8, "alpha": 0}}, ["lora.alpha=0", "at least 1"]),
        ({"report_to": "comet"}, ["report_to=comet", "one of wandb, trackio, tensorboard"]),
        # Combinations.
        (
            {"per_device_batch_size": 16},
            ["global_batch_size=8 is no multiple of per_device_batch_size=16"],
        ),
        ({"model": {"path": "x", **PARTS}, **VIT}, ["model: path and llm", "leave one out"]),
        (
            {"model": PARTS | {"connector": "mlp"}, **VIT},
            ["model.connector=mlp", "one of linear, mlp2x_gelu"],
        ),
        ({"model": PARTS}, ["method=sft trains a text model", "give method=vit"]),
        ({"images": "x"}, ["method=sft trains a text model", "images"]),
        ({"dpo": {"beta": 0.1}}, ["dpo: method=sft has no pairs", "method=dpo"]),
        ({"method": "dpo", "loss": "micro_batches"}, ["loss: method=dpo has the losses of pairs"]),
        (
            {"method": "dpo", "connector_learning_rate": 1e-3},
            ["method=dpo trains a text model", "or give images=FOLDER for a LLaVA"],
        ),
        (
            {"method": "dpo", "images": "x", "model": PARTS},
            ["method=dpo begins with a model that answers: give model.path"],
        ),
        (
            {"method": "pretrain", "format": "plain", "trained_modules": "attention"},
            ["trained_modules=attention: method=pretrain trains no language model"],
        ),
        ({"connector_learning_rate": 1}, ["method=sft", "connector_learning_rate"]),
        # What is trained is said once, and has the rates that are given.
        ({"train": {"vision_tower": "all"}}, ["train.vision_tower=all: method=sft trains a text"]),
        ({"train": {"connector": "all"}}, ["train.connector=all: method=sft trains a text model"]),
        (
            {"train": {"language_model": "lora"}},
            ["train.language_model=lora: give lora.r and lora.alpha too"],
        ),
        (
            {"train": {"language_model": "mlp"}, "lora": {"r": 8, "alpha": 16}},
            ["train.language_model=mlp, and lora is given; give train.language_model=lora, or le"],
        ),
        (
            {"train": {"language_model": "all"}, "trained_modules": "attention"},
            ["train.language_model=all and trained_modules=attention", "leave trained_modules out"],
        ),
        (
            {"train": {"language_model": "none"}},
            ["train: nothing would be trained; give all of a part that shall be"],
        ),
        (
            {"vision_tower_learning_rate": 1e-6, **VIT},
            ["vision_tower_learning_rate=1e-06: the vision_tower is not trained; give train.vis"],
        ),
        (
            {"train": {"connector": "none"}, "connector_learning_rate": 1, **VIT},
            ["connector_learning_rate=1.0: the connector is not trained; give train.connector=all"],
        ),
        ({"format": "plain"}, ["method=sft", "format=plain", "belong together"]),
        ({"method": "pretrain"}, ["method=pretrain", "format=llama-2", "belong together"]),
        (
            {"method": "pretrain", "format": "plain", "lora": {"r": 8, "alpha": 16}},
            ["lora: method=pretrain trains the connector alone", "leave lora out"],
        ),
    ],
)
def test_wrong_recipes(changes: dict[str, Any], parts: list[str], tmp_path: Path) -> None:
    file = write(tmp_path, changes)
    with pytest.raises(ValueError) as error:
        read_recipe(file)
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_key_is_named_with_its_new_name(old: str, tmp_path: Path) -> None:
    file = write(tmp_path, {old: 1})
    with pytest.raises(ValueError) as error:
        read_recipe(file)
    assert str(error.value) == f"{file}: {old} is called {RENAMED[old]} now"
    shipped = REPOSITORY / "recipes" / "tiny" / "sft.yaml"
    with pytest.raises(ValueError) as error:
        read_recipe(shipped, [f"{old}=1"])
    assert str(error.value) == f"{shipped}: {old} is called {RENAMED[old]} now"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("method: [sft", "not valid YAML at line 1"),
        ("- sft", "keys and values are expected, this is list"),
        ("", "keys and values are expected, this is NoneType"),
        ("seed: 1\nseed: 2", "not valid YAML at line 2, column 1: the key 'seed' stands twice"),
        (
            "model: {path: a, path: b}",
            "not valid YAML at line 1, column 18: the key 'path' stands twice",
        ),
        (
            "data:\n  - {a: 1, a: 2}",
            "not valid YAML at line 2, column 12: the key 'a' stands twice",
        ),
        ("? [a]\n: 1", "not valid YAML at line 1, column 3: a key is a word"),
        ("data: &all\n  - *all", "not valid YAML at line 1, column 7: a block that holds itself"),
        ("\ufeffseed: 1", "missing: data"),
    ],
)
def test_files_that_are_no_recipe(text: str, part: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(ValueError) as error:
        read_recipe(file)
    assert str(error.value).startswith(f"{file}: {part}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("seed", ["seed: give key=value"]),
        ("=1", ["=1: give key=value"]),
        ("sede=1", ["recipe.yaml: sede: no such key", "did you mean seed?"]),
        ("lora.rank=1", ["lora.rank: no such key"]),
        ("seed.x=1", ["seed.x=1", "no block of keys"]),
        ("data=[a", ["data=[a", "not valid YAML", "quote the value"]),
        ("num_train_epochs=many", ["num_train_epochs='many'", "a number is expected"]),
        ("learning_rate='1e-3'", ["rate='1e-3': a number is expected; take the quotes away"]),
        ("seed='7'", ["seed='7': a whole number is expected; take the quotes away"]),
        ("images=photos", ["method=sft trains a text model: leave out images, or give method=vit"]),
        ("data=[1]", ["data=1: text is expected"]),
        ("seed=true", ["seed=True: a whole number is expected"]),
        ("num_train_epochs=2026-01-31", ["num_train_epochs='2026-01-31'", "a number is expected"]),
    ],
)
def test_wrong_overrides(override: str, parts: list[str], tmp_path: Path) -> None:
    file = write(tmp_path, {"seed": 7})
    with pytest.raises(ValueError) as error:
        read_recipe(file, [override])
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_names_that_read_as_numbers_or_dates(tmp_path: Path) -> None:
    words = ["output=2026", "data=7", "held_out=1e5", "tokenizer=2026-01-31", "cache=~/c"]
    recipe = read_recipe(write(tmp_path, {"learning_rate": "2e-5"}), words)
    assert (recipe.output, recipe.data, recipe.held_out) == (
        Path("2026"),
        (Path("7"),),
        (Path("1e5"),),
    )
    assert (recipe.tokenizer, recipe.cache) == ("2026-01-31", Path.home() / "c")


def test_whole_numbers_may_have_an_exponent(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, {"save_steps": 1e3}), ["trained_parameters=2e6"])
    numbers = (recipe.save_steps, recipe.trained_parameters)
    assert numbers == (1000, 2000000) and set(map(type, numbers)) == {int}


@pytest.mark.parametrize("first", ["output=", "output='a'"])
def test_the_last_override_of_a_key_counts(first: str, tmp_path: Path) -> None:
    assert read_recipe(write(tmp_path, {}), [first, "output=2026"]).output == Path("2026")


def test_a_count_that_does_not_apply_any_more_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path, {"trained_parameters": 3000})
    assert read_recipe(file, ["lora={r: 4, alpha: 8}"]).trained_parameters is None
    (line,) = caplog.messages
    assert line.startswith("lora on the command line: the recipe's trained_parameters=3,000 does")
    caplog.clear()
    assert read_recipe(file, ["seed=1"]).trained_parameters == 3000
    with pytest.raises(ValueError, match="loss=what") as error:
        read_recipe(file, ["trained_modules=attention", "loss=what"])
    assert "trained_parameters" not in str(error.value) and not caplog.messages


def test_a_cache_of_the_older_name_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_recipe(write(tmp_path, {})).cache == tmp_path / ".cache/verbalizer-bench"
    (tmp_path / ".cache/verbalizer_bench").mkdir(parents=True)
    assert read_recipe(write(tmp_path, {})).cache == tmp_path / ".cache/verbalizer_bench"


def test_overrides(tmp_path: Path) -> None:
    recipe = read_recipe(
        write(tmp_path, {"seed": 7, "trained_parameters": 3}),
        [
            "seed=1",
            "lora.r=64",
            "lora.alpha=128",
            "data=[a.json, b.jsonl]",
            "learning_rate=1e-3",
            "trained_parameters=null",
            "model.config=DIR",
        ],
    )
    assert recipe.seed == 1
    assert recipe.lora is not None and (recipe.lora.r, recipe.lora.alpha) == (64, 128)
    assert recipe.data == (Path("a.json"), Path("b.jsonl"))
    assert recipe.learning_rate == 1e-3
    assert recipe.trained_parameters is None
    assert recipe.model.config == "DIR"


def test_groups(tmp_path: Path) -> None:
    file = write(tmp_path, {})
    assert read_recipe(file).group == "modality"
    assert read_recipe(file, ["group=length"]).group == "length"
    # As recipes of before have it.
    assert read_recipe(file, ["group=false"]).group == read_recipe(file, ["group=none"]).group


def test_paths_from_the_recipes_folder_and_from_the_working_folder(tmp_path: Path) -> None:
    changes = {"data": ["./here.json", "there.json"], "model": {"config": "./config"}}
    recipe = read_recipe(write(tmp_path, changes), ["output=./out", "tokenizer=./llm"])
    # As it was given: it is no hub id.
    assert recipe.tokenizer == "./llm"
    assert recipe.data == (tmp_path / "here.json", Path("there.json"))
    assert recipe.model.config == str(tmp_path / "config")
    assert recipe.output == Path("out")


def test_a_recipe_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"paper/llm_fiot.*did you mean paper/llm_foit\?"):
        read_recipe("paper/llm_fiot")
    with pytest.raises(FileNotFoundError, match=r"zzz\.yaml: no such file; shipped ones are in"):
        read_recipe("zzz.yaml")


def test_a_batch_that_cannot_be_dealt(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, {}))
    assert [recipe.gradient_accumulation_steps(processes) for processes in (1, 2)] == [2, 1]
    with pytest.raises(
        ValueError, match="global_batch_size=8 is no multiple of per_device_batch_size=4 on 3"
    ):
        recipe.gradient_accumulation_steps(3)


@pytest.mark.parametrize(
    "name", ["1200", "0012", "1e5", "nan", "1_000", "true", "0x10", ".inf", "2026-01-31"]
)
def test_a_folder_may_be_called_by_a_number(name: str) -> None:
    words = [
        f"output={name}",
        f"data={name}",
        f"model.path={name}",
        "seed=12",
        "num_train_epochs=1e0",
    ]
    recipe = read_recipe("tiny/sft", words)
    assert (recipe.output, recipe.data) == (Path(name), (Path(name),))
    assert str(recipe.model.path) == name and (recipe.seed, recipe.num_train_epochs) == (12, 1.0)


def test_a_wrong_key_is_told_before_torch_is_imported() -> None:
    """A process of its own: this one has torch already."""
    code = (
        "import sys; from verbalizer_bench.cli import main; "
        "codes = [main(['train', 'tiny/sft', *words]) for words in "
        "(['learning_rat=1'], ['learning_rat=1', '--dry-run'], ['report_to=no'], ['seed=-1'])]; "
        "print(codes, sorted({'torch', 'transformers', 'trl', 'peft'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[2, 2, 2, 2] []", done.stderr
    assert done.stderr.count("\n") == 4


def test_a_shipped_recipe_is_named_as_it_was_given() -> None:
    words = ["data=[a.json, b.json]", "data_weights=[0, 2]"]
    with pytest.raises(ValueError, match=r"^tiny/sft: data_weights=\[0, 2\]: a number for each"):
        read_recipe("tiny/sft", words)
    with pytest.raises(ValueError, match=r"^tiny/sft: learning_rate=-1.0: above 0$"):
        read_recipe("tiny/sft", ["learning_rate=-1.0"])
