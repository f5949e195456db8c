"""The study of mixtures: its scenes and pairs, its towers, its report of known tables."""

import csv
import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from tests.conftest import REPOSITORY
from verbalizer_bench.experiments.grids import as_yaml
from verbalizer_bench.experiments.miniature.arms import BASE
from verbalizer_bench.experiments.miniature.mof.grid import (
    BASE_POINT,
    MofGrid,
    MofPlace,
    MofPoint,
    read_grid,
)
from verbalizer_bench.experiments.miniature.mof.probes import probe
from verbalizer_bench.experiments.miniature.mof.report import write
from verbalizer_bench.experiments.miniature.mof.run import choose, main
from verbalizer_bench.experiments.miniature.mof.scenes import (
    VALUES,
    asked,
    caption,
    changed,
    picture,
    scenes,
    settings,
    statement,
    value,
)
from verbalizer_bench.experiments.miniature.mof.tables import gather
from verbalizer_bench.experiments.miniature.mof.towers import TOWERS, _apart, train_tower
from verbalizer_bench.experiments.miniature.mof.world import write_pairs, write_world
from verbalizer_bench.experiments.miniature.world.splits import SPLITS
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.mmvp.questions import IMAGES, read_folder
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.vision.vlm_benchmark import read_vlm_benchmark

SMALL = MofGrid(
    seeds=(0, 1),
    images=("white", "none"),
    texts=2,
    pairs=2,
    items=64,
    held_out=12,
    captions=96,
    tower_steps=4,
    alphas=(0.5,),
    learning_rates=(1e-3, 3e-3),
)
COLOUR, DIRECTION = "color and appearance", "orientation and direction"


def test_splits_share_no_setting() -> None:
    places = [set(settings(split)) for split in SPLITS]
    assert sum(map(len, places)) == len(set().union(*places)) == 3 * 4 * 25
    names = [scene.name for split in SPLITS for scene in scenes(split)]
    assert len(set(names)) == len(names) == 300 * 6 * 4


def test_pictures_differ_where_scenes_do() -> None:
    one = scenes("test")[0]
    for kind in ("colour", "direction"):
        other = changed(Random(0), one, kind)
        differ = [k for k in VALUES if value(one, k) != value(other, k)]
        assert differ == [kind]
        assert picture(one).tobytes() != picture(other).tobytes()
    # A direction moves pixels and makes no new colours.
    turned = changed(Random(0), one, "direction")
    assert set(picture(one).getdata()) == set(picture(turned).getdata())


def test_the_base_knows_every_word() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    shown = scenes("test")[:24]
    texts = [caption(Random(0), scene) for scene in shown] + [statement(s) for s in shown]
    for scene in shown:
        for kind in VALUES:
            about = asked(scene, kind, VALUES[kind][0])
            texts += [about.text, about.sentence, about.short]
    for text in texts:
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], text


def test_pairs_are_mmvps_and_mmvp_vlms(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    questions = read_folder(tmp_path / "mmvp")
    assert [question.answer for question in questions] == ["a", "b"] * 6
    assert [question.pattern for question in questions] == [COLOUR] * 6 + [DIRECTION] * 6
    for one, other in zip(questions[::2], questions[1::2], strict=True):
        images = [Image.open(tmp_path / "mmvp" / IMAGES / f"{q.number}.png") for q in (one, other)]
        assert images[0].tobytes() != images[1].tobytes()
    benchmark = read_vlm_benchmark(tmp_path / "vlm")
    assert benchmark.patterns == (DIRECTION, COLOUR)
    told = [pair.statements for pair in benchmark.pairs]
    # Options are what the statements differ in; a colour's says no direction.
    for question, (first, second) in zip(questions[::2], told, strict=True):
        assert question.options[0] in first and question.options[1] in second
    assert not any("point" in text for text in told[0]) and all("point" in t for t in told[-1])


def test_a_world_has_no_scene_of_another_split(tmp_path: Path) -> None:
    write_world(tmp_path, 0, items=40, held_out=10, captions=20)
    before = (tmp_path / "train/fovit.json").read_bytes()
    for split, number in (("train", 40), ("choose", 10)):
        rows = json.loads((tmp_path / split / "fovit.json").read_text())
        assert len(rows) == number
        names = {scene.name for scene in scenes(split)}
        assert {row["id"] for row in rows} <= names
        assert all((tmp_path / "images" / row["image"]).is_file() for row in rows)
    prompts = [row["conversations"][0]["value"] for row in json.loads(before)]
    assert 10 < sum(" (a) " in prompt for prompt in prompts) < 30
    write_world(tmp_path, 1, items=1, held_out=1, captions=1)
    assert (tmp_path / "train/fovit.json").read_bytes() == before


def test_how_far_two_images_are_apart() -> None:
    # Two scenes, 2 apart in one number; their other images are where they are, or 1 away.
    patches = torch.tensor([[[0.0]], [[2.0]], [[0.0]], [[2.0]]])
    assert _apart(patches) == 0
    # Variance of 0, 2, 1, 3 is 5/3.
    patches = torch.tensor([[[0.0]], [[2.0]], [[1.0]], [[3.0]]])
    assert _apart(patches).item() == pytest.approx(1 / (2 * 5 / 3))


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_is_trained_alike_and_probed(name: str, tmp_path: Path) -> None:
    for folder in ("one", "again"):
        train_tower(name, tmp_path / folder, 0, 2)
    weights = [(tmp_path / f / "model.safetensors").read_bytes() for f in ("one", "again")]
    assert weights[0] == weights[1]
    found = probe(name, tmp_path / "one")
    # Where a triangle stands, patches tell even untrained.
    assert found["patches"]["place"] > 0.5 and found["patches"]["background"] > 0.9
    train_tower(name, tmp_path / "one", 1, 2)
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == weights[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [0]}, "seeds=.0.: at least two"),
        ({"images": ["blakc"]}, "images=blakc: one of white"),
        ({"alphas": [1]}, "alphas=1.0: above 0 and below 1"),
        ({"texts": 3}, "texts=3: even"),
        ({"pairs": 100000}, "pairs=100000: at most 864"),
        ({"tower_steps": 0}, "tower_steps=0: at least 1"),
    ],
)
def test_a_wrong_grid(tmp_path: Path, change: Mapping[str, Any], message: str) -> None:
    values = json.loads(json.dumps(dataclasses.asdict(SMALL))) | change
    (tmp_path / "grid.yaml").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        read_grid(tmp_path / "grid.yaml")


