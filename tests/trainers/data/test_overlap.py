"""Held-out records that are trained on too are found, whatever bytes they are written in."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.conftest import REPOSITORY
from tests.helpers.training_records import conversation, write
from verbalizer_bench.cli import main
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.data.overlap import row_hashes
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.training.inputs import held_out_data, training_data

TINY = REPOSITORY / "recipes" / "tiny"


def rows(*answers: str) -> list[dict[str, Any]]:
    return [conversation(f"Say {answer[0]}", answer) for answer in answers]


def made(folder: Path, data: Path, held_out: Path, *words: str) -> Recipe:
    given = [f"data={data}", f"held_out={held_out}", f"cache={folder / 'cache'}"]
    given += ["global_batch_size=2", "per_device_batch_size=2", *words]
    return read_recipe(TINY / "sft.yaml", given)


def test_records_and_prompts_are_told_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data.json", *rows("a", "b", "c"))
    turns = [{"role": "user", "content": "Say c"}, {"role": "assistant", "content": "c"}]
    file = write(tmp_path / "same.jsonl", *rows("x"), {"id": "7", "messages": turns})
    recipe = made(tmp_path, data, file)
    checkpoint = load(recipe)
    kept = training_data(recipe, checkpoint)
    fault = (
        f"held_out={file}: 1 of 2 of its records are trained on too, the first is {file}, line 2 "
        "(id '7'); leave them out"
    )
    with pytest.raises(ValueError, match="1 of 2") as refused:
        held_out_data(recipe, checkpoint, kept)
    assert str(refused.value) == fault
    words = [TINY / "sft.yaml", f"data={data}", f"held_out={file}", "global_batch_size=2"]
    words += ["per_device_batch_size=2"]
    assert main(["train", *map(str, words), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"WOULD STOP  {fault}" in said and "held out    2 records, " in said
    other = write(tmp_path / "other.jsonl", *rows("x", "cc"))
    caplog.set_level(logging.WARNING)
    found = held_out_data(made(tmp_path, data, other), checkpoint, kept)
    assert found and found.prompts_trained == 1
    warning = "1 of 2 of its records ask what is trained on too, with other answers"
    assert f"held_out={other}: {warning}" in caplog.text
    assert main(["train", *map(str, words[:2]), f"held_out={other}", *words[3:], "--dry-run"]) == 0
    assert warning in capsys.readouterr().out


def test_what_a_mixture_leaves_out_may_be_held_out(tmp_path: Path) -> None:
    data = write(tmp_path / "data.json", *rows("a", "b", "c", "d"))
    recipe = made(tmp_path, data, write(tmp_path / "x.jsonl", *rows("y")), "data_records=2")
    checkpoint = load(recipe)
    kept = training_data(recipe, checkpoint)
    drawn = set(kept.dataset["record"])
    left = [row for number, row in enumerate(rows("a", "b", "c", "d")) if number not in drawn]
    write(tmp_path / "left.jsonl", *left)
    held_out = held_out_data(made(tmp_path, data, tmp_path / "left.jsonl"), checkpoint, kept)
    assert held_out and len(held_out.dataset) == 2


def test_images_are_told_apart_in_files_and_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate("ab"):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{name}.png")
    asked = [conversation("<image>What?", "Red.", f"{name}.png") for name in "ab"]
    data = write(tmp_path / "data.json", asked[0])
    words = ["tiny/vit", f"model={{config: {TINY / 'llava'}}}", "trained_parameters=null"]
    words += [f"images={tmp_path}", f"data={data}", "global_batch_size=1", "warmup_ratio=0"]
    words += ["per_device_batch_size=1"]
    write(tmp_path / "other.jsonl", asked[1])
    assert main(["validate-data", *words, f"held_out={tmp_path / 'other.jsonl'}"]) == 0
    write(tmp_path / "same.jsonl", asked[0])
    assert main(["validate-data", *words, f"held_out={tmp_path / 'same.jsonl'}"]) == 2
    # The same picture, under another name.
    shutil.copy(tmp_path / "a.png", tmp_path / "copy.png")
    copied = write(tmp_path / "copied.jsonl", conversation("<image>What?", "Red.", "copy.png"))
    capsys.readouterr()
    assert main(["validate-data", *words, f"held_out={copied}"]) == 2
    assert f"1 of its records are trained on too, the first is {copied}, line 1" in (
        capsys.readouterr().err
    )
    assert main(["train", *words, f"held_out={copied}", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "images are compared by name here" in said and "WOULD STOP" not in said
    recipe = read_recipe("tiny/vit", [*words[1:], f"held_out={copied}", f"cache={tmp_path}"])
    checkpoint = load(recipe)
    with pytest.raises(ValueError, match="1 of 1 of its records are trained on too"):
        held_out_data(recipe, checkpoint, training_data(recipe, checkpoint))
    for row, name in zip(asked, "ab", strict=True):
        row["image"] = {"bytes": (tmp_path / f"{name}.png").read_bytes(), "path": None}
    parquet.write_table(pa.Table.from_pylist(asked), tmp_path / "rows.parquet")
    capsys.readouterr()
    words += [f"data={tmp_path / 'rows.parquet'}", f"cache={tmp_path / 'cache'}", "--json"]
    assert main(["validate-data", *words, f"held_out={tmp_path / 'rows.parquet'}"]) == 2


def test_hashes_tell_prompt_answer_and_images() -> None:
    mask = [False, True, False, False, True, True]
    ids = [1, 2, 3, 4, 5, 6]
    whole, prompt = row_hashes({"input_ids": ids, "assistant_mask": mask}, ["a"])
    other = row_hashes({"input_ids": [*ids[:4], 7, 8], "assistant_mask": mask}, ["a"])
    assert other[1] == prompt and other[0] != whole
    arrays = {"input_ids": np.array(ids, np.int32), "assistant_mask": np.array(mask)}
    assert row_hashes(arrays, ["a"]) == (whole, prompt)
    assert row_hashes(arrays, ["b"])[1] != prompt
    pair = {"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [4]}
    moved = {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3, 4]}
    assert row_hashes(pair, [])[0] != row_hashes(moved, [])[0]
    assert row_hashes(pair, [])[1] == row_hashes(moved, [])[1]


def test_what_is_trained_says_how_many_prompts_were(tmp_path: Path) -> None:
    data = write(tmp_path / "data.json", *rows("a", "b", "c"))
    held_out = write(tmp_path / "held.jsonl", *rows("aa", "x"))
    words = [f"data={data}", f"held_out={held_out}", f"cache={tmp_path / 'cache'}"]
    words += ["global_batch_size=2", "per_device_batch_size=2", "warmup_ratio=0"]
    output = tmp_path / "out"
    assert main(["train", str(TINY / "sft.yaml"), *words, f"output={output}"]) == 0
    record = json.loads((output / "training.json").read_text())
    assert record["held_out"]["prompts_trained"] == 1
    assert "Of these 1 ask what was trained on too" in (output / "README.md").read_text()
