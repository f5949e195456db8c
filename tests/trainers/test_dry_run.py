"""`--dry-run`: counts of true shapes without a weight, and what it says of what is missing."""

import json
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from transformers import AutoConfig, CLIPVisionConfig, LlamaConfig

from tests.conftest import REPOSITORY
from tests.helpers.families import configuration
from tests.helpers.training_records import conversation, write
from tests.helpers.vision_families import VISION_FAMILIES
from verbalizer_bench.cli import main
from verbalizer_bench.models.checkpoints.compose import join_configs
from verbalizer_bench.trainers import prerequisites
from verbalizer_bench.trainers.checkpoints.load import load, load_shapes
from verbalizer_bench.trainers.checkpoints.trainable import count_parameters
from verbalizer_bench.trainers.curve.suite import load_tasks
from verbalizer_bench.trainers.dry_run import _model_lines
from verbalizer_bench.trainers.evaluation_settings import EvaluationSettings
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training import resources
from verbalizer_bench.trainers.training.resources import disk, room


def status(kind: type[HfHubHTTPError], code: int) -> HfHubHTTPError:
    """Return what the hub's client raises for an answer's code."""
    response: Any = SimpleNamespace(status_code=code, headers={}, request=None)
    return kind("no", response=response)


class ConnectError(Exception):
    """What a transport raises where nobody answers."""


