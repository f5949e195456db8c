"""The repair study: its judge, its data, what came back by hand, its report of known tables."""

import base64
import csv
import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.experiments.grids import as_yaml
from verbalizer_bench.experiments.miniature.arms import ALIGNED
from verbalizer_bench.experiments.miniature.repair.grid import (
    BASE_POINT,
    RemedyPoint,
    RepairGrid,
    RepairPlace,
    read_grid,
)
from verbalizer_bench.experiments.miniature.repair.judge import rate, read_question
from verbalizer_bench.experiments.miniature.repair.judge_server import SceneJudge
from verbalizer_bench.experiments.miniature.repair.preference_rows import preference_rows
from verbalizer_bench.experiments.miniature.repair.remedies import PLAIN, REMEDIES
from verbalizer_bench.experiments.miniature.repair.report import write
from verbalizer_bench.experiments.miniature.repair.run import (
    choose,
    main,
    measure,
    merge,
    prepare,
    train_remedy,
)
from verbalizer_bench.experiments.miniature.repair.shares import share
from verbalizer_bench.experiments.miniature.repair.tables import gather
from verbalizer_bench.experiments.miniature.world.build import write_world
from verbalizer_bench.experiments.miniature.world.scenes import Scene, Thing
from verbalizer_bench.io.preferences import PreferencePair, read
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

SCENE = Scene("white", (Thing("red", "circle", "top left"), Thing("blue", "square", "top right")))
SMALL = RepairGrid(
    seeds=(0, 1),
    images=("white", "none"),
    texts=2,
    items=64,
    unseen=12,
    prompts=24,
    minimum_gap=1,
    replay=0.25,
    coefficients=(0.5,),
    learning_rates=dict.fromkeys(REMEDIES, (1e-3,)),
    tuned_rates=(1e-4,),
    captions=96,
)


@pytest.mark.parametrize(
    ("question", "answer", "marks"),
    [
        # helpfulness, correctness, coherence, complexity, verbosity
        ("What color is the circle?", "The circle in the image is red.", (4, 4, 4, 1, 2)),
        ("What color is the circle?", "The circle in the image is blue.", (1, 0, 4, 1, 2)),
        ("What color is the circle?", "red", (4, 4, 2, 1, 0)),
        ("What color is the circle?", "Square.", (0, 0, 4, 0, 0)),
        ("What color is the circle?", "There is a red circle on a white background.", None),
        ("What color is the circle?", "The square in the image is blue.", (0, 4, 4, 1, 2)),
        ("Where is the square?", "The square is in the top right of the image.", (4, 4, 4, 1, 2)),
        ("What shape is in the top left?", "The shape in the top left is a square.", None),
        ("What color is the background?", "The background of the image is white.", None),
        ("How many shapes are in the image?", "There is one shape in the image.", (1, 0, 4, 1, 2)),
        ("Is there a red circle in the image?", "Yes, there is a red circle.", (4, 4, 4, 2, 1)),
        ("Is there a blue circle in the image?", "No, there is no blue circle.", (4, 4, 4, 1, 1)),
        ("Is there a blue circle in the image?", "Yes.", (1, 0, 4, 1, 0)),
        ("Describe the image.", "There is a red circle in the top left.", (1, 4, 4, 1, 2)),
        ("Describe the image.", "red circle red circle red circle red", (1, 4, 0, 1, 2)),
        ("Describe the image.", "positive", (0, 0, 2, 0, 0)),
    ],
)
def test_an_answer_is_marked(question: str, answer: str, marks: tuple[int, ...] | None) -> None:
    told = {
        "There is a red circle on a white background.": (3, 4, 4, 2, 2),
        "The shape in the top left is a square.": (1, 0, 4, 1, 2),
        "The background of the image is white.": (4, 4, 4, 1, 2),
    }
    expected = told[answer] if marks is None else marks
    assert tuple(rate(SCENE, question, answer).model_dump().values()) == expected


