"""What is built of files: rows, what is left out, the cache, and how much memory it takes."""

import json
import multiprocessing
import os
import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import SHARED
from tests.helpers.toy import make_tokenizer
from tests.helpers.training_records import conversation, write
from verbalizer_bench.trainers.conversations.encoder import Encoded, Encoder
from verbalizer_bench.trainers.data import encoded_files
from verbalizer_bench.trainers.data.cache import TrainingData, build


@pytest.fixture
def mixed(tmp_path: Path) -> list[Path]:
    """Two files, five records, of which two, 2 and 3, cannot be trained on."""
    return [
        write(
            tmp_path / "one.json",
            conversation("<image>\nq", "a", "a.png"),
            conversation("q", "bb"),
            conversation("q", "", None),
        ),
        write(
            tmp_path / "two.jsonl",
            conversation("<image>\nq", "d", "none.png"),
            conversation("q\n<image>", "e", "sub/b.png"),
        ),
    ]


def listed(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "bad_records.jsonl").read_text().splitlines()]


def test_rows_and_what_is_known_of_them(
    encoder: Encoder, images: Path, mixed: list[Path], tmp_path: Path
) -> None:
    built = build(mixed, images, encoder, skip_bad=True, cache=tmp_path / "cache")
    assert built.dataset.column_names == [
        "record",
        "input_ids",
        "assistant_mask",
        "length",
        "images",
    ]
    rows = built.dataset[:]
    assert rows["record"] == [0, 1, 4]
    assert rows["images"] == [["a.png"], [], ["sub/b.png"]]
    assert built.has_image.tolist() == [True, False, True] and built.has_image.dtype == np.bool_
    # <s> "[INST] q [/INST] a " </s>, a byte a token: 21; an image adds itself and a newline.
    assert [len(ids) for ids in rows["input_ids"]] == [23, 22, 23]
    assert built.lengths.tolist() == rows["length"] == [38, 22, 38]
    assert built.lengths.dtype == np.int32
    trained = [
        encoder.tokenizer.decode([i for i, on in zip(ids, answer, strict=True) if on])
        for ids, answer in zip(rows["input_ids"], rows["assistant_mask"], strict=True)
    ]
    assert trained == [" a </s>", " bb </s>", " e </s>"]
    assert built.has_image.any()
    assert [len(one.sha256) for one in built.files] == [64, 64]
    assert [one.file for one in built.files] == [str(path) for path in mixed]


def test_rows_come_alike_however_they_are_asked_for(
    encoder: Encoder, images: Path, mixed: list[Path], tmp_path: Path
) -> None:
    dataset = build(mixed, images, encoder, skip_bad=True, cache=tmp_path / "cache").dataset
    whole = dataset[:]
    rows = [{name: whole[name][n] for name in whole} for n in range(3)]
    assert [dataset[n] for n in (0, 1, -1)] == rows
    assert dataset.__getitems__([2, 0, 2]) == [rows[2], rows[0], rows[2]]
    assert list(dataset) == rows
    assert dataset.select([2, 1])[0] == rows[2]
    again = pickle.loads(pickle.dumps(dataset))
    assert again[1] == rows[1] and type(again.data) is type(dataset.data)


def test_what_is_skipped_is_counted_and_listed(
    encoder: Encoder, images: Path, mixed: list[Path], tmp_path: Path
) -> None:
    built = build(mixed, images, encoder, skip_bad=True, cache=tmp_path / "cache")
    assert built.skipped == {"empty turn": 1, "missing image": 1}
    first, second = listed(built.folder)
    assert (first["file"], first["id"], first["reason"]) == (str(mixed[0]), "id-", "empty turn")
    assert (second["file"], second["id"]) == (str(mixed[1]), "id-d")
    assert "none.png" in second["detail"]