def test_a_folder_of_another_size_is_refused(tmp_path: Path) -> None:
    MofPlace(tmp_path).keep(SMALL)
    MofPlace(tmp_path).keep(dataclasses.replace(SMALL, seeds=(0, 1, 2)))
    with pytest.raises(ValueError, match="has pairs=2, not 3; give that, or another folder"):
        MofPlace(tmp_path).keep(dataclasses.replace(SMALL, pairs=3))


def test_one_rate_is_chosen_for_all(tmp_path: Path) -> None:
    """The lower rate is better for most arms, and much worse for one."""
    place = MofPlace(tmp_path)
    for arm in SMALL.arms:
        for rate in SMALL.learning_rates:
            loss = 0.2 if rate == 3e-3 else 1.5 if arm == "Channel" else 0.1
            folder = place.checkpoint(MofPoint(0, arm, rate))
            folder.mkdir(parents=True)
            (folder / "training.json").write_text(json.dumps({"held_out": {"loss": loss}}))
    assert choose(place, SMALL) == 3e-3


def test_gathering_names_a_point_that_was_not_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder; give a run's folder"):
        gather(MofPlace(tmp_path), SMALL, 1e-3, tmp_path / "tables")


# Of a made study: which pairs are right, of colour and of direction; F1.
ANSWERS = {
    "CLIP-like": ("11", "00", 0.6),
    "DINO-like": ("00", "11", 0.2),
    "Additive-0.5": ("10", "10", 0.4),
    "Interleaved": ("11", "11", 0.5),
    "Channel": ("11", "10", 0.4),
}


def write_table(rows: Sequence[Mapping[str, str]], file: Path) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of a study whose every number is known."""
    folder = tmp_path_factory.mktemp("made")
    points, documents, pairs = [], [], []
    for seed in ("", "0", "1"):
        for arm in ANSWERS if seed else ("base",):
            for image in SMALL.images if seed else ("",):
                key = {"seed": seed, "arm": arm, "image": image}
                # Without an image 0.1 more; the base has 0.9.
                f1 = ANSWERS[arm][2] + 0.1 * (image == "none") if seed else 0.9
                metrics = {f"{t}_{m}": "50.00" for t in LABEL_TYPES for m in ("f1", *OUTCOMES)}
                trained = {"steps": "2" if seed else "", "last_loss": "1", "held_out_loss": "1"}
                points.append({**key, **trained, **metrics})
                documents += [
                    {**key, "label_type": t, "data_set": d, "f1": f"{f1:g} {f1:g}"}
                    for t in LABEL_TYPES
                    for d in ("sst2", "fp")
                ]
            if seed:
                for pattern, right in zip((COLOUR, DIRECTION), ANSWERS[arm], strict=False):
                    row = {"seed": seed, "arm": arm, "pattern": pattern, "right": str(right)}
                    pairs.append({**row, "single": "75.00", "unparsed": "0.00"})
    rates = [
        {"seed": "0", "arm": arm, "rate": rate, "held_out_loss": loss}
        for arm in ANSWERS
        for rate, loss in (("0.001", "0.2"), ("0.003", "0.1"))
    ]
    answer = {"seed": "0", "arm": "Channel", "question": "Where? (a) west (b) east"}
    answer |= {"wanted": "west", "response": "w|e"}
    for name, rows in (
        ("points", points),
        ("documents", documents),
        ("pairs", pairs),
        ("rates", rates),
        ("examples", [answer]),
    ):
        write_table(rows, folder / f"{name}.csv")
    blind = {"colour": 0.2, "direction": 0.3, "place": 1.0, "background": 1.0}
    probes = {
        "CLIP-like": {"whole": blind | {"colour": 1.0}, "patches": blind | {"colour": 1.0}},
        "DINO-like": {"whole": blind | {"direction": 0.9}, "patches": blind | {"colour": 0.7}},
    }
    counts = {"direction": 4, "colour": 0, "both": 0, "neither": 1}
    seen = {"probes": probes, "statements": {COLOUR: "11", DIRECTION: "01"}}
    seen |= {"blind_pairs": dict.fromkeys(TOWERS, counts)}
    (folder / "towers.json").write_text(json.dumps({"0": seen, "1": seen}))
    about = {"learning_rate": 3e-3, "base": {"sha256": "a" * 64}, "machine": "a box"}
    (folder / "mof.json").write_text(json.dumps(about))
    (folder / "grid.yaml").write_text(as_yaml(SMALL))
    return folder


def rows_of(text: str, *start: str) -> list[list[str]]:
    """Return the cells of the table rows that begin with some cells."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[: len(start)] == list(start)]