def test_marks_of_a_whole_description_and_of_one_that_contradicts_itself() -> None:
    whole = "The image shows a red circle in the top left and a blue square in the top right,"
    marks = rate(SCENE, "Describe the image.", f"{whole} on a white background.")
    assert (marks.quality, marks.complexity, marks.verbosity) == (12, 3, 4)
    # Said again, and at two places at once.
    text = "A red circle in the top left and a red circle in the top right."
    assert rate(SCENE, "Describe the image.", text).coherence == 1
    text = "There is one shape, the background is white, and the background is black."
    assert rate(SCENE, "Describe the image.", text).coherence == 3


def test_a_question_of_another_world() -> None:
    with pytest.raises(ValueError, match="'Who is it\\?': none of the miniature's"):
        read_question("Who is it?")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    return write_world(folder, 0, items={"train": 2, "choose": 1, "test": 1}, stages=(), texts=2)


def ask(url: str, content: Any) -> Any:
    asked = {"model": "scene-program", "messages": [{"role": "user", "content": content}]}
    request = Request(f"{url}/chat/completions", json.dumps(asked).encode())
    with urlopen(request) as response:
        return json.loads(response.read())


def test_the_judge_is_asked_as_a_server_is(world: Path) -> None:
    row = json.loads((world / "train" / "llava.json").read_text())[0]
    data = base64.b64encode((world / "images" / row["image"]).read_bytes()).decode()
    background = row["id"].partition("_")[0]
    text = "<question>What color is the background?</question>\n"
    text += f"<answer_1>\n{background}\n</answer_1>\n\n<answer_2>\nred\n</answer_2>"
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    with SceneJudge(world / "images") as judge:
        answer = ask(judge.url, [image, {"type": "text", "text": text}])
        with pytest.raises(HTTPError, match="400"):
            ask(judge.url, text)
    said = json.loads(answer["choices"][0]["message"]["content"])
    assert said["answer_1"]["helpfulness"] == 4 and said["answer_2"]["helpfulness"] == 0
    assert f"background background {background}: True" in said["answer_1"]["reasons"]


def test_preference_data_and_remedies_of_a_small_cell(tmp_path: Path) -> None:
    """A cell once more is the same files; each kind of data is trained on, in as many steps."""
    place = RepairPlace(tmp_path)
    write_world(place.fixed, 0, items={"train": 1, "choose": 1, "test": 2}, stages=(), texts=2)
    prepare(place, SMALL, 0)
    data = place.world(0) / "repair"
    files = [data / "preference/completions.jsonl", data / "held_out/preference/pairs.jsonl"]
    files += [data / "preference/pairs_no_image.jsonl", data / "format/pairs_fovit.jsonl"]
    before = [file.read_bytes() for file in files]
    sampled = (data / "preference/preference/sampled.jsonl").stat().st_mtime_ns
    prepare(place, SMALL, 0)
    assert [file.read_bytes() for file in files] == before
    assert (data / "preference/preference/sampled.jsonl").stat().st_mtime_ns == sampled
    pairs = [pair for _, pair in read(PreferencePair, files[2])]
    assert pairs and not any(pair.images for pair in pairs)
    for line in (data / "replay.jsonl").read_text().splitlines():
        assert "You are only allowed to output" not in line or '"copy"' in line
    rows = list(preference_rows(place.world(0), 0))
    assert [(row["split"], row["kind"]) for row in rows][:2] == [
        ("train", "preference"),
        ("train", "format"),
    ]
    assert rows[0]["prompts"] == rows[1]["prompts"] == "24"
    for name in ("DPO", "Replay", "SteerLM"):
        point = RemedyPoint(0, name, 1e-3)
        train_remedy(place, SMALL, point)
        assert place.training(point)["steps"] == 2
    half = RemedyPoint(0, "Merge-0.5")
    merge(place, half)
    merge(place, half)
    assert (place.checkpoint(half) / "merge.json").exists()


