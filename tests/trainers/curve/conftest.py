"""What the tests of curves share: a tiny recipe of six steps with evaluations."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.train import train

TINY = REPOSITORY / "recipes" / "tiny"
Train = Callable[..., Path]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Return what trains some steps of a tiny recipe, six of `sft`; each set of keys once."""
    place = tmp_path_factory.mktemp("trained")
    lines = (TINY / "data" / "text.jsonl").read_text().splitlines(keepends=True)
    data, held_out = place / "data.jsonl", place / "held_out.jsonl"
    data.write_text("".join(lines[:24]))
    # Of the records behind the first 24 some are the same.
    held_out.write_text("".join(lines[25:28] + lines[29:32]))
    text = [f"data={data}", f"held_out={held_out}", "num_train_epochs=1"]
    text += ["global_batch_size=4", "per_device_batch_size=4"]
    sees = ["model.path=null", f"model.config={TINY / 'llava'}", "num_train_epochs=0.5"]
    made: dict[tuple[str, ...], Path] = {}

    def make(*words: str, recipe: str = "sft", again: bool = False) -> Path:
        key = recipe, *words
        if key not in made or again:
            made.setdefault(key, place / str(len(made)))
            common = [f"cache={place / 'cache'}", "trained_parameters=null"]
            common += [f"output={made[key]}", *(text if recipe == "sft" else sees)]
            common += ["resume=true"] if again else []
            train(read_recipe(TINY / f"{recipe}.yaml", [*common, *words]))
        return made[key]

    return make
