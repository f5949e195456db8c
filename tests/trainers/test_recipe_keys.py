"""docs/recipe-keys.md is what the classes of a recipe say, and the guide's example is one."""

import dataclasses
import re
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.helpers.recipe_keys import page
from verbalizer_bench.io.conversation_files import read_records
from verbalizer_bench.io.conversations import Conversation
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.recipe_settings import LoraSettings


def test_the_page_is_made_of_the_classes() -> None:
    committed = (REPOSITORY / "docs" / "recipe-keys.md").read_text(encoding="utf-8")
    assert committed == page(), "run `make recipe-keys`"


def test_every_key_of_every_block_has_a_row() -> None:
    text = page()
    for kind in (Recipe, LoraSettings):
        for field in dataclasses.fields(kind):
            assert f"| `{field.name}` | " in text
    assert "## `model.second`" in text and "## `evaluation`" in text


def test_the_guides_example_is_read(tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(json|yaml)\n(.*?)```", guide, re.S))
    (tmp_path / "train.json").write_text(blocks["json"])
    (tmp_path / "mine.yaml").write_text(blocks["yaml"])
    recipe = read_recipe(tmp_path / "mine.yaml")
    assert recipe.evaluation and recipe.lora and recipe.held_out
    records = list(read_records(tmp_path / "train.json"))
    assert [len(record.images) for record in records if isinstance(record, Conversation)] == [
        1,
        2,
        0,
    ]
