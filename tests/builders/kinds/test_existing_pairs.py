"""Published pairs in layouts of their own, with images in the file and beside it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import SHARED
from tests.helpers.data_recipes import COCO
from tests.helpers.preference import pairs, photographs
from verbalizer_bench.builders.build import build, dry_run
from verbalizer_bench.builders.pipeline.recipe import DataRecipe, read_recipe
from verbalizer_bench.builders.pipeline.sample import read_samples


def recipe(folder: Path, **changes: Any) -> DataRecipe:
    keys = {
        "kind": "existing_pairs",
        "output": str(folder / "out"),
        "images": str(folder / "images"),
        "leakage": {"data": "sample"},
        "licence": "Theirs.",
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(keys | changes))
    return read_recipe(path)


def one(file: Path, layout: str, **settings: Any) -> dict[str, Any]:
    return {"theirs": {"file": str(file), "layout": layout, **settings}}


def reasons(made: DataRecipe) -> dict[int, str]:
    samples = read_samples(made.work / "set_aside.jsonl")
    return {
        int(sample.id[-6:]): f"{sample.rejection.reason}: {sample.rejection.detail}"
        for sample in samples
        if sample.rejection
    }


def picture(number: int) -> bytes:
    return sorted((COCO / "images").glob("*.jpg"))[number].read_bytes()


def rlaif(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "ds_name": "RLAIF-V",
        "image": {"bytes": picture(number % 5), "path": f"{number}.jpg"},
        "question": f"What is in picture {number}?",
        "chosen": f"There is a bench, number {number}.",
        "rejected": f"There are {number} elephants.",
        "origin_dataset": "COCO",
        "origin_split": '{"model": "llava"}',
        "idx": str(number),
        "image_path": "",
    }
    return {**row, **changes}


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_rlaif_v_in_several_parquet_files(tmp_path: Path) -> None:
    photographs()
    parquet(tmp_path / "hub/RLAIF-V-Dataset_000.parquet", [rlaif(n) for n in range(70)])
    parquet(tmp_path / "hub/RLAIF-V-Dataset_001.parquet", [rlaif(n) for n in range(70, 100)])
    made = recipe(tmp_path, records=one(tmp_path / "hub", "rlaif_v", images="v", n=40))
    built = build(made)
    found = pairs(made)
    assert len(found) == 40 and built.usage.calls == 0
    for pair in found:
        number = int(pair.id.removeprefix("theirs-"))
        assert pair.prompt[0].content == f"What is in picture {number}?"
        assert pair.chosen[0].content.startswith("There is a bench")
        assert pair.rejected[0].content == f"There are {number} elephants."
        assert pair.score_chosen is pair.score_rejected is None and pair.source == "theirs"
        (image,) = pair.images
        assert (tmp_path / "images" / image).read_bytes() == picture(number % 5)
        assert image.startswith("v/")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "images/v").iterdir()}
    more = recipe(tmp_path, records=one(tmp_path / "hub", "rlaif_v", images="v", n=60))
    build(more)
    assert {pair.id for pair in found} <= {pair.id for pair in pairs(more)}
    assert len(pairs(more)) == 60
    assert before.items() <= {f: f.stat().st_mtime_ns for f in before}.items()
    assert "0 calls" in dry_run(more)


def test_rlhf_v_has_its_texts_as_json(tmp_path: Path) -> None:
    photographs()
    text = {"question": "What?", "chosen": "A bench.", "rejected": "Two."}
    rows = [{"text": json.dumps(text), "image": {"bytes": picture(0), "path": "0.jpg"}, "idx": 3}]
    made = recipe(tmp_path, records=one(parquet(tmp_path / "a.parquet", rows), "rlaif_v"))
    build(made)
    (pair,) = pairs(made)
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("A bench.", "Two.")


def rlhf(preference: Any, *turns: str, **changes: Any) -> dict[str, Any]:
    conversation = [
        {"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(turns)
    ]
    return {
        "id": "000000033471",
        "image": "a.jpg",
        "conversations": conversation,
        "output_1": {"from": "llava", "value": "One dog."},
        "output_2": {"from": "llava", "value": "Two dogs."},
        "hallucination": False,
        "preference": preference,
        **changes,
    }


def test_llava_rlhf(tmp_path: Path) -> None:
    photographs()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(picture(0))
    question = "<image>\nHow many dogs?"
    nested = rlhf(2, "<image>\nAre there dogs?", "")
    nested["conversations"] = [nested["conversations"]]
    rows = [
        rlhf(1, question, "One dog."),
        rlhf(2, question, "One dog.", "Really? Count.", ""),
        nested,
        rlhf(0, "<image>\nWhich?", "It."),
        rlhf(1, "<image>\nWho?", "He.", output_1="One dog."),
        rlhf(1, "<image>\nWhy?", "So.", output_2={"from": "llava", "value": " One dog.\n"}),
        rlhf(1, "<image>\nWhere?", "There.", output_2={"from": "llava", "value": " "}),
        rlhf(1, "<image>\nWhen?", "Then.", image="missing.jpg"),
        rlhf(1, question, "One dog."),
        rlhf(1, "<image>\nHow?", "Thus.", output_2=None),
        7,
    ]
    file = tmp_path / "llava_7b_v1_preference.json"
    file.write_text(json.dumps(rows))
    made = recipe(tmp_path, records=one(file, "llava_rlhf"))
    build(made)
    found = {int(pair.id[-6:]): pair for pair in pairs(made)}
    assert set(found) == {0, 1, 2, 4}
    assert found[0].chosen[0].content == "One dog." and found[0].images == ["a.jpg"]
    assert found[1].chosen[0].content == "Two dogs."
    assert [turn.content for turn in found[1].prompt] == [
        "How many dogs?",
        "One dog.",
        "Really? Count.",
    ]
    said = reasons(made)
    assert "preference=0: 1 or 2 is expected" in said[3]
    assert said[5].startswith("same: ") and said[6].startswith("empty: ")
    assert said[7].startswith("image: ") and said[8] == "duplicate: of theirs-000000"
    assert "it has no output_2" in said[9] and "no object" in said[10]


def test_llama_factory_s_text_preferences(tmp_path: Path) -> None:
    file = SHARED / "data/preference/llamafactory_dpo_en_demo.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    made = recipe(tmp_path, records=one(file, "llama_factory"), images=None)
    build(made)
    rows = json.loads(file.read_text())
    found = pairs(made)
    kinds = Counter(text.partition(":")[0] for text in reasons(made).values())
    assert len(found) + kinds.total() == len(rows) == 299 and len(found) > 280, kinds
    for pair in found:
        row = rows[int(pair.id[-6:])]
        assert pair.chosen[0].content == row["chosen"]["value"].strip()
        assert pair.rejected[0].content == row["rejected"]["value"].strip()
        assert pair.prompt[-1].content == row["conversations"][-1]["value"].strip()


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_trl_s_preferences(tmp_path: Path) -> None:
    system, user = turn("system", "Be brief."), turn("user", "How far is it?")
    far, near = turn("assistant", "Far away."), turn("assistant", "Quite near.")
    whole = {"chosen": [user, far], "rejected": [user, near]}
    rows: list[Any] = [
        {"prompt": "How far is it?", "chosen": " Far away.", "rejected": "Quite near."},
        {"prompt": [system, user], "chosen": [far], "rejected": [near]},
        {"chosen": [user, far, user, far], "rejected": [user, far, user, near]},
        {**whole, "prompt": "How far is it?", "prompt_id": "0", "score_chosen": 8.5},
        {**whole, "prompt": "How old is it?"},
        {"chosen": [user, far], "rejected": [turn("user", "When?"), near]},
        {"chosen": "Human: How far? Assistant: Far.", "rejected": "Human: How far? Assistant: No."},
        {"chosen": [user, user], "rejected": [user, turn("user", "When?")]},
        {"prompt": "How far is it?", "completion": "Far away.", "label": True},
        {"prompt": 7, "chosen": "Far away.", "rejected": "Quite near."},
    ]
    file = tmp_path / "train_prefs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = recipe(tmp_path, records=one(file, "trl"), images=None)
    build(made)
    found = {int(pair.id[-6:]): pair for pair in pairs(made)}
    asked = {number: [one.content for one in pair.prompt] for number, pair in found.items()}
    question = user["content"]
    assert asked == {
        0: [question],
        1: ["Be brief.", question],
        2: [question, "Far away.", question],
    }
    for pair in found.values():
        answers = (pair.chosen[0].content, pair.rejected[0].content)
        assert answers == ("Far away.", "Quite near.")
    said = reasons(made)
    # As the first one: what repeats the prompt is the same pair.
    assert said[3] == "duplicate: of theirs-000000"
    assert "prompt='How old is it?': no turn of chosen" in said[4]
    assert "chosen and rejected differ before their last turn" in said[5]
    assert "it has no prompt, and chosen is no conversation" in said[6]
    assert said[7].endswith("the last turn of chosen is no assistant's")
    assert "it has no chosen" in said[8] and "messages=7" in said[9]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "rlhf"}, "layout=rlhf: one of rlaif_v, llava_rlhf, llama_factory, trl"),
        ({"n": 9}, r"records\.theirs\.n=9: .*rows\.jsonl has 1 pairs; lower n"),
        ({"file": "nowhere.json"}, r"records\.theirs\.file=nowhere\.json: no such file"),
        ({"file": __file__}, r"pairs are read from \.json, \.jsonl or \.parquet"),
    ],
)
def test_what_is_wrong_is_a_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a"}\n')
    records = {"theirs": {"file": str(file), "layout": "rlaif_v", **changes}}
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        build(recipe(tmp_path, records=records))
    assert "\n" not in str(error.value)


def test_a_damaged_parquet_file_is_a_line(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ValueError, match=r"a\.parquet: not a Parquet file"):
        build(recipe(tmp_path, records=one(file, "rlaif_v")))
