"""A build of training data that is killed, short of disk, or waited for."""

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from tests.helpers.training_records import conversation, write
from verbalizer_bench.io import files
from verbalizer_bench.io.conversations import Conversation
from verbalizer_bench.trainers.conversations.encoder import Encoded, Encoder
from verbalizer_bench.trainers.data import encoded_files
from verbalizer_bench.trainers.data.cache import TrainingData, build

# Seconds after which a test has failed: nothing here takes any time.
TIMEOUT = 600


class Counting(Encoder):
    """Remembers which records it encoded."""

    records: ClassVar[list[int]] = []

    def encode(self, record: Conversation) -> Encoded:
        self.records.append(record.index)
        return super().encode(record)


@pytest.fixture
def counting(encoder: Encoder) -> Counting:
    Counting.records = []
    return Counting(encoder.tokenizer, "llama-2", encoder.image_token_id, 16, 256)


@pytest.fixture
def many(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two files of 18 records, of which two cannot be trained on, in parts of six."""
    monkeypatch.setattr(encoded_files, "_CHUNK", 3)
    monkeypatch.setattr(encoded_files, "_PART", 2)
    rows = [conversation("q", "answer " * n) for n in range(1, 16)]
    rows[7:7] = [conversation("<image>q", "x", name) for name in ("a.png", "none.png", "sub/b.png")]
    rows[2]["conversations"] = []
    return [write(tmp_path / "a.json", *rows[:10]), write(tmp_path / "b.jsonl", *rows[10:])]


def kill_at(part: int, patch: pytest.MonkeyPatch) -> None:
    """Have this process killed when so many parts are written and the next one is half."""
    commit = encoded_files._Files.commit

    def killed(self: Any, batches: Any) -> None:
        if len(Counting.records) > 6 * part:
            self._write("rows.arrow", b"half")
            self._open["rows.arrow"].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, batches)

    patch.setattr(encoded_files._Files, "commit", killed)


def in_a_process(act: Callable[[], object]) -> int | None:
    """Run a function in a forked process; return its exit code."""
    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_build_that_was_killed_goes_on(
    counting: Counting,
    images: Path,
    many: list[Path],
    part: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def built(cache: str) -> TrainingData:
        return build(many, images, counting, skip_bad=True, cache=tmp_path / cache)

    whole = built("whole")
    # Neither record 2, which is malformed, nor 8, whose image is missing, is encoded.
    expected = [n for n in range(18) if n not in (2, 8)]
    assert Counting.records == expected
    with monkeypatch.context() as patch:
        Counting.records.clear()
        kill_at(part, patch)
        assert in_a_process(lambda: built("killed")) == -signal.SIGKILL
    assert built("killed").dataset[:] == whole.dataset[:]
    assert Counting.records == [n for n in expected if n >= 6 * part]
    assert built("killed").skipped == whole.skipped == {"turn order": 1, "missing image": 1}
    contents = [
        {file.name: file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}
        for folder in (tmp_path / "whole", tmp_path / "killed")
    ]
    assert contents[0] == contents[1] and len(contents[0]) == 6
    assert whole.images == built("killed").images
    assert [entry.name for entry in (tmp_path / "killed").iterdir()] == [whole.folder.name]


def test_an_image_that_was_mended_since_is_looked_at_again(
    counting: Counting,
    images: Path,
    many: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def built() -> TrainingData:
        return build(many, images, counting, skip_bad=True, cache=tmp_path / "cache")

    with monkeypatch.context() as patch:
        kill_at(2, patch)
        assert in_a_process(built) == -signal.SIGKILL
    Image.new("RGB", (4, 4)).save(images / "none.png")
    Counting.records.clear()
    assert built().skipped == {"turn order": 1}
    assert Counting.records == [n for n in range(18) if n != 2]


def test_a_full_disk_keeps_what_was_encoded(
    counting: Counting,
    images: Path,
    many: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def built() -> TrainingData:
        return build(many, images, counting, skip_bad=True, cache=tmp_path / "cache")

    commit = encoded_files._Files.commit

    def full(self: Any, batches: Any) -> None:
        if len(Counting.records) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        commit(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(encoded_files._Files, "commit", full)
        with pytest.raises(OSError, match=r"cache=.*: No space left on device; make room, or"):
            built()
    Counting.records.clear()
    assert len(built().dataset) == 16
    assert Counting.records == [n for n in range(6, 18) if n != 8]


def test_a_second_process_waits_and_builds_nothing(
    counting: Counting,
    images: Path,
    many: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first one encodes when the second one waits: with a barrier neither would go on."""
    context = multiprocessing.get_context("fork")
    begun, waits, rows = context.Event(), context.Event(), context.SimpleQueue()
    encode = Counting.encode

    def slow(self: Counting, record: Conversation) -> Encoded:
        begun.set()
        assert waits.wait(TIMEOUT)
        return encode(self, record)

    monkeypatch.setattr(Counting, "encode", slow)
    monkeypatch.setattr(files.log, "warning", lambda *_: waits.set())

    def second() -> None:
        assert begun.wait(TIMEOUT)
        found = build(many, images, counting, skip_bad=True, cache=tmp_path / "cache")
        rows.put((len(found.dataset), list(Counting.records)))

    process = context.Process(target=second)
    process.start()
    built = build(many, images, counting, skip_bad=True, cache=tmp_path / "cache")
    assert rows.get() == (len(built.dataset), [])
    process.join()
    assert process.exitcode == 0
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [built.folder.name]


def test_who_waits_for_a_process_that_is_killed_goes_on_where_it_was(
    counting: Counting,
    images: Path,
    many: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = multiprocessing.get_context("fork")
    begun, waits = context.Event(), context.Event()
    commit = encoded_files._Files.commit

    def killed(self: Any, batches: Any) -> None:
        commit(self, batches)
        begun.set()
        assert waits.wait(TIMEOUT)
        os.kill(os.getpid(), signal.SIGKILL)

    def first() -> None:
        monkeypatch.setattr(encoded_files._Files, "commit", killed)
        build(many, images, counting, skip_bad=True, cache=tmp_path / "cache")

    monkeypatch.setattr(files.log, "warning", lambda *_: waits.set())
    process = context.Process(target=first)
    process.start()
    assert begun.wait(TIMEOUT)
    build(many, images, counting, skip_bad=True, cache=tmp_path / "cache")
    assert Counting.records == [n for n in range(6, 18) if n != 8]
    process.join()
