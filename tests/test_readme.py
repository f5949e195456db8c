"""Every command of the README and of docs/ runs, on toy checkpoints; links and counts hold."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main

REPRODUCE = REPOSITORY / "docs" / "reproduce.md"
# The pages of docs/ go on with README's runs; that one has runs of its own.
OTHERS = sorted(page for page in REPOSITORY.glob("docs/*.md") if page != REPRODUCE)
PAGES = {"README": [REPOSITORY / "README.md", *OTHERS], "reproduce": [REPRODUCE]}


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
    write_readme_set(tmp_path / "my_set")
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
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    for old, new in (
        ("meta-llama/Llama-2-7b-chat-hf", str(toys[0])),
        ("bfloat16", "float32"),
        ('batch_size="auto"', 'tasks="verbalizer_sst2", data="sample", limit=2, device="cpu"'),
    ):
        assert block.count(old) == 1
        block = block.replace(old, new)
    model = ["--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"]
    rest = ["--tasks", "verbalizer_sst2", "--data", "sample", "--limit", "2", "--device", "cpu"]
    words = [*model, *rest, "--apply_chat_template", "--output_path", "out/tuned"]
    assert main(["run", *words]) == 0
    capsys.readouterr()
    exec(block, {})
    assert "F1 over all cannot be told apart, 0.0" in capsys.readouterr().out
    assert (tmp_path / "out" / "llama").is_dir()


def write_readme_set(folder: Path) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(class: .*?)```", text, flags=re.DOTALL)
    folder.mkdir()
    (folder / "_my_set.yaml").write_text(block)
    row = json.loads(re.findall(r"such as `(\{.*?\})`", text)[0])
    rows = [row, row | {"remark": "badly done", "kind": 0}]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_the_demo_output_has_its_warning() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    from verbalizer_bench.experiments.miniature.demo import TOY_WARNING

    assert TOY_WARNING in text


@pytest.mark.parametrize("page", sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")]))
def test_links_point_to_what_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert links, page
    for link in links:
        place, _, heading = link.partition("#")
        file = page.parent / place if place else page
        assert "://" in link or file.exists(), link
        assert "://" in link or not heading or heading in headings(file), link


def headings(page: Path) -> set[str]:
    """Return a page's headings as links name them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_journeys_are_counted() -> None:
    text = (REPOSITORY / "docs" / "journeys.md").read_text(encoding="utf-8")
    for journey in text.split("\n## ")[1:]:
        stated = re.search(r"\n(\d+) files, (\d+) on the way and (\d+) beside it", journey)
        assert stated
        files = re.findall(r"^\d+\. (\*?)\[", journey, flags=re.MULTILINE)
        assert tuple(map(int, stated.groups())) == (len(files), files.count(""), files.count("*"))
