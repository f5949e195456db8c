"""The leaderboard: what is built, what is refused, and what a browser makes of it."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.boards import invented, merged, read_entries, write_board, write_submission
from tests.helpers.runs import run as made_run
from tests.helpers.submissions import (
    digest,
    make_files,
    make_results,
    make_rows,
    valid_files,
    write_files,
)
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.site import paired
from verbalizer_bench.leaderboard.site.build import FILES, build_site
from verbalizer_bench.leaderboard.site.duplicates import same_responses
from verbalizer_bench.leaderboard.site.entries import read_board
from verbalizer_bench.leaderboard.site.paired import pair_with_bases
from verbalizer_bench.leaderboard.site.ranges import differing_documents
from verbalizer_bench.leaderboard.site.records import _plain
from verbalizer_bench.leaderboard.submission.signed import SpotCheckRecord, digest_of, sign
from verbalizer_bench.leaderboard.submission.validate import validate
from verbalizer_bench.results.differences import differences
from verbalizer_bench.results.resampling import Clusters, bootstrap
from verbalizer_bench.results.run import TaskScores
from verbalizer_bench.results.statistics import by_dataset
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.tasks.suite import suite

SIZES = {"sst2": 8, "rte": 5}
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\u2028"

# As far as a name may be one.
NAME = HOSTILE.removesuffix("\u2028")


@pytest.fixture(scope="module")
def submissions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return twelve submissions of two protocols."""
    folder = write_board(tmp_path_factory.mktemp("board") / "submissions", 9, SIZES)
    for number in range(9, 12):
        toy = {"protocol": "toy", "differences": ["made data (sample)"], "badge": "self-reported"}
        toy["submission"] = {"protocol": "toy"}
        write_submission(folder, invented(number, SIZES, **toy))
    return folder


