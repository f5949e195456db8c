"""MMVP-VLM: logits are those of a plain loop, and a pair counts if both statements find theirs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image, ImageDraw
from scipy.stats import binomtest

from tests.helpers import towers
from tests.helpers.echo import write_run
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.pages.pattern_figures import correlation_panels
from verbalizer_bench.results.statistics import Interval
from verbalizer_bench.tasks.mmvp.patterns import NAMES
from verbalizer_bench.vision import vlm_pairs as vlm
from verbalizer_bench.vision.correlation import correlate, mmvp_scores
from verbalizer_bench.vision.vlm_benchmark import StatementPair, read_vlm_benchmark

TYPES = ("Color", "Orientation", "Camera Perspective")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    lines = ["Question ID,Type,Statement"]
    number = 0
    for kind in TYPES:
        for colours in (("red", "blue"), ("green", "red")):
            for colour in colours:
                number += 1
                lines.append(f"{number},{kind},the {colour} square with a dog {'x' * number}")
                file = folder / "MLLM_VLM Images" / kind / f"{number}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                image = Image.new("RGB", (50, 40), colour)
                ImageDraw.Draw(image).rectangle((number, 5, 30, 20 + number), "white")
                image.save(file)
    (folder / "Questions.csv").write_text("\n".join(lines) + "\n")
    return folder


def plain_logits(model_folder: Path, data: Path, padding: dict[str, Any]) -> list[Any]:
    """Score pairs as the model's page at the hub does, with transformers alone."""
    model = transformers.AutoModel.from_pretrained(model_folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(model_folder)
    rows = [line.split(",") for line in (data / "Questions.csv").read_text().splitlines()[1:]]
    found = []
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        images = [Image.open(data / "MLLM_VLM Images" / r[1] / f"{r[0]}.jpg") for r in (one, other)]
        texts = [f"a photo of {row[2]}" for row in (one, other)]
        given = processor(text=texts, images=images, return_tensors="pt", **padding)
        with torch.no_grad():
            found.append(model(**given).logits_per_text.tolist())
    return found


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_logits_are_those_of_a_plain_loop(
    kind: str, data: Path, tmp_path: Path, clip: Path, siglip: Path
) -> None:
    folder = {"clip": clip, "siglip": siglip}.get(kind) or towers.siglip2(tmp_path / "model")
    filled = {"padding": "max_length", "max_length": 16, "truncation": True}
    # Its processor would take 256 patches of 16 x 16, whatever the image processor has.
    more = {"patch_size": 8, "max_num_patches": 16} if kind == "siglip2" else {}
    wanted = plain_logits(folder, data, {"padding": True} if kind == "clip" else filled | more)
    model = vlm.load_model(str(folder))
    benchmark = read_vlm_benchmark(data)
    assert [model.logits(pair) for pair in benchmark.pairs] == wanted
    lengths = model.texts(benchmark.pairs[0].statements)["input_ids"].shape[1]
    assert lengths == (16 if kind != "clip" else 12)


def judged(a: float, b: float, c: float, d: float) -> vlm.Judged:
    return vlm.Judged(None, ((a, b), (c, d)))  # type: ignore[arg-type]


def test_directions_and_ties() -> None:
    paper, other = vlm.DIRECTIONS
    # Both statements prefer their image; the second image prefers the first's statement.
    first = judged(3, 2, 0, 1)
    assert first.is_right(paper) and not first.is_right(other)
    second = judged(3, 4, 0, 5)
    assert not second.is_right(paper) and second.is_right(other)
    for tie in (judged(1, 1, 0, 1), judged(2, 1, 1, 1)):
        assert not tie.is_right(paper)
    assert not judged(1, 0, 1, 2).is_right(other)


def right(pattern: str, count: int, of: int) -> list[vlm.Judged]:
    pair = StatementPair(("1", "2"), pattern, ("", ""), (Path(), Path()))
    good, bad = ((1.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (0.0, 1.0))
    return [vlm.Judged(pair, good if place < count else bad) for place in range(of)]


def test_an_interval_of_one_pattern_is_the_exact_binomial_one() -> None:
    for count in range(16):
        judged = [one for name in NAMES for one in right(name, count, 15)]
        each = vlm._shares(judged, NAMES, vlm.DIRECTIONS[0])[1]
        exact = binomtest(count, 15).proportion_ci(method="exact")
        for found in each.values():
            wanted = (count / 15, exact.low, exact.high)
            assert (found.mean, found.low, found.high) == pytest.approx(wanted, abs=1e-9)
        assert len({str(found) for found in each.values()}) == 1


def test_the_mean_is_of_patterns() -> None:
    judged = [*right("text", 10, 10), *right("other", 1, 2)]
    mean, each = vlm._shares(judged, ["text", "other"], vlm.DIRECTIONS[0])
    assert mean.mean == 0.75 and [one.mean for one in each.values()] == [1, 0.5]


def mmvp_run(folder: Path) -> Path:
    """Write a run of the sample of MMVP, all of whose later patterns are wrong."""

    def says(request: Any) -> str:
        return f"({request.doc['answer']})" if request.doc["pair"] <= 7 else "(a)"

    return write_run(folder, "seer", ["mmvp_options"], says=says)


def test_patterns_are_correlated_with_those_of_a_run(tmp_path: Path) -> None:
    run = mmvp_scores(mmvp_run(tmp_path))
    shares = {
        name: Interval(0.1 * place, 0.0, 1.0) for place, name in enumerate(reversed(NAMES), 1)
    }
    found = correlate("encoder", shares, run)
    # In the sample's order of pairs the first patterns are right.
    x, y = [1, 2, 3, 4, 5, 6, 7, 8, 9], [found.run_shares[name].mean for name in reversed(NAMES)]
    assert found.value == pytest.approx(np.corrcoef(x, y)[0, 1]) and 0 < found.value < 1
    z = np.arctanh(found.value)
    ends = np.tanh([z - 1.96 / np.sqrt(6), z + 1.96 / np.sqrt(6)])
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=1e-3)
    constant = correlate("encoder", dict.fromkeys(NAMES, Interval(0.5, 0.1, 0.9)), run)
    assert constant.value is None and "all alike" in constant.line()
    assert constant.title == "No correlation: all patterns alike in one of both"
    svg = tmp_path / "correlation.svg"
    correlation_panels([constant], [svg])
    # The sample has the first patterns right and the others wrong: two places, nine numbers.
    text = svg.read_text()
    assert "r = " not in text and "<!-- 1, " in text
    assert (
        sum(f" {place} {name} " in text for place, name in enumerate(constant.encoder_shares, 1))
        == 9
    )
    with pytest.raises(ValueError, match="0 patterns are in its questions and in MMVP-VLM's"):
        correlate("encoder", {"others": Interval(0.5, 0.1, 0.9)}, run)
    with pytest.raises(FileNotFoundError, match="no run of MMVP at or below it"):
        mmvp_scores(tmp_path / "nothing")


def test_a_run_is_found_below_the_folder_that_lm_eval_was_given(tmp_path: Path) -> None:
    run = mmvp_run(tmp_path / "out")
    write_run(tmp_path / "out", "blind", ["mmvp_options_blind"], says=lambda request: "(a)")
    for given in (tmp_path, tmp_path / "out", run):
        assert mmvp_scores(given).run.folder == run
    shutil.copytree(run, tmp_path / "out" / "twice")
    with pytest.raises(
        ValueError, match=r"holds 2 runs of MMVP \(.*/out/seer, .*/out/twice\); give"
    ):
        mmvp_scores(tmp_path)


def test_the_command_scores_several_models(
    data: Path, clip: Path, siglip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["vlm-pairs", str(data), "-o", str(tmp_path / "out")]
    assert main([*command, "--model", str(clip), "--model", str(siglip)]) == 0
    printed = capsys.readouterr().out
    assert "6 pairs of 3 patterns: not MMVP-VLM, which has 15 of each of the 9" in printed
    assert "Each statement prefers its image (the paper's direction); pairs right in %" in printed
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    for model in result["models"]:
        for direction in vlm.DIRECTIONS:
            scores = model["scores"][direction]
            assert list(scores["patterns"]) == [
                "orientation and direction", "color and appearance", "viewpoint and perspective"
            ]  # fmt: skip
            counted = [pair[direction] for pair in model["pairs"]]
            assert scores["mean"] == pytest.approx(100 * sum(counted) / 6, abs=0.01)
            assert scores["interval"][0] <= scores["mean"] <= scores["interval"][1]
    assert (tmp_path / "out" / "patterns.png").stat().st_size > 10_000


def test_the_command_draws_the_correlation(
    data: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, command = mmvp_run(tmp_path), ["vlm-pairs", str(data), "-o", str(tmp_path / "out")]
    command += ["--model", str(clip), "--vlm"]
    assert main([*command, str(run)]) == 2
    assert "3 patterns are in its questions and in MMVP-VLM's" in capsys.readouterr().err
    text = (data / "Questions.csv").read_text()
    images = data / "MLLM_VLM Images"
    for number, kind in ((13, "Text"), (14, "Text")):
        text += f"{number},{kind},the word {number}\n"
        (images / kind).mkdir(exist_ok=True)
        (images / kind / f"{number}.jpg").write_bytes((images / "Color" / "1.jpg").read_bytes())
    (data / "Questions.csv").write_text(text)
    assert main([*command, str(run)]) == 0
    assert "correlation over patterns" in capsys.readouterr().out
    (found,) = json.loads((tmp_path / "out" / "result.json").read_text())["correlations"]
    assert len(found["patterns"]) == 4 and found["task"] == "mmvp_options"
    assert (tmp_path / "out" / "correlation.svg").stat().st_size > 1000
    assert main([*command, str(run), "--vlm", str(run)]) == 2
    assert "--vlm: 2 runs of 1 models" in capsys.readouterr().err


def test_a_statement_that_is_cut_is_said(
    data: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = data / "Questions.csv"
    table.write_text(table.read_text().replace("the red square", "the red " * 8 + "square"))
    assert main(["vlm-pairs", str(data), "-o", str(tmp_path / "out"), "--model", str(clip)]) == 0
    assert "6 statements are cut at 16 tokens, such as 1 of 26" in capsys.readouterr().out


def test_the_other_name_of_the_folder(data: Path) -> None:
    (data / "MLLM_VLM Images").rename(data / "MMVP_VLM_Images")
    assert len(read_vlm_benchmark(data).pairs) == 6


def test_a_type_that_is_no_pattern_is_named(data: Path) -> None:
    (data / "MLLM_VLM Images" / "Color").rename(data / "MLLM_VLM Images" / "Colour")
    table = data / "Questions.csv"
    table.write_text(table.read_text().replace(",Color,", ",Colour,"))
    (line,) = read_vlm_benchmark(data).lines()
    assert line.endswith("'Colour' is none of them") and "camera perspective" in line


def test_the_whole_benchmark_is_nine_patterns_of_fifteen(tmp_path: Path) -> None:
    lines, number = ["Question ID,Type,Statement"], 0
    for name in NAMES:
        folder = tmp_path / "MLLM_VLM Images" / name
        folder.mkdir(parents=True)
        for _ in range(30):
            number += 1
            (folder / f"{number}.jpg").touch()
            lines.append(f"{number},{name},statement {number}")
    (tmp_path / "Questions.csv").write_text("\n".join(lines))
    assert read_vlm_benchmark(tmp_path).lines() == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda text: text.replace("Statement", "Text"), "no column Statement; it has"),
        (lambda text: text + "13,Color,one\n", "Question ID 13 is alone"),
        (
            lambda text: text.replace("\n4,Color,the red", "\n4,Orientation,a") + "13,Text,one\n",
            "Question ID 3 is alone",
        ),
        (lambda text: text.replace("2,Color", "2,Orientation"), "Types differ, 'Color' and"),
        (lambda text: text.replace("\n2,Color", "\n1,Color"), "Question ID 1 is there twice"),
        (lambda text: text.replace("\n2,Color,", '\n2,Color,""\n22,Color,'), "Statement is empty"),
        (lambda text: text.replace("\n2,Color", "\n20,Color"), "Color/20.jpg (or .png) is not"),
        (lambda text: text.replace("the blue", '"the blue'), "a quotation mark in line 3 is not"),
        (lambda text: "", "no column Question ID; it has none"),
        (lambda text: "Question ID,Type,Statement\n", "0 statements; two are a pair"),
    ],
)
def test_a_table_that_is_not_mmvp_vlm_s_is_one_line(
    data: Path,
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[str], str],
    error: str,
) -> None:
    table = data / "Questions.csv"
    table.write_text(change(table.read_text()))
    assert main(["vlm-pairs", str(data), "-o", str(tmp_path / "out"), "--model", str(clip)]) == 2
    assert error in capsys.readouterr().err


def test_what_cannot_be_scored_is_one_line(
    data: Path, clip: Path, dinov2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["vlm-pairs", str(data), "-o", str(tmp_path / "out"), "--model"]
    assert main([*command, str(dinov2)]) == 2
    said = f"--model {dinov2}: a checkpoint of the type dinov2 is no CLIP or SigLIP"
    assert said in capsys.readouterr().err
    # Before the first is loaded.
    assert main([*command, str(clip), "--model", str(dinov2)]) == 2
    assert said in capsys.readouterr().err
    assert main(["vlm-pairs", str(tmp_path / "no"), *command[2:], str(clip)]) == 2
    assert "no: no such folder; give one with Questions.csv (Quest" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").touch()
    assert main([*command, str(clip)]) == 2
    assert "result.json: it is there already; give a new folder" in capsys.readouterr().err
    (tmp_path / "out" / "result.json").unlink()
    assert main([*command, str(clip), "--model", str(clip)]) == 2
    assert "it is there twice" in capsys.readouterr().err
    image = data / "MLLM_VLM Images" / "Color" / "2.jpg"
    image.write_bytes(image.read_bytes()[:100])
    assert main([*command, str(clip)]) == 2
    assert f"{image}: no image that can be read" in capsys.readouterr().err
