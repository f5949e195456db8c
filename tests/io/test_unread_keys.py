"""What a record says beside its turns is read, or named."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.training_records import conversation, write
from verbalizer_bench.cli import main
from verbalizer_bench.io.conversation_files import read_prompts, read_records
from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message
from verbalizer_bench.io.unread_keys import unread_keys
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.inputs import encoded_data

TINY = REPOSITORY / "recipes" / "tiny"
TURNS = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}]


def read(file: Path, row: Any) -> Any:
    (record,) = read_records(write(file, row))
    return record


def test_the_key_system_is_a_turn(tmp_path: Path) -> None:
    file, first = tmp_path / "a.json", Message("system", "Be brief.")
    for row in (conversation("Who?", "I."), {"messages": TURNS}):
        record = read(file, row | {"system": " Be brief.\n"})
        assert isinstance(record, Conversation)
        assert record.messages == (first, Message("user", "Who?"), Message("assistant", "I."))
        assert len(read(file, row | {"system": ""}).messages) == 2
    (asked,) = read_prompts(write(file, {"question": "Who?", "system": "Be brief."}))
    assert isinstance(asked, Conversation)
    assert asked.messages == (first, Message("user", "Who?"))
    thinking = [TURNS[0], TURNS[1] | {"reasoning_content": "Hm."}]
    assert read(file, {"messages": thinking, "system": "x"}).messages[2].thought == "Hm."


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"messages": TURNS, "system": 7}, "system=7; give a text, or leave it out"),
        (
            {"messages": [{"role": "system", "content": "a"}, *TURNS], "system": "b"},
            "it has a system turn and the key system",
        ),
    ],
)
def test_what_no_system_turn_can_be_made_of(tmp_path: Path, row: Any, problem: str) -> None:
    record = read(tmp_path / "a.json", row)
    assert isinstance(record, BadRecordError) and problem in record.detail


def test_keys_that_hold_something() -> None:
    row = {"messages": TURNS, "tools": [{}], "id": 7, "source": "x", "weight": 0, "labels": None}
    assert unread_keys(row) == {"tools", "weight"}
    turns = [TURNS[0], TURNS[1] | {"weight": 0, "name": ""}]
    assert unread_keys({"messages": turns, "system": "x"}) == {"messages.weight"}
    for other in ({"chosen": [], "rejected": [], "x": 1}, {"text": "x"}, 7, {"messages": 7}):
        assert unread_keys(other) == set()


def test_they_are_named_once_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [conversation("Say", str(n)) | {"weight": n} for n in range(4)]
    rows[2] |= {"tools": "x"}
    file = write(tmp_path / "data.jsonl", *rows)
    words = [f"data={file}", f"cache={tmp_path / 'cache'}"]
    words += ["global_batch_size=4", "per_device_batch_size=4"]
    line = f"{file}: weight in 4, tools in 1 of 4 records are not read"
    recipe = read_recipe(TINY / "sft.yaml", words)
    checkpoint = load(recipe)
    for _ in range(2):
        caplog.clear()
        encoded_data(recipe, checkpoint, recipe.data)
        said = [
            record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
        ]
        assert said.count(line) == 1, "also of records that were encoded before"
    for command in (["train", "--dry-run"], ["validate-data"]):
        assert main([command[0], str(TINY / "sft.yaml"), *words, *command[1:]]) == 0
        assert f"not read    {line}\n" in capsys.readouterr().out
