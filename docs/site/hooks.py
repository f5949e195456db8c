"""What `mkdocs build` adds to docs/: README, the files that pages link to, and every option.

Pages link to files beside docs/ (`../tasks/README.md`, `../recipes/paper`), as GitHub shows them.
Here each such file gets a page below `repository/`, and the links lead there: Markdown as it is,
a folder as its README or a list of its files, other texts as code.
"""

import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
BESIDE = "repository/"
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
FENCE = re.compile(r"(^```.*?^```|^~~~~.*?^~~~~)", flags=re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".html": "html"}
PICTURES = (".png", ".svg")
UNSEARCHED = "---\nsearch: {exclude: true}\n---\n"


def on_files(files: Files, config: Any) -> Files:
    """Add the start page, the reference of all options, and what pages link to beside docs/."""
    files.append(File.generated(config, "index.md", content=_start()))
    files.append(File.generated(config, "cli.md", content=_options()))
    found: set[str] = set()
    queue = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    queue = [name for name in queue if (ROOT / name).is_file()] + ["README.md"]
    while queue:
        source = queue.pop()
        for target in _links(source):
            if target.startswith("docs/") or target in found:
                continue
            found.add(target)
            queue.append(target)
            files.append(_beside(target, config))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to what stands beside docs/ into links to its page."""
    source = _source(page.file.src_uri)
    return _outside_code(markdown, lambda text: LINK.sub(lambda link: _moved(link, source), text))


def _source(page: str) -> str:
    """Return which file of the repository a page shows."""
    if page == "index.md":
        return "README.md"
    if page.startswith(BESIDE):
        name = page.removeprefix(BESIDE)
        return name if (ROOT / name).exists() else name.removesuffix(".md")
    return f"docs/{page}"


def _moved(link: re.Match[str], source: str) -> str:
    place, mark, heading = link[2].partition("#")
    if "://" in place or not place:
        return link[0]
    target = _target(place, source)
    here = _page_of(source)
    to = posixpath.relpath(_page_of(target), posixpath.dirname(here) or ".")
    return f"{link[1]}{to}{mark}{heading}{link[3]}"


def _target(place: str, source: str) -> str:
    """Return what a link leads to: a file of the repository, or a folder with no README."""
    folder = source if (ROOT / source).is_dir() else posixpath.dirname(source)
    path = (ROOT / folder / place).resolve()
    if (path / "README.md").is_file():
        path /= "README.md"
    return path.relative_to(ROOT).as_posix()


def _page_of(target: str) -> str:
    if target == "README.md":
        return "index.md"
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    plain = target.endswith((".md", *PICTURES)) and not (ROOT / target).is_dir()
    return f"{BESIDE}{target}" + ("" if plain else ".md")


def _links(source: str) -> list[str]:
    """Return what a file or folder of the repository links to, without other places' addresses."""
    path = ROOT / source
    if path.is_dir():
        return [f"{source}/{name}" for name in _texts(path)]
    if path.suffix != ".md":
        return []
    links: list[str] = []
    _outside_code(path.read_text("utf-8"), lambda text: _collect(text, links))
    places = [link.partition("#")[0] for link in links if "://" not in link]
    return [_target(place, source) for place in places if place]


def _collect(text: str, links: list[str]) -> str:
    links += [link[2] for link in LINK.finditer(text)]
    return text


def _outside_code(markdown: str, change: Any) -> str:
    parts = FENCE.split(markdown)
    return "".join(part if index % 2 else change(part) for index, part in enumerate(parts))


def _beside(target: str, config: Any) -> File:
    path, page = ROOT / target, _page_of(target)
    if target.endswith(PICTURES):
        return File.generated(config, page, abs_src_path=str(path))
    if path.is_dir():
        items = [f"- [{name}]({name})" for name in _texts(path)]
        content = f"{UNSEARCHED}# {target}\n\n" + "\n".join(items) + "\n"
    elif path.suffix == ".md":
        content = path.read_text("utf-8")
    else:
        text = path.read_text("utf-8")
        content = (
            f"{UNSEARCHED}# {target}\n\n~~~~{LANGUAGES.get(path.suffix, 'text')}\n{text}\n~~~~\n"
        )
    return File.generated(config, page, content=content, inclusion=InclusionLevel.NOT_IN_NAV)


def _texts(folder: Path) -> list[str]:
    """Return the files of a folder that a page can show."""
    kinds = (".md", ".txt", *LANGUAGES)
    return sorted(file.name for file in folder.iterdir() if file.suffix in kinds)


def _start() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def _options() -> str:
    """Return the help of every command as one page."""
    os.environ["COLUMNS"] = "100"
    import typer

    from verbalizer_bench.cli.app import NAME, app

    text = "# All options\n\nWhat `--help` prints.\n"
    group = typer.main.get_command(app)
    with typer.Context(group, info_name=NAME) as context:
        for name in group.list_commands(context):
            text += _help(group.get_command(context, name), context, name)
    return text


def _help(command: Any, above: Any, name: str) -> str:
    """Return a command's help, and that of the commands below it."""
    context = type(above)(command, info_name=name, parent=above)
    # lm-eval's say themselves what they take.
    if command.context_settings.get("ignore_unknown_options"):
        words = [sys.executable, "-m", "verbalizer_bench", name, "--help"]
        text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    else:
        text = command.get_help(context)
    text = f"\n## {context.command_path}\n\n```text\n{text}\n```\n"
    for below in command.list_commands(context) if hasattr(command, "list_commands") else ():
        text += _help(command.get_command(context, below), context, below)
    return text
