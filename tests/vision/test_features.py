"""Features are kept as float16 memory maps, and a part goes on wherever it was ended."""

import resource
import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from verbalizer_bench.vision.features import (
    Batch,
    PartWriter,
    Store,
    parts_of,
    shard_rows,
    unit_vectors,
)

MADE = {"weights": "abc", "embedding": "cls", "images": "def"}


def batch(start: int, count: int = 4, width: int = 8) -> Batch:
    draw = np.random.default_rng(start)
    hashes = tuple(f"{start + place:064x}" for place in range(count))
    return Batch(draw.standard_normal((count, width)).astype(np.float32), hashes, {})


def write(folder: Path, rows: range) -> None:
    with closing(PartWriter(folder, rows, MADE)) as part:
        for start in range(part.done, rows.stop, 4):
            part.write(batch(start, min(4, rows.stop - start)))


def test_parts_are_read_as_one(tmp_path: Path) -> None:
    for shard in (1, 2, 3):
        write(tmp_path, shard_rows(30, shard, 3))
    store = Store(tmp_path, 30)
    assert (store.width, store.made) == (8, MADE)
    assert [int(row.tobytes().hex(), 16) for row in store.hashes] == list(range(30))
    places = np.array([29, 0, 12, 9, 10])
    expected = [unit_vectors(batch(start))[0][row] for start, row in ((28, 1), (0, 0), (10, 2))]
    # The second part begins at 10, so that its batches do.
    assert np.array_equal(store.take(places)[1], expected[1])
    assert np.array_equal(store.take(places)[2], expected[2])
    assert store.take(places).dtype == np.float16
    assert np.load(tmp_path / "00000010-00000020.npy", mmap_mode="r").shape == (10, 8)


def test_a_part_that_was_ended_at_any_byte_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    write(tmp_path / "whole", range(12))
    whole = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}
    log, features = whole["00000000-00000012.jsonl"], whole["00000000-00000012.npy"]
    for cut in range(0, len(log), 37):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "00000000-00000012.jsonl").write_bytes(log[:cut])
        # Of rows that the log does not have yet, any part may be there.
        lines = log[:cut].count(b"\n")
        kept = len(features) - (12 - 4 * max(lines - 1, 0)) * 16
        (folder / "00000000-00000012.npy").write_bytes(features[: kept + cut % 16])
        write(folder, range(12))
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole


def test_another_tower_s_or_other_images_features_are_refused(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    for key in MADE:
        other = MADE | {key: "other"}
        with pytest.raises(ValueError, match=f"of {key}={MADE[key]}, and {key}=other is asked"):
            PartWriter(tmp_path, range(4), other)
    # Where it lies and where it computes changes nothing.
    PartWriter(tmp_path, range(4), MADE | {"model": "elsewhere", "device": "cuda"}).close()


def test_what_is_missing_or_twice_is_said(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    write(tmp_path, range(8, 12))
    with pytest.raises(FileNotFoundError, match="no features of the images 4 to 7"):
        Store(tmp_path, 12)
    write(tmp_path, range(4, 10))
    with pytest.raises(ValueError, match="two parts have image 8"):
        Store(tmp_path, 12)
    with closing(PartWriter(tmp_path / "half", range(8), MADE)) as part:
        part.write(batch(0))
    with pytest.raises(ValueError, match="4 of 8 images are in it; run the same command"):
        Store(tmp_path / "half", 8)
    (tmp_path / "half" / "00000000-00000008.npy").unlink()
    with pytest.raises(ValueError, match=r"it is gone, and 00000000-00000008\.jsonl is not"):
        PartWriter(tmp_path / "half", range(8), MADE)


def test_a_shard_takes_parts_of_another_number(tmp_path: Path) -> None:
    whole = range(30)
    assert parts_of(tmp_path, whole, MADE) == [whole]
    write(tmp_path, range(10, 15))
    with closing(PartWriter(tmp_path, range(15, 20), MADE)) as part:
        part.write(batch(15))
    there = [range(10), range(10, 15), range(15, 20), range(20, 30)]
    assert parts_of(tmp_path, whole, MADE) == there
    # A part that was begun is finished by the shard of its first image, and by no other.
    assert parts_of(tmp_path, range(17), MADE) == there[:3]
    assert parts_of(tmp_path, range(17, 30), MADE) == there[3:]
    assert parts_of(tmp_path, range(16, 19), MADE) == []
    for part in parts_of(tmp_path, whole, MADE):
        write(tmp_path, part)
    assert Store(tmp_path, 30).width == 8
    with pytest.raises(ValueError, match="of weights=abc, and weights=other is asked for"):
        parts_of(tmp_path, range(5), MADE | {"weights": "other"})
    (tmp_path / "00000008-00000010.jsonl").touch()
    with pytest.raises(ValueError, match="two parts have image 8; remove one of them"):
        parts_of(tmp_path, range(20, 30), MADE)


def test_two_processes_do_not_write_one_part(tmp_path: Path) -> None:
    with (
        closing(PartWriter(tmp_path, range(4), MADE)),
        pytest.raises(ValueError, match="another process writes to it"),
    ):
        PartWriter(tmp_path, range(4), MADE)


def test_vectors_have_length_1_whatever_their_scale() -> None:
    rows = np.array(
        [[3e30, 4e30], [3e-30, 4e-30], [0, 0], [np.nan, 1], [np.inf, 1], [70000, 0], [9, 9]],
        np.float32,
    )
    vectors, faults = unit_vectors(Batch(rows, ("",) * 7, {6: "cannot be read"}))
    assert np.allclose(vectors[:2].astype(float), [[0.6, 0.8]] * 2, atol=1e-3)
    assert faults == {
        2: "its features are all 0",
        3: "its features are not finite",
        4: "its features are not finite",
        6: "cannot be read",
    }
    assert np.array_equal(vectors[5], [1, 0]) and not vectors[[2, 3, 4, 6]].any()


def test_a_full_disk_is_said_and_what_was_written_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "whole", range(400))
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(OSError) as refused:
            write(tmp_path / "full", range(400))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert str(tmp_path / "full") in str(refused.value.filename)
    write(tmp_path / "full", range(400))
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "full" / file.name).read_bytes() == file.read_bytes()