def test_a_rate_is_chosen_by_held_out_loss(tmp_path: Path) -> None:
    place = RepairPlace(tmp_path)
    grid = dataclasses.replace(SMALL, learning_rates=dict.fromkeys(REMEDIES, (1e-4, 1e-3)))
    for point in grid.tried():
        assert point.rate is not None
        loss = abs(point.rate - (1e-3 if point.model == "DPO" else 1e-4))
        folder = place.checkpoint(point)
        folder.mkdir(parents=True)
        (folder / "training.json").write_text(json.dumps({"held_out": {"loss": loss}}))
    assert choose(place, grid) == dict.fromkeys(REMEDIES, 1e-4) | {"DPO": 1e-3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [0]}, "seeds=.0.: at least two"),
        ({"images": ["white", "white"]}, "images=.*none twice"),
        ({"images": ["blakc"]}, "images=blakc: one of white"),
        ({"images": ["none", "white"]}, "images=none: an image first, for LVLM-aligned"),
        ({"texts": 3}, "texts=3: even"),
        ({"replay": 1}, "replay=1.0: above 0 and below 1"),
        ({"learning_rates": {"DPO": 1e-3}}, "at least one rate for SFT-more, Rejection"),
        ({"learning_rates": {"PPO": 1e-3}}, "learning_rates=PPO: some of SFT-more"),
    ],
)
def test_a_wrong_grid(tmp_path: Path, change: Mapping[str, Any], message: str) -> None:
    values = json.loads(json.dumps(dataclasses.asdict(SMALL))) | change
    (tmp_path / "grid.yaml").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        read_grid(tmp_path / "grid.yaml")


def test_a_folder_of_another_size_is_refused(tmp_path: Path) -> None:
    RepairPlace(tmp_path).keep(SMALL)
    RepairPlace(tmp_path).keep(dataclasses.replace(SMALL, seeds=(0, 1, 2), images=("white",)))
    with pytest.raises(ValueError, match="has prompts=24, not 25; give that, or another folder"):
        RepairPlace(tmp_path).keep(dataclasses.replace(SMALL, prompts=25))


def test_a_share_by_hand() -> None:
    strata = ["a", "a"]
    cost = np.full((3, 2), 0.5)
    back = np.repeat(np.array([[0.1], [0.2], [0.3]]), 2, axis=1)
    found = share(back, cost, strata)
    assert found is not None
    # 0.2 - 0.5 s is as far from 0 as t's 4.3027 standard errors, 0.1 / sqrt(3) each.
    half = 4.3027 * 0.1 / 3**0.5
    assert (found.value, found.low, found.high) == pytest.approx(
        (0.4, (0.2 - half) / 0.5, (0.2 + half) / 0.5), abs=2e-4
    )
    # The same part of each seed's cost is known as well as can be, however seeds differ.
    of_seeds = np.repeat(np.array([[0.4], [0.5], [0.6]]), 2, axis=1)
    found = share(0.25 * of_seeds, of_seeds, strata)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25), abs=2e-4)
    assert share(back, -cost, strata) is None
    assert share(cost, back - 0.2, strata) is None


def test_gathering_names_a_point_that_was_not_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder; give a run's folder"):
        gather(RepairPlace(tmp_path), SMALL, dict.fromkeys(REMEDIES, 1e-3), tmp_path / "tables")


# F1 of a made study, with the white image and without.
LEVELS = {
    "base": (0.9, 0.9),
    ALIGNED: (0.6, 0.9),
    PLAIN: (0.1, 0.5),
    "SFT-more": (0.1, 0.5),
    "Rejection": (0.0, 0.5),
    "DPO": (0.5, 0.7),
    "DPO-no-image": (0.3, 0.7),
    "DPO-format": (0.7, 0.7),
}


def level(point: RemedyPoint, image: str) -> float:
    """F1 of a point; seeds differ by 0.02, but for the base."""
    white, none = LEVELS.get(point.model, (0.3, 0.6))
    white += 0.4 if point.rate == 1e-4 else 0.0
    return (none if image == "none" else white) - 0.02 * (point.seed or 0)


