"""How much of what tuning cost came back: figures by hand, sentences, and odd runs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import verbalizer_bench as vb
from tests.helpers.echo import write_run
from tests.helpers.runs import changed, run, task
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.reports import comparison
from verbalizer_bench.leaderboard.reports.comparison import compare
from verbalizer_bench.results.differences import differences
from verbalizer_bench.results.repair import Recovery, Repair, repairs
from verbalizer_bench.results.repair_answers import repair_answer, repair_rows
from verbalizer_bench.results.run import Run, read_run

SST2 = ["verbalizer_sst2"]
Scores = dict[str, list[float]]


def made(name: str, scores: Scores) -> Run:
    return dataclasses.replace(
        run(*(task("x", t, "p", own) for t, own in scores.items())), name=name
    )


def repaired(base: Scores, tuned: Scores, now: Scores, **names: str) -> Repair:
    runs = [made("llm", base), made("lvlm", tuned), made("remedy", now)]
    (found,) = repairs(runs, differences(runs, resamples=999), resamples=999)
    return found


def of(repair: Repair, name: str) -> Recovery:
    (found,) = [group for group in repair.groups if group.name == name]
    return found


BASE = {"natural": [1.0] * 80, "neutral": [1.0] * 80, "unnatural": [1.0] * 80}
# 40, 20 and 0 of 80 lost; 20 and 20 of them came back.
TUNED = BASE | {"natural": [0.0] * 40 + [1.0] * 40, "neutral": [0.0] * 20 + [1.0] * 60}
NOW = BASE | {"natural": [0.0] * 20 + [1.0] * 60}


def test_costs_and_shares_are_those_that_a_hand_computes() -> None:
    """All: lost (40 + 20) / 240 = 25 points, came back (20 + 20) / 240 = 16.7, two thirds."""
    found = repaired(BASE, TUNED, NOW)
    natural, neutral, whole = (of(found, name) for name in ("natural", "neutral", "All"))
    assert (natural.base, natural.tuned, natural.repaired) == (1.0, 0.5, 0.75)
    assert (natural.cost.mean, natural.came_back.mean) == (0.5, 0.25)
    assert natural.share and natural.share.value == 0.5
    assert natural.share.low < 0.4 and 0.6 < natural.share.high < 0.7
    assert neutral.share and (neutral.cost.mean, neutral.share.value) == (0.25, 1.0)
    assert (whole.cost.mean, whole.came_back.mean) == pytest.approx((0.25, 1 / 6))
    assert whole.share and whole.share.value == pytest.approx(2 / 3)
    assert [group.documents for group in found.groups] == [80] * 4


def test_what_cost_nothing_that_can_be_told_has_no_share_and_says_so() -> None:
    found = repaired(BASE, TUNED, NOW)
    unnatural = of(found, "unnatural")
    assert unnatural.share is None and unnatural.told == 0
    text = repair_answer(found)
    assert text.startswith(
        "How much of what tuning cost came back? A part: with remedy, of the F1 that lvlm "
        "lost against llm: over all 66.7 % ["
    )
    assert "neutral 100.0 % [" in text and "+25.0 [" in text
    assert "; unnatural no share, nothing that it cost can be told, 0.0 [" in text
    assert repair_rows([found])[2][-2] == "-"
    nothing = repair_answer(repaired(BASE, BASE, BASE))
    assert "? No share, for nothing that it cost can be told: " in nothing and "%" not in nothing


def test_a_tuned_model_that_is_better_than_its_base_cost_nothing() -> None:
    found = repaired(TUNED, BASE, NOW)
    assert of(found, "All").told == -1 and all(group.share is None for group in found.groups)
    text = repair_answer(found)
    assert "? No share, for it cost nothing: " in text
    assert "over all no share, it cost nothing, -8.3 [" in text and "of -25.0 [" in text


def natural(zeros: int) -> Scores:
    return {"natural": [0.0] * zeros + [1.0] * (80 - zeros)}


@pytest.mark.parametrize(
    ("base", "tuned", "now", "verdict"),
    [
        (30, 60, 50, "A part"),
        (0, 40, 1, "A part, perhaps all"),
        (40, 60, 0, "More than all"),
        (0, 40, 40, "None that can be told"),
        (0, 40, 70, "None, more was lost"),
    ],
)
def test_a_share_is_said_as_it_is(base: int, tuned: int, now: int, verdict: str) -> None:
    found = repaired(*map(natural, (base, tuned, now)))
    share = (tuned - now) / (tuned - base)
    text = repair_answer(found)
    assert f"came back? {verdict}: with remedy" in text
    assert f": natural {100 * share:.1f} % [" in text


def test_a_share_that_could_be_any_is_not_told() -> None:
    """20 documents were lost, 40 others gained and 30 more lost: none and all are possible."""
    tuned = {"natural": [0.0] * 20 + [0.0] * 40 + [1.0] * 100}
    base = {"natural": [1.0] * 20 + [0.0] * 40 + [1.0] * 100}
    now = {"natural": [0.0] * 20 + [1.0] * 40 + [0.0] * 30 + [1.0] * 70}
    found = repaired(base, tuned, now)
    share = of(found, "natural").share
    assert share is not None and share.value == 0.5 and share.low < 0 < 1 < share.high
    assert "came back? It cannot be told: " in repair_answer(found)


def test_one_document_has_no_share() -> None:
    one, other = {"natural": [1.0]}, {"natural": [0.0]}
    found = repaired(one, other, one)
    assert found.groups[0].share is None and found.groups[0].came_back.low is None
    assert "natural no share, nothing that it cost can be told, +100.0 of +100.0" in (
        repair_answer(found)
    )


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Runs that have both natural label words, none, and both again."""
    folder = tmp_path_factory.mktemp("repair")
    runs = []
    for place, said in enumerate(("positive negative", "oh", "positive negative")):
        runs.append(read_run(write_run(folder / str(place), said, SST2)))
    return [dataclasses.replace(r, name=n) for r, n in zip(runs, "btr", strict=True)]


