"""A log: what was written whole is there after any end."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from verbalizer_bench.io.append_log import AppendLog, read_log


def opened(file: Path, **options: Any) -> AppendLog:
    return AppendLog(file, "toy", 1, "wait", **options)


def rows(file: Path) -> list[Any]:
    return [row for _, row in read_log(file, "toy", 1)]


def test_a_torn_line_is_passed_over_and_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "new" / "log.jsonl"
    assert rows(file) == []
    log = opened(file)
    assert log.is_empty
    log.append({"toy": 1})
    log.append({"a": "ä\u2028"})
    log.close()
    assert file.read_bytes() == '{"toy": 1}\n{"a": "ä\u2028"}\n'.encode()
    with file.open("ab") as torn:
        torn.write(b'{"b')
    assert rows(file) == [{"toy": 1}, {"a": "ä\u2028"}]
    log = opened(file)
    log.append({"b": 2})
    log.close()
    assert rows(file)[2:] == [{"b": 2}]


@pytest.mark.parametrize("text", ['{"toy": 2}\n{"a', '{"other": 1}\n{"a', "[]\nx"])
def test_what_is_another_file_stays_as_it_is(text: str, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(text)
    for _ in range(2):  # and the lock is given back
        with pytest.raises(ValueError, match=r"log\.jsonl, line 1: "):
            opened(file)
    assert file.read_text() == text


@pytest.mark.parametrize("lock", [None, "log.lock"])
def test_one_writes_at_a_time(lock: str | None, tmp_path: Path) -> None:
    file, options = tmp_path / "log.jsonl", {"lock": tmp_path / lock if lock else None}
    log = opened(file, **options)
    who = f"process {os.getpid()}" if lock else "another process"
    with pytest.raises(ValueError, match=rf"log\.jsonl: {who} writes to it; wait"):
        opened(file, **options)
    log.close()
    opened(file, **options).close()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match=r"log\.jsonl: no lock on this file system .*; give a local"):
        opened(tmp_path / "log.jsonl")


def test_nothing_is_written_once_a_disk_has_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = opened(tmp_path / "log.jsonl")
    log.append({"toy": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=f"No space left on device: '{log.path}'"):
            log.sync()
    with pytest.raises(OSError, match="No space left"):
        log.append({"a": 1})
    log.close()
    assert rows(log.path) == [{"toy": 1}]
