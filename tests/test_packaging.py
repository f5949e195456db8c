"""What a wheel holds is what the tree holds."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, REPOSITORY

# What is committed to be read, and not to be installed.
NOT_SHIPPED = re.compile(r"verbalizer_bench/experiments/\w+/results/")
FOLDERS = {
    "verbalizer_bench": "src/verbalizer_bench",
    "verbalizer_bench/builders": "builders",
    "verbalizer_bench/experiments": "experiments",
    "verbalizer_bench/leaderboard": "leaderboard",
    "verbalizer_bench/lmms": "lmms",
    "verbalizer_bench/models": "models",
    "verbalizer_bench/recipes": "recipes",
    "verbalizer_bench/tasks": "tasks",
    "verbalizer_bench/trainers": "trainers",
}


def copied(folder: Path, links: bool = True) -> None:
    """Copy what a wheel is made of: setuptools leaves old files in the tree's build folder."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in FOLDERS.values():
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    if not links:
        for link in [path for path in (folder / "src").rglob("*") if path.is_symlink()]:
            target = str(link.readlink())
            link.unlink()
            link.write_text(target)


def build_wheel(folder: Path) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder / "dist"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    (file,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build a wheel from a copy of the tree."""
    folder = tmp_path_factory.mktemp("copy")
    copied(folder)
    return build_wheel(folder)


def tree_files() -> set[str]:
    files = set()
    for package, folder in FOLDERS.items():
        for file in (REPOSITORY / folder).rglob("*"):
            # Python 3.13 follows the links below `src`, which are the other folders.
            if any(part.is_symlink() for part in file.parents):
                continue
            if file.is_file() and "__pycache__" not in file.parts:
                files.add(f"{package}/{file.relative_to(REPOSITORY / folder).as_posix()}")
    return {file for file in files if not NOT_SHIPPED.match(file)}


def test_the_wheel_holds_every_file_of_the_tree(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == tree_files()


def test_a_clone_without_links_makes_the_same_wheel(tmp_path: Path) -> None:
    """Git on Windows writes a link as a file that holds its target, unless told otherwise."""
    copied(tmp_path, links=False)
    assert {name for name in build_wheel(tmp_path).namelist() if ".dist-info/" not in name} == (
        tree_files()
    )


def test_every_folder_of_code_has_a_link() -> None:
    with_code = {file.parent.name for file in REPOSITORY.glob("*/__init__.py")} - {"tests"}
    links = [path for path in (REPOSITORY / "src/verbalizer_bench").iterdir() if path.is_symlink()]
    assert {path.name for path in links} == with_code
    assert {path.resolve() for path in links} == {REPOSITORY / name for name in with_code}


def modules() -> list[str]:
    """Return every module of the package, by its full name."""
    files = [name for name in tree_files() if name.endswith(".py")]
    dotted = [name.removesuffix(".py").replace("/", ".") for name in files]
    return sorted(name.removesuffix(".__init__") for name in dotted)


def test_pyright_resolves_every_module(tmp_path: Path) -> None:
    """Of a project elsewhere, without a configuration, through the editable install alone."""
    program = tmp_path / "program.py"
    program.write_text("".join(f"import {name}\n" for name in modules()))
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    command += ["--outputjson", str(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=PATIENCE)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    rules = [found.get("rule") for found in report["generalDiagnostics"]]
    assert rules.count("reportUnusedImport") == len(modules()), report
    assert not {"reportMissingImports", "reportAttributeAccessIssue"} & set(rules), report


def test_jedi_goes_to_the_definition() -> None:
    jedi = pytest.importorskip("jedi")
    line = "from verbalizer_bench.tasks.metrics import token_f1"
    environment = jedi.create_environment(sys.executable, safe=False)
    script = jedi.Script(line, environment=environment)
    (name,) = script.goto(1, line.index("token_f1"), follow_imports=True)
    assert name.type == "function"
    assert name.module_path.resolve() == REPOSITORY / "tasks" / "metrics.py"
