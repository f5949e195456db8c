"""The study: intervals by simulation, choices by hand, its report, and a point measured twice."""

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.experiments.contrast import contrast
from verbalizer_bench.experiments.grids import as_yaml
from verbalizer_bench.experiments.miniature.arms import ALIGNED, ARMS, BASE
from verbalizer_bench.experiments.miniature.base import GATE, check_gate
from verbalizer_bench.experiments.miniature.measuring import write_fixed
from verbalizer_bench.experiments.miniature.study.grid import Grid, Place, Point, read_grid
from verbalizer_bench.experiments.miniature.study.report import write
from verbalizer_bench.experiments.miniature.study.run import (
    choose,
    main,
    measure,
    prepare,
)
from verbalizer_bench.experiments.miniature.study.tables import gather
from verbalizer_bench.experiments.miniature.unseen import judge
from verbalizer_bench.results.files import newest_results
from verbalizer_bench.results.run import read_run
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES

SMALL = Grid(
    bases=(0,),
    seeds=(0, 1),
    learning_rates=(1e-3, 3e-3),
    images=("white", "none"),
    texts=2,
    items=64,
    unseen=12,
    captions=96,
)


STRATA = [name for name in "abcdefghi" for _ in range(24)]


def coverage(draw: Callable[[np.random.Generator], np.ndarray], truth: float) -> float:
    """Return how often the interval holds the truth, in 1,000 draws of 5 seeds x 216 documents."""
    generator = np.random.default_rng(1)
    found = [contrast(draw(generator)[None], STRATA) for _ in range(1000)]
    return sum(one.low <= truth <= one.high for one in found) / 1000


@pytest.mark.parametrize(("of_seed", "of_set"), [(0, 0), (0.05, 0), (0.2, 0), (0.05, 0.1)])
def test_intervals_hold_in_simulation(of_seed: float, of_set: float) -> None:
    """Normal effects of seeds, of seeds on a data set, of documents, and a residual."""
    own = np.repeat(np.linspace(-0.5, 0.5, 9), 24)  # a data set's, which is fixed

    def draw(generator: np.random.Generator) -> np.ndarray:
        seeds = generator.normal(0, of_seed, (5, 1))
        sets = np.repeat(generator.normal(0, of_set, (5, 9)), 24, axis=1)
        documents = generator.normal(0, 0.3, (1, 216))
        return 0.1 + own + seeds + sets + documents + generator.normal(0, 0.3, (5, 216))

    assert 0.92 <= coverage(draw, 0.1) <= 0.99


def test_intervals_are_too_narrow_where_few_documents_change() -> None:
    found = coverage(lambda generator: -1.0 * (generator.random((5, 216)) < 0.002), -0.002)
    assert 0.75 <= found <= 0.94


def test_a_contrast_by_hand() -> None:
    # Two bases, three seeds, two documents of one data set; no residual and no document's effect.
    cells = np.array([[0.1, 0.2, 0.3], [0.0, 0.0, -0.3]])
    found = contrast(np.repeat(cells[:, :, None], 2, axis=2), ["a", "a"])
    assert found.by_base == pytest.approx((0.2, -0.1))
    assert (found.above, found.below, found.cells) == (3, 1, 6)
    # The seeds' means are 0.05, 0.1 and 0: t with 2 degrees is 4.3027, the error 0.05 / sqrt(3).
    assert found.mean == pytest.approx(0.05)
    assert found.high - found.mean == pytest.approx(4.3027 * 0.05 / 3**0.5, rel=1e-4)
    assert found.direction == 0
    # |t| = 1.732 with 2 degrees.
    assert found.p == pytest.approx(0.2254, abs=1e-4)


def test_a_rate_is_chosen_by_held_out_loss_over_the_bases(tmp_path: Path) -> None:
    place, grid = Place(tmp_path), dataclasses.replace(SMALL, bases=(0, 1))
    for point in grid.tried():
        assert point.rate is not None
        # The lower rate is best for base 0 by a little, the higher for base 1 by much.
        loss = {(0, 1e-3): 0.4, (0, 3e-3): 0.5, (1, 1e-3): 0.9, (1, 3e-3): 0.5}
        folder = place.checkpoint(point)
        folder.mkdir(parents=True)
        record = {"held_out": {"loss": loss[point.base, point.rate]}}
        (folder / "training.json").write_text(json.dumps(record))
    assert choose(place, grid) == dict.fromkeys(ARMS, 3e-3)


def test_answers_are_judged() -> None:
    check = {"instruction_id": "startend:quotation", "kwargs": {}}
    row = {
        "conversations": [{"value": "Wrap it. What?"}, {"value": '"A red square."'}],
        "format": "quotation",
        "check": check,
        "short": "red",
    }
    assert judge(row, '" A red square. "')[2:] == (True, True, True)
    assert judge(row, '"A blue square."')[2:] == (False, True, False)
    assert judge(row, "A red square.")[2:] == (False, False, True)
    assert judge(row | {"check": None}, "red")[2:] == (False, None, True)


