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
from verbalizer_bench.trainers.data.mixture import Proportions, divided, mix
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.inputs import training_data

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
    found = mix(RECORDS, COUNTS, Proportions(wanted, weights), seed=0)
    assert found.drawn == drawn and found.available == [3, 1, 5]
    assert len(found.rows) == sum(drawn)
    places = [range(0, 3), range(3, 4), range(4, 9)]
    for place, number in zip(places, drawn, strict=True):
        times = [int((found.rows == row).sum()) for row in place]
        assert sum(times) == number and max(times) - min(times) <= 1


@pytest.mark.parametrize(
    ("temperature", "sizes", "drawn"),
    [
        (1, [70, 29, 1], [70, 29, 1]),
        # 900^(1/2) to 100^(1/2) is 3 to 1.
        (2, [900, 100], [750, 250]),
        (1e9, [98, 1, 1], [34, 33, 33]),
        (3, [10, 0, 10], [10, 0, 10]),
    ],
)
def test_temperature_keeps_the_total(temperature: float, sizes: list[int], drawn: Any) -> None:
    assert Proportions(temperature=temperature).numbers(sizes) == drawn
    assert sum(drawn) == sum(sizes)


def test_a_number_is_divided_to_the_last_one() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        parts = generator.integers(0, 1000, generator.integers(1, 6)) ** generator.random()
        total = int(generator.integers(0, 10000))
        found = divided(total, [*parts, 1.0])
        exact = total * np.array([*parts, 1.0]) / (parts.sum() + 1)
        assert sum(found) == total and np.abs(found - exact).max() < 1


@pytest.mark.parametrize(
    ("given", "share", "drawn"),
    [
        ({}, 0.3, [70, 30]),
        ({"records": [7]}, 0.3, [7, 3]),
        ({"records": [1]}, 0.999, [1, 999]),
        ({}, 0.001, [70, 0]),
    ],
)
def test_a_share_of_text_is_of_all_that_is_drawn(given: Any, share: float, drawn: Any) -> None:
    assert Proportions(replayed=1, share=share, **given).numbers([70, 50]) == drawn


def test_several_files_are_replayed_in_proportion_to_their_sizes() -> None:
    proportions = Proportions(weights=[1, 1], replayed=2, share=0.5)
    assert proportions.numbers([10, 90, 60, 20]) == [10, 10, 15, 5]


def test_text_is_replayed_recorded_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write(tmp_path / "text.json", *[conversation(f"Say {n}", str(n)) for n in range(9)])
    words = [f"model={{config: {TINY / 'llava'}}}", "trained_parameters=null", "data_records=21"]
    words += [f"text_replay={{data: {text}, share: 0.3}}", f"cache={tmp_path / 'cache'}"]
    words += [f"output={tmp_path / 'out'}", "num_train_epochs=0.1", "warmup_ratio=0"]
    recipe = read_recipe("tiny/vit", words)
    data = training_data(recipe, load(recipe))
    records = data.dataset.data.column("record").to_numpy()
    drawn = np.array(data.dataset[:]["record"])
    assert (drawn >= 96).sum() == 9 and len(drawn) == 30 and records.max() == 104
    assert main(["train", "tiny/vit", "--dry-run", *words]) == 0
    said = capsys.readouterr().out
    assert f"9 of 9 of {text}" in said and "21 of 96 of " in said
    assert main(["validate-data", "tiny/vit", *words]) == 0
    assert f"9 of 9 of {text}" in capsys.readouterr().out
    train.train(recipe)
    files = json.loads((tmp_path / "out" / "training.json").read_text())["data"]
    assert [(one["drawn"], one["of"]) for one in files] == [(21, 96), (9, 9)]
    # The replayed file must be of text.
    images = read_recipe("tiny/vit", [*words, f"text_replay.data={TINY / 'data/instruct.json'}"])
    with pytest.raises(ValueError, match=r"record \d+ shows an image, and 63 more; give"):
        training_data(images, load(images))


def test_what_is_drawn_is_the_seeds() -> None:
    def rows(seed: int) -> list[int]:
        return mix(np.arange(40), [20, 20], Proportions([5, 5]), seed).rows.tolist()

    assert rows(0) == rows(0) != rows(1)
    first, second = rows(0)[:5], rows(0)[5:]
    assert first == sorted(first) and [n - 20 for n in second] != first, "each file has its own"


def test_a_file_of_which_nothing_is_left_cannot_be_drawn_from() -> None:
    with pytest.raises(ValueError, match="data: file 2 has no record to draw 1 of; leave it out"):
        mix(np.array([0, 1]), [2, 3], Proportions([1, 1]), seed=0)
    with pytest.raises(ValueError, match="data: file 1, which data_weights has whole, has no rec"):
        mix(np.array([2, 3]), [2, 3], Proportions(weights=[1, 1]), seed=0)


def test_a_mixture_is_trained_on_recorded_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = TINY / "data" / "text.jsonl"
    other = write(tmp_path / "other.json", *[conversation(f"Say {n}", str(n)) for n in range(6)])
    words = [f"data=[{texts}, {other}]", "data_weights=[4, 1]", f"cache={tmp_path / 'cache'}"]
    words += [f"output={tmp_path / 'out'}", "num_train_epochs=0.2", "warmup_ratio=0"]
    recipe = read_recipe("tiny/sft", words)
    data = training_data(recipe, load(recipe))
    assert len(data.dataset) == len(data.lengths) == len(data.has_image) == 64 + 16
    assert [row["length"] for row in data.dataset] == data.lengths.tolist()
    added = [row["record"] for row in data.dataset.select(range(64, 80))]
    assert set(added) == set(range(64, 70)), "six records, sixteen times"
    index = json.loads((data.folder / "index.json").read_text())
    assert index == {"skipped": {}, "counts": [64, 6], "unread": [{}, {}], "cut": 0, "lost": 0}
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
        (["data_weights=0"], r"data_weights=\[0\]: a number for each of 1 files, above 0"),
        (["data_weights=1", "data_records=1"], "data_records and data_weights exclude each other"),
        (["data_weights=1", "data_temperature=2"], "and data_temperature exclude each other; give"),
        (["data_temperature=2"], "data_temperature=2.0: data is one file; leave it out"),
        (["data=[a.json, b.json]", "data_temperature=0.5"], "data_temperature=0.5: at least 1"),
        (["text_replay={data: a.json, share: 1}"], "text_replay.share=1.0: above 0 and below 1"),
        (["text_replay={data: [], share: 0.1}"], r"text_replay.data=\[\]: at least one file"),
        (["text_replay={data: a.json, share: 0.1}", "held_out=a.json"], "is trained on; give"),
    ],
)
def test_a_mixture_that_fits_no_files_is_refused(words: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_recipe("tiny/sft", words)
