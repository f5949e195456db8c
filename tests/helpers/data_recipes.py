"""Recipes of the builders' tests: real photographs and captions, and a server on this machine."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY, SHARED
from verbalizer_bench.builders.kinds.instructions import draw
from verbalizer_bench.builders.pipeline.blocks import Instructions
from verbalizer_bench.builders.pipeline.recipe import DataRecipe, read_recipe
from verbalizer_bench.builders.pipeline.sample import Instruction

PROMPTS = REPOSITORY / "recipes/data/prompts"
COCO = SHARED / "data/coco"
IFEVAL = SHARED / "data/ifeval/input_data.jsonl"


def real_data() -> None:
    """Skip a test where the photographs and IFEval's rows are not there."""
    for path in (COCO / "images", COCO / "captions_val2014_subset.json", IFEVAL):
        if not path.exists():
            pytest.skip(f"{path} is not there")


def write_recipe(folder: Path, **changes: Any) -> Path:
    """Write a recipe of format-oriented data; `changes` replace keys, None removes one."""
    keys = {
        "kind": "format_oriented",
        "output": str(folder / "data"),
        "prompts": str(PROMPTS / "format_oriented.yaml"),
        "images": {"folder": str(COCO / "images")},
        "captions": {"file": str(COCO / "captions_val2014_subset.json"), "n": 182},
        "ifeval": str(IFEVAL),
        "sets": 5000,
        "endpoints": {
            "default": {
                "model": "tester",
                "base_url": "http://127.0.0.1:9/v1",
                "concurrency": 16,
                "backoff": 0.01,
                "retries": 6,
                "input_price": 1.0,
                "output_price": 2.0,
            }
        },
        "leakage": {"data": "sample"},
        "licence": "COCO's.",
    }
    keys = {key: value for key, value in (keys | changes).items() if value is not None}
    path = folder / "recipe.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(keys))
    return path


def recipe(folder: Path, url: str, *overrides: str, **changes: Any) -> DataRecipe:
    """Return such a recipe, with the server's address."""
    path = write_recipe(folder, **changes)
    return read_recipe(path, [f"endpoints.default.base_url={url}", *overrides])


def instructions() -> dict[str, Instruction]:
    """Return all of the default filter's instructions by their text."""
    return {one.text: one for one in draw(str(IFEVAL), Instructions(n=157))}