def test_a_base_below_its_gate_is_said(tmp_path: Path) -> None:
    check_gate(BASE)
    low = dict(GATE, neutral=0.5)
    record = {"seed": 7, "choose": {"fp32": dict(GATE), "fp16": low}}
    (tmp_path / "base.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="seed 7, fp16: neutral below the gate"):
        check_gate(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seeds: [0]", "seeds=.0.: at least two"),
        ("images: [white, white]", "images=.*none twice"),
        ("texts: 3", "texts=3: even"),
        ("images: [white, blakc]", "images=blakc: one of white"),
        ("jobs: 3", "jobs: no such key"),
    ],
)
def test_a_wrong_grid(tmp_path: Path, change: str, message: str) -> None:
    key = change.partition(":")[0]
    lines = ["bases: [0]", "seeds: [0, 1]", "learning_rates: [1e-3]", "images: [white]"]
    lines += ["texts: 2", "items: 64", "unseen: 12"]
    text = "\n".join([line for line in lines if not line.startswith(key)] + [change])
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_grid(tmp_path / "grid.yaml")


def test_the_committed_report_is_what_the_committed_tables_say(tmp_path: Path) -> None:
    committed = REPOSITORY / "experiments/miniature/results"
    assert read_grid(committed / "grid.yaml") == read_grid()
    shutil.copytree(committed, tmp_path / "again")
    assert write(tmp_path / "again").read_text() == (committed / "README.md").read_text()


def test_a_folder_of_another_size_is_refused(tmp_path: Path) -> None:
    Place(tmp_path).keep(SMALL)
    more = dataclasses.replace(SMALL, seeds=(0, 1, 2), images=("white",))
    Place(tmp_path).keep(more)
    with pytest.raises(ValueError, match="has items=64, not 65; give that, or another folder"):
        Place(tmp_path).keep(dataclasses.replace(more, items=65))


def test_a_folder_of_another_base_is_refused(tmp_path: Path) -> None:
    place, base = Place(tmp_path), tmp_path / "base-3" / "base"
    base.mkdir(parents=True)
    (base / "base.json").write_text('{"sha256": "1234567890abcdef"}')
    place.keep_base(3)
    place.keep_base(3)
    (base / "base.json").write_text('{"sha256": "fedcba0987654321"}')
    with pytest.raises(ValueError, match="started from weights 1234567890ab, base 3 is fedcba"):
        place.keep_base(3)


