"""Records in parquet: as in JSON; images that stand in rows, shards, and what is refused."""

import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.helpers.training_records import conversation, write
from verbalizer_bench.io.conversation_files import read_files
from verbalizer_bench.io.conversations import BadRecordError, Conversation
from verbalizer_bench.io.files import file_sha256
from verbalizer_bench.io.record_files import lacking, record_files, records_sha256

ROWS = [conversation("<image>\nWhat?", f"answer {n}", f"{n}.png") for n in range(5)]


def png(side: int) -> bytes:
    """Return a square image."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "png")
    return stream.getvalue()


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as parquet, with the columns of all of them; return the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = dict.fromkeys(key for row in rows for key in row)
    parquet.write_table(pa.table({key: [row.get(key) for row in rows] for key in columns}), path)
    return path


def records(*files: Path, written: Path | None = None) -> list[Any]:
    return [record for _, record in read_files(files, written=written)]


def test_rows_are_what_json_holds(tmp_path: Path) -> None:
    lines = write(tmp_path / "data.jsonl", *ROWS)
    assert records(table(tmp_path / "data.parquet", ROWS)) == records(lines)
    mixed = [*ROWS, {"id": "t", "messages": [{"role": "user", "content": "Say"}]}]
    mixed[-1]["messages"].append({"role": "assistant", "content": "a"})
    found = records(table(tmp_path / "mixed.parquet", mixed))
    assert found == records(write(tmp_path / "mixed.jsonl", *mixed))
    assert [len(one.images) for one in found] == [1] * 5 + [0]


@pytest.mark.parametrize("form", ["struct", "bytes", "list", "datasets"])
def test_images_in_rows_are_written_once_by_their_hash(tmp_path: Path, form: str) -> None:
    contents = [png(4), png(5), png(4)]
    rows: list[dict[str, Any]] = []
    for row, content in zip(ROWS, contents, strict=False):
        struct = {"bytes": content, "path": "x.png"}
        image = {"struct": struct, "bytes": content, "list": [struct], "datasets": struct}[form]
        rows.append(row | {"image": image})
    file = tmp_path / "data.parquet"
    if form == "datasets":
        from datasets import Dataset, Features, Value
        from datasets import Image as ImageColumn

        turns = [{"from": Value("string"), "value": Value("string")}]
        kinds = {"id": Value("string"), "conversations": turns, "image": ImageColumn()}
        Dataset.from_list(rows, Features(kinds)).to_parquet(str(file))
    else:
        table(file, rows)
    found = records(file, written=tmp_path / "cache")
    names = [record.images[0] for record in found]
    assert [Path(name).read_bytes() for name in names] == contents
    assert names[0] == names[2] != names[1]
    assert sum(one.is_file() for one in (tmp_path / "cache").rglob("*")) == 2
    # What a crash has left is written again.
    Path(names[0]).write_bytes(b"")
    assert records(file, written=tmp_path / "cache") == found
    assert Path(names[0]).read_bytes() == contents[0]
    # Read without a folder, nothing is written.
    for one in records(file):
        assert one.images[0].startswith("embedded:")


def test_images_that_are_not_there(tmp_path: Path) -> None:
    none = {"bytes": None, "path": None}
    rows = [
        conversation("What?", "a") | {"image": None},
        conversation("What?", "b") | {"image": none},
        conversation("<image>What?", "c") | {"image": {"bytes": None, "path": "c.png"}},
        conversation("<image>What?", "d") | {"image": none},
    ]
    text, other, named, lost = records(table(tmp_path / "data.parquet", rows))
    assert text.images == other.images == () and named.images == ("c.png",)
    assert isinstance(lost, BadRecordError) and lost.reason == "placeholders"
    assert lost.place == f"{tmp_path / 'data.parquet'}, row 4"
    rows = [
        conversation("<image><image>", "a") | {"images": [{"bytes": png(3), "path": None}, none]}
    ]
    (bad,) = records(table(tmp_path / "list.parquet", rows))
    assert str(bad).endswith("malformed images: images: image 2 is null; leave it out")


def test_contents_of_parts_as_datasets_and_trl_have_them(tmp_path: Path) -> None:
    question = [
        {"type": "image", "text": None, "index": 0},
        {"type": "text", "text": "What?", "index": None},
    ]
    turns = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat.", "index": None}]},
    ]
    rows = [{"messages": turns, "images": [{"bytes": png(3), "path": "a.png"}]}]
    (record,) = records(table(tmp_path / "data.parquet", rows))
    assert isinstance(record, Conversation)
    assert [message.text for message in record.messages] == ["What?", "A cat."]
    assert record.messages[0].images == len(record.images) == 1
    turns[0]["content"] = [{"type": "audio"}]
    (bad,) = records(write(tmp_path / "bad.jsonl", {"messages": turns}))
    assert bad.reason == "malformed turns"


def test_shards_are_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    names = [f"train-{n:05}-of-00003.parquet" for n in range(3)]
    for name, part in zip(names, (ROWS[:2], ROWS[2:3], ROWS[3:]), strict=True):
        table(folder / name, part)
    table(folder / "nested" / "other.parquet", ROWS)
    whole = records(write(tmp_path / "data.jsonl", *ROWS))
    assert records(folder) == records(folder / "train-*.parquet") == whole
    assert records(folder / names[1]) == [whole[2]._replace(index=0)], "a shard by its name"
    assert records_sha256(folder) == records_sha256(folder / "train-*.parquet")
    assert records_sha256(folder / names[0]) == file_sha256(folder / names[0])
    before = records_sha256(folder)
    table(folder / names[1], ROWS[3:4])
    assert records_sha256(folder) != before
    (folder / names[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"train-00001-of-00003\.parquet is missing, of 3 "):
        record_files(folder)
    assert "is missing" in str(lacking(folder))


def test_a_bad_row_is_named_with_its_shard(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", ROWS)
    table(tmp_path / "b.parquet", [ROWS[0], conversation("What?", " ")])
    *_, bad = records(tmp_path)
    assert bad.place == f"{tmp_path}, b.parquet, row 2" and bad.index == 6


def test_what_is_no_parquet_of_records_is_one_line(tmp_path: Path) -> None:
    whole = table(tmp_path / "data.parquet", ROWS)
    content = whole.read_bytes()
    broken = {
        "empty.parquet": b"",
        "text.parquet": json.dumps(ROWS).encode(),
        "cut.parquet": content[: len(content) // 2],
        "damaged.parquet": content[:4] + b"\xff" * 200 + content[204:],
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}, behind row 0: cannot be read as parquet: "):
            records(tmp_path / name)
    for name, row in (
        ("conversations", {"conversations": json.dumps(ROWS[0]["conversations"])}),
        ("conversations", {"conversations": {"from": ["human"], "value": ["a"]}}),
        ("messages", {"messages": ["a"]}),
        ("image", ROWS[0] | {"image": 3}),
        ("images", ROWS[0] | {"images": [{"height": 3}]}),
    ):
        with pytest.raises(ValueError, match=f"x.parquet: column {name} is .*is needed"):
            records(table(tmp_path / "x.parquet", [row]))
    rows = [{"id": "1", "prompt": "Who?", "response": "I."}] * 3
    with pytest.raises(ValueError, match=r"are id, prompt, response; needed are conversations or"):
        records(table(tmp_path / "x.parquet", rows))
    parquet.write_table(pa.Table.from_pylist(ROWS)[:0], tmp_path / "none.parquet")
    assert records(tmp_path / "none.parquet") == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none.parquet", "none.parquet: no such file"),
        ("*.parquet", r"\*.parquet: no file of that name"),
        (".", "a folder without .parquet"),
        ("hub:only-a-name", "give hub:owner/name, with :configuration, @revision and /split"),
    ],
)
def test_what_is_not_there_is_said_without_reading(
    tmp_path: Path, name: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(problem, str(lacking(Path(name))))


def test_gzip_and_utf_16_are_told_from_json(tmp_path: Path) -> None:
    text = json.dumps(ROWS)
    for name, data, problem in (
        ("data.json", gzip.compress(text.encode()), "gzip; unpack it"),
        ("data.jsonl", gzip.compress(text.encode()), "gzip; unpack it"),
        ("data.json", text.encode("utf-16"), "UTF-16 or UTF-32; save the file as UTF-8"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=problem):
            records(tmp_path / name)
    (tmp_path / "data.json.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ValueError, match=r"read from .json \(a list\), .jsonl \(one a line\) or"):
        records(tmp_path / "data.json.gz")
    # A byte order mark and Windows' line ends are neither here nor there.
    lines = "\ufeff" + "\r\n".join(map(json.dumps, ROWS)) + "\r\n"
    (tmp_path / "data.jsonl").write_bytes(lines.encode())
    assert records(tmp_path / "data.jsonl") == records(table(tmp_path / "data.parquet", ROWS))