def test_the_command_answers_and_writes_it(
    three: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned, remedy = (str(one.folder) for one in three)
    words = ["compare", base, tuned, "--repaired", remedy, "-o", str(tmp_path / "words")]
    assert main(words) == 0
    out = capsys.readouterr().out.strip()
    assert out.startswith("How much of what tuning cost came back? ")
    text = (tmp_path / "words" / "compare.md").read_text()
    assert "| Repaired" in text and "say nothing of training seeds" in text
    data = json.loads((tmp_path / "words" / "compare.json").read_text())
    (repair,) = data["repairs"]
    assert data["answer"][0] == out.split("\n")[0] and len(data["answer"]) == 3
    assert [group["name"] for group in repair["groups"]][-1] == "All"
    assert repair["groups"][0]["share"]["value"] == 1.0
    # Names are told apart over all three.
    assert (repair["base"], repair["repaired"]) == (
        "positive negative (0)",
        "positive negative (2)",
    )
    made = vb.compare(base, tuned, repaired=remedy)
    for file in made.write(tmp_path / "python"):
        assert file.read_bytes() == (tmp_path / "words" / file.name).read_bytes()
    html = made._repr_html_()
    assert html.startswith("<p>How much of") and html.count("<tr>") == (1 + 4) + (1 + 8)


def test_the_figure_has_what_came_back(
    three: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(comparison, "save", lambda figure, *given, **how: drawn.append(figure))
    found = compare(*three[:2], repaired=three[2:], resamples=50)
    found.write(tmp_path)
    panels = drawn[0].axes
    assert [axes.get_title() for axes in panels][2] == "What came back"
    (repair,) = found.repairs
    dots = panels[2].lines[0]
    assert list(dots.get_xdata()) == [100 * group.came_back.mean for group in repair.groups]
    # The colour is that of the repaired run in the other panels.
    assert dots.get_color() == panels[0].lines[1].get_color()
    assert panels[0].lines[1].get_label() == repair.repaired
    assert "and what of them came back](compare.png)" in (tmp_path / "compare.md").read_text()


def refused(*runs: Any, **options: Any) -> str:
    with pytest.raises(ValueError) as caught:
        compare(*runs[:-1], repaired=[runs[-1]], resamples=10, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_odd_runs_are_refused_in_one_line(three: list[Run], tmp_path: Path) -> None:
    base, tuned, remedy = three
    assert "--repaired with 1 other runs (a folder counts once); give two" in refused(base, remedy)
    assert "--repaired with 3 other runs" in refused(base, tuned, remedy, remedy)
    for twice in (base, tuned):
        text = refused(base, tuned, twice)
        assert f"--repaired {twice.folder}: the run is there already" in text
    with pytest.raises(ValueError, match="with 1 other runs"):
        vb.compare(base, base, repaired=[remedy])
    less = read_run(write_run(tmp_path, "positive", SST2, limit=5))
    assert "document 5 is in one of them only" in refused(base, tuned, less)
    assert "lacks the task verbalizer_sst2_" in refused(
        base, tuned, dataclasses.replace(remedy, tasks=remedy.tasks[:3])
    )
    greedy = changed(remedy, generation={"num_beams": 1})
    assert "differ in protocol" in refused(base, tuned, greedy)
    none = [dataclasses.replace(t, doc_ids=tuple(n + 99 for n in t.doc_ids)) for t in remedy.tasks]
    assert "document 0 is in one of them only" in refused(
        base, tuned, dataclasses.replace(remedy, tasks=tuple(none))
    )


def asked(run: Run, weights: str, image: str | None, dtype: str = "float32") -> Run:
    """Return a run as our adapters record it: of these weights, shown this image."""
    shown = None if image is None else {"mode": image, "sha256": image * 3}
    record = {"fingerprint": {"weights": weights}, "image": shown, "bos_counts": [1, 1]}
    return changed(run, {"verbalizer_bench": record | {"dtype": f"torch.{dtype}"}})


def said(*runs: Run, allowed: Any = ()) -> str:
    base, tuned, remedy = runs
    (found, *_) = compare(base, tuned, repaired=[remedy], resamples=50, allowed=allowed).answers
    return found


def test_an_image_stands_in_the_answer(three: list[Run]) -> None:
    base = asked(three[0], "b", None)
    tuned, remedy = asked(three[1], "t", "white"), asked(three[2], "r", "white")
    text = said(base, tuned, remedy)
    assert text.startswith("How much of what tuning and image together cost came back? ")
    assert "b was shown no image and t white image: how much of the cost is the image's" in text
    assert "not the remedy's alone" not in text
    # All without an image: tuning alone.
    alone = said(base, asked(three[1], "t", "none"), asked(three[2], "r", "none"))
    assert alone.startswith("How much of what tuning cost") and "image" not in alone


def test_a_remedy_that_was_shown_something_else_is_refused_or_named(three: list[Run]) -> None:
    base, tuned = asked(three[0], "b", None), asked(three[1], "t", "white")
    remedy = asked(three[2], "r", "none")
    assert "the runs differ in image: white image in" in refused(base, tuned, remedy)
    text = said(base, tuned, remedy, allowed={"image"})
    assert "not the remedy's alone: white image for t, no image for r." in text
    coarse = asked(three[2], "r", "white", "bfloat16")
    assert "the runs differ in precision: float32 in" in refused(base, tuned, coarse)
    text = said(base, tuned, coarse, allowed={"precision"})
    assert "not the remedy's alone: float32 for t, bfloat16 for r." in text
    same = said(base, tuned, asked(three[2], "t", "white"))
    assert same.endswith("The weights of t and r are the same.")
    same = said(base, asked(three[1], "b", None), remedy)
    assert "The weights of b and t are the same." in same