TINY = REPOSITORY / "recipes" / "tiny"
PAPER = sorted((REPOSITORY / "recipes" / "paper").glob("*.yaml"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders with nothing but the configurations of the paper's models."""
    folder = tmp_path_factory.mktemp("shapes")
    llama = LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        tie_word_embeddings=False,
    )
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
    )
    llama.save_pretrained(folder / "sft")
    join_configs(vision, llama, "linear", 32000, 32001).save_pretrained(folder / "llava")
    return {"sft": folder / "sft", "pretrain": folder / "llava", "vit": folder / "llava"}


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_papers_recipes(
    path: Path, shapes: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = read_recipe(path)
    assert recipe.trained_parameters
    data = {"sft": "text.jsonl", "pretrain": "captions.json", "vit": "instruct.json"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words = [f"model.config={shapes[recipe.method]}", f"data={TINY / 'data' / data[recipe.method]}"]
    assert main(["train", str(path), "--dry-run", f"tokenizer={TINY / 'llava'}", *words]) == 0
    text = capsys.readouterr().out
    assert f"{recipe.trained_parameters:,} trained" in text
    assert f"{TINY / 'llava'}, " in text and "a stand-in" in text
    assert "First sample; the loss is on what stands between ⟦ and ⟧" in text and "NOT" not in text
    # 27 GB of weights are not allocated.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_what_is_not_at_hand_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "paper/llm_foit", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["method", "MISSING", "MISSING", "model", "tokenizer"]
    assert [line[:12].strip() for line in lines] == names
    assert "data=data/foit.json: no such file; build it first: `verbalizer-bench build " in lines[2]
    assert all("NOT RESOLVED, left out of what follows" in line for line in lines[3:])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (OfflineModeIsEnabled("no"), "not in the cache, and HF_HUB_OFFLINE keeps the hub from"),
        (ConnectError(), "the hub cannot be reached (ConnectError); give a folder; `hf download"),
        (status(RepositoryNotFoundError, 401), "has none of that name that is open to you"),
        (status(HfHubHTTPError, 503), "the hub answers 503; try again, or give a folder"),
    ],
)
def test_a_hub_is_asked_once(
    answer: Exception,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def ask(url: str) -> None:
        asked.append(url)
        raise answer

    monkeypatch.setattr(prerequisites, "get_hf_file_metadata", ask)
    assert main(["train", "alignment/dpo_7b", "--dry-run"]) == 0
    _, missing, *others = capsys.readouterr().out.splitlines()
    assert (
        missing.startswith("MISSING     model.path=llava-hf/llava-1.5-7b-hf: ") and said in missing
    )
    assert [line.split()[0] for line in others] == ["MISSING"] * 2 + ["model", "tokenizer"]
    assert asked == ["https://huggingface.co/llava-hf/llava-1.5-7b-hf/resolve/main/config.json"]
    assert main(["train", "alignment/dpo_7b"]) == 2
    assert said in capsys.readouterr().err and len(asked) == 2


def test_a_tokenizer_that_the_cache_has_is_no_matter_of_the_hub(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a repository without tokenizer_config.json the cache has the other file."""

    def cached(place: str, file: str) -> str | None:
        return "/cache/tokenizer.json" if (place, file) == ("a/b", "tokenizer.json") else None

    monkeypatch.setattr(prerequisites, "try_to_load_from_cache", cached)
    assert main(["train", "alignment/dpo_7b", "--dry-run", "tokenizer=a/b"]) == 0
    text = capsys.readouterr().out
    assert "model.path=llava-hf/llava-1.5-7b-hf: no such folder, not in the cache" in text
    assert "tokenizer=a/b: no such folder, not" not in text


def test_a_stand_in_of_another_size_has_its_plan(capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"model.config={TINY / 'llava'}", f"data={TINY / 'data' / 'pairs.jsonl'}"]
    words += [f"images={TINY / 'data'}", "max_length=512"]
    assert main(["train", "alignment/dpo_7b", "--dry-run", *words]) == 2
    said = capsys.readouterr()
    assert "memory" in said.out and "First sample" in said.out and "MISSING" not in said.out
    assert "error: trained_parameters=340,795,392, and this model trains 2" in said.err


@pytest.mark.parametrize("name", ["pretrain", "sft", "sft_lora"])
def test_counts_are_those_of_training(name: str) -> None:
    recipe = read_recipe(TINY / f"{name}.yaml")
    checkpoint = load(recipe)
    model: Any = checkpoint.model
    if recipe.lora:
        from peft import get_peft_model

        from verbalizer_bench.trainers.checkpoints.trainable import lora_config

        model = get_peft_model(model, lora_config(model, recipe))
    trained = sum(w.numel() for w in model.parameters() if w.requires_grad)
    frozen = sum(w.numel() for w in model.parameters() if not w.requires_grad)
    assert count_parameters(load_shapes(recipe), recipe) == (trained, frozen)


def test_an_output_layer_that_is_the_input_embeddings_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((TINY / "llama" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    words = [str(TINY / "sft.yaml"), f"model.config={tmp_path}", f"tokenizer={TINY / 'llama'}"]
    for part, state in (("all", "trained"), ("attention", "frozen")):
        more = [f"train.language_model={part}", "trained_parameters=null"]
        assert main(["train", *words, *more, "--dry-run"]) == 0
        plan = capsys.readouterr().out
        assert f"the output layer is the input embeddings, {state} as one" in plan


def test_what_an_adapter_leaves_out_is_said(tmp_path: Path) -> None:
    family = next(one for one in VISION_FAMILIES if one.model_type == "llava_next")
    configuration(family).save_pretrained(tmp_path)
    words = [str(TINY / "vit_lora.yaml"), f"model.config={tmp_path}", "format=tokenizer"]
    recipe = read_recipe(words[0], [*words[1:], "trained_parameters=null"])
    lines = dict(_model_lines(recipe, load_shapes(recipe))[-1:])
    assert lines[""] == "not trained, an adapter cannot hold it: model.image_newline"


def test_a_sample_shows_what_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((TINY / "data" / "captions.json").read_text())[0]
    caption = record["conversations"][1]["value"]
    assert main(["train", str(TINY / "pretrain.yaml"), "--dry-run"]) == 0
    shown = capsys.readouterr().out.split("⟧:\n")[1]
    assert shown == f"<s><image x 16>⟦{caption}\n⟧\n"


@pytest.mark.parametrize("name", ["gpt2", "opt", "bloom", "falcon"])
def test_families_that_name_no_inner_width(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = AutoConfig.for_model(name, vocab_size=512, hidden_size=16, num_hidden_layers=1)
    config.num_attention_heads = 2
    config.save_pretrained(tmp_path)
    words = [f"model.config={tmp_path}", f"tokenizer={TINY / 'llama'}", "trained_parameters=null"]
    assert main(["train", str(TINY / "sft.yaml"), "--dry-run", *words]) == 0
    assert "on one device, estimated: weights" in capsys.readouterr().out


def test_disk_by_hand(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = 151_872
    recipe = read_recipe(TINY / "sft.yaml", ["save_steps=4", f"output={tmp_path / 'a' / 'b'}"])
    parts = disk(recipe, load_shapes(recipe))
    # Two states and the one that is written: weights and two moments in float32.
    assert parts["states"] == pytest.approx(3 * 12 * weights / 2**30)
    assert parts["checkpoint"] == pytest.approx(4 * weights / 2**30)
    assert disk(read_recipe(TINY / "sft.yaml"), load_shapes(recipe))["states"] == 0
    assert room(recipe.output) == room(tmp_path) > 0
    words = ["train", str(TINY / "sft.yaml"), f"output={tmp_path / 'out'}", "save_steps=4"]
    assert main([*words, "--dry-run"]) == 0
    assert "NO ROOM" not in capsys.readouterr().out
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: Usage(free=2**20))
    assert main([*words, "--dry-run"]) == 0
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("NO ROOM")]
    assert "1.0 MiB are free, some 5.8 MiB will be written; make room, or give another" in line


class Usage(NamedTuple):
    free: int


def test_what_another_recipe_makes_is_trained_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "paper/lvlm_fovit", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        "MISSING     model.path=checkpoints/paper/connector: not there yet; train paper/connector "
        "first: `verbalizer-bench train paper/connector`"
    )
    assert main(["train", "paper/lvlm_fovit"]) == 2
    assert "train paper/connector first" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text("method: pretrain\noutput: 'made/here'  # the connector\n")
    (tmp_path / "made" / "here" / "state").mkdir(parents=True)
    assert main(["train", "paper/lvlm_fovit", "--dry-run", "model.path=made/here"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert "model.path=made/here: its training is not finished; train mine.yaml first" in line
    assert "`verbalizer-bench train mine.yaml resume=true`" in line
    assert main(["train", "paper/lvlm_fovit", "--dry-run", "model.path=elsewhere"]) == 0
    assert "train " not in capsys.readouterr().out


def test_a_schedule_that_cannot_work_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(TINY / "sft.yaml"), "--dry-run", "global_batch_size=128"]) == 0
    assert "schedule    global_batch_size=128: there are 64 records" in capsys.readouterr().out


def test_evaluations_are_counted_and_their_tasks_looked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["train", str(TINY / "sft.yaml"), "--dry-run", "evaluation.data=sample"]
    # 40 steps: at 0, 15, 30 and 40.
    assert main([*words, "evaluation.steps=15", "evaluation.limit=2"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("evaluation"))
    assert line.split(maxsplit=1)[1] == (
        "4 times, every 15 steps: 216 responses of 108 tasks, 10 beams"
    )
    assert main([*words, "evaluation.steps=0.5", "evaluation.tasks=verbaliser"]) == 0
    text = capsys.readouterr().out
    assert "MISSING     evaluation.tasks=verbaliser: no such task" in text
    assert "3 times, every 20 steps" in text
    assert main([*words, "evaluation.steps=15", "evaluation.data=/nope"]) == 0
    said = "MISSING     evaluation.data=/nope: no such folder; give hub, sample or a folder\n"
    assert said in capsys.readouterr().out


def test_without_a_network_the_recipes_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("datasets.load_dataset", fail)
    settings = EvaluationSettings(5, tasks=("verbalizer_sst2",), data="hub")
    with pytest.raises(ConnectionError) as caught:
        load_tasks(settings)
    fix = "without a network give evaluation.data=sample or evaluation.data=DIR, or set VERBALIZER"
    assert fix in str(caught.value) and "--" not in str(caught.value)


def test_what_would_be_done_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = conversation("Say", "word " * 60)
    file = write(tmp_path / "data.json", *(conversation("Say", f"{n}") for n in range(4)), long)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    words = [str(TINY / "sft.yaml"), "--dry-run", f"data={file}", f"output={tmp_path / 'out'}"]
    words += ["global_batch_size=4", "per_device_batch_size=4", "max_length=64"]
    words += ["evaluation={steps: 900, tasks: []}", f"held_out={TINY / 'data' / 'text.jsonl'}"]
    assert main(["train", *words]) == 0
    said = capsys.readouterr().out
    assert f"WOULD STOP  output={tmp_path / 'out'}: not empty; give another folder" in said
    assert "            3 records are seen twice to fill the last step\n" in said
    assert "cut off     1 record loses " in said and "every 900 steps, of which there are " in said
    assert main(["train", *words, "max_length=5"]) == 0
    said = capsys.readouterr().out
    assert f"no record to train on in {file}; 5: answer cut (training would stop)\n" in said
    assert f"\n              {file}, row 5 (id 'id-{long['conversations'][1]['value']}" in said
    assert main(["train", *words, "data=gone.json"]) == 0
    said = capsys.readouterr().out
    assert "data=gone.json: no such file" in said and "Errno" not in said
    assert "NOT RESOLVED, left out of what follows: it is missing, as said above" in said
