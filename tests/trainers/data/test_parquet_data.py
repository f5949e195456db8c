"""Training data from parquet with images in it: the rows and pixels of JSON, killed and moved."""

import errno
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.conftest import REPOSITORY
from tests.helpers.training_records import conversation
from verbalizer_bench.cli import main
from verbalizer_bench.io.conversation_files import read_files
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.conversations.encoder import Encoder
from verbalizer_bench.trainers.data.cache import TrainingData, build
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.inputs import encoded_data, make_collator

TINY = REPOSITORY / "recipes" / "tiny"


def write(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    columns = dict.fromkeys(key for row in rows for key in row)
    table = pa.table({key: [row.get(key) for row in rows] for key in columns})
    parquet.write_table(table, path, **options)
    return path


def picture(number: int) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4 + number)).save(stream, "png")
    return {"bytes": stream.getvalue(), "path": f"{number}.png"}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Return a folder of two shards: six records with images, of which one is broken, and one."""
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [conversation("<image>q", f"a{n}") | {"image": picture(n)} for n in range(6)]
    rows[4]["image"] = {"bytes": b"no image", "path": None}
    write(folder / "train-00000-of-00002.parquet", rows)
    write(folder / "train-00001-of-00002.parquet", [conversation("q", "b") | {"image": None}])
    return folder


def test_the_batches_are_those_of_json(tmp_path: Path) -> None:
    rows = json.loads((TINY / "data" / "instruct.json").read_text())
    for row in rows:
        if name := row.get("image"):
            content = (TINY / "data" / "images" / name).read_bytes()
            row["image"] = {"bytes": content, "path": name}
    file = write(tmp_path / "instruct.parquet", rows)
    words = [f"model={{config: {TINY / 'llava'}}}", "trained_parameters=null"]
    words += [f"cache={tmp_path / 'cache'}"]
    recipe = read_recipe("tiny/vit", words)
    other = read_recipe("tiny/vit", [*words, f"data={file}", "images=null"])
    checkpoint = load(recipe)
    data = [encoded_data(one, checkpoint, one.data) for one in (recipe, other)]
    assert np.array_equal(data[0].lengths, data[1].lengths)
    batches = [
        make_collator(one, checkpoint)([made.dataset[row] for row in range(8)])
        for one, made in zip((recipe, other), data, strict=True)
    ]
    assert batches[0].keys() == batches[1].keys() and "pixel_values" in batches[0]
    assert all((batches[0][name] == batches[1][name]).all() for name in batches[0])


def test_a_moved_cache_and_lost_images_are_built_again(
    encoder: Encoder, shards: Path, tmp_path: Path
) -> None:
    def built(cache: Path) -> TrainingData:
        return build([shards], tmp_path, encoder, skip_bad=True, cache=cache)

    first = built(tmp_path / "one")
    assert first.skipped == {"broken image": 1} and len(first.dataset) == 6
    shutil.move(tmp_path / "one", tmp_path / "two")
    second = built(tmp_path / "two")
    assert second.images == first.images, "the folder of the cache is no part of them"
    names = [name for row in second.dataset for name in row["images"]]
    assert all(str(tmp_path / "two") in name and Path(name).is_file() for name in names)
    Path(names[0]).unlink()
    assert built(tmp_path / "two").images == first.images and Path(names[0]).is_file()


def test_a_broken_image_is_named_with_its_record(
    encoder: Encoder, shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"row \d \(id 'id-a4'\): broken image"):
        build([shards], tmp_path, encoder, skip_bad=False, cache=tmp_path / "cache")


def test_a_disk_that_is_full_of_images(
    encoder: Encoder, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built() -> TrainingData:
        return build([shards], tmp_path, encoder, skip_bad=True, cache=tmp_path / "cache")

    write_bytes, written = Path.write_bytes, []

    def full(self: Path, data: bytes) -> int:
        written.append(self)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=r"cache=.*No space left on device; make room"):
            built()
    assert not list((tmp_path / "cache").rglob("*.part"))
    assert len(built().dataset) == 6


def test_validate_data_and_dry_run(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"model.config={TINY / 'llava'}", f"tokenizer={TINY / 'llava'}", "format=vicuna-v1"]
    words += ["method=vit", f"cache={tmp_path / 'cache'}"]
    assert main(["validate-data", str(shards), *words]) == 2
    said = capsys.readouterr().out
    assert "7; usable 6: 1 text, 5 one image" in said and "5 distinct, shown 5 times" in said
    assert "bad records 1: broken image" in said
    words = ["model.path=null", f"model.config={TINY / 'llava'}", f"data={shards}", "images=null"]
    words += ["trained_parameters=null", f"cache={tmp_path / 'none'}", "global_batch_size=4"]
    assert main(["train", "tiny/vit", "--dry-run", *words]) == 0
    said = capsys.readouterr().out
    assert "7 records, 6 with images" in said and "image missing" not in said
    assert not (tmp_path / "none").exists(), "a dry run writes no image"


def test_memory_is_that_of_a_row_group_not_of_the_file(tmp_path: Path) -> None:
    content, size = np.random.default_rng(0).bytes(1 << 16), 1 << 16
    images = [content + n.to_bytes(2) for n in range(384)]
    rows = [conversation("<image>q", "a") | {"image": image} for image in images]
    file = write(tmp_path / "large.parquet", rows, row_group_size=8)
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() for _ in read_files([file]))
    assert 0 < most - before < 128 * size
