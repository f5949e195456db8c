"""Method `tower` and `loss_weights`: by hand, and for a few steps by the miniature's recipes."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, CLIPModel

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.experiments.miniature.world.build import write_world
from verbalizer_bench.io.conversation_files import read_records
from verbalizer_bench.io.conversations import Conversation, Message
from verbalizer_bench.trainers.choices import LossWeights
from verbalizer_bench.trainers.conversations.encoder import Encoder
from verbalizer_bench.trainers.data.collator import Collator
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.supervised import weighted_loss

MINIATURE = REPOSITORY / "experiments/miniature/recipes"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    items = {"train": 40, "choose": 4, "test": 4}
    folder = tmp_path_factory.mktemp("world")
    return write_world(folder, 0, items=items, stages=((0, 192),))


def losses(folder: Path) -> list[float]:
    with (folder / "losses.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_a_weighted_loss_by_hand() -> None:
    # Two words; the second and third token are predicted with probabilities 1/2 and 3/4.
    logits = torch.tensor([[[0.0, 0.0], [0.0, float(torch.tensor(3.0).log())], [9.0, 9.0]]])
    ids, weights = torch.tensor([[0, 1, 1]]), torch.tensor([[7.0, 0.5, 2.0]])
    half, quarter = torch.tensor(0.5).log(), torch.tensor(0.75).log()
    expected = -(0.5 * half + 2 * quarter) / 2.5
    assert weighted_loss(logits, ids, weights) == pytest.approx(float(expected))


def test_what_a_token_counts() -> None:
    rows = [
        {"input_ids": [1, 5, 6, 7, 2], "assistant_mask": [0, 0, 0, 1, 1]},
        {"input_ids": [1, 5, 7, 8, 9, 2, 4], "assistant_mask": [0, 0, 1, 1, 1, 1, 0]},
    ]
    weights = LossWeights(prompt=0.1, short_answer=3, short_tokens=2)
    collate = Collator(
        image_processor=None,
        pad_token_id=0,
        image_token_id=4,
        image_tokens=1,
        images=None,
        weights=weights,
    )
    found = collate(rows)["loss_weights"]
    # Prompt, a short answer of two tokens, padding; a long answer, and an image counts nothing.
    hand = [[0.1, 0.1, 0.1, 3, 3, 0, 0], [0.1, 0.1, 1, 1, 1, 1, 0]]
    assert found.tolist() == [pytest.approx(row) for row in hand]


def test_an_answer_after_a_space_is_trained_by_word_tokenizers() -> None:
    """The space belongs to the block and to no token."""
    tokenizer = AutoTokenizer.from_pretrained(MINIATURE / "llama")
    encoder = Encoder(tokenizer, "llama-2", None, 0, max_length=64)
    messages = (Message("user", "Label:"), Message("assistant", "positive"))
    found = encoder.encode(Conversation(0, "1", messages, ()))
    trained = [i for i, kept in zip(found.input_ids, found.assistant_mask, strict=True) if kept]
    assert tokenizer.convert_ids_to_tokens(trained) == ["positive", "</s>"]


def test_the_held_out_loss_is_the_mean_of_each_records_own(world: Path, tmp_path: Path) -> None:
    """Against a loop over the records with plain transformers."""
    output = tmp_path / "foit"
    words = [str(MINIATURE / "llm_foit.yaml"), f"data={world / 'train/foit.json'}"]
    words += [f"held_out={world / 'choose/foit.json'}", f"output={output}"]
    # The shipped base is in half precision, and so would be what is trained from it.
    words += ["model.path=null", f"model.config={MINIATURE / 'llama'}"]
    assert main(["train", *words, f"cache={tmp_path / 'cache'}"]) == 0
    record = json.loads((output / "training.json").read_text())["held_out"]
    assert record["records"] == 4 and [one["file"] for one in record["data"]] == [
        str(world / "choose/foit.json")
    ]
    tokenizer = AutoTokenizer.from_pretrained(output)
    model = AutoModelForCausalLM.from_pretrained(output).eval()
    encoder = Encoder(tokenizer, "llama-2", None, 0, max_length=128)
    alone = []
    for one in read_records(world / "choose/foit.json"):
        assert isinstance(one, Conversation)
        found = encoder.encode(one)
        ids = torch.tensor([found.input_ids])
        labels = torch.where(torch.tensor([found.assistant_mask]).bool(), ids, -100)
        with torch.no_grad():
            alone.append(float(model(input_ids=ids, labels=labels).loss))
    assert record["loss"] == pytest.approx(sum(alone) / 4, rel=1e-5)
    assert "the mean over 4 records" in (output / "README.md").read_text()


def test_a_held_out_file_that_is_trained_on_is_refused(world: Path) -> None:
    same = world / "train/foit.json"
    with pytest.raises(ValueError, match=r"held_out=.*foit.json: is trained on; give another"):
        read_recipe(MINIATURE / "llm_foit.yaml", [f"data={same}", f"held_out={same}"])


def test_a_held_out_file_that_is_missing_is_said_at_once(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(MINIATURE / "llm_foit.yaml"), f"data={world / 'train/foit.json'}"]
    words += ["held_out=nowhere.json", f"output={tmp_path / 'foit'}"]
    assert main(["train", *words]) != 0
    assert "held_out=nowhere.json: no such file" in capsys.readouterr().err


def test_the_base_learns_with_weights(world: Path, tmp_path: Path) -> None:
    words = [str(MINIATURE / "base_0.yaml"), f"data={world / 'base_0.jsonl'}", "num_train_epochs=4"]
    words += [f"output={tmp_path / 'base'}", f"cache={tmp_path / 'cache'}"]
    assert main(["train", *words]) == 0
    found = losses(tmp_path / "base")
    assert len(found) == 12 and found[-1] < found[0] - 0.3
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert model.num_parameters() == 518_304


def test_a_tower_learns_which_caption_is_whose(world: Path, tmp_path: Path) -> None:
    words = [str(MINIATURE / "tower.yaml"), f"data={world / 'captions.json'}"]
    words += [f"images={world / 'images'}", f"output={tmp_path / 'tower'}", "num_train_epochs=1"]
    words += [f"cache={tmp_path / 'cache'}", "global_batch_size=96", "per_device_batch_size=96"]
    assert main(["train", *words]) == 0
    found = losses(tmp_path / "tower")
    # By chance it is the logarithm of the batch.
    assert found[0] == pytest.approx(float(torch.tensor(96.0).log()), abs=0.6)
    assert found[-1] < found[0]
    model = CLIPModel.from_pretrained(tmp_path / "tower")
    before = CLIPModel(model.config).vision_model.encoder.layers[0].mlp.fc1.weight
    assert not torch.equal(model.vision_model.encoder.layers[0].mlp.fc1.weight, before)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "base_0",
            ["per_device_batch_size=32"],
            "per_device_batch_size=32 must be global_batch_size=64",
        ),
        ("base_0", ["loss_weights.prompt=-1"], r"loss_weights.prompt"),
        ("base_0", ["adam_beta2=1"], "adam_beta2"),
        ("tower", ["per_device_batch_size=8"], "captions are told apart within a batch"),
        ("tower", ["connector_learning_rate=1"], "leave out connector_learning_rate"),
        ("tower", ["format=llama-2"], "pretrain or tower, and plain, belong together"),
    ],
)
def test_wrong_settings(name: str, changes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_recipe(MINIATURE / f"{name}.yaml", changes)


def test_a_tower_takes_a_clip_alone(world: Path, tmp_path: Path) -> None:
    words: list[Any] = [MINIATURE / "tower.yaml", f"model.config={MINIATURE / 'llama'}"]
    words += [f"data={world / 'captions.json'}", f"images={world / 'images'}"]
    words += [f"output={tmp_path / 'tower'}", f"cache={tmp_path / 'cache'}"]
    assert main(["train", *map(str, words)]) == 2