def _level(point: Point, image: str) -> float:
    """F1 of a made study: tuning costs 0.1, images 0.2, plain records 0.1 more; none costs none."""
    if point.model == "base":
        return 0.9
    lost = 0.0 if point.model == ALIGNED else 0.1
    lost += 0.1 if "No" in point.model or "LLaVA" in point.model else 0.0
    return 0.9 - lost - (0.2 if image not in ("", "none") else 0.0) - 0.01 * (point.seed or 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of a study whose every number is known."""
    folder = tmp_path_factory.mktemp("made")
    points = [*SMALL.untuned(), *SMALL.tried(), *SMALL.chosen(dict.fromkeys(ARMS, 1e-3))]
    rows, documents, unseen = [], [], []
    for point in dict.fromkeys(points):
        key = {
            "base": str(point.base),
            "seed": "" if point.seed is None else str(point.seed),
            "model": point.model,
            "learning_rate": "" if point.rate is None else f"{point.rate:g}",
        }
        for image in SMALL.images if point.shows_images else ("",):
            if point.model == ALIGNED and image == "none":
                continue
            level = _level(point, image)
            shares = {"follows": level, "flipped": 1 - level}
            scores = {
                f"{t}_{m}": f"{100 * shares.get(m, level if m == 'f1' else 0):.2f}"
                for t in LABEL_TYPES
                for m in ("f1", *OUTCOMES)
            }
            trained = {
                "steps": "2",
                "last_loss": "1",
                "held_out_loss": f"{1000 * (point.rate or 0)}",
            }
            scores |= {f"{t}_words": "0.00" for t in LABEL_TYPES}
            rows.append({**key, "image": image, **trained, **scores})
            documents += [
                {**key, "image": image, "label_type": t, "data_set": d, "f1": f"{level} {level}"}
                for t in LABEL_TYPES
                for d in ("sst2", "fp")
            ]
        bits = {"exact": "1111", "follows": "1-10", "right": "1111"}
        plain = {"exact": "0000", "follows": "0-10", "right": "1111"}
        unseen.append({**key, **(plain if "No" in point.model else bits)})
    example = {
        "task": "verbalizer_sst2_neutral_foo_bar",
        "target": "foo",
        "response": "foo | `bar`",
    }
    examples = [{**{k: rows[0][k] for k in (*key, "image")}, **example, "outcome": "both"}]
    for name, table in (
        ("points", rows),
        ("documents", documents),
        ("unseen", unseen),
        ("examples", examples),
    ):
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    base = {"sha256": "a" * 64, "choose": {"fp16": dict(GATE, neutral=0.5)}}
    about = {"learning_rates": dict.fromkeys(ARMS, 1e-3), "bases": {"0": base}, "machine": "a box"}
    (folder / "study.json").write_text(json.dumps(about))
    (folder / "grid.yaml").write_text(as_yaml(SMALL))
    return folder


def rows_of(text: str, start: str) -> list[list[str]]:
    """Return the cells of the table rows that begin with a text."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_report_says_what_the_tables_hold(made: Path) -> None:
    text = write(made).read_text()
    assert "**Reproduced.** Base 0: all. In the mean of the bases 5 of 5" in text
    # A difference that is the same everywhere has no p: it is not judged.
    assert text.count("natural +10.0 [+10.0, +10.0] (no p)") == 2 * 2  # and unnatural
    assert "**Not reproduced.** In 0 of the 5 arms" in text
    assert text.count("which agrees with F1 (All)") == 2
    assert "below the gate for neutral, and not replaced" in text
    # With formats 0.1 better, at each seed, at each document: an interval of no width.
    for pair in ("LLM-FOIT - LLM-NoFOIT", "LVLM-FOVIT - LVLM-NoFOVIT"):
        (row, *_) = rows_of(text, pair)
        assert row[1:] == ["natural", "+10.0 [+10.0, +10.0]", "+10.0", "0", "2"]
    # White, of which 0.2 is the image: seeds differ by 0.01.
    (row, *_) = [r for r in rows_of(text, "LVLM-FOVIT ") if r[1] == "natural" and "-30.5" in r[2]]
    assert row[2:] == ["-30.5 [-36.9, -24.1]", "-30.5", "2", "0"]
    (row,) = [r for r in rows_of(text, "LVLM-FOVIT, none") if r[1] == "All"]
    assert row[2:] == ["+20.0 [+20.0, +20.0]", "+20.0", "0", "2"]
    # An aligned LLaVA without an image is the base.
    (row,) = [r for r in rows_of(text, "LVLM-aligned, none") if r[1] == "All"]
    assert row[2].startswith("+20.5")
    assert "LLM-FOIT -10.5 follow (verbose 0.0, flipped +10.5, both 0.0, neither 0.0," in text
    exact = [r for r in rows_of(text, "LLM-FOIT - LLM-NoFOIT") if r[1] == "exact"]
    assert exact[0][2].startswith("+100.0")
    assert "0.001 (chosen)" in text and "at the end of the grid" in text
    assert "foo \\| bar" in text
    assert {file.name for file in made.glob("*.png")} == {"scores.png", "images.png", "rates.png"}
    assert write(made).read_text() == text


def test_a_report_where_nothing_is_lost(made: Path, tmp_path: Path) -> None:
    """Every run's rows become the base's."""
    folder = tmp_path / "same"
    shutil.copytree(made, folder)
    with (folder / "points.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    scored = {k: v for k, v in rows[0].items() if k.startswith(LABEL_TYPES)}
    with (folder / "points.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | scored for row in rows)
    assert "In 0 of the 0 arms that follow less than the base" in write(folder).read_text()


def test_a_point_that_is_measured_is_kept(tmp_path: Path) -> None:
    point, images, place = Point(0, 0, "LVLM-FOVIT", 1e-3), ("white",), Place(tmp_path)
    write_fixed(place.fixed, SMALL.unseen, SMALL.texts)
    prepare(place, SMALL, 0)
    measure(place, point, images)
    assert len(read_run(newest_results(place.run(point, "white")).parent).tasks) == 108
    files = sorted(file for file in place.folder.rglob("*") if file.is_file())
    assert place.answers(point) in files
    before = [file.stat().st_mtime_ns for file in files]
    measure(place, point, images)
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.slow
def test_a_study_goes_on_and_a_cell_run_again_gives_the_same_tables(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(as_yaml(SMALL))
    words = [str(tmp_path / "out"), "--grid", str(tmp_path / "grid.yaml")]
    main([*words, "--report", str(tmp_path / "first")])
    shutil.rmtree(tmp_path / "out/study/base-0/seed-1")
    shutil.rmtree(tmp_path / "out/study/seed-1")
    main([*words, "--report", str(tmp_path / "again")])
    files = sorted(file.name for file in (tmp_path / "first").iterdir())
    assert len(files) == 10
    assert (
        "Does the blank image decide about formats?"
        in (tmp_path / "first" / "README.md").read_text()
    )
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_gathering_names_a_point_that_was_not_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder; give a run's folder"):
        gather(Place(tmp_path), SMALL, dict.fromkeys(ARMS, 1e-3), tmp_path / "tables")
