"""`validate-data`: what training would stop at is found before, with counts, lengths and places."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import verbalizer_bench as vb
from tests.conftest import REPOSITORY
from tests.helpers.family_training import RECORDS, as_row, recipe, write_images
from tests.helpers.own_processors import OWN_PROCESSORS, without_videos
from tests.helpers.processors import save
from tests.helpers.training_records import conversation, write
from verbalizer_bench.cli import main
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.data.survey_summary import histogram
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.inputs import encoded_data

TINY = REPOSITORY / "recipes" / "tiny"
LLAVA = [f"model={{config: {TINY / 'llava'}}}", "trained_parameters=null"]


def pair(name: str, chosen: str, rejected: str) -> dict[str, Any]:
    """Return a pair of answers to one question."""
    answers = {
        key: [{"role": "assistant", "content": text}]
        for key, text in (("chosen", chosen), ("rejected", rejected))
    }
    prompt = [{"role": "user", "content": "What?"}]
    scores = {"score_chosen": None, "score_rejected": None}
    return {"id": name, "prompt": prompt, **answers, "images": [], "source": "made", **scores}


def found(capsys: pytest.CaptureFixture[str], code: int, *words: Any) -> dict[str, Any]:
    """Return what a command printed as JSON, which ended with a code."""
    assert main(["validate-data", *map(str, words), "--json"]) == code
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("a.png", (40, 20)), ("b.png", (40, 20)), ("c.png", (10, 90))):
        Image.new("RGB", size).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_the_counts_are_what_training_builds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tiny/vit", *LLAVA, f"cache={tmp_path}"]
    record = found(capsys, 0, *words)
    made = read_recipe(words[0], words[1:])
    data = encoded_data(made, load(made), made.data)
    part = record["data"]
    assert part["usable"] == part["records"] == len(data.dataset) == 96
    assert part["kinds"] == {"text": 32, "one image": 64, "several images": 0}
    assert part["tokens"]["seen"] == data.lengths.sum()
    trained = sum(sum(row["assistant_mask"]) for row in data.dataset)
    assert part["tokens"]["trained"] == trained
    assert part["lengths"]["longest"] == data.lengths.max() == 223
    assert sum(one["records"] for one in part["lengths"]["histogram"]) == 96
    assert part["images"]["distinct"] == 24 and part["images"]["width"]["median"] == 32
    assert record["epoch"]["steps"] == 48 and record["stops"] == []
    checked = vb.validate_data(*words)
    assert checked.metrics == record and checked.stops == ()
    assert "64 one image" in str(checked)


def test_no_weight_is_needed_nor_a_place_to_write(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        main(["validate-data", "tiny/vit", "model.path=none", f"tokenizer={TINY / 'llava'}"]) == 0
    )
    said = capsys.readouterr().out
    assert "NOT RESOLVED: an image counts as no token, for model.path=none" in said
    assert "training would stop at no record, as far as could be told" in said
    assert not list(tmp_path.iterdir())


def test_all_that_is_bad_is_found_at_once(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        conversation("<image>What?", "a", "a.png"),
        conversation("<image>What?", "gone", "gone.png"),
        conversation("<image>What?", "broken", "broken.png"),
        conversation("What?", ""),
        conversation("<image>What?", "two"),
        {"id": "layout", "text": "What?"},
    ]
    file = write(tmp_path / "data.jsonl", *rows)
    page = tmp_path / "out" / "page.html"
    words = ["tiny/vit", *LLAVA, f"data={file}", f"images={images}", "global_batch_size=1"]
    words += ["per_device_batch_size=1"]
    assert main(["validate-data", *words, "-o", str(page)]) == 2
    printed = capsys.readouterr()
    assert "training would stop: data: 5 of 6 records cannot be trained on" in printed.err
    assert "1: missing image" in printed.out and "1: broken image" in printed.out
    assert f"  {file}, line 4 (id 'id-'): empty turn: conversations[1] (assi" in printed.out
    assert '<p class="stop">' in page.read_text() and "data:image/png;base64," in page.read_text()
    listing = page.with_name("page.bad_records.jsonl")
    listed = [json.loads(line) for line in listing.read_text().splitlines()]
    assert [one["place"] for one in listed] == [f"{file}, line {n}" for n in range(2, 7)]
    assert {one["key"] for one in listed} == {"data"}
    assert "1: empty turn (training would stop)" in printed.out
    assert main(["validate-data", *words, "bad_records=skip", f"data={file}"]) == 0
    assert "1: empty turn (left out)" in capsys.readouterr().out
    assert main(["validate-data", "tiny/vit", *LLAVA, "-o", str(page)]) == 0
    assert not listing.exists(), "none is bad any more"


def test_cuts_lengths_and_their_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = conversation("Say", "word " * 60)
    file = write(tmp_path / "data.jsonl", conversation("Say", "a"), long, conversation("Say", "b"))
    words = [file, f"tokenizer={TINY / 'llama'}", "format=llama-2"]
    whole = found(capsys, 0, *words)
    cut = found(capsys, 0, *words, "max_length=64")
    assert whole["data"]["cut"]["records"] == 0
    assert cut["data"]["cut"]["records"] == 1
    lost = whole["data"]["tokens"]["seen"] - cut["data"]["tokens"]["seen"]
    assert cut["data"]["cut"]["tokens"] == lost > 0
    assert cut["data"]["lengths"] == whole["data"]["lengths"], "before the cut"
    (worst,) = cut["data"]["worst"]["most cut"]
    assert worst["place"] == f"{file}, line 2"
    assert worst["why"] == f"loses its last {lost:,} tokens"
    longest = [one["place"] for one in cut["data"]["worst"]["longest"]]
    assert longest == [f"{file}, line {number}" for number in (2, 1, 3)]
    short = found(capsys, 2, *words, "max_length=5")["data"]
    assert short["bad"] == {"answer cut": 3}
    tokens = cut["data"]["lengths"]["longest"]
    assert short["worst"]["bad"][1]["why"] == (
        f"answer cut: {tokens} tokens, the first answer starts after max_length=5; give max_length="
        f"{tokens}, which cuts nothing of it, or leave the record out"
    )
    page = tmp_path / "page.html"
    assert main(["validate-data", *map(str, words), "max_length=64", "-o", str(page)]) == 0
    said = capsys.readouterr().out
    never = "an answer that is cut never ends"
    assert f"cut off     1 record loses {lost} tokens at max_length=64: {never}\n" in said
    assert f"training would stop at no record, and cut 1 record: {never}" in said
    assert '<p class="cut">' in page.read_text() and 'class="fine"' not in page.read_text()


def test_images_of_usable_records_and_repeated_ids(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (30, 10)).save(images / "turned.jpg", exif=turned)
    rows = [
        {**conversation("<image>What?", name, name), "id": str(number // 2)}
        for number, name in enumerate(("a.png", "b.png", "turned.jpg", "broken.png"))
    ]
    rows.append(conversation("<image>" + "word " * 90, "long", "c.png"))
    file = write(tmp_path / "data.jsonl", *rows)
    words = ["tiny/vit", *LLAVA, f"data={file}", f"images={images}", "bad_records=skip"]
    words += ["global_batch_size=1", "per_device_batch_size=1", "max_length=170"]
    assert main(["validate-data", *words]) == 0
    said = capsys.readouterr().out
    assert "usable 3: 3 one image" in said
    assert "3 distinct, shown 3 times; width 30 to 40, median 40; height 10 to 20" in said
    assert "; 1 has an EXIF orientation, which is not applied" in said
    assert "1 id stands at several records; that changes nothing in training" in said


def test_duplicates_and_what_is_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [conversation("Say", "a"), conversation("Say", "b"), conversation("Say", "a")]
    data = write(tmp_path / "data.jsonl", *rows)
    other = write(tmp_path / "other.json", conversation("Say", "a"), conversation("Say", "c"))
    words = [data, f"tokenizer={TINY / 'llama'}", "format=llama-2"]
    record = found(capsys, 2, *words, f"held_out={other}")
    assert record["data"]["duplicates"] == 1
    (repeated,) = record["data"]["repeated"]
    assert repeated == [f"{data}, line 3 (id 'id-a')", f"{data}, line 1 (id 'id-a')"]
    assert record["held_out"]["in data"] == {"records": 1, "prompts": 1}
    (stop,) = record["stops"]
    assert stop == (
        f"held_out={other}: 1 of 2 of its records are trained on too, the first is {other}, row 1 "
        "(id 'id-a'); leave them out"
    )


def test_pairs_and_captions_go_through_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write(tmp_path / "pairs.jsonl", pair("1", "Red", "Blue"), pair("2", "Up", "Down"))
    words = [pairs, f"tokenizer={TINY / 'llama'}", "format=llama-2"]
    record = found(capsys, 0, *words, "method=dpo")
    assert record["data"]["answers"] == {"1": 2} and record["epoch"]["steps"] == 2
    assert found(capsys, 0, "tiny/pretrain")["data"]["kinds"]["text"] == 0
    assert found(capsys, 2, *words, "method=steerlm")["data"]["bad"] == {"other kind": 2}


def test_parquet_alone_for_a_model_that_sees(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [conversation("<image>What?", name, name) for name in ("a.png", "c.png", "broken.png")]
    for row in rows:
        row["image"] = {"bytes": (images / row["image"]).read_bytes(), "path": row["image"]}
    rows.append({**conversation("Who?", "I."), "image": None})
    file = tmp_path / "rows.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), file)
    words = [file, f"model.config={TINY / 'llava'}", "format=vicuna-v1"]
    record = found(capsys, 2, *words, f"cache={tmp_path / 'cache'}")
    assert record["method"] == "vit" and record["data"]["bad"] == {"broken image": 1}
    assert record["data"]["kinds"] == {"text": 1, "one image": 2, "several images": 0}
    assert record["data"]["worst"]["bad"][0]["place"] == f"{file}, row 3"
    assert record["data"]["images"]["width"]["longest"] == 40
    expanded = record["data"]["lengths"]["longest"] - record["data"]["lengths"]["shortest"]
    assert expanded > 0, "an image counts as the tokens that it becomes"


def test_a_checkpoints_own_processor_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (family,) = (one for one in OWN_PROCESSORS if one.make.__name__ == "qwen2_5_vl")
    images = write_images(tmp_path / "images")
    rows: list[dict[str, Any]] = [as_row(turns) for turns in RECORDS]
    with without_videos():
        save(family.make, tmp_path / "base")
        made = recipe(tmp_path / "base", tmp_path / "out", images, rows)
        data = encoded_data(made, load(made), made.data)
        for file in (tmp_path / "base").glob("*.safetensors"):
            file.unlink()
        words = [tmp_path / "out.yaml"]
        record = found(capsys, 0, *words)
        # Images in the rows of parquet have sizes too.
        for row in rows:
            row["images"] = [{"bytes": (images / name).read_bytes()} for name in row["images"]]
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
        words += [f"data={tmp_path / 'rows.parquet'}", "images=null"]
        embedded = found(capsys, 0, *words)
        assert main(["train", *map(str, words), "--dry-run"]) == 0
    for one in (record, embedded):
        assert one["data"]["lengths"]["longest"] == data.lengths.max()
        assert one["data"]["tokens"]["seen"] == data.lengths.sum()
        assert one["data"]["images"]["distinct"] == 5
    said = capsys.readouterr().out
    assert f"{data.lengths.sum():,} an epoch" in said and "bad records" not in said


def test_records_longer_than_the_model_has_positions_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "data.jsonl", conversation("Say", "word " * 1500))
    words = [file, f"model.config={TINY / 'llama'}", "format=llama-2"]
    (stop,) = found(capsys, 2, *words)["stops"]
    assert stop.startswith("data: 1 of 1 records have more tokens than the ")


def test_a_step_that_cannot_be_filled_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    record = found(capsys, 2, "tiny/sft", "global_batch_size=128", "per_device_batch_size=1")
    assert record["stops"][0].startswith("global_batch_size=128: there are 64 records")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["{data}"], "give tokenizer=DIR, or model.path=DIR of what is to be trained"),
        (["{data}", "tokenizer=nowhere"], "tokenizer=nowhere: no such folder"),
        ([__file__], "no recipe (.yaml), and no records: .json, .jsonl, .parquet"),
        (["tiny/sft", "data=none.json"], "data=none.json: no such file"),
        (["tiny/sft", "dat=none.json"], "dat: no such key; did you mean data?"),
    ],
)
def test_what_is_not_there_is_one_line(
    words: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data.jsonl", conversation("Say", "a"))
    assert main(["validate-data", *(word.format(data=data) for word in words)]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "error" in one]
    assert problem in line
    page = str(tmp_path / "new" / "page.html")
    assert main(["validate-data", *(word.format(data=data) for word in words), "-o", page]) == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("values", [[1], [1, 2, 3], [16, 22, 23, 31, 32], [1, 100000], [181, 181]])
def test_every_length_is_in_one_bin(values: list[int]) -> None:
    bins = histogram(np.array(values))
    for one in bins:
        inside = sum(one["from"] <= value < one["below"] for value in values)
        assert inside == one["records"]
    assert sum(one["records"] for one in bins) == len(values)
    assert all(one["below"] == other["from"] for one, other in pairwise(bins))


def test_the_method_is_that_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "data.json", *(conversation("Say", f"{n}") for n in range(5)))
    words = [file, f"tokenizer={TINY / 'llava'}", "format=vicuna-v1", "global_batch_size=4"]
    words += ["per_device_batch_size=4"]
    record = found(capsys, 0, *words, f"model.config={TINY / 'llava'}")
    assert record["method"] == "vit" and record["epoch"]["seen_twice"] == 3
    assert found(capsys, 0, *words, f"model.config={TINY / 'llama'}")["method"] == "sft"
    assert main(["validate-data", *map(str, words)]) == 0
    assert "; 3 records are seen twice to fill the last step" in capsys.readouterr().out
