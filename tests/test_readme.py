"""Every command and program of the README and of docs/ runs, on toy checkpoints."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main

DOCS = REPOSITORY / "docs"
REPRODUCE = DOCS / "reproduce.md"
# The other pages go on with the runs of this one; that one has runs of its own.
FIRST = [REPOSITORY / "README.md", DOCS / "running.md"]
OTHERS = sorted({*DOCS.glob("*.md")} - {REPRODUCE, *FIRST})
PAGES = {"README": [*FIRST, *OTHERS], "reproduce": [REPRODUCE]}


def commands(page: Path) -> list[list[str]]:
    """Return the `verbalizer-bench` commands of a page's shell blocks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").split("\n")
    return [
        shlex.split(line, comments=True)[1:]
        for line in lines
        if line.startswith("verbalizer-bench ")
    ]


def on_toys(command: list[str], toys: tuple[Path, Path]) -> list[str]:
    """Replace checkpoints and data by toys, and the suite by one data set."""
    toy = toys["verbalizer-lvlm" in command]
    command = [re.sub(r"pretrained=[^,]*", f"pretrained={toy}", word) for word in command]
    command = ["verbalizer_sst2" if word == "verbalizer" else word for word in command]
    command = ["sample" if word == "data" and command[0] != "data" else word for word in command]
    if command[0] == "run" and "--resume" not in command:
        command += ["--limit", "1", "--device", "cpu"]
    return command


@pytest.mark.parametrize("pages", PAGES.values(), ids=PAGES)
def test_commands_run(
    pages: list[Path],
    toys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "sample")
    write_own_set(tmp_path / "my_set")
    found = [command for page in pages for command in commands(page)]
    assert len(found) >= 4
    for command in found:
        if command[0] == "data":
            continue  # The hub: tests/tasks/test_hub.py.
        if command[0] in ("submit", "leaderboard"):
            continue  # They want a whole run: tests/leaderboard/test_publishing.py.
        assert main(on_toys(command, toys)) == 0, command
    assert (tmp_path / "out" / "report" / "scores.png").is_file()


def test_the_readmes_python_runs(
    toys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    few = '"tasks": "verbalizer_sst2", "data": "sample", "limit": 2, "device": "cpu", "apply_chat'
    changes = {"BASE": str(toys[0]), "TUNED": str(toys[0]), '"apply_chat': few}
    program = changed(python_block(REPOSITORY / "README.md"), changes)
    assert len(program.splitlines()) <= 6
    exec(program, {})
    assert "F1 over all cannot be told apart, 0.0" in capsys.readouterr().out
    assert (tmp_path / "out" / "report" / "report.html").is_file()

    model = {"meta-llama/Llama-2-7b-chat-hf": str(toys[0]), "bfloat16": "float32"}
    options = {'batch_size="auto"': 'tasks="verbalizer_sst2", data="sample", limit=2, device="cpu"'}
    exec(changed(python_block(DOCS / "python.md"), model | options), {})
    assert "F1 over all cannot be told apart, 0.0" in capsys.readouterr().out
    assert (tmp_path / "out" / "llama").is_dir()


def python_block(page: Path) -> str:
    """Return a page's one Python program, without the empty lines."""
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    return block.replace("\n\n", "\n")


def changed(program: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in program
        program = program.replace(old, new)
    return program


def write_own_set(folder: Path) -> None:
    text = (DOCS / "add-a-data-set.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(class: .*?)```", text, flags=re.DOTALL)
    folder.mkdir()
    (folder / "_my_set.yaml").write_text(block)
    row = json.loads(re.findall(r"such as `(\{.*?\})`", text)[0])
    rows = [row, row | {"remark": "badly done", "kind": 0}]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_the_demo_output_has_its_warning() -> None:
    text = (DOCS / "demo.md").read_text(encoding="utf-8")
    from verbalizer_bench.experiments.miniature.demo_results import TOY_WARNING

    assert TOY_WARNING in text.replace("\n", " ")
