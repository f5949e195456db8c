"""Files that are written whole, or not at all."""

import errno
import os
from pathlib import Path

import pytest

from verbalizer_bench.io.files import write_whole


def test_a_full_disk_names_the_file_and_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "training.json"
    write_whole(file, "before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
            write_whole(file, "after")
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


def test_a_text_that_no_file_can_hold_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "page.md", "half: \ud800")
    assert not list(tmp_path.iterdir())