def test_one_error_for_all_bad_records(
    encoder: Encoder, images: Path, mixed: list[Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    for _ in range(2):
        with pytest.raises(ValueError, match="2 of 5 records cannot be trained on") as caught:
            build(mixed, images, encoder, skip_bad=False, cache=cache)
        message = str(caught.value)
        assert "bad_records=skip" in message and str(cache / "bad_records.jsonl") in message
        assert [line.partition(": ")[0] for line in caught.value.__notes__] == [
            f"{mixed[0]}, row 3 (id 'id-')",
            f"{mixed[1]}, line 1 (id 'id-d')",
        ]
        assert [bad["id"] for bad in listed(cache)] == ["id-", "id-d"]
    Image.new("RGB", (4, 4)).save(images / "none.png")
    good = [mixed[1]]
    assert build(good, images, encoder, skip_bad=False, cache=cache).skipped == {}


def test_the_error_shows_ten_and_lists_all(encoder: Encoder, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.json", *[conversation("q", "")] * 12, conversation("q", "a"))
    with pytest.raises(ValueError, match="12 of 13 records") as caught:
        build([path], None, encoder, skip_bad=False, cache=tmp_path / "cache")
    *shown, last = caught.value.__notes__
    assert len(shown) == 10 and last == "and 2 more"
    assert len(listed(tmp_path / "cache")) == 12


def test_nothing_left_is_an_error(encoder: Encoder, tmp_path: Path) -> None:
    cases: dict[str, tuple[list[Any], str]] = {
        "none.json": ([], "no records"),
        "bad.json": ([{}], "1 of 1 records cannot"),
    }
    for name, (rows, message) in cases.items():
        with pytest.raises(ValueError, match=message):
            build([write(tmp_path / name, *rows)], None, encoder, skip_bad=True, cache=tmp_path)


def test_broken_images_are_bad_for_every_record_that_shows_them(
    encoder: Encoder, images: Path, tmp_path: Path
) -> None:
    whole = (images / "a.png").read_bytes()
    (images / "a.png").write_bytes(whole[: len(whole) // 2])
    rows = [
        conversation("<image>q", "1", "a.png"),
        conversation("<image>q", "2", "sub/b.png"),
        conversation("<image>q", "3", "a.png"),
    ]
    path, cache = write(tmp_path / "r.json", *rows), tmp_path / "cache"
    built = build([path], images, encoder, skip_bad=True, cache=cache)
    assert built.skipped == {"broken image": 2}
    assert built.dataset[:]["record"] == [1]
    # Mended: what was refused is looked at again.
    (images / "a.png").write_bytes(whole)
    assert build([path], images, encoder, skip_bad=True, cache=cache).skipped == {}


def test_what_is_cut_is_counted(encoder: Encoder, tmp_path: Path) -> None:
    """Here and where it is loaded; the length that is kept is what `max_length` has room for."""
    cut = Encoder(encoder.tokenizer, "llama-2", encoder.image_token_id, 16, 32)
    rows = [conversation("q", "word " * words) for words in (2, 20, 30)]
    path = write(tmp_path / "long.json", *rows)
    whole = build([path], None, encoder, skip_bad=False, cache=tmp_path / "cache")
    assert (whole.cut, whole.lost) == (0, 0)
    for _ in range(2):
        built = build([path], None, cut, skip_bad=False, cache=tmp_path / "cache")
        assert built.lengths.max() == 32
        assert (built.cut, built.lost) == (2, int(whole.lengths.sum() - built.lengths.sum()))


def test_an_image_is_too_much_for_a_model_of_text(tmp_path: Path) -> None:
    """Whose recipe may not name a folder of images."""
    encoder = Encoder(make_tokenizer(["a"], 4 + 256), "llama-2", None, 0, 256)
    path = write(tmp_path / "r.json", conversation("<image>\nq", "a", "a.png"))
    with pytest.raises(ValueError, match=r"images for a model of text: it shows 'a\.png'; leave"):
        build([path], None, encoder, skip_bad=False, cache=tmp_path / "cache")


def test_text_has_no_images_column(encoder: Encoder, tmp_path: Path) -> None:
    path = write(tmp_path / "text.jsonl", conversation("q", "a"), conversation("q", "b"))
    built = build([path], None, encoder, skip_bad=False, cache=tmp_path / "cache")
    assert not built.has_image.any()
    assert built.dataset.column_names == ["record", "input_ids", "assistant_mask", "length"]
    assert set(built.dataset[0]) == set(pickle.loads(pickle.dumps(built.dataset))[0])


def test_it_is_built_once(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = write(tmp_path / "text.json", conversation("q", "a")), tmp_path / "cache"
    calls: list[Path] = []
    written = encoded_files.encode_files

    def count(*arguments: Any) -> Any:
        calls.append(arguments[-1])
        return written(*arguments)

    monkeypatch.setattr(encoded_files, "encode_files", count)

    def built(with_encoder: Encoder = encoder, skip_bad: bool = False) -> TrainingData:
        return build([path], None, with_encoder, skip_bad=skip_bad, cache=cache)

    first, second = built(), built()
    assert len(calls) == 1 and first.folder == second.folder
    assert first.dataset[0] == second.dataset[0]
    (first.folder / "index.json").unlink()
    (first.folder / "rows.arrow").unlink()
    assert built().dataset[0] == second.dataset[0]
    assert len(calls) == 2
    shorter = Encoder(encoder.tokenizer, "llama-2", encoder.image_token_id, 16, 20)
    assert len({built(shorter).folder, built(skip_bad=True).folder, first.folder}) == 3
    write(path, conversation("q", "b"))
    assert built().folder != first.folder
    assert len(calls) == 5
    assert not [entry for entry in cache.iterdir() if "." in entry.name]


def test_a_build_that_is_interrupted_leaves_nothing(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = write(tmp_path / "text.json", conversation("q", "a")), tmp_path / "cache"

    def stop(self: Encoder, record: Any) -> Encoded:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Encoder, "encode", stop)
        build([path], None, encoder, skip_bad=False, cache=cache)
    assert list(cache.iterdir()) == []
    assert len(build([path], None, encoder, skip_bad=False, cache=cache).dataset) == 1


def test_a_file_that_is_given_twice_is_trained_on_twice(encoder: Encoder, tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", conversation("q", "a"))
    two = write(tmp_path / "two.json", conversation("q", "b"))
    same = write(tmp_path / "same.json", conversation("q", "a"))

    def built(*files: Path) -> tuple[str, list[int], list[str]]:
        found = build(files, None, encoder, skip_bad=False, cache=tmp_path / "cache")
        answers = [encoder.tokenizer.decode(row["input_ids"])[-6] for row in found.dataset]
        assert found.record()["files"] == [
            {"file": str(file), "sha256": sha256(file.read_bytes()).hexdigest()} for file in files
        ]
        return found.folder.name, found.dataset["record"], answers

    single, twice, both = built(one), built(one, one), built(one, two)
    assert (single[1:], twice[1:]) == (([0], ["a"]), ([0, 1], ["a", "a"]))
    assert (both[1:], built(two, one)[1:]) == (([0, 1], ["a", "b"]), ([0, 1], ["b", "a"]))
    assert built(one, same) == twice and built(one, two, one)[2] == ["a", "b", "a"]
    assert len({single[0], twice[0], both[0], built(two, one)[0]}) == 4


def test_images_that_are_others_are_known(
    encoder: Encoder, images: Path, mixed: list[Path], tmp_path: Path
) -> None:
    def built() -> TrainingData:
        return build(mixed, images, encoder, skip_bad=True, cache=tmp_path / "cache")

    first = built()
    assert first.images and len(first.images) == 64
    pixels = (images / "a.png").read_bytes()
    os.utime(images / "a.png", (0, 0))
    assert built().images == first.images
    Image.new("RGB", (4, 4), "red").save(images / "a.png")
    other = built()
    assert other.images != first.images and other.skipped == first.skipped
    (images / "a.png").write_bytes(b"broken")
    assert built().skipped == {"empty turn": 1, "missing image": 1, "broken image": 1}
    (images / "a.png").write_bytes(pixels)
    assert (built().images, built().skipped) == (first.images, first.skipped)


@pytest.fixture
def bench() -> Path:
    path = SHARED / "data" / "llava" / "llava_instruct_style_90.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def test_real_records_without_their_images(encoder: Encoder, bench: Path, tmp_path: Path) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    folder.mkdir()
    with pytest.raises(ValueError, match="90 of 90 records cannot be trained on"):
        build([bench], folder, encoder, skip_bad=False, cache=cache)
    assert {bad["reason"] for bad in listed(cache)} == {"missing image"}
    with pytest.raises(ValueError, match="90 of 90 records cannot be trained on; correct them"):
        build([bench], folder, encoder, skip_bad=True, cache=cache)
    names = {record["image"] for record in json.loads(bench.read_text())}
    for name in sorted(names)[:10]:
        Image.new("RGB", (4, 4)).save(folder / name)
    built = build([bench], folder, encoder, skip_bad=True, cache=cache)
    assert built.skipped == {"missing image": 60}
    assert len(built.dataset) == 30 and built.has_image.all()


class Fake:
    """An encoder that takes no time: 400 tokens of any record."""

    max_length = 401

    def fingerprint(self) -> str:
        return "fake"

    def encode(self, record: Any) -> Encoded:
        return Encoded([record.index % 1000] * 400, [True] * 400, 400)


def peak_mib(path: Path, cache: Path) -> int:
    """Build, read every row once in random batches, return the peak of all resident memory."""
    built = build([path], None, Fake(), skip_bad=False, cache=cache)  # type: ignore[arg-type]
    order = np.random.default_rng(0).permutation(len(built.dataset))
    for start in range(0, len(order), 32):
        built.dataset.__getitems__(order[start : start + 32].tolist())
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in status if line.startswith("VmHWM")]
    return int(peak) >> 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """Five times the rows, 32 MiB more on disk: a few MiB. Both fill a batch of Arrow."""
    peaks = []
    for count in (5_000, 25_000):
        path = write(tmp_path / f"{count}.json", *[conversation("q", "a")] * count)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            peaks.append(pool.apply(peak_mib, (path, tmp_path / "cache")))
    files = [path.stat().st_size >> 20 for path in tmp_path.rglob("rows.arrow")]
    assert max(files) >= 38
    print(peaks)
    # In memory it would be 32 or more.
    assert peaks[1] - peaks[0] < 20
