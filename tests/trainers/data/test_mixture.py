"""How much of each file an epoch has: exact, seeded, recorded, and said before."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.helpers.training_records import conversation, write
from verbalizer_bench.cli import main
from verbalizer_bench.trainers import train
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.data.mixture import mix
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.inputs import encoded_data

TINY = REPOSITORY / "recipes" / "tiny"
# Files of 4, 3 and 5 records, of which 1, 5 and 6 were left out.
RECORDS, COUNTS = np.array([0, 2, 3, 4, 7, 8, 9, 10, 11]), [4, 3, 5]


@pytest.mark.parametrize(
    ("wanted", "weights", "drawn"),
    [
        ([None, None, None], None, [3, 1, 5]),
        ([2, None, 4], None, [2, 1, 4]),
        ([1, 3, 12], None, [1, 3, 12]),
        (None, [1, 1, 1], [3, 3, 3]),
        (None, [3, 1, 0.5], [3, 1, 0]),
        (None, [0.5, 0.25, 2], [3, 2, 12]),
    ],
)
def test_numbers_are_exact(wanted: Any, weights: Any, drawn: list[int]) -> None:
    found = mix(RECORDS, COUNTS, wanted, weights, seed=0)
    assert found.drawn == drawn and found.available == [3, 1, 5]
    assert len(found.rows) == sum(drawn)
    places = [range(0, 3), range(3, 4), range(4, 9)]
    for place, number in zip(places, drawn, strict=True):
        times = [int((found.rows == row).sum()) for row in place]
        assert sum(times) == number and max(times) - min(times) <= 1


def test_what_is_drawn_is_the_seeds() -> None:
    def rows(seed: int) -> list[int]:
        return mix(np.arange(40), [20, 20], [5, 5], None, seed).rows.tolist()

    assert rows(0) == rows(0) != rows(1)
    first, second = rows(0)[:5], rows(0)[5:]
    assert first == sorted(first) and [n - 20 for n in second] != first, "each file has its own"


def test_a_file_of_which_nothing_is_left_cannot_be_drawn_from() -> None:
    with pytest.raises(ValueError, match="data: file 2 has no record to draw 1 of; leave it out"):
        mix(np.array([0, 1]), [2, 3], [1, 1], None, seed=0)
    with pytest.raises(ValueError, match="data: file 1, which data_weights has whole, has no rec"):
        mix(np.array([2, 3]), [2, 3], None, [1, 1], seed=0)


def test_a_mixture_is_trained_on_recorded_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = TINY / "data" / "text.jsonl"
    other = write(tmp_path / "other.json", *[conversation(f"Say {n}", str(n)) for n in range(6)])
    words = [f"data=[{texts}, {other}]", "data_weights=[4, 1]", f"cache={tmp_path / 'cache'}"]
    words += [f"output={tmp_path / 'out'}", "num_train_epochs=0.2", "warmup_ratio=0"]
    recipe = read_recipe("tiny/sft", words)
    data = encoded_data(recipe, load(recipe), recipe.data)
    assert len(data.dataset) == len(data.lengths) == len(data.has_image) == 64 + 16
    assert [row["length"] for row in data.dataset] == data.lengths.tolist()
    added = [row["record"] for row in data.dataset.select(range(64, 80))]
    assert set(added) == set(range(64, 70)), "six records, sixteen times"
    assert main(["train", "tiny/sft", "--dry-run", *words]) == 0
    said = capsys.readouterr().out
    assert f"drawn       64 of 64 of {texts}, 16 of 6 of {other}" in said
    assert "80 records" in said
    train.train(recipe)
    files = json.loads((tmp_path / "out" / "training.json").read_text())["data"]
    assert [(one["drawn"], one["of"]) for one in files] == [(64, 64), (16, 6)]
    assert ": 16 of 6 records drawn" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["data_records=[1, 2]"], r"data_records=\[1, 2\]: a number for each of 1 files, above 0"),
        (["data_records=0"], r"data_records=\[0\]: a number for each of 1 files, above 0"),
        (["data_weights=0"], r"data_weights=\[0.0\]: a number for each of 1 files, above 0"),
        (["data_weights=1", "data_records=1"], "exclude each other; leave one out"),
    ],
)
def test_a_mixture_that_fits_no_files_is_refused(words: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_recipe("tiny/sft", words)
