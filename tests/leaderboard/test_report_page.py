"""The HTML report: what it says, and what a browser makes of it."""

import dataclasses
import io
import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.echo import write_run
from verbalizer_bench.leaderboard.pages.html import embedded_json, percent, shade
from verbalizer_bench.leaderboard.reports.examples import choose_examples
from verbalizer_bench.leaderboard.reports.forest import forest
from verbalizer_bench.leaderboard.reports.report import report
from verbalizer_bench.results.answers import answers, interval
from verbalizer_bench.results.differences import differences
from verbalizer_bench.results.files import newest_results, samples_file
from verbalizer_bench.results.run import Run, find_runs
from verbalizer_bench.results.statistics import summarize
from verbalizer_bench.tasks.spec import LABEL_TYPES

TASKS = ["verbalizer_sst2", "verbalizer_rte"]
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\u202e"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    for word in ("foo", "It is foo", "1"):
        write_run(folder / word.replace(" ", "_"), word, TASKS)
    found = find_runs([folder])
    return [dataclasses.replace(run, name=run.folder.parent.name) for run in found]


@pytest.fixture(scope="module")
def page(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(*runs).write(tmp_path_factory.mktemp("report"))[0]


def text_of(page: Path) -> str:
    """Return the text of a page as a reader sees it."""
    body = page.read_text(encoding="utf-8").partition("<body>")[2]
    body = re.sub(r"<script>.*?</script>", "", body, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_it_has_the_numbers_of_the_report_and_of_compare(page: Path, runs: list[Run]) -> None:
    text = text_of(page)
    for run in runs:
        for found in summarize(run).values():
            assert f"{percent(found.f1.mean)} {percent(found.f1.low)}" in text
    pairs = differences(runs)
    assert len(pairs) == 2
    for told in answers(pairs):
        assert told in text
    for pair in pairs:
        for found in pair.family("verbalizer"):
            assert f"{found.name} {percent(found.base)} {percent(found.model)}" in text
    assert "Toy: made data" in text
    assert "24 of the suite's 108 tasks were run" in text
    assert "made data (sample)" in text


def test_examples_show_every_outcome_side_by_side(runs: list[Run]) -> None:
    found = choose_examples(runs)
    # "1" is neither label word of the neutral tasks; nobody says both words.
    assert list(found) == ["follows", "verbose", "flipped", "neither"]
    for outcome, examples in found.items():
        assert len(examples) == 10
        assert len({(example.task, example.doc_id) for example in examples}) == 10
        assert len({example.task.split("_")[1] for example in examples}) == 2
        for example in examples:
            assert outcome in [said.outcome for said in example.said]
            assert [said.response for said in example.said] == ["1", "It is foo", "foo"] or {
                said.response for said in example.said
            } == {"1", "It is foo", "foo"}
            assert "Answer:" in example.prompt
    assert found == choose_examples(runs)


def test_examples_reach_every_data_set_and_label_type(tmp_path: Path) -> None:
    (run,) = find_runs([write_run(tmp_path, "1", ["verbalizer"])])
    for outcome, examples in choose_examples([run]).items():
        cells = [example.task.split("_")[1:3] for example in examples]
        assert len({dataset for dataset, _ in cells}) == 9
        # "1" is neither label word of the neutral tasks.
        expected = set(LABEL_TYPES) if outcome == "neither" else {"natural", "unnatural"}
        assert {label_type for _, label_type in cells} == expected, outcome


NAMES = {
    "control": "a\x00b\x1b",
    "half": "a\ud800b",
    "formula": "$\\frac{1}$_a_",
    "long": "x" * 50_000,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_any_name_is_drawn_and_fits_a_phone(
    name: str, runs: list[Run], tmp_path: Path, visit: Callable[..., Any]
) -> None:
    named = [dataclasses.replace(runs[0], name=name), runs[1]]
    page = report(*named).write(tmp_path)[0]
    seen = visit(page, viewport={"width": 375, "height": 800})
    assert seen.page.evaluate("document.images[0].naturalWidth") > 0
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 375
    assert seen.faults == []


def test_half_a_character_in_a_response_is_replaced(runs: list[Run], tmp_path: Path) -> None:
    shutil.copytree(runs[0].folder, tmp_path / "run")
    results = newest_results(tmp_path / "run")
    for path in results.parent.glob("samples_*"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["filtered_resps"] = ["foo\ud800"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = report(*find_runs([tmp_path / "run"])).write(tmp_path / "report")[0]
    assert "foo?" in text_of(page)


def test_one_run_alone(runs: list[Run], tmp_path: Path) -> None:
    text = text_of(report(runs[0]).write(tmp_path)[0])
    assert "Difference from" not in text and "Did tuning hurt" not in text
    assert "F1 by data set and verbalizer" in text


def test_runs_that_cannot_be_compared_say_why(runs: list[Run], tmp_path: Path) -> None:
    less = write_run(tmp_path / "less", "foo", ["verbalizer_sst2"])
    text = text_of(report(runs[0], *find_runs([less])).write(tmp_path / "report")[0])
    assert "The runs are not compared. " in text
    assert "run the same tasks" in text


def test_the_page_is_the_same_every_time(runs: list[Run], page: Path, tmp_path: Path) -> None:
    assert report(*runs).write(tmp_path)[0].read_bytes() == page.read_bytes()


def test_nothing_is_loaded_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", text)
    assert "default-src 'none'" in text


@pytest.fixture(scope="module")
def hostile_page(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a run whose every text is an attack."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(runs[0].folder, folder / "run")
    results = newest_results(folder / "run")
    table = json.loads(results.read_text())
    table["model_name"] = f"/{HOSTILE}/{HOSTILE}".replace("/script", "script") + "$a_b$"
    table["config"] |= {"model": HOSTILE, "model_args": {HOSTILE: HOSTILE}}
    results.write_text(json.dumps(table))
    for task in table["configs"]:
        path = samples_file(results, task)
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["arguments"]["gen_args_0"]["arg_0"] = HOSTILE
            row |= {"filtered_resps": [HOSTILE], "target": HOSTILE}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = find_runs([folder / "run"])
    return report(dataclasses.replace(run, name=HOSTILE)).write(folder / "report")[0]


def test_texts_are_shown_and_do_not_run(hostile_page: Path, visit: Callable[..., Any]) -> None:
    seen = visit(hostile_page)
    assert seen.faults == []
    assert seen.page.locator("script").count() == 2
    assert seen.page.locator("img").count() == 1
    assert seen.page.locator("h1").inner_text() == HOSTILE
    for summary in seen.page.locator("details:not([open]) > summary").all()[:5]:
        summary.click()
    assert HOSTILE in seen.page.locator("details[open] pre").first.inner_text()
    assert seen.faults == []


def test_tables_are_sorted_by_keyboard(page: Path, visit: Callable[..., Any]) -> None:
    seen = visit(page)
    table = seen.page.locator("table.sortable").first
    head = table.locator("th.number").nth(1)
    values = "cells => cells.map(cell => Number(cell.dataset.value))"
    column = "tbody td:nth-child(4)"
    head.locator("button").focus()
    for order, sign in (("descending", -1), ("ascending", 1)):
        seen.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        found = table.locator(column).evaluate_all(values)
        assert found == sorted(found, key=lambda value: sign * value) and len(set(found)) > 1
    assert table.locator("th[aria-sort=none]").count() == 6
    assert seen.faults == []


@pytest.mark.parametrize("name", ["page", "hostile_page"])
def test_it_fits_a_phone(
    name: str, request: pytest.FixtureRequest, visit: Callable[..., Any]
) -> None:
    seen = visit(request.getfixturevalue(name), viewport={"width": 375, "height": 800})
    width = seen.page.evaluate("document.documentElement.scrollWidth")
    assert width == 375
    size = seen.page.evaluate("getComputedStyle(document.body).fontSize")
    assert float(size.removesuffix("px")) >= 15


def test_it_prints_with_the_examples_open(page: Path, visit: Callable[..., Any]) -> None:
    seen = visit(page)
    closed = seen.page.locator("details:not([open])").count()
    assert closed > 40
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert seen.page.locator("details:not([open])").count() == 0
    seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert seen.page.locator("details:not([open])").count() == closed
    assert seen.page.pdf()[:5] == b"%PDF-"
    seen.page.emulate_media(media="print")
    size = "e => parseFloat(getComputedStyle(e).fontSize)"
    cell = seen.page.locator("td.number:has(small)").first
    assert cell.locator("small").evaluate(size) < cell.evaluate(size)
    assert seen.faults == []


def test_it_is_read_in_a_minute(page: Path, runs: list[Run], visit: Callable[..., Any]) -> None:
    """A sentence a model first, a contents list, and the long tables folded."""
    seen = visit(page, viewport={"width": 1280, "height": 900})
    sentences = seen.page.locator("ul.summary li").all_inner_texts()
    summaries = [summarize(run)["All"].f1.mean for run in runs]
    for run, mean, text in zip(runs, summaries, sentences, strict=True):
        assert text.startswith(run.name) and f"F1 {percent(mean)} [" in text
    found = [pair.family("label type")[-1] for pair in differences(runs)]
    for text, one in zip(sentences[1:], found, strict=True):
        assert text.endswith(f" {runs[0].name}, {interval(one)}.")
    for link in seen.page.locator("nav.contents a").all():
        assert seen.page.locator(link.get_attribute("href")).count() == 1
    heads = seen.page.locator("h2").all_inner_texts()
    assert heads[0] == "F1 by label type"
    assert heads.index("What the responses did") < heads.index("Examples") < 4
    assert seen.page.locator("table:visible tbody tr").count() < 60


def test_a_forest_plot_has_the_differences(
    page: Path, runs: list[Run], visit: Callable[..., Any]
) -> None:
    pairs = differences(runs)
    seen = visit(page)
    lines = seen.page.locator(".forest").first.locator("p:not(.axis)")
    shown = [line.split("\n") for line in lines.all_inner_texts()]
    expected = [
        [pair.model, interval(found)]
        for place in range(4)
        for pair in pairs
        for found in [pair.family("label type")[place]]
    ]
    assert [[part.strip() for part in parts if part.strip()] for parts in shown] == expected
    # Where a dot stands is what it says: places are linear in the difference.
    plot = forest(pairs, "label type")
    (low, first), (high, last) = plot.marks[0], plot.marks[-1]
    assert (low, high) == (0, 100) and plot.zero == pytest.approx(-100 * first / (last - first))
    for _, own in plot.groups:
        for line in own:
            expected_at = 100 * (100 * line.difference.difference - first) / (last - first)
            assert line.at == pytest.approx(expected_at, abs=0.01)
            assert line.difference.low is not None and line.difference.high is not None
            assert line.start is not None and line.start <= line.at <= line.start + line.width
    assert seen.faults == []


def test_two_chosen_models_have_the_numbers_of_compare(
    page: Path, runs: list[Run], visit: Callable[..., Any]
) -> None:
    seen = visit(page)
    for second, first in ((2, 1), (1, 2), (0, 2)):
        seen.page.select_option("#chosen-second", index=second)
        seen.page.select_option("#chosen-first", index=first)
        (pair,) = differences([runs[first], runs[second]])
        body = seen.page.locator("#chosen-result table").first.locator("tbody tr")
        for row, found in zip(body.all(), pair.family("label type"), strict=True):
            cells = row.locator("td").all_inner_texts()
            assert cells[:2] == [percent(found.model), percent(found.base)]
            assert cells[2].split("\n")[0] == percent(found.difference, signed=True)
            ends = f"{percent(found.low, signed=True)} to {percent(found.high, signed=True)}"
            assert ends in cells[2]
    seen.page.select_option("#chosen-first", index=0)
    assert "two different models" in seen.page.locator("#chosen-result").inner_text()
    assert seen.faults == []


def test_nothing_is_cut_at_any_width_light_or_dark(page: Path, visit: Callable[..., Any]) -> None:
    seen = visit(page, viewport={"width": 390, "height": 900})
    wide = "all => all.filter(e => e.clientWidth && e.scrollWidth > e.clientWidth).length"
    for width in (390, 768, 1280, 1920):
        seen.page.set_viewport_size({"width": width, "height": 900})
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width
        if width >= 1280:
            assert seen.page.locator(".scroll").evaluate_all(wide) == 0
        row = seen.page.locator("table.cards tbody tr").first
        display = row.evaluate("e => getComputedStyle(e).display")
        held = row.locator("th").evaluate("e => getComputedStyle(e).position")
        assert (display, held) == (("block", "static") if width == 390 else ("table-row", "sticky"))
    corner = {}
    for scheme in ("light", "dark"):
        seen.page.emulate_media(color_scheme=scheme)
        png = seen.page.locator("img").first.screenshot()
        corner[scheme] = Image.open(io.BytesIO(png)).convert("RGB").getpixel((1, 1))
    assert corner == {"light": (255, 255, 255), "dark": (13, 17, 23)}
    assert seen.faults == []


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2)."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_heat_maps_numbers_can_be_read() -> None:
    for step in range(101):
        assert contrast(*shade(step / 100)) >= 4.5, step


def test_json_inside_a_script_cannot_end_it() -> None:
    text = str(embedded_json({"a": "</script><!--\u2028&"}))
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text) == {"a": "</script><!--\u2028&"}
