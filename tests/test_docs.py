"""What README and docs/ say of files, pages, commands, counts and errors is so."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer
import yaml

import verbalizer_bench
from tests.conftest import PATIENCE, REPOSITORY
from verbalizer_bench.cli.app import app
from verbalizer_bench.tasks.metrics import outcome, token_f1

DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
FOLDERS = (
    "docs",
    "tasks",
    "recipes",
    "experiments",
    "benchmarks",
    "leaderboard",
    "examples",
    ".github",
)
CODE = ("tasks", "models", "trainers", "builders", "leaderboard", "lmms", "experiments")
FOUND = [page for folder in FOLDERS for page in (REPOSITORY / folder).rglob("*.md")]
PAGES = sorted({*REPOSITORY.glob("*.md"), *FOUND})


def text_of(page: Path) -> str:
    """Return a page's text without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def links_of(page: Path) -> list[tuple[str, str]]:
    """Return place and heading of a page's links to the repository."""
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    return [link.partition("#")[::2] for link in links if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_point_to_what_is_there(page: Path) -> None:
    for place, heading in links_of(page):
        file = page.parent / place if place else page
        assert file.exists(), place
        assert file.resolve().is_relative_to(REPOSITORY), place
        assert not heading or heading in headings(file), (place, heading)


def headings(page: Path) -> set[str]:
    """Return a page's headings as links name them."""
    titles = re.findall(r"^#+ (.*)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_two_clicks_from_the_readme() -> None:
    once = linked(README)
    twice = {page for first in once if first.suffix == ".md" for page in linked(first)}
    assert {*DOCS.glob("*.md")} <= once | twice
    assert len(README.read_text("utf-8").splitlines()) <= 150


def linked(page: Path) -> set[Path]:
    return {(page.parent / place).resolve() for place, _ in links_of(page) if place}


def test_every_command_has_its_page() -> None:
    page = (DOCS / "commands.md").read_text("utf-8")
    rows = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    stated = {f"{words[0]} {name}" for words in rows_of(rows) for name in words[1:]}
    stated |= {words[0] for words in rows_of(rows) if len(words) == 1}
    assert stated == set(every_command())


def rows_of(cells: list[str]) -> list[list[str]]:
    """Return a command of each cell with those below it: `submit pack`, `validate`."""
    rows = []
    for cell in cells:
        words = [name.split() for name in re.findall(r"`(.*?)`", cell)]
        rows.append([words[0][0], *(name[-1] for name in words if len(words[0]) > 1)])
    return rows


def every_command() -> list[str]:
    group = typer.main.get_command(app)
    names = []
    for name, command in group.commands.items():
        below = getattr(command, "commands", {})
        names += [f"{name} {inner}" for inner in below] or [name]
    return names


def test_every_function_of_the_api_has_its_entry() -> None:
    page = (DOCS / "api" / "index.md").read_text("utf-8")
    entries = re.findall(r"^::: verbalizer_bench\.api\.(\w+)$", page, flags=re.MULTILINE)
    assert {*entries} >= {name for name in verbalizer_bench.__all__ if name != "__version__"}


def test_badges_citation_and_changelog_name_the_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    stated = {
        "version": f"version: {project['version']}",
        "python": f"python: {project['requires-python'].removeprefix('>=')}+",
        "licence": f"licence: {project['license']}",
    }
    for name, text in stated.items():
        assert f'aria-label="{text}"' in (DOCS / "badges" / f"{name}.svg").read_text("utf-8")
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == project["version"] and citation["license"] == project["license"]
    assert f"## {project['version']} " in (REPOSITORY / "CHANGELOG.md").read_text("utf-8")


def test_the_examples_of_scores() -> None:
    rows = re.findall(
        r"^\| `(.+?)` \| (\d+) \| (\w+) \|$", text_of(DOCS / "scores.md"), re.MULTILINE
    )
    assert len(rows) >= 8
    for response, f1, kind in rows:
        assert f"{100 * token_f1('positive', response):.0f}" == f1, response
        assert outcome("positive", "negative", response) == kind, response


def test_the_journeys_are_counted() -> None:
    text = (REPOSITORY / "docs" / "journeys.md").read_text(encoding="utf-8")
    for journey in text.split("\n## ")[1:]:
        stated = re.search(r"\n(\d+) files, (\d+) on the way and (\d+) beside it", journey)
        assert stated
        files = re.findall(r"^\d+\. (\*?)\[", journey, flags=re.MULTILINE)
        assert tuple(map(int, stated.groups())) == (len(files), files.count(""), files.count("*"))


def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    """Every link of every page leads to a page and a heading; nothing is loaded from elsewhere."""
    pytest.importorskip("mkdocs", reason="pip install -c constraints.txt -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict"]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path)],
        cwd=REPOSITORY,
        env=quiet,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md")))
    for page in pages:
        html = html_of(page)
        assert not [place for place in html.loaded if "://" in place or place.startswith("//")]
        for link in {*html.links, *html.loaded} if page.name != "404.html" else ():
            place, _, heading = unquote(link).partition("#")
            file = (page.parent / place.partition("?")[0]).resolve() if place else page
            assert file.is_file(), (page, link)
            assert not heading or heading in html_of(file).names, (page, link)
    options = (tmp_path / "cli.html").read_text("utf-8")
    assert 'id="verbalizer-bench-submit-pack"' in options and "--apply_chat_template" in options


class Html(HTMLParser):
    """What a page links to in the site, what it loads, and what its parts are called."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.names.add(values.get("id") or "")
        if link := values.get("href"):
            if tag == "link" and values.get("rel") != "canonical":
                self.loaded.append(link)
            elif tag == "a" and "://" not in link:
                self.links.append(link)
        if values.get("src"):
            self.loaded.append(str(values["src"]))


@cache
def html_of(page: Path) -> Html:
    parser = Html()
    parser.feed(page.read_text("utf-8"))
    return parser


def test_troubleshooting_quotes_errors_that_there_are() -> None:
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    tables = page.split("| the line says | do |\n")[1:]
    rows = [line for table in tables for line in table.split("\n\n")[0].splitlines()[1:]]
    quoted = [re.findall(r"`+(.*?)`+", row)[0] for row in rows]
    assert len(quoted) > 80
    sayings = every_saying()
    for text in quoted:
        wanted = ".*".join(re.escape(piece.strip(" ")) for piece in text.split("…"))
        assert re.search(wanted, sayings), text


@cache
def every_saying() -> str:
    """Return every text of the package's code, a line each; … stands for what is filled in."""
    files = (file for file in REPOSITORY.glob("src/verbalizer_bench/**/*.py"))
    linked = (file for name in CODE for file in (REPOSITORY / name).rglob("*.py"))
    trees = (ast.parse(file.read_text("utf-8")) for file in {*files, *linked})
    return "\n".join(text for tree in trees for text in sayings(tree))


def sayings(tree: ast.AST) -> list[str]:
    """Return the texts of a module, without its docstrings."""
    nodes = list(ast.walk(tree))
    documenting = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [text for node in nodes if id(node) not in documenting and (text := saying(node))]


def saying(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.replace("\n", " ")
    if isinstance(node, ast.JoinedStr):
        return "".join(saying(part) or "…" for part in node.values)
    return None
