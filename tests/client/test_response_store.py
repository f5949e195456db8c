"""The store: what was written is there after any end, and one process at a time writes."""

import asyncio
import json
import os
import resource
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from verbalizer_bench.client.budget import Usage
from verbalizer_bench.client.response_store import ResponseStore

RESPONSE: dict[str, Any] = {"choices": [{"message": {"content": "ä\u2028\n"}}]}


def add(store: ResponseStore, *keys: str) -> None:
    async def run() -> None:
        rows = (store.add(key, "caption", "m", RESPONSE, Usage(3, 2, 0.5)) for key in keys)
        await asyncio.gather(*rows)

    asyncio.run(run())


def reopened(folder: Path) -> tuple[list[str], int]:
    """Return the keys that a new process finds, and what it thinks was spent in tokens."""
    store = ResponseStore(folder)
    store.close()
    usage = store.earlier
    return sorted(store.known), usage.input_tokens + usage.output_tokens


def test_rows_come_back(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path / "new" / "folder")
    add(store, "a", "b")
    store.close()
    again = ResponseStore(tmp_path / "new" / "folder")
    assert again.known == store.known and again.known["a"]["response"] == RESPONSE
    assert (again.earlier.calls, again.earlier.money) == (2, 1.0)
    again.close()


@pytest.mark.parametrize("length", [1, 20, 100, 0])
def test_a_torn_line_is_dropped(length: int, tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    add(store, "a", "b")
    store.close()
    whole = store.path.read_bytes()
    torn = whole[:-1] if length == 0 else whole + whole.splitlines()[1][:length]
    store.path.write_bytes(torn)
    kept = ["a"] if length == 0 else ["a", "b"]
    assert reopened(tmp_path) == (kept, 5 * len(kept))
    store = ResponseStore(tmp_path)
    add(store, "c")
    store.close()
    assert reopened(tmp_path)[0] == sorted([*kept, "c"])
    for line in store.path.read_text().split("\n")[:-1]:
        json.loads(line)


def test_a_process_that_dies_gives_the_store_back(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            store = ResponseStore(tmp_path)
            os.write(writer, str(store.path).encode())
            signal.pause()
        finally:
            os._exit(1)
    os.read(reader, 1000)
    try:
        with pytest.raises(ValueError) as error:
            ResponseStore(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert str(error.value) == (
        f"{tmp_path}/calls.jsonl: process {child} writes to it; wait until it is done, "
        "or give another output"
    )
    ResponseStore(tmp_path).close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"key": "a"}\n', r"calls\.jsonl, line 1: calls=None: 1 is expected; move the file away"),
        ("[]\n", r"calls\.jsonl, line 1: keys and values are needed"),
        ('{"calls": 2}\n', r"line 1: calls=2: a newer version wrote it; update, or move the file"),
        ('{"calls": 1}\n{"key":\n', r"calls\.jsonl, line 2: not JSON"),
        ('{"calls": 1}\n{"key": "a"}\n', r"calls\.jsonl, line 2: no model, response, role, usage"),
        (
            '{"calls": 1}\n{"key": "a", "role": "x", "model": "m", "response": {}, '
            '"usage": {"input_tokens": 1, "output_tokens": 1, "money": 0}}\n',
            r"calls\.jsonl, line 2: the response has no choices; remove the line",
        ),
        (
            '{"calls": 1}\n{"key": "a", "role": "x", "model": "m", "response": {}, "usage": {}}\n',
            r"calls\.jsonl, line 2: usage=\{\}: input_tokens, output_tokens, money are expected",
        ),
    ],
)
def test_files_that_are_no_store(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl").write_text(text)
    for _ in range(2):  # and the lock is given back
        with pytest.raises(ValueError, match=message):
            ResponseStore(tmp_path)
    assert (tmp_path / "calls.jsonl").read_text() == text


def test_a_row_is_on_the_disk_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that come together share one fsync, and none is known before it ends."""
    store, ends, calls = ResponseStore(tmp_path), threading.Event(), []

    def fsync(descriptor: int) -> None:
        calls.append(store.path.read_bytes().count(b"\n") - 1)
        ends.wait()

    monkeypatch.setattr(os, "fsync", fsync)

    async def run() -> None:
        def new(key: str) -> asyncio.Task[Any]:
            return asyncio.create_task(store.add(key, "caption", "m", RESPONSE, Usage(1, 1, 0)))

        first = [new(str(number)) for number in range(5)]
        while not calls:
            await asyncio.sleep(0.001)
        late = new("late")
        for _ in range(20):
            await asyncio.sleep(0)
        early = [dict(store.known), *(task.done() for task in [*first, late])]
        ends.set()
        await asyncio.gather(*first, late)
        assert not any(early)

    asyncio.run(run())
    assert calls == [5, 6] and len(store.known) == 6
    store.close()


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResponseStore(tmp_path)

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(28, "No space left on device")

    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ValueError, match=r"calls\.jsonl: it cannot be written \(No space left"):
        add(store, "a")
    # What the system has dropped once it says nothing more of.
    with pytest.raises(ValueError, match="make room"):
        add(store, "b")
    assert not store.known and len(calls) == 1
    store.close()


@pytest.mark.parametrize("room", [0, 1, 30, 250, 1000])
def test_a_disk_that_is_full_in_the_middle_of_a_row(room: int, tmp_path: Path) -> None:
    """No row is written behind a torn one, and what was whole is there for the next run."""
    store = ResponseStore(tmp_path)
    add(store, "a")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (store.path.stat().st_size + room, limits[1]))
    try:
        with pytest.raises(ValueError, match="make room"):
            for number in range(9):
                add(store, f"b{number}")
        for _ in range(2):
            with pytest.raises(ValueError, match="make room"):
                add(store, "c")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    with pytest.raises(ValueError, match="make room"):
        add(store, "late")
    store.close()
    kept = sorted(store.known)
    assert reopened(tmp_path)[0] == kept and "a" in kept
    store = ResponseStore(tmp_path)
    add(store, "c")
    store.close()
    assert reopened(tmp_path)[0] == sorted([*kept, "c"])
