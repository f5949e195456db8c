"""The miniature's world: the same for the same seed, disjoint splits, arms of the same items."""

import filecmp
import json
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.experiments.miniature.world.architecture import write_architectures
from verbalizer_bench.experiments.miniature.world.build import (
    write_instructions,
    write_sets,
    write_world,
)
from verbalizer_bench.experiments.miniature.world.curriculum import PHASES, base_record, full_prompt
from verbalizer_bench.experiments.miniature.world.instructions import ARMS
from verbalizer_bench.experiments.miniature.world.scenes import scenes
from verbalizer_bench.experiments.miniature.world.splits import SPLITS
from verbalizer_bench.experiments.miniature.world.wording import wordings
from verbalizer_bench.tasks import data as rows_of
from verbalizer_bench.trainers.dry_run import dry_run
from verbalizer_bench.trainers.recipe import read_recipe

RECIPES = sorted((REPOSITORY / "experiments/miniature/recipes").glob("*.yaml"))
ITEMS = {"train": 40, "choose": 12, "test": 12}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    return write_world(folder, 0, items=ITEMS, stages=((0, 20), (1, 20), (2, 20)))


def rows(file: Path) -> list[dict]:
    found: list[dict] = json.loads(file.read_text())
    return found


def test_the_same_seed_writes_the_same_files(world: Path, tmp_path: Path) -> None:
    write_sets(tmp_path / "sets", "test", 0)
    write_instructions(tmp_path, ITEMS, 0)
    files = [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) == 9 * 2 + 1 + 1 + 3 * 5
    same, _, _ = filecmp.cmpfiles(world, tmp_path, [str(f) for f in files], shallow=False)
    assert len(same) == len(files)
    write_instructions(tmp_path, ITEMS, 1)
    assert rows(tmp_path / "train/foit.json") != rows(world / "train/foit.json")


def test_splits_share_no_scene_and_no_text(world: Path) -> None:
    shown = {
        split: {row["id"] for arm in ARMS for row in rows(world / split / f"{arm}.json")}
        for split in SPLITS
    }
    for split in SPLITS:
        assert shown[split] <= {scene.name for kind in scenes(split) for scene in kind}
    for one, other in combinations(SPLITS, 2):
        assert not shown[one] & shown[other]
    for wording in wordings():
        sets, choose = str(world / "sets"), str(world / "choose")
        found = [
            rows_of.test_documents(wording.spec, sets).docs,
            rows_of.test_documents(wording.spec, choose).docs,
            rows_of.fewshot_documents(wording.spec, sets).docs,
        ]
        texts = [{rows_of.canonical(doc) for doc in docs} for docs in found]
        assert all(len(part) == 24 for part in texts)
        assert not any(one & other for one, other in combinations(texts, 2))
        assert [doc["label"] for doc in found[0]].count(wording.spec.classes[0]) == 12


def test_sources_are_named_as_toys(world: Path) -> None:
    for folder in ("sets", "choose"):
        for wording in wordings():
            found = rows_of.test_documents(wording.spec, str(world / folder))
            assert found.source == f"toy_{wording.spec.name}"


def test_the_arms_are_of_the_same_items(world: Path) -> None:
    for split in SPLITS:
        foit, nofoit, fovit, nofovit = (rows(world / split / f"{arm}.json") for arm in ARMS)
        for with_, without, shown, bare in zip(foit, nofoit, fovit, nofovit, strict=True):
            assert len({record["id"] for record in (with_, without, shown, bare)}) == 1
            caption, instruction, question = with_["conversations"][0]["value"].split("\n")
            assert without["conversations"][0]["value"] == f"{caption}\n{question}"
            assert shown["conversations"][0]["value"] == f"<image>\n{instruction}\n{question}"
            assert bare["conversations"][0]["value"] == f"<image>\n{question}"
            assert shown["conversations"][1] == with_["conversations"][1]
            assert bare["conversations"][1] == without["conversations"][1]
            assert with_["short"].lower() in without["conversations"][1]["value"].lower()
            assert (world / "images" / shown["image"]).is_file()


def test_format_answers_obey_ifeval(world: Path) -> None:
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

    checked = set()
    for row in rows(world / "train/foit.json"):
        if check := row["check"]:
            instruction = INSTRUCTION_DICT[check["instruction_id"]](check["instruction_id"])
            instruction.build_description(**check["kwargs"])
            assert instruction.check_following(row["conversations"][1]["value"]), row
            checked.add(row["format"])
    assert len(checked) >= 6


def test_full_prompts_are_the_suites() -> None:
    random = Random(0)
    for wording in wordings():
        doc = {field: f"text {random.random()}" for field in wording.spec.fields}
        for verbalizer in wording.verbalizers:
            words = verbalizer.first, verbalizer.second
            assert full_prompt(wording, doc, words) == wording.spec.render(doc, verbalizer)


def test_neutral_words_are_never_answers_to_a_rule() -> None:
    random = Random(0)
    neutral = {
        word
        for verbalizer in wordings()[0].verbalizers
        if verbalizer.type == "neutral"
        for word in (verbalizer.first, verbalizer.second)
    }
    for number in range(3000):
        record = base_record(random, PHASES[number % 3])
        if record["id"] != "copy":
            assert not neutral & set(record["conversations"][1]["value"].split())


def test_the_architectures_are_what_the_world_needs(world: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    for folder in write_architectures(tmp_path):
        for file in folder.iterdir():
            shipped = REPOSITORY / "experiments/miniature/recipes" / folder.name / file.name
            made, kept = (json.loads(path.read_text()) for path in (file, shipped))
            for found in (made, kept):
                found.pop("transformers_version", None)
            assert made == kept
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "llama")
    for wording in wordings():
        for verbalizer in wording.verbalizers:
            for word in (verbalizer.first, verbalizer.second):
                (token,) = tokenizer(word, add_special_tokens=False)["input_ids"]
                assert token != tokenizer.unk_token_id
                assert tokenizer.decode([token]) == word


def test_every_word_of_the_arms_is_in_the_vocabulary(world: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(REPOSITORY / "experiments/miniature/recipes/llama")
    for arm in (*ARMS, "llava"):
        for row in rows(world / f"train/{arm}.json"):
            for turn in row["conversations"]:
                assert tokenizer.unk_token_id not in tokenizer(turn["value"])["input_ids"]


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_recipes_are_read(file: Path) -> None:
    recipe = read_recipe(file)
    assert recipe.output == Path("checkpoints/miniature", file.stem)
    opening = file.read_text().splitlines()[0]
    assert opening == f"# verbalizer-bench train miniature/{file.stem}"


def test_the_base_runs_dry(world: Path) -> None:
    recipe = read_recipe(
        REPOSITORY / "experiments/miniature/recipes/base_0.yaml", [f"data={world / 'base_0.jsonl'}"]
    )
    assert "518,304 trained" in dry_run(recipe, colour=False).text
