"""What a wheel holds is what the tree holds."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, REPOSITORY

FOLDERS = {
    "verbalizer_bench": "src/verbalizer_bench",
    "verbalizer_bench/builders": "builders",
    "verbalizer_bench/leaderboard": "leaderboard",
    "verbalizer_bench/lmms": "lmms",
    "verbalizer_bench/models": "models",
    "verbalizer_bench/recipes": "recipes",
    "verbalizer_bench/tasks": "tasks",
    "verbalizer_bench/trainers": "trainers",
}
PARTS = ("builders.miniature", "leaderboard.pages", "leaderboard.submission", "miniature")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build a wheel from a copy: setuptools leaves old files in the tree's build folder."""
    copy = tmp_path_factory.mktemp("copy") / "tree"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in FOLDERS.values():
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(copy / "dist"), str(copy)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    (file,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(file)


def tree_files() -> set[str]:
    files = set()
    for package, folder in FOLDERS.items():
        for file in (REPOSITORY / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                files.add(f"{package}/{file.relative_to(REPOSITORY / folder).as_posix()}")
    return files


def test_the_wheel_holds_every_file_of_the_tree(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == tree_files()


def test_every_folder_of_code_is_listed() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML by itself")
    config = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = [name.replace("/", ".") for name in FOLDERS]
    packages += [f"verbalizer_bench.{part}" for part in PARTS]
    assert sorted(config["packages"]) == sorted(packages)
    for package, folder in config["package-dir"].items():
        assert (REPOSITORY / folder / "__init__.py").is_file(), package
    with_code = {file.parent.name for file in REPOSITORY.glob("*/__init__.py")} - {"tests"}
    assert with_code == {Path(folder).name for folder in FOLDERS.values()} - {"verbalizer_bench"}
