"""The study of a real model: its items, what is said of known tables, and that it goes on."""

import functools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.builders.filters.verifiers import describe, verify
from verbalizer_bench.experiments.contrast import contrast
from verbalizer_bench.experiments.smollm2 import measuring, run
from verbalizer_bench.experiments.smollm2.columns import ALONE, F1
from verbalizer_bench.experiments.smollm2.costs import seconds_left
from verbalizer_bench.experiments.smollm2.figures import starts
from verbalizer_bench.experiments.smollm2.findings import (
    OTHERS,
    PROMPTS,
    TUNED,
    before_tuning,
    came_back,
    difference,
    followed,
)
from verbalizer_bench.experiments.smollm2.grid import Place, Point, read_grid
from verbalizer_bench.experiments.smollm2.items import FORMATS, drawn, read_items, record
from verbalizer_bench.experiments.smollm2.report import write
from verbalizer_bench.experiments.smollm2.sections import scores
from verbalizer_bench.experiments.smollm2.sources import draw_prompts, write_documents
from verbalizer_bench.experiments.smollm2.tables import StudyTables, read_tables
from verbalizer_bench.experiments.smollm2.verdicts import verdicts
from verbalizer_bench.experiments.works import Work
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import try_lock
from verbalizer_bench.tasks import data as rows
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.tasks.suite import suite_datasets