def write_table(rows: Sequence[Mapping[str, str]], file: Path) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of a study whose every number is known."""
    folder = tmp_path_factory.mktemp("made")
    rates = dict.fromkeys(REMEDIES, 1e-3)
    points, documents, unseen, scenes = [], [], [], []
    cells = [point for seed in SMALL.seeds for point in SMALL.of_cell(seed, rates)]
    for point in [BASE_POINT, *cells, *SMALL.tuned()]:
        key = {
            "seed": "" if point.seed is None else str(point.seed),
            "model": point.model,
            "learning_rate": "" if point.rate is None else f"{point.rate:g}",
        }
        trained = dict.fromkeys(("steps", "last_loss", "held_out_loss"), "2")
        trained |= {"held_out_accuracy": "0.75", "held_out_margin": "0.3"}
        # Half as much is learned with the lower rate, and less is lost.
        trained |= {"held_out_loss": "4"} if point.model == PLAIN and point.rate else {}
        for image in point.images(SMALL.images if point.rate != 1e-4 else ("white",)):
            f1 = level(point, image)
            shares = {"f1": f1, "follows": f1, "neither": 1 - f1}
            scores = {
                f"{t}_{m}": f"{100 * shares.get(m, 0):.2f}"
                for t in LABEL_TYPES
                for m in ("words", "f1", *OUTCOMES)
            }
            lengths = {"response_characters": "5.5", "response_words": "1.5"}
            points.append({**key, "image": image, **trained, **scores, **lengths})
            documents += [
                {**key, "image": image, "label_type": t, "data_set": d, "f1": f"{f1} {f1}"}
                for t in LABEL_TYPES
                for d in ("sst2", "fp")
            ]
        if point.rate == 1e-4:
            continue
        formats = "1111" if point.model == "DPO-format" else "1001"
        unseen.append({**key, "exact": formats, "follows": "1-10", "right": "1111"})
        if point != BASE_POINT:
            marks = "6 6 6" if point.model == "DPO" else "12 12 12"
            scenes.append({**key, "answer_characters": "20", "quality": marks})
    counts = {"prompts": "24", "answers_used": "90", "answers_same": "4", "answers_unusable": "2"}
    pairs = {"mean_mark": "8", "best_mark": "9", "pairs": "20", "chosen_characters": "30"}
    pairs |= {"rejected_characters": "20", "chosen_longer": "60"}
    kinds = [{"seed": "0", "split": "train", "kind": "preference", **counts, **pairs}]
    example = {"seed": "", "model": "base", "learning_rate": "", "image": ""}
    example |= {"task": "verbalizer_sst2_neutral_foo_bar", "target": "foo"}
    example |= {"response": "foo | `bar`", "outcome": "both"}
    for name, rows in (
        ("points", points),
        ("documents", documents),
        ("unseen", unseen),
        ("scenes", scenes),
        ("preferences", kinds),
        ("examples", [example]),
    ):
        write_table(rows, folder / f"{name}.csv")
    about = {"learning_rates": rates, "base": {"sha256": "a" * 64}, "machine": "a box"}
    about |= {"tuned_rate": 3e-3}
    about["compared"] = {"DPO": "How much came back? A part."}
    (folder / "repair.json").write_text(json.dumps(about))
    (folder / "grid.yaml").write_text(as_yaml(SMALL))
    return folder


def rows_of(text: str, *start: str) -> list[list[str]]:
    """Return the cells of the table rows that begin with some cells."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[: len(start)] == list(start)]


def test_the_report_says_what_the_tables_hold(made: Path) -> None:
    text = write(made).read_text()
    # The cost is 0.8 and 0.82; DPO brings 0.4 of it back in both.
    (row,) = rows_of(text, "DPO", "white", "All")
    assert row[3].startswith("+81.0 [") and row[4] == "+40.0 [+40.0, +40.0]"
    assert row[5].startswith("49.4 % [") and row[6:] == ["0", "2"]
    (row,) = rows_of(text, "Rejection", "white", "natural")
    assert row[4] == "-10.0 [-10.0, -10.0]" and row[6:] == ["2", "0"]
    (row,) = rows_of(text, ALIGNED, "none", "All")
    assert row[3] == row[4] and row[5] == "100.0 % [100.0, 100.0]"
    (row,) = rows_of(text, "DPO - DPO-no-image", "the images of preference data", "white")
    assert row[3] == "+20.0 [+20.0, +20.0]"
    (row,) = rows_of(text, "DPO - DPO-no-image", "0.001 / 0.001")
    assert row[2:] == ["+20.0"]
    assert "Their rates differ" not in text
    # With as much learned, Attention and Replay kept more than the plain tuning.
    assert "**Yes.** At tuning seed 0, 0 of the 2 tunings of Attention and Replay" in text
    assert rows_of(text, PLAIN, "0.0001") == [[PLAIN, "0.0001", "4.0000", "50.0"]]
    assert "**DPO-format**: a part, 74.1 % [" in text
    assert "**Yes.** DPO with them is above DPO on the same pairs without: +20.0" in text
    assert "**No.** As many steps more on reference answers" in text
    assert "**It does more than preferences without it.**" in text
    assert "DPO -50.0 [-50.0, -50.0]" in text  # of the marks
    assert ["DPO", "seed 1", "2", "2", "0.75", "0.3"] in rows_of(text, "DPO", "seed 1")
    assert "foo \\| bar" in text and "- DPO. How much came back? A part." in text
    assert {file.name for file in made.glob("*.png")} == {"scores.png", "shares.png"}
    assert write(made).read_text() == text