@pytest.fixture(scope="module")
def site(submissions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(submissions, tmp_path_factory.mktemp("site"), trusted=True).files[0]


def test_each_protocol_has_its_own_table_and_ranks(site: Path) -> None:
    board = json.loads((site.parent / "leaderboard.json").read_text())
    assert [table["protocol"] for table in board["tables"]] == ["paper", "toy"]
    for table, count in zip(board["tables"], (9, 3), strict=True):
        scores = [row["scores"]["All"]["mean"] for row in table["rows"]]
        assert scores == sorted(scores, reverse=True)
        assert [row["rank"] for row in table["rows"]] == list(range(1, count + 1))
        for row in table["rows"]:
            natural, unnatural = (row["scores"][t]["mean"] for t in ("natural", "unnatural"))
            assert row["slope"] == pytest.approx(unnatural - natural, abs=2e-6)
            assert len(row["f1"]["sst2"]) == len(board["verbalizers"]) == 12
    rows = list(csv.DictReader((site.parent / "leaderboard.csv").open()))
    assert len(rows) == 12
    assert float(rows[0]["All"]) == pytest.approx(
        100 * board["tables"][0]["rows"][0]["scores"]["All"]["mean"], abs=1e-3
    )
    assert "<svg" in (site.parent / "leaderboard.svg").read_text()[:500]


def test_unknown_prompts_rank_in_a_table_of_their_own(tmp_path: Path) -> None:
    """However well they score, and whatever their source is called."""
    board = tmp_path / "board"
    for number in range(4):
        verified = invented(number, SIZES)
        if number % 2:
            verified["tasks"][5] |= {"identity": "unknown", "source": "hub"}
            verified["label_types"]["All"]["f1"] = {"mean": 1.0, "low": 1.0, "high": 1.0}
        write_submission(board, verified)
    site = build_site(board, tmp_path / "site", trusted=True)
    assert [(table.protocol, table.verified) for table in site.tables] == [
        *(("paper", True), ("paper", False))
    ]
    ids = [[row.entry.id for row in table.rows] for table in site.tables]
    assert {"example/model-0", "example/model-2"} == set(ids[0])
    found = json.loads(site.files[1].read_text())
    assert [table["prompts"] for table in found["tables"]] == ["verified", "not verified"]
    row = found["tables"][1]["rows"][0]
    assert row["rank"] == 1 and row["documents"]["sst2"] == 8 and row["responses"] == 12 * 13
    assert "Protocol paper, prompts not verified" in site.files[0].read_text()


def test_the_site_is_the_same_every_time(site: Path, tmp_path: Path) -> None:
    """Whatever order the file system lists folders in."""
    board = tmp_path / "submissions"
    for number in (11, 10, 9):
        toy = {"protocol": "toy", "differences": ["made data (sample)"], "badge": "self-reported"}
        toy["submission"] = {"protocol": "toy"}
        write_submission(board, invented(number, SIZES, **toy))
    write_board(board, 9, SIZES)
    other = build_site(board, tmp_path / "site", trusted=True)
    assert [file.name for file in other.files] == list(FILES)
    for file in other.files:
        assert file.read_bytes() == (site.parent / file.name).read_bytes(), file
    again = build_site(board, tmp_path / "site", trusted=True)
    assert [f.read_bytes() for f in again.files] == [f.read_bytes() for f in other.files]
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == sorted(FILES)


def test_a_pair_has_the_numbers_of_compare(tmp_path: Path) -> None:
    """The same scores, once as runs and once as the sums of two submissions."""
    generator = np.random.default_rng(5)
    runs = []
    for name in ("base", "tuned"):
        tasks = [
            TaskScores(
                task,
                dataset,
                verbalizer,
                "made",
                "0",
                tuple(range(SIZES[dataset])),
                {"f1": generator.choice([0.0, 0.5, 1.0], SIZES[dataset])},
            )
            for task, (dataset, verbalizer) in suite().items()
            if dataset in SIZES
        ]
        runs.append(made_run(*tasks, name=name))
    for number, run in enumerate(runs):
        documents = {}
        for dataset, tasks in by_dataset(run.tasks).items():
            sums = {
                t: np.sum([o.scores["f1"] for o in tasks if o.verbalizer.type == t], axis=0)
                for t in LABEL_TYPES
            }
            documents[dataset] = {"sums": {t: values.tolist() for t, values in sums.items()}}
        base = {"base": "example/model-0"} if number else {}
        changes = {"submission": {"model": base}, "documents": documents}
        write_submission(tmp_path, invented(number, SIZES, **changes))
    entries = read_entries(tmp_path)
    (pair,) = pair_with_bases(entries).values()
    assert pair.base == entries[0].path
    (expected,) = differences(runs)
    for found in expected.family("label type"):
        change = pair.changes[found.name]
        assert change.difference == pytest.approx(found.difference, abs=1e-9)
        assert change.low == pytest.approx(found.low, abs=1e-9)
        assert change.high == pytest.approx(found.high, abs=1e-9)


def test_the_same_rows_in_another_order_are_paired(tmp_path: Path) -> None:
    """A base that was run on a folder's rows, and what was tuned from it on the hub's."""
    for name, turned in (("base", False), ("tuned", True)):
        rows = make_rows(4, lambda target, other, i: target if i else other)
        if turned:
            rows = {
                task: [{**row, "doc_id": i} for i, row in enumerate(own[::-1])]
                for task, own in rows.items()
            }
        results, weights = make_results(rows), digest(name)
        seen = {"weights": weights, "weights_kind": "stored"}
        results["config"]["verbalizer_bench"]["fingerprint"] = seen
        model = {"id": f"org/{name}", "weights_sha256": weights, "kind": "llm"}
        model |= {"base_weights_sha256": digest("base")} if turned else {}
        write_files(tmp_path, make_files(rows, results, model=model))
    entries = read_board(tmp_path).entries
    (pair,) = pair_with_bases(entries).values()
    assert pair.base == entries[0].path and pair.changes["All"].difference == 0
    assert differing_documents(*entries) == 0


def test_what_cannot_be_paired_says_why(tmp_path: Path) -> None:
    write_submission(tmp_path, invented(0, SIZES))
    changes: dict[str, dict[str, Any]] = {
        "example/none": {"submission": {"model": {"base": "example/absent"}}},
        "example/rows": {"documents": {"sst2": {"prompts": "0" * 64}}},
        "example/plain": {"chat_template": False},
    }
    for number, (name, own) in enumerate(changes.items(), start=1):
        named = {"submission": {"model": {"id": name, "base": "example/model-0"}}}
        write_submission(tmp_path, invented(number, SIZES, **merged(named, own)))
    pairs = pair_with_bases(read_entries(tmp_path))
    assert {path.split("/")[0]: pair.reason for path, pair in pairs.items()} == {
        "example__none": "no checked submission of its weights under this protocol",
        "example__rows": "its prompts of sst2 differ from those of the base",
        "example__plain": "one of them was run with a chat template and the other without",
    }


def test_a_better_checked_submission_of_the_base_wins_over_a_newer_one(tmp_path: Path) -> None:
    base = {"model": {"id": "example/base"}}
    checked = write_submission(tmp_path, invented(0, SIZES, submission=base))
    newer = {"submission": {**base, "date": "2026-12-30"}, "badge": "self-reported"}
    write_submission(tmp_path, invented(2, SIZES, **newer))
    tuned = {"submission": {"model": {"base": "example/base"}}}
    write_submission(tmp_path, invented(1, SIZES, **tuned))
    (pair,) = pair_with_bases(read_entries(tmp_path)).values()
    assert pair.base == checked.relative_to(tmp_path).as_posix()


def test_a_base_is_its_weights_and_not_its_name(tmp_path: Path) -> None:
    """A weak model of the same name is no base, whoever submits it; nor an unchecked one."""
    weights = digest("the base's own")
    tuned = {"base": "example/base", "base_weights_sha256": weights}
    write_submission(tmp_path, invented(1, SIZES, submission={"model": tuned}))
    named = {"submission": {"model": {"id": "example/base"}}}
    write_submission(tmp_path, invented(0, SIZES, **named))
    (pair,) = pair_with_bases(read_entries(tmp_path)).values()
    assert pair.base is None and "no checked submission of its weights" in pair.reason
    other = {"weights": weights, "submission": {"model": {"id": "example/renamed"}}}
    write_submission(tmp_path, invented(2, SIZES, **other, badge="self-reported"))
    (pair,) = pair_with_bases(read_entries(tmp_path)).values()
    assert pair.base is None
    place = write_submission(tmp_path, invented(4, SIZES, **other))
    (pair,) = pair_with_bases(read_entries(tmp_path)).values()
    assert pair.base == place.relative_to(tmp_path).as_posix()
    no_weights = invented(3, SIZES, submission={"model": {"base": "example/base"}})
    no_weights["submission"]["model"].pop("base_weights_sha256")
    write_submission(tmp_path, no_weights)
    pairs = pair_with_bases(read_entries(tmp_path))
    assert "not that base's weights" in pairs[sorted(pairs)[-1]].reason


def test_copies_are_named(tmp_path: Path) -> None:
    """With other numbers, weights and names, and with responses of a few tasks changed."""
    one, copy, other = (invented(number, SIZES) for number in (0, 2, 4))
    for number, (task, mine) in enumerate(zip(copy["tasks"], one["tasks"], strict=True)):
        task["responses"] = mine["responses"] if number >= 8 else task["responses"]
        other["tasks"][number]["responses"] = (
            mine["responses"] if number < 53 else digest(f"{number}")
        )
    paths = [write_submission(tmp_path / "board", verified) for verified in (one, copy, other)]
    site = build_site(tmp_path / "board", tmp_path / "site", trusted=True)
    rows = {row["path"]: row for row in json.loads(site.files[1].read_text())["tables"][0]["rows"]}
    names = [path.relative_to(tmp_path / "board").as_posix() for path in paths]
    for name, twin in ((names[0], names[1]), (names[1], names[0])):
        assert (
            rows[name]["warnings"][-1]
            == f"the responses to 100 of 108 tasks are those of {twin}, or nearly"
        )
    assert not any("responses to" in text for text in rows[names[2]]["warnings"])


def test_copies_with_a_few_changes_are_named(tmp_path: Path) -> None:
    """In every task some responses are changed; another model is right as often, in its words."""
    honest = make_rows(40, lambda target, _, i: target if i % 2 else f"It says {i}.")
    copied = make_rows(40, lambda target, _, i: target if i % 2 else f"It says {i + (i == 8)}.")
    turned = {
        task: [{**row, "doc_id": i} for i, row in enumerate(own[::-1])]
        for task, own in copied.items()
    }
    another = make_rows(40, lambda target, _, i: target if i % 2 else f"I think of {i}.")
    perfect = make_rows(40, lambda target, _, i: target)
    names = []
    for name, rows in enumerate((honest, copied, turned, another, perfect, perfect)):
        model = {"id": f"org/{name}", "weights_sha256": digest("weights"), "kind": "llm"}
        place = write_files(tmp_path / "s", make_files(rows, make_results(rows), model=model))
        names.append(place.relative_to(tmp_path / "s").as_posix())
    found = same_responses(read_board(tmp_path / "s").entries)
    twins = {name: {other for other, _ in found[name]} for name in found}
    assert twins == {names[i]: {names[j] for j in range(3)} - {names[i]} for i in range(3)}


def spot_checked(place: Path, **changes: Any) -> SpotCheckRecord:
    found = {
        **{"submission": digest_of(place), "seed": 7, "fresh": True, "documents": {"rte": (1,)}},
        **{"responses": 12, "equal": 12, "agreement": (1.0, 0.7, 1.0), "f1_submitted": 0.5},
        **{"f1_regenerated": 0.5, "difference": (0.0, 0.0, 0.0), "threshold": 0.9, "faults": ()},
        **{"weights": "0" * 64, "same_weights": True, "differs": (), "versions": {}},
        **{"date": "2026-02-03", "by": "M. Name", "package": "0"},
    }
    return SpotCheckRecord(**{**found, **changes})


def test_a_base_that_was_spot_checked_goes_before_newer_ones(tmp_path: Path) -> None:
    """A newer submission says that its poor answers are of the base's weights."""
    base: dict[str, Any] = {"model": {"id": "example/base"}}
    honest = write_submission(tmp_path, invented(0, SIZES, submission=base))
    newer = {**base, "date": "2026-12-30"}
    poor = write_submission(tmp_path, invented(2, SIZES, submission=newer))
    tuned = {"submission": {"model": {"base": "example/base"}}}
    write_submission(tmp_path, invented(1, SIZES, **tuned))

    def bases() -> list[str]:
        return [str(pair.base) for pair in pair_with_bases(read_entries(tmp_path)).values()]

    names = [place.relative_to(tmp_path).as_posix() for place in (honest, poor)]
    assert bases() == names[1:]
    sign(spot_checked(honest, same_weights=None), honest)
    assert bases() == names[1:]
    sign(spot_checked(honest), honest)
    assert bases() == names[:1]
    (honest / "spot-check.json").unlink()
    sign(spot_checked(poor, faults=("too few responses agree",)), poor)
    assert bases() == names[:1]


def test_a_spot_check_is_shown_until_the_submission_changes(tmp_path: Path) -> None:
    board = tmp_path / "board"
    places = [write_submission(board, invented(number, SIZES)) for number in range(4)]
    record = spot_checked(places[0])
    sign(record, places[0])
    sign(record, places[1])  # of another submission
    own = digest_of(places[2])
    sign(record.model_copy(update={"submission": own, "faults": ("few agree",)}), places[2])
    site = build_site(board, tmp_path / "site", trusted=True)
    rows = {row["path"]: row for row in json.loads(site.files[1].read_text())["tables"][0]["rows"]}
    found = [rows[place.relative_to(board).as_posix()]["spot_check"] for place in places]
    assert found[0]["status"] == "passed" and found[0]["by"] == "M. Name"
    assert found[0]["agreement"] == [1.0, 0.7, 1.0] and found[0]["documents"] == 1
    assert found[1] == {"status": "stale"} and found[3] is None
    assert found[2]["status"] == "failed" and found[2]["faults"] == ["few agree"]
    assert "spot-check passed" in site.files[0].read_text()


def refused(submissions: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert (
        main(["leaderboard", "build", str(submissions), "-o", str(output), "--trust-verified"]) == 2
    )
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not (output / "index.html").exists()
    return error


def test_a_stale_submission_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board, output = tmp_path / "submissions", tmp_path / "site"
    place = write_submission(board, invented(0, SIZES))
    verified = (place / "verified.json").read_text()
    remedy = f"run `verbalizer-bench submit validate {place}`"
    for name in ("results.json", "samples/x.jsonl.gz", "SHA256SUMS"):
        before = (place / name).read_text()
        (place / name).write_text("edited")
        said = refused(board, output, capsys)
        assert f"{place}: verified.json is stale: {name} was changed since" in said
        assert remedy in said
        (place / name).write_text(before)
    (place / "samples" / "y.jsonl.gz").write_text("new")
    assert "stale: samples/y.jsonl.gz was added since" in refused(board, output, capsys)
    (place / "samples" / "y.jsonl.gz").unlink()
    (place / "samples" / "x.jsonl.gz").rename(tmp_path / "x")
    assert "stale: samples/x.jsonl.gz was removed since" in refused(board, output, capsys)
    (tmp_path / "x").rename(place / "samples" / "x.jsonl.gz")
    (place / "verified.json").write_text(verified.replace('"package": "', '"package": "9.'))
    assert "stale: of verbalizer-bench 9." in refused(board, output, capsys)
    (place / "verified.json").write_text(verified[:-100])
    assert "not what `submit validate` writes" in refused(board, output, capsys)
    (place / "verified.json").unlink()
    assert "not validated, verified.json is missing" in refused(board, output, capsys)
    (place / "verified.json").write_text(verified)
    assert main(["leaderboard", "build", str(board), "-o", str(output), "--trust-verified"]) == 0


def write_valid(board: Path, name: str, **stated: Any) -> Path:
    model = {"id": name, "weights_sha256": digest("weights"), "kind": "llm"}
    return write_files(board, valid_files(2, model=model, **stated))


def test_a_site_is_built_of_what_was_computed_again(tmp_path: Path) -> None:
    """Whatever a committed verified.json says, and whether or not one is there."""
    board = tmp_path / "board"
    place = write_valid(board, "example/one")
    before = build_site(board, tmp_path / "site")
    assert validate(place).failed is None
    found = json.loads((place / "verified.json").read_text())
    found["label_types"]["All"]["f1"] = {"mean": 1.0, "low": 1.0, "high": 1.0}
    (place / "verified.json").write_text(json.dumps(found))
    after = build_site(board, tmp_path / "again")
    assert [f.read_bytes() for f in after.files] == [f.read_bytes() for f in before.files]
    trusted = build_site(board, tmp_path / "trusted", trusted=True)
    assert trusted.tables[0].rows[0].entry.score("All") == 1.0


def test_a_bad_folder_stops_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board, output = tmp_path / "board", tmp_path / "site"
    write_valid(board, "example/good")
    write_valid(board, "example/odd", protocol="paper")
    edited = write_valid(board, "example/edited")
    (edited / "run.json").write_text("{}")
    (board / "example__draft" / "notes\x1b[31m").mkdir(parents=True)
    (board / "example__link").symlink_to(edited.parent)
    (board / "\u0435xample__good").mkdir()
    (board / ".git").mkdir()
    closed = write_valid(board, "example/closed")
    (closed / "samples").chmod(0)
    broken = write_valid(board, "example/looped")
    (broken / "SHA256SUMS").unlink()
    (broken / "SHA256SUMS").symlink_to("SHA256SUMS")
    try:
        assert main(["leaderboard", "build", str(board), "-o", str(output)]) == 1
    finally:
        (closed / "samples").chmod(0o755)
    said = capsys.readouterr().err
    names = [row["model"] for row in csv.DictReader((output / "leaderboard.csv").open())]
    # Who has every right may read a closed folder too.
    assert names == ["example/good"] or sorted(names) == ["example/closed", "example/good"]
    assert said.count("\n") == 7 - len(names) + 1 and "\x1b" not in said
    for line in (
        "level 5 failed: submission.yaml: protocol: paper, but the run is other",
        "level 1 failed: run.json: sha256",
        "'notes\\x1b[31m' is not a submission",
        "example__link: not a folder; links are not followed",
        "'SHA256SUMS': a link",
        "\\u0435xample__good: not a model's folder (<org>__<model>)",
    ):
        assert line in said


def test_what_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = tmp_path / "submissions"
    assert "no such folder" in refused(board, tmp_path / "site", capsys)
    board.mkdir()
    assert "no submission <org>__<model>" in refused(board, tmp_path / "site", capsys)
    place = write_submission(board, invented(0, SIZES))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").touch()
    assert "holds other files (a.tex)" in refused(board, tmp_path / "thesis", capsys)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".index.html").symlink_to(tmp_path / "thesis" / "a.tex")
    assert "holds other files (.index.html)" in refused(board, tmp_path / "linked", capsys)
    assert (tmp_path / "thesis" / "a.tex").read_text() == ""
    (tmp_path / "folder" / "leaderboard.csv").mkdir(parents=True)
    assert "holds other files (leaderboard.csv)" in refused(board, tmp_path / "folder", capsys)
    place.rename(place.with_name("draft"))
    assert "'draft' is not a submission" in refused(board, tmp_path / "site", capsys)
    (place.with_name("draft")).rename(place)
    place.parent.rename(board / "famous__model")
    assert "is of example/model-0, whose folder is" in refused(board, tmp_path / "site", capsys)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_spreadsheet_takes_no_text_for_a_formula(tmp_path: Path, separator: str) -> None:
    """However it cuts the lines: by commas, or as it does where those are decimal signs."""
    texts = ["{}1+1|'x'", "a;{}1", 'b","{}1', 'c;"{}1', 'd;""{}1', "e; {}1", "f|{}1", "g' {}1"]
    rows = []
    for mark in "=+-@\uff1d\u2212\ufe63":
        for text in texts:
            rows.append([_plain(text.format(mark)), _plain(f"x\t{mark}1\r\n{mark}2\u2028{mark}3")])
    file = tmp_path / "board.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    lines = file.read_text().split("\n")[:-1]
    assert len(lines) == len(rows)
    for reader in (
        csv.reader(lines, delimiter=separator),
        (line.split(separator) for line in lines),
    ):
        for cells in reader:
            for cell in cells:
                assert not cell.lstrip(' "').startswith(tuple("=+-@\uff1d\u2212\ufe63")), cell
    assert _plain(-1.5) == -1.5 and _plain("Jean-Luc, a+b") == "Jean-Luc, a+b"


def test_names_are_no_formulas_in_the_file(tmp_path: Path) -> None:
    own = {"submission": {"submitter": "=1+1|'x'", "licence": '="a",b'}}
    write_submission(tmp_path / "submissions", invented(0, SIZES, **own))
    site = build_site(tmp_path / "submissions", tmp_path / "site", trusted=True)
    (row,) = csv.DictReader(site.files[2].open())
    assert row["submitter"].startswith("'") and row["licence"].startswith("'")


def test_rows_are_sorted_filtered_and_opened(site: Path, visit: Callable[..., Any]) -> None:
    seen = visit(site)
    page = seen.page
    shown = "table.sortable tbody tr:not([hidden])"
    assert page.locator(shown).count() == 12
    assert page.locator("#count").inner_text() == "12 of 12 shown"
    page.select_option("#kind", "lvlm")
    assert page.locator(f"{shown}:visible").count() == 6
    page.select_option("#protocol", "toy")
    assert page.locator(f"{shown}:visible").count() == 2
    page.fill("#search", "MODEL-9")
    assert page.locator("#count").inner_text() == "1 of 12 shown"
    assert page.evaluate("location.hash") == "#search=MODEL-9&kind=lvlm&protocol=toy"
    page.reload()
    assert page.locator("#count").inner_text() == "1 of 12 shown"
    for field, value in (("#search", ""), ("#kind", ""), ("#protocol", "")):
        (page.fill if field == "#search" else page.select_option)(field, value)
    table = page.locator("table.sortable").first
    head = table.locator("thead th").nth(4)
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    cells = table.locator("tbody td:nth-child(5)")
    values = cells.evaluate_all("cells => cells.map(cell => Number(cell.dataset.value))")
    assert values == sorted(values, reverse=True) and len(values) == 9
    table.locator("tbody th button").first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    name = table.locator("tbody th").first.inner_text()
    assert dialog.locator("h2").inner_text() == name
    assert dialog.locator("table.heat tbody tr").count() == 9
    assert dialog.locator(".bars > div").count() == 4
    assert "re-score: passed" in dialog.inner_text()
    assert "open=" in page.evaluate("location.hash")
    page.reload()
    assert page.locator("dialog[open] h2").inner_text() == name
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    # A dialog says that it was closed a moment later.
    page.wait_for_url(lambda url: "open=" not in url)
    assert seen.faults == []


def test_a_pair_is_shown(site: Path, visit: Callable[..., Any]) -> None:
    seen = visit(site)
    seen.page.get_by_role("button", name="example/model-2", exact=True).click()
    text = seen.page.locator("dialog[open]").inner_text()
    assert re.search(r"Minus base\s+example__model-1/2026", text)
    assert re.search(r"Unnatural\s+[+-]\d+\.\d\s+[+-]\d+\.\d to", text)
    assert seen.faults == []


def test_a_table_fits_a_desktop_and_a_sheet_of_paper(site: Path, visit: Callable[..., Any]) -> None:
    for width, media in ((1280, "screen"), (718, "print")):
        page = visit(site, viewport={"width": width, "height": 900}).page
        page.emulate_media(media=media)
        wide = "all => all.filter(one => one.scrollWidth > one.clientWidth).length"
        assert page.locator(".board .scroll").evaluate_all(wide) == 0


def test_the_tables_are_there_without_scripts(site: Path, visit: Callable[..., Any]) -> None:
    seen = visit(site, java_script_enabled=False)
    assert seen.page.locator("table.sortable tbody tr:visible").count() == 12
    assert not seen.page.locator(".controls").is_visible()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of submissions whose every text is an attack."""
    folder = tmp_path_factory.mktemp("hostile")
    for number in range(2):
        texts = {
            "submission": {
                "model": {
                    **{"recipe": NAME, "id": "a/" + "m" * 140 + str(number)},
                    "base": "a/" + "m" * 140 + "0" if number else None,
                },
                **{"submitter": NAME, "licence": NAME, "notes": HOSTILE + "\u202e"},
                **{"image_mode": NAME, "links": ["https://example.org/'\"><script>alert(3)//"]},
            },
            "differences": [HOSTILE],
            "warnings": [HOSTILE],
        }
        verified = invented(number, SIZES, **texts)
        for level in verified["levels"]:
            level["notes"] = [HOSTILE]
        for task in verified["tasks"]:
            task |= {"source": HOSTILE, "identity": "unknown"}
        write_submission(folder / "submissions", verified)
    return build_site(folder / "submissions", folder / "site", trusted=True).files[0]


def test_texts_are_shown_and_do_not_run(hostile: Path, visit: Callable[..., Any]) -> None:
    seen = visit(hostile)
    page = seen.page
    assert page.locator("script:not([type])").count() == 2
    assert page.locator("img").count() == 1
    for button in page.locator("tbody th button").all():
        button.click()
        dialog = page.locator("dialog[open]")
        # A browser shows a line separator as white space.
        said = " ".join(dialog.inner_text().replace("\u2028", " ").split())
        assert said.count(" ".join(HOSTILE.replace("\u2028", " ").split())) >= 15
        assert dialog.locator("img, script").count() == 0
        for link in dialog.locator("a").all():
            assert link.get_attribute("href").startswith("https://example.org/")
            assert link.get_attribute("rel") == "noopener noreferrer nofollow"
        page.keyboard.press("Escape")
    page.evaluate("location.hash = '#open=' + encodeURIComponent('<img src=x onerror=alert(4)>')")
    page.evaluate("location.hash = '#open=__proto__&kind=<script>'")
    page.wait_for_timeout(50)
    assert seen.faults == []


@pytest.mark.parametrize("name", ["site", "hostile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(
    name: str, scheme: str, request: pytest.FixtureRequest, visit: Callable[..., Any]
) -> None:
    size = {"width": 375, "height": 800}
    seen = visit(request.getfixturevalue(name), viewport=size, color_scheme=scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 375
    seen.page.locator("tbody th button").first.click()
    dialog = seen.page.locator("dialog[open]")
    width, inner = dialog.evaluate("one => [one.clientWidth, one.scrollWidth]")
    assert inner <= width
    assert seen.faults == []


def test_the_draws_do_not_grow_with_the_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs with as many documents share the draws, in blocks whose memory is bounded."""
    board = write_board(tmp_path / "many", 24, SIZES)
    for number in range(24, 30):
        write_submission(board, invented(number, dict.fromkeys(SIZES, 3)))
    changes = {"submission": {"model": {"base": "example/model-24"}}}
    write_submission(board, invented(30, dict.fromkeys(SIZES, 3), **changes))
    drawn: list[tuple[int, int]] = []

    def count(clusters: Clusters, resamples: int, seed: int) -> np.ndarray:
        ((_, values),) = clusters.items()
        drawn.append(values.shape)
        return bootstrap(clusters, resamples, seed)

    monkeypatch.setattr(paired, "bootstrap", count)
    entries = read_entries(board)
    pairs = pair_with_bases(entries, resamples=10)
    assert len(pairs) == 9 and all(pair.base for pair in pairs.values())
    # 8 pairs of one size and 1 of another; a call a data set, a column a label type of a pair.
    assert drawn == [(5, 24), (8, 24), (3, 3), (3, 3)]
    drawn.clear()
    monkeypatch.setattr(paired, "_DRAWS", 10 * len(LABEL_TYPES) * 3)
    assert pair_with_bases(entries, resamples=10) == pairs
    assert [width for _, width in drawn] == [9, 9, 9, 9, 6, 6, 3, 3]


def test_a_row_of_the_page_has_a_size(tmp_path: Path) -> None:
    """However many documents a submission has: a thousand are a page of less than 8 MiB."""
    sizes = []
    for count, documents in ((2, 5), (12, 5), (12, 300)):
        folder = tmp_path / f"{count}-{documents}"
        board = write_board(folder / "board", count, dict.fromkeys(SIZES, documents))
        sizes.append(build_site(board, folder / "site", trusted=True).files[0].stat().st_size)
    few, many, long = sizes
    assert (many - few) / 10 < (8 << 20) / 1000
    assert abs(long - many) < 0.05 * many


def test_many_rows_are_sorted_and_filtered(tmp_path: Path, visit: Callable[..., Any]) -> None:
    board = write_board(tmp_path / "submissions", 50, SIZES)
    seen = visit(build_site(board, tmp_path / "site", trusted=True).files[0])
    rows = seen.page.locator("tbody tr[data-path]")
    assert rows.count() == 50
    seen.page.locator("thead th:nth-child(5) button").first.click()
    cells = seen.page.locator("table.sortable tbody td:nth-child(5)")
    values = cells.evaluate_all("cells => cells.map(cell => Number(cell.dataset.value))")
    assert values == sorted(values, reverse=True)
    seen.page.fill("#search", "model-1")
    assert seen.page.locator("#count").inner_text() == "11 of 50 shown"
    assert seen.faults == []