ASKED = [
    (["punctuation:no_comma"], [{}]),
    (["detectable_format:title", "change_case:english_lowercase"], [{}, {}]),
    (["length_constraints:number_sentences"], [{"num_sentences": 3, "relation": "at least"}]),
    (["startend:quotation"], [{"num_words": None}]),
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with made rows in the layouts of GSM8K and of IFEval."""
    folder = tmp_path_factory.mktemp("texts")
    for split in ("train", "test"):
        sums = [_sum(number, split) for number in range(60)]
        (folder / f"{split}.jsonl").write_text(jsonl.dumps(sums))
    prompts = [
        {"key": key, "prompt": f"Write {key}.", "instruction_id_list": kinds, "kwargs": given}
        for key, (kinds, given) in enumerate(ASKED)
    ]
    (folder / "ifeval.jsonl").write_text(jsonl.dumps(prompts))
    return folder


def _sum(number: int, split: str) -> dict[str, str]:
    names = ("apples", "boats", "coins", "drums", "eels")
    what, more = f"{names[number % 5]} of the {split}", 7 * number + 3
    return {
        "question": f"Ann has {number} {what} and Ben brings {more} more. How many are there?",
        "answer": f"First there were {number} {what}\nThen there are {number}+{more}="
        f"<<{number}+{more}={number + more}>>{number + more} {what}.\n#### {number + more}",
    }


def test_every_format_is_obeyed_by_its_answer_and_not_by_the_sentences(texts: Path) -> None:
    item = read_items(texts / "train.jsonl")[9]
    assert item.sentences == (
        "First there were 9 eels of the train. Then there are 9+66=75 eels of the train. "
        "The answer is 75."
    )
    for name in FORMATS:
        made = record(item, name)
        kind, given = made["instruction"]["type"], made["instruction"]["arguments"]
        assert describe(kind, given)
        assert verify(kind, given, item.question, made["formatted"]), name
        assert not verify(kind, given, item.question, made["answer"]), name
    assert record(item, "number")["formatted"] == "75"


def test_items_that_cannot_be_used_are_left_out(tmp_path: Path) -> None:
    lines = [
        {"question": "Long?", "answer": f"{'So on. ' * 80}\nAnd on.\n#### 4"},
        {"question": "Half?", "answer": "One.\nTwo.\n#### 0.5"},
        {"question": "One step?", "answer": "It is 3.\n#### 3"},
        {"question": "Thousands?", "answer": "One.\nTwo.\n#### 1,000"},
    ]
    (tmp_path / "train.jsonl").write_text(jsonl.dumps(lines))
    (item,) = read_items(tmp_path / "train.jsonl")
    assert (item.id, item.number) == ("train-3", "1000")
    with pytest.raises(ValueError, match=r"^items=2: GSM8K has 1 that can be used"):
        drawn([item], 2, "seed")
    (tmp_path / "train.jsonl").write_text('{"question": 1}\n')
    with pytest.raises(ValueError, match=r"train.jsonl, line 1: question and answer"):
        read_items(tmp_path / "train.jsonl")


def test_documents_are_of_both_classes_and_the_first_those_of_fewer(tmp_path: Path) -> None:
    for number in (2, 6):
        write_documents("sample", tmp_path / str(number), number)
    for name, (spec, _) in suite_datasets().items():
        found = {n: rows.test_documents(spec, str(tmp_path / str(n))).docs for n in (2, 6)}
        every = rows.test_documents(spec, "sample").docs
        assert all(doc in every for doc in found[6]) and len(found[6]) == 6, name
        assert [doc["label"] for doc in found[6]].count(spec.classes[0]) == 3
        assert all(doc in found[6] for doc in found[2]) and len(found[2]) == 2


def test_prompts_whose_verifiers_need_a_download_are_left_out(texts: Path) -> None:
    drawn_ones = draw_prompts(texts / "ifeval.jsonl", 3)
    assert [row["key"] for row in drawn_ones] == [0, 1, 3]
    assert drawn_ones[2]["instructions"] == [{"type": "startend:quotation", "arguments": {}}]
    with pytest.raises(ValueError, match=r"^ifeval=4: .* has 3 that can be used; give fewer"):
        draw_prompts(texts / "ifeval.jsonl", 4)


@pytest.mark.parametrize(
    "words",
    [
        ["arms=[FOVIT]"],
        ["documents=3"],
        ["bases=[other]"],
        ["items=20"],
        ["micro_batch=3"],
        ["curve=[Merge]"],
        ["seeds=[]"],
        ["replay=1.0"],
        ["rates={lora: [1.0]}"],
        ["device=gpu"],
    ],
)
def test_a_wrong_grid_is_told(words: list[str], tmp_path: Path) -> None:
    key = words[0].partition("=")[0]
    where = ["--gsm8k", "x", "--ifeval", "x", "--replay", "x", "--report", "x"]
    with pytest.raises(SystemExit, match=key):
        run.main([str(tmp_path / "out"), *words, *where])
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_not_at_hand_is_told(tmp_path: Path) -> None:
    where = ["--gsm8k", "x", "--ifeval", "x", "--replay", "x", "--report", "x"]
    with pytest.raises(SystemExit, match=r"^paths.qwen: path=no/such: no such folder, not in the"):
        run.main([str(tmp_path / "out"), "bases=[qwen]", "paths.qwen=no/such", *where])
    with pytest.raises(SystemExit, match=r"^arms: Replay needs --replay FILE"):
        run.main([str(tmp_path / "out"), *where[:4], *where[6:]])
    assert not (tmp_path / "out").exists()


def test_the_committed_page_is_that_of_its_tables(tmp_path: Path) -> None:
    folder = REPOSITORY / "experiments" / "smollm2" / "results"
    shutil.copytree(folder, tmp_path / "results")
    assert write(tmp_path / "results").read_text() == (folder / "README.md").read_text()


def tables(f1: dict[Point, float], follows: dict[Point, str]) -> StudyTables:
    """Return tables of models whose F1 is known; documents differ a little."""
    grid, datasets = read_grid(), ["sst2"] * 4 + ["rte"] * 4
    noise = np.linspace(-0.04, 0.04, 8)
    scores = {
        p: np.tile(np.clip(mean + noise * (1 - mean), 0, 1), (3, 1)) for p, mean in f1.items()
    }
    bits = {
        point: [[bit == "1" for bit in word] for word in text.split()]
        for point, text in follows.items()
    }
    types = [["startend:quotation"], ["keywords:existence", "detectable_format:title"]]
    about: dict[str, Any] = {"bases": {}}
    points: dict[Point, Any] = {point: {} for point in f1}
    return StudyTables(
        grid, about, points, {F1: scores, ALONE: scores}, datasets, bits, types, {}, [], []
    )


BASE = Point("smollm2", None, "base")


def tuned(model: str, seed: int) -> Point:
    return Point("smollm2", seed, model, 1e-3)


def test_what_came_back_is_over_the_seeds_that_both_have() -> None:
    f1 = {BASE: 0.8, tuned("NoFOIT", 0): 0.4, tuned("NoFOIT", 1): 0.42, tuned("FOIT", 0): 0.7}
    f1 |= {tuned("FOIT", 1): 0.72, Point("smollm2", 0, "Merge-0.5"): 0.6}
    follows = dict.fromkeys(f1, "0 10") | {BASE: "1 11", tuned("FOIT", 0): "1 01"}
    found = tables(f1, follows)
    cost = difference(found, "smollm2", "NoFOIT", "FOIT", "natural")
    assert cost and cost.mean == pytest.approx(-0.3) and cost.direction == -1 and cost.cells == 2
    back = came_back(found, "smollm2", "Merge-0.5")
    assert back and back.share and back.share.value == pytest.approx(0.5, abs=0.01)
    assert back.back.cells == 1 and back.back.direction == 1 and back.rest.direction == -1
    assert came_back(found, "smollm2", "Replay") is None
    told = verdicts(found, "smollm2")
    assert "Yes: F1 is lower without formats: NoFOIT minus FOIT -30.0" in told
    assert "Fewer responses do without formats: NoFOIT minus FOIT -30.0" in told
    assert "(2 seeds)" in told and "Merge-0.5, the only one run: " in told and "50 %" in told
    assert "With one seed each, above NoFOIT: Merge-0.5." in told and "For certain" not in told
    shares = {k: followed(found, "smollm2", "FOIT", k, [0]) for k in (PROMPTS, TUNED, OTHERS)}
    assert shares[PROMPTS].tolist() == [[1, 0]]
    assert shares[TUNED].tolist() == [[1, 1]] and shares[OTHERS].tolist() == [[0]]


def test_seeds_that_agree_are_told_where_their_interval_cannot_tell() -> None:
    f1 = {BASE: 0.8, tuned("NoFOIT", 0): 0.4, tuned("NoFOIT", 1): 0.6}
    f1 |= {tuned("FOIT", 0): 0.7, tuned("FOIT", 1): 0.9}
    found = tables(f1, dict.fromkeys(f1, "0 10"))
    assert "All, by seed" in scores(found, "smollm2") and "40.0, 60.0" in scores(found, "smollm2")
    same, each = r"\[-\S+, \+\S+\] \(2 seeds\)", r"\[-\S+, \+\S+\] \(2 seeds, each below 0\)"
    told = verdicts(found, "smollm2")
    assert re.search(rf"FOIT 0.0 {same}, NoFOIT -30.0 {each}", told)
    # Of one seed its own cost may be certain; that is not the cost of tuning without formats.
    f1[Point("smollm2", 0, "Merge-0.5")] = 0.6
    told = verdicts(tables(f1, dict.fromkeys(f1, "0 10")), "smollm2")
    assert "No cost is certain: NoFOIT" in told and "of what it cost" not in told


def test_what_goes_on_from_nofoit_is_drawn_from_its_last_step() -> None:
    found = read_tables(REPOSITORY / "experiments" / "smollm2" / "results")
    chosen = found.chosen_curves("smollm2")
    (own,) = (r for r in chosen if (r["model"], r["seed"], r["step"]) == ("NoFOIT", "1", "20"))
    after = starts(found, "smollm2", "DPO-format", chosen)
    assert set(after) == {"0", "1", "2"}
    assert after["1"] == [100 * float(own[f"f1_{kind}"]) for kind in LABEL_TYPES]
    base = before_tuning(found, "smollm2")
    assert base is not None
    assert starts(found, "smollm2", "NoFOIT", chosen)["1"] == (100 * base).tolist()


def test_of_one_seed_the_interval_is_over_documents() -> None:
    values = np.array([0.1, 0.3, 0.2, 0.2, 0.5, 0.3])
    found = contrast(values[None, None], ["a"] * 3 + ["b"] * 3)
    error = np.sqrt(((values - np.repeat([0.2, 1 / 3], 3)) ** 2).sum() / 4 / 6)
    assert found.mean == pytest.approx(values.mean()) and found.cells == 1
    assert (found.high - found.low) / 2 == pytest.approx(2.776445 * error)


SMALL = [
    *("bases=[toy]", "seeds=[0]", "arms=[NoFOIT,Merge]", "coefficients=[0.5]", "curve=[]"),
    *("documents=2", "items=22", "batch=2", "micro_batch=2", "held_out=11", "ifeval=3"),
    *("ifeval_tokens=4", "rates.lora=[1e-3,1e-2]"),
]


class InThisProcess:
    """Runs works here, as `Progress` does in others, and counts them."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __call__(self, works: list[Work], title: str) -> None:
        for work in works:
            work.function(*work.arguments)
            self.done.append(work.name)


def test_a_study_that_was_stopped_goes_on(
    toys: tuple[Path, Path], texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is done twice, weights go when they are not needed, and a part is called one."""
    works = InThisProcess()
    monkeypatch.setattr(run, "Progress", lambda processes, jobs: works)
    some = functools.partial(measuring.run_suite, tasks="verbalizer_sst2,verbalizer_sick")
    monkeypatch.setattr(measuring, "run_suite", some)
    words = [str(tmp_path / "out"), *SMALL, f"paths.toy={toys[0]}", "--data", "sample"]
    words += ["--gsm8k", str(texts), "--ifeval", str(texts / "ifeval.jsonl")]
    words += ["--jobs", "1", "--report", str(tmp_path / "report")]
    with pytest.raises(SystemExit, match=r"out: no model was measured yet; run the study first"):
        run.main([*words, "--only-report"])
    with try_lock(tmp_path / "two" / "running"), pytest.raises(SystemExit, match="another study"):
        run.main([str(tmp_path / "two"), *words[1:]])
    assert not (tmp_path / "two" / "grid.yaml").exists()
    merging = measuring.coefficient_of

    def stopped(model: str) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "coefficient_of", stopped)
    with pytest.raises(KeyboardInterrupt):
        run.main(words)
    page = (tmp_path / "report" / "README.md").read_text()
    assert "**A part of the grid**:\n2 of 3 models, 0 of 0 curves" in page
    monkeypatch.setattr(measuring, "coefficient_of", merging)
    grid = read_grid(overrides=[*SMALL, f"paths.toy={toys[0]}"])
    seed, place = tmp_path / "out" / "toy" / "seed-0", Place(tmp_path / "out")
    trained = {file: file.read_text() for file in seed.glob("*/checkpoint/training.json")}
    assert len(trained) == 2 and seconds_left(place, grid) > 0
    # As a training that was killed leaves it.
    killed = seed / "NoFOIT-lr-0.001" / "checkpoint" / "training.json"
    begun = json.loads(killed.read_text())
    ended = ("seconds", "steps", "loss", "held_out", "weights", "weights_kind", "attempts")
    killed.write_text(json.dumps({key: begun[key] for key in begun if key not in ended}))
    del trained[killed]
    run.main(words)
    assert measuring.held_out_loss(place, Point("toy", 0, "NoFOIT", 1e-3)) > 0
    assert {file: file.read_text() for file in trained} == trained
    assert seconds_left(place, grid) == 0
    (kept,) = {file.relative_to(seed).parts[0] for file in seed.rglob("*.safetensors")}
    assert kept.startswith("NoFOIT-lr-")
    shutil.rmtree(tmp_path / "report")
    run.main([*words, "--only-report"])
    page = (tmp_path / "report" / "README.md").read_text()
    assert "3 of 3 models" in page and "Merge-0.5" in page and "Share of its cost" in page
    assert (tmp_path / "report" / "toy-scores.png").stat().st_size > 10_000
    with pytest.raises(SystemExit, match=r"the study there has items=22, not 24; give that"):
        run.main([words[0], *SMALL, "items=24", *words[1 + len(SMALL) :]])
    records = json.loads((tmp_path / "out" / "data" / "seed-0" / "plain.json").read_text())
    assert len(records) == 22 and "The answer is" in records[0]["conversations"][1]["value"]


def test_a_study_goes_on_from_a_report_in_a_new_folder(
    toys: tuple[Path, Path],
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What its tables have is not run again and stays; other sizes and texts are refused."""
    works = InThisProcess()
    monkeypatch.setattr(run, "Progress", lambda processes, jobs: works)
    some = functools.partial(measuring.run_suite, tasks="verbalizer_sst2,verbalizer_sick")
    monkeypatch.setattr(measuring, "run_suite", some)
    small = [
        *SMALL,
        "rates.lora=[1e-2]",
        "curve=[NoFOIT]",
        "curve_steps=11",
        f"paths.toy={toys[0]}",
    ]
    where = ["--gsm8k", str(texts), "--ifeval", str(texts / "ifeval.jsonl"), "--data", "sample"]
    where += ["--report", str(tmp_path / "report"), "--jobs", "1"]
    run.main([str(tmp_path / "one"), *small, "arms=[NoFOIT]", "seeds=[0,1]", *where])
    before = read_tables(tmp_path / "report")
    page = (tmp_path / "report" / "README.md").read_text()
    works.done.clear()
    run.main([str(tmp_path / "two"), *small, "arms=[NoFOIT]", "seeds=[0,1]", *where])
    assert not list((tmp_path / "two").rglob("*.safetensors"))
    assert (tmp_path / "report" / "README.md").read_text() == page
    assert "report has 3 models more than" in capsys.readouterr().out
    works.done.clear()
    # NoFOIT's weights are gone; Merge needs them again, of the seed that is asked for.
    run.main([str(tmp_path / "two"), *small, "arms=[Merge]", "seeds=[1]", *where])
    (weights,) = {file.parent for file in (tmp_path / "two").rglob("model.safetensors")}
    assert weights == tmp_path / "two" / "toy" / "seed-1" / "NoFOIT-lr-0.01" / "checkpoint"
    after = read_tables(tmp_path / "report")
    merged = Point("toy", 1, "Merge-0.5")
    assert list(after.points) == [*before.points, merged]
    assert all(after.points[point] == row for point, row in before.points.items())
    assert after.rates == before.rates and after.curve == before.curve
    assert after.grid.arms == ("NoFOIT", "Merge") and after.grid.seeds == (0, 1)
    with pytest.raises(SystemExit, match=r"three/grid.yaml: the study there has ifeval=3, not 2;"):
        run.main([str(tmp_path / "three"), *small, "ifeval=2", *where])
    (texts / "other.jsonl").write_text((texts / "ifeval.jsonl").read_text().replace("Write", "Say"))
    where[3] = str(texts / "other.jsonl")
    with pytest.raises(SystemExit, match=r"four: the study there is of texts \w+, these are \w+;"):
        run.main([str(tmp_path / "four"), *small, *where])


@pytest.mark.smollm
def test_the_real_model_is_tuned_and_asked(
    smollm: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes: two steps of each way of tuning, two data sets."""
    monkeypatch.setattr(run, "Progress", lambda processes, jobs: InThisProcess())
    some = functools.partial(measuring.run_suite, tasks="verbalizer_sst2,verbalizer_sick")
    monkeypatch.setattr(measuring, "run_suite", some)
    arms = "arms=[FOIT,NoFOIT-attention,DPO-format,Merge]"
    words = [str(tmp_path / "out"), *SMALL, "bases=[smollm2]", arms, "items=8", "batch=4"]
    words += ["held_out=4", "rates.lora=[1e-3]", "rates.attention=[1e-4]", "rates.dpo=[1e-4]"]
    where = ["--gsm8k", str(texts), "--ifeval", str(texts / "ifeval.jsonl"), "--data", "sample"]
    run.main([*words, *where, "--report", str(tmp_path / "report")])
    found = read_tables(tmp_path / "report")
    models = [point.model for point in found.points]
    assert models == ["base", "FOIT", "NoFOIT-attention", "DPO-format", "Merge-0.5"]
    # It is a real model: most of what it says is a label word.
    assert all(values[0].mean() > 0.5 for values in found.scores[ALONE].values())
    assert all(0 < float(row["held_out_loss"]) < 2 for p, row in found.points.items() if p.rate)