def test_a_report_of_remedies_with_different_rates(made: Path, tmp_path: Path) -> None:
    """DPO was tried with a higher rate too, which is chosen, at which F1 is 0.1 higher."""
    folder = tmp_path / "rates"
    shutil.copytree(made, folder)
    rates = dict(SMALL.learning_rates) | {"DPO": (1e-3, 1e-2)}
    grid = dataclasses.replace(SMALL, learning_rates=rates)
    (folder / "grid.yaml").write_text(as_yaml(grid))
    about = json.loads((folder / "repair.json").read_text())
    about["learning_rates"]["DPO"] = 1e-2
    (folder / "repair.json").write_text(json.dumps(about))
    for name in ("points", "documents", "unseen", "scenes"):
        with (folder / f"{name}.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        more = [row | {"learning_rate": "0.01"} for row in rows if row["model"] == "DPO"]
        for row in more if name == "documents" else []:
            row["f1"] = " ".join(f"{float(value) + 0.1:g}" for value in row["f1"].split())
        write_table([*rows, *more], folder / f"{name}.csv")
    text = write(folder).read_text()
    assert "+30.0 [+30.0, +30.0] (All)" in text
    assert "Their rates differ (0.01 and 0.001); at common ones, tuning seed 0: 0.001 +20.0" in text
    assert "At the end of the grid: DPO;" in text


def test_a_report_with_one_image(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    shutil.copytree(made, folder)
    grid = dataclasses.replace(SMALL, images=("white",))
    (folder / "grid.yaml").write_text(as_yaml(grid))
    assert "Not run: only the first image was shown." in write(folder).read_text()


@pytest.mark.slow
def test_a_study_goes_on_and_a_cell_run_again_gives_the_same_tables(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(as_yaml(SMALL))
    words = [str(tmp_path / "out"), "images=white", "--grid", str(tmp_path / "grid.yaml")]
    main([*words, "--report", str(tmp_path / "first")])
    shutil.rmtree(tmp_path / "out/seed-1")
    main([*words, "--report", str(tmp_path / "again")])
    files = sorted(file.name for file in (tmp_path / "first").iterdir())
    assert len(files) == 11
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


@pytest.mark.slow
def test_a_point_measured_again_is_kept(tmp_path: Path) -> None:
    place = RepairPlace(tmp_path)
    write_world(place.fixed, 0, items={"train": 1, "choose": 1, "test": 2}, stages=(), texts=2)
    measure(place, SMALL, BASE_POINT, SMALL.images)
    files = [file for file in place.point(BASE_POINT).rglob("*") if file.is_file()]
    before = [file.stat().st_mtime_ns for file in files]
    measure(place, SMALL, BASE_POINT, SMALL.images)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_the_shipped_grid_is_read() -> None:
    grid = read_grid(REPOSITORY / "experiments/miniature/repair/grid.yaml")
    assert set(grid.learning_rates) == set(REMEDIES) and len(grid.seeds) == 5


def test_the_committed_report_is_what_the_committed_tables_say(tmp_path: Path) -> None:
    committed = REPOSITORY / "experiments/miniature/results/repair"
    whole, run = read_grid(), read_grid(committed / "grid.yaml")
    assert dataclasses.replace(run, seeds=whole.seeds, images=whole.images) == whole
    assert set(run.seeds) <= set(whole.seeds) and set(run.images) <= set(whole.images)
    shutil.copytree(committed, tmp_path / "again")
    assert write(tmp_path / "again").read_text() == (committed / "README.md").read_text()
