"""The shipped data recipes, what is refused, and what a dry run says."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.helpers.data_recipes import COCO, PROMPTS, real_data, write_recipe
from verbalizer_bench.builders.build import dry_run, prepare
from verbalizer_bench.builders.export.dataset_card import card
from verbalizer_bench.builders.export.sets import Sets
from verbalizer_bench.builders.kinds.response_format import ResponseFormatStages
from verbalizer_bench.builders.pipeline.context import BuildContext
from verbalizer_bench.builders.pipeline.prompts import PromptTemplates
from verbalizer_bench.builders.pipeline.recipe import KINDS, FormatOriented, read_recipe

SHIPPED = sorted((REPOSITORY / "recipes/data").glob("*.yaml"))


def test_there_is_one_of_each_kind() -> None:
    assert {read_recipe(path).kind for path in SHIPPED} == set(KINDS)
    assert {path.stem for path in SHIPPED} == set(KINDS)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_it_opens_with_its_command_and_has_prompts(path: Path) -> None:
    recipe = read_recipe(path)
    lines = path.read_text().splitlines()
    assert lines[0].startswith(f"# verbalizer-bench build recipes/data/{path.name}")
    head = "\n".join(line for line in lines if line.startswith("#"))
    assert "# Yields" in head and "# Needs" in head
    # Format pairs are worded as the data that they are from; existing ones are not worded at all.
    others = {"format_pairs": PROMPTS / "format_oriented.yaml", "existing_pairs": None}
    assert recipe.prompts == others.get(recipe.kind, PROMPTS / path.name)
    assert not recipe.push_to_hub and recipe.leakage.n == 13 and recipe.licence


def test_the_defaults_are_the_issues_and_the_files_those_that_recipes_train_on() -> None:
    recipe = read_recipe("data/format_oriented")
    assert isinstance(recipe, FormatOriented)
    assert recipe.sets == 5000 and recipe.images.n == 10_000 and recipe.instructions.n == 100
    assert recipe.instructions.filter == ("detectable_format",) and recipe.pairing == "disjoint"
    for name in ("lvlm_fovit", "llm_foit", "lvlm_nofovit", "llm_nofoit"):
        trained = yaml.safe_load((REPOSITORY / f"recipes/paper/{name}.yaml").read_text())
        assert trained["data"] == f"{recipe.output}/{name.partition('_')[2]}.json"
        assert trained.get("images", str(recipe.images.folder)) == str(recipe.images.folder)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pairing=same", "pairing=same: one of disjoint, same_items"),
        ("mentions=keep", "mentions=keep: one of rewrite, drop"),
        ("failures=go", "failures=go: one of stop, set_aside"),
        ("retries=-1", "retries=-1: at least 0"),
        ("sets=0", "sets=0: at least 1"),
        ("limit=0", "limit=0: at least 1"),
        ("images.n=0", "images.n=0: at least 1"),
        ("duplicates.threshold=0", "duplicates.threshold=0.0: above 0, at most 1"),
        ("duplicates.method=exact", "duplicates.method=exact: one of minhash, ngram"),
        ("leakage.n=0", "leakage.n=0: at least 1"),
        ("push_to_hub=true", "push_to_hub=True: give hub_id"),
        ("image.n=1", "image: no such key; did you mean images?"),
        ("kind=other", "kind=other: one of format_oriented, llava_style, "),
    ],
)
def test_what_is_wrong_is_a_line(override: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read_recipe("data/format_oriented", [override])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_recipe_of_no_kind_is_refused(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, kind=None)
    with pytest.raises(ValueError, match=r"no such key|missing: kind"):
        read_recipe(path)
    path.write_text("- a\n")
    with pytest.raises(ValueError, match="keys and values are expected"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "r",
            b"kind: format_oriented\nretries: 1\nretries: 2\n",
            "line 3, column 1: the key 'retries' stands twice",
        ),
        (
            "r",
            b"kind: format_oriented\nimages: {folder: a, folder: b}\n",
            "the key 'folder' stands twice",
        ),
        ("r", b"kind: format_oriented\nlicence: caf\xe9\n", "line 2: byte 0xe9 is not UTF-8"),
        ("r", "kind: llava_style\n".encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
        (
            "r",
            b'kind: format_oriented\nlicence: "\\ud83d"\n',
            "line 2, column 10: half of a surrogate pair",
        ),
        ("r", b"kind: format\nimages: {folder: a}\n", "kind=format: one of format_oriented"),
        ("r", b"kind: format_oriented\nlicence: !!timestamp 2026-13-45\n", "month must be in"),
        ("r", b"kind: [a]\n", "kind=['a']: one of format_oriented"),
        ("p", b'version: "1"\nrecords: {fovit: a, fovit: b}\n', "the key 'fovit' stands twice"),
        ("p", b'version: "1"\nrecords: {fovit: "\\ude00"}\n', "half of a surrogate pair"),
        ("p", b"version: 1\n", "version=1: text is expected"),
        ("p", b"- a\n", "keys and values are expected"),
    ],
)
def test_files_that_are_not_what_they_seem(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_bytes(content)
    with pytest.raises(ValueError) as error:
        recipe = wrong if name == "r" else write_recipe(tmp_path, prompts=str(wrong))
        prepare(read_recipe(recipe))
    assert str(wrong) in str(error.value) and message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bom_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    whole = read_recipe(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_recipe(path) == whole


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("llava_style", "answers=[]", "answers=[]: some of"),
        ("llava_style", "answers=[detail, detail]", "each once"),
        ("llava_style", "kind=format_oriented", "answers: no such key"),
        (
            "format_oriented",
            "endpoints.default={model: a, model: b}",
            "the key 'model' stands twice",
        ),
        ("format_oriented", "endpoints.default.parameters.x=.nan", "parameters.x=nan: a value"),
    ],
)
def test_values_that_would_fail_later(recipe: str, override: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read_recipe(f"data/{recipe}", [override])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_endpoint_that_nobody_asks_is_refused(tmp_path: Path) -> None:
    real_data()
    block = {"default": {"model": "a"}, "captions": {"model": "b"}}
    with pytest.raises(ValueError, match=r"endpoints.captions: no stage has that role.*caption"):
        prepare(read_recipe(write_recipe(tmp_path, endpoints=block)))


def test_the_licence_is_of_the_folder_that_was_used(tmp_path: Path) -> None:
    assert "COCO" in read_recipe("data/format_oriented").licence
    assert "COCO" in read_recipe("data/format_oriented", ["images.n=3"]).licence
    other = read_recipe("data/format_oriented", [f"images.folder={tmp_path}"])
    assert other.licence == ""
    mine = read_recipe("data/format_oriented", [f"images.folder={tmp_path}", "licence=Mine."])
    assert mine.licence == "Mine."
    for recipe, said in ((other, "Their terms: not stated"), (mine, "- Mine.")):
        text = card([], Sets((), (), {}), recipe, PromptTemplates("1"))
        assert f"images.folder: `{tmp_path}`" in text and said in text and "COCO 20" not in text
        assert "images.annotations: `data/coco/annotations/captions_val2014.json`" in text


def edited(tmp_path: Path, change: Any) -> Path:
    prompts = yaml.safe_load((PROMPTS / "format_oriented.yaml").read_text())
    change(prompts)
    path = tmp_path / "prompts.yaml"
    path.write_text(yaml.safe_dump(prompts))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["prompts"].pop("item"), r"prompts.item: missing; give its text"),
        (
            lambda p: p["prompts"]["item"].update(user="{caption} {style}"),
            r"prompts.item: \{style\}: nothing fills it; there is \{caption\}, \{instruction\}",
        ),
        (
            lambda p: p["records"].update(foit="{instruction} {question}"),
            r"records.foit: \{caption\} is missing; the record needs it",
        ),
        (lambda p: p["prompts"]["item"].update(users="x"), "did you mean prompts.item.user"),
        (lambda p: p["failures"].pop("other"), r"failures.other: missing"),
    ],
)
def test_prompts_are_checked_before_any_call(change: Any, message: str, tmp_path: Path) -> None:
    real_data()
    recipe = read_recipe(write_recipe(tmp_path, prompts=str(edited(tmp_path, change))))
    with pytest.raises(ValueError, match=message):
        prepare(recipe)


def test_a_dry_run_counts_calls_tokens_and_cost(tmp_path: Path) -> None:
    real_data()
    text = dry_run(read_recipe(write_recipe(tmp_path)))
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    calls = {line[1]: int(line[3]) for line in lines}
    assert calls == {"caption": 118, "item": 150, "question": 150, "answer": 150}
    cost = sum(float(line[6].rstrip(" |")) for line in lines)
    tokens = [sum(int(line[place].replace(",", "")) for line in lines) for place in (4, 5)]
    # A million tokens cost 1 and 2; each line is rounded to cents.
    assert cost == pytest.approx((tokens[0] + 2 * tokens[1]) / 1e6, abs=0.03)
    assert "568 calls" in text and f"about {sum(tokens):,} tokens" in text
    same = dry_run(read_recipe(write_recipe(tmp_path, pairing="same_items")))
    assert "| question | tester | 0 |" in same and "1,018" not in same
    assert "| item | tester | 300 |" in same and "| answer | tester | 300 |" in same


def test_a_dry_run_says_where_the_budget_would_stop(tmp_path: Path) -> None:
    real_data()
    path = write_recipe(tmp_path)
    text = dry_run(read_recipe(path, ["budget.tokens=1000", "budget.money=0.01"]))
    assert "more than budget.money=0.01: the build would stop there" in text
    assert "more than budget.tokens=1,000" in text
    assert "more than" not in dry_run(read_recipe(path, ["budget.money=10"]))


@pytest.mark.parametrize("name", ["format_oriented", "llava_style"])
def test_a_dry_run_needs_no_images(name: str, tmp_path: Path) -> None:
    """The cost can be known before 18 GB are fetched."""
    recipe = read_recipe(f"data/{name}", [f"images.folder={tmp_path / 'none'}"])
    text = dry_run(recipe)
    assert "Numbers are the recipe's, for " in text and "no such f" in text
    assert ("| 10,000 |" if name == "format_oriented" else "| 5,000 |") in text


def test_nobody_to_ask_is_said_before_any_call(tmp_path: Path) -> None:
    real_data()
    with pytest.raises(ValueError, match=r"endpoints.caption: missing, and no endpoints.default"):
        prepare(
            read_recipe(
                write_recipe(tmp_path, endpoints={}, images={"folder": str(COCO / "images")})
            )
        )[1].stages()


def test_response_format_needs_nobody(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("")
    recipe = read_recipe("data/response_format", [f"records={tmp_path / 'records.jsonl'}"])
    assert "0 calls" in dry_run(recipe)
    assert isinstance(prepare(recipe)[1], ResponseFormatStages)
    assert isinstance(prepare(recipe)[0], BuildContext)
