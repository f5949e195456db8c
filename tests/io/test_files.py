"""Files that are written whole, or not at all."""

import errno
import os
from pathlib import Path

import pytest

from verbalizer_bench.io.files import removed_if_empty, write_whole


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


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_failed_leaves_no_empty_folder(tmp_path: Path, error: type[BaseException]) -> None:
    kept, folder = tmp_path / "kept", tmp_path / "a" / "b"
    kept.mkdir()
    for place in (folder, kept / "inner", kept):
        with pytest.raises(error), removed_if_empty(place):
            place.mkdir(parents=True, exist_ok=True)
            raise error
    assert list(tmp_path.rglob("*")) == [kept]
    with pytest.raises(error), removed_if_empty(folder):
        write_whole(folder.parent / "journal", "")
        folder.mkdir()
        raise error
    assert sorted(tmp_path.rglob("*")) == [folder.parent, folder.parent / "journal", kept]
    with removed_if_empty(folder):
        folder.mkdir()
    assert folder.is_dir()
