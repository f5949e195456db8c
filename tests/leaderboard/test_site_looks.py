"""The leaderboard's page at the widths of a phone, a tablet and two screens, light and dark."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.boards import invented, write_board, write_submission
from verbalizer_bench.leaderboard.pages.html import percent
from verbalizer_bench.leaderboard.site.build import build_site

SIZES = {"sst2": 60, "rte": 50}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_board(tmp_path_factory.mktemp("board") / "submissions", 6, SIZES)
    links = [f"https://{host}/x" for host in ("arxiv.org", "www.github.com", "lab.example.org")]
    based = {"id": "example/seen", "kind": "lvlm", "base": "example/model-0"}
    seen = {"submission": {"model": based, "image_mode": "white"}}
    write_submission(folder, invented(9, SIZES, **seen))
    own = {"submission": {"links": links, "protocol": "toy"}, "protocol": "toy"}
    write_submission(folder, invented(7, SIZES, **own))
    return build_site(folder, tmp_path_factory.mktemp("site"), trusted=True).files[0]


@pytest.fixture(scope="module")
def board(site: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((site.parent / "leaderboard.json").read_text())
    return found


def test_nothing_is_cut_at_any_width_light_or_dark(site: Path, visit: Callable[..., Any]) -> None:
    seen = visit(site, viewport={"width": 390, "height": 900})
    wide = "all => all.filter(e => e.clientWidth && e.scrollWidth > e.clientWidth).length"
    for scheme in ("light", "dark"):
        seen.page.emulate_media(color_scheme=scheme)
        for width in (390, 768, 1280, 1920):
            seen.page.set_viewport_size({"width": width, "height": 900})
            assert seen.page.evaluate("document.documentElement.scrollWidth") == width
            if width >= 1280:
                assert seen.page.locator(".scroll").evaluate_all(wide) == 0
            row = seen.page.locator(".board tbody tr").first
            display = row.evaluate("e => getComputedStyle(e).display")
            held = row.locator("th").evaluate("e => getComputedStyle(e).position")
            expected = ("block", "static") if width == 390 else ("table-row", "sticky")
            assert (display, held) == expected
    assert seen.faults == []


def test_cards_say_what_each_number_is(site: Path, visit: Callable[..., Any]) -> None:
    seen = visit(site)
    table = seen.page.locator(".board table").first
    heads = [text.split("\n")[0] for text in table.locator("thead th").all_inner_texts()]
    cells = "cells => cells.map(cell => cell.dataset.label ?? 'Model')"
    labels = table.locator("tbody tr").first.locator("th, td").evaluate_all(cells)
    assert labels == heads


def test_ranks_that_could_be_others_are_shown_as_a_range(
    site: Path, board: dict[str, Any], visit: Callable[..., Any]
) -> None:
    rows = [row for table in board["tables"] for row in table["rows"]]
    assert all(row["ranks"][0] <= row["rank"] <= row["ranks"][1] for row in rows)
    cells = visit(site).page.locator(".board tbody tr td:first-child").all_inner_texts()
    for row, text in zip(rows, cells, strict=True):
        low, high = row["ranks"]
        expected = [str(row["rank"])] + ([f"{low}\u2013{high}"] if low != high else [])
        assert text.split() == expected


def test_an_image_beside_tuning_is_named(
    site: Path, board: dict[str, Any], visit: Callable[..., Any]
) -> None:
    rows = {row["model"]["id"]: row for row in board["tables"][0]["rows"]}
    assert rows["example/seen"]["change"]["differs"] == ["tuning", "image"]
    seen = visit(site)
    row = seen.page.locator("tr", has=seen.page.get_by_role("button", name="example/seen"))
    assert "tuning and image" in row.locator("td[data-label='Minus base']").inner_text()
    row.get_by_role("button").click()
    assert "tuning and image are together" in seen.page.locator("dialog[open]").inner_text()
    assert rows["example/model-2"]["change"]["differs"] == ["tuning"]
    text = (site.parent / "leaderboard.csv").read_text()
    assert text.count(",tuning and image,") == 1 and seen.faults == []


def test_two_chosen_models_stand_side_by_side(
    site: Path, board: dict[str, Any], visit: Callable[..., Any]
) -> None:
    seen = visit(site)
    one, other = board["tables"][0]["rows"][3], board["tables"][0]["rows"][1]
    fields = seen.page.locator(".two-choice")
    fields.nth(0).select_option(one["path"])
    fields.nth(1).select_option(other["path"])
    result = seen.page.locator("#two-result")
    cells = result.locator("tbody tr:has(th:text-is('All')) td").all_inner_texts()
    means = [row["scores"]["All"]["mean"] for row in (one, other)]
    assert [cell.split()[0] for cell in cells] == [
        *map(percent, means),
        percent(means[0] - means[1], signed=True),
    ]
    # Both ends are below 0 where the ranks say that the two can be told apart.
    low, _, high = cells[2].split()[1:]
    assert float(low) < float(high)
    assert (float(high) < 0) == (one["ranks"][0] > other["ranks"][0])
    fields.nth(1).select_option(board["tables"][1]["rows"][0]["path"])
    assert "of different tables" in result.inner_text()
    fields.nth(1).select_option(one["path"])
    assert "two different models" in result.inner_text()
    assert seen.faults == []


def test_links_say_what_they_are(site: Path, visit: Callable[..., Any]) -> None:
    seen = visit(site)
    for link in seen.page.locator("nav.contents a").all():
        assert seen.page.locator(link.get_attribute("href")).count() == 1
    names = seen.page.locator("footer a").all_inner_texts()
    assert [name.split(" (")[0] for name in names] == [
        *("every number", "the tables for a spreadsheet", "the figure")
    ]
    seen.page.get_by_role("button", name="example/model-7", exact=True).click()
    terms = seen.page.locator("dialog[open] dt").all_inner_texts()
    assert terms[-3:] == ["Paper on arXiv", "Code repository", "Page at lab.example.org"]
    assert seen.faults == []
