"""Files that are written whole, or not at all."""

import errno
from pathlib import Path
from typing import Any

import pytest

from verbalizer_bench.io.files import write_whole


def test_a_full_disk_names_the_file_and_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "training.json"
    write_whole(file, "before")

    def full(self: Path, text: str, **kwargs: Any) -> None:
        self.write_bytes(b"bef")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
            write_whole(file, "after")
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]