def test_the_report_says_what_the_tables_hold(made: Path) -> None:
    text = write(made).read_text()
    assert rows_of(text, "CLIP-like", "100.0") == [
        ["CLIP-like", "100.0", "0.0", "50.0", "75.0", "0.0"]
    ]
    assert rows_of(text, "Additive-0.5", "50.0") == [
        ["Additive-0.5", "50.0", "50.0", "50.0", "75.0", "0.0"]
    ]
    (row,) = rows_of(text, "minus DINO-like")
    # Both seeds and both pairs are alike.
    assert row[1:] == ["+100.0 [+100.0, +100.0]", "0.0 [0.0, 0.0]"] + ["+30.0 [+30.0, +30.0]"] * 2
    assert rows_of(text, "Interleaved", "none") == [["Interleaved", "none", *["60.0"] * 4]]
    assert rows_of(text, "base", "-") == [["base", "-", *["90.0"] * 4]]
    assert rows_of(text, "mean", "0.2000") == [["mean", "0.2000", "0.1000"]]
    assert "*Is each tower blind to what the other sees?* **In part.**" in text
    assert "*Does interleaving see both?* **Yes.**" in text
    assert "*Does it see as much as each tower alone?* **Yes.**" in text
    assert "**Not shown: it cannot be told to see more than Additive-0.5, Channel.**" in text
    assert "With image white: 50.0 (F1, All), the base 90.0; minus CLIP-like -10.0 [" in text
    assert "**It follows less than CLIP-like alone.**" in text
    assert "Every arm is below the base." in text
    assert "not told apart, at a share of 0; between the ends it follows less.**" in text
    assert "0: 50.0, 0.5: 50.0, 1: 50.0" in text and "0: 60.0, 0.5: 40.0, 1: 20.0" in text
    assert "`w\\|e`" in text
    assert {file.name for file in made.glob("*.png")} == {"scores.png", "trade_off.png"}
    assert write(made).read_text() == text


def test_a_mixture_that_sees_neither(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "neither"
    shutil.copytree(made, folder)
    file = folder / "pairs.csv"
    lines = file.read_text().splitlines()
    worse = [line.replace(",11,", ",00,") if "Interleaved" in line else line for line in lines]
    file.write_text("\n".join(worse) + "\n")
    text = write(folder).read_text()
    assert "*Does interleaving see both?* **No.**" in text
    assert "*Does it see as much as each tower alone?* **No, less.**" in text


@pytest.mark.slow
def test_a_study_goes_on_and_a_cell_run_again_gives_the_same_tables(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(as_yaml(SMALL))
    words = [str(tmp_path / "out"), "images=white", "--grid", str(tmp_path / "grid.yaml")]
    main([*words, "--report", str(tmp_path / "first")])
    point = MofPlace(tmp_path / "out").point(BASE_POINT)
    before = {file: file.stat().st_mtime_ns for file in point.rglob("*.jsonl")}
    shutil.rmtree(tmp_path / "out/seed-1")
    main([*words, "--report", str(tmp_path / "again")])
    assert before and all(file.stat().st_mtime_ns == time for file, time in before.items())
    files = sorted(file.name for file in (tmp_path / "first").iterdir())
    assert len(files) == 11
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_the_shipped_grid_is_read() -> None:
    grid = read_grid(REPOSITORY / "experiments/miniature/mof/grid.yaml")
    assert grid.arms == (
        *("CLIP-like", "Additive-0.75", "Additive-0.5", "Additive-0.25", "DINO-like"),
        *("Interleaved", "Channel"),
    )
    assert np.isclose(grid.learning_rates[0], 1e-3)


def test_the_committed_report_is_what_the_committed_tables_say(tmp_path: Path) -> None:
    committed = REPOSITORY / "experiments/miniature/results/mof"
    assert read_grid(committed / "grid.yaml") == read_grid()
    shutil.copytree(committed, tmp_path / "again")
    assert write(tmp_path / "again").read_text() == (committed / "README.md").read_text()
