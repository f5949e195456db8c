"""A browser for the pages: Debian's or anybody's Chromium, driven by playwright."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.conftest import PATIENCE

# Of tests that have no number of their own: `make test-slow` asks for it.
settings.register_profile("many", max_examples=600)


class Visit:
    """A page opened in a browser, and what went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("console", lambda m: self.faults.append(f"console: {m.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.faults.append("dialog"), dialog.dismiss()))
        page.on("request", self._requested)

    def _requested(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.faults.append(f"request: {request.url}")


# Not for the session: while playwright is open, its loop runs, and no other test can start one.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return a headless Chromium; skip where there is none, except where one is promised."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    promised = os.environ.get("VERBALIZER_BENCH_CHROMIUM")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = promised or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no chromium in the PATH")
    with playwright.sync_playwright() as driver:
        # Its sandbox needs rights that containers do not give.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Any]:
    """Return a function that opens a file in a window of its own."""
    contexts = []

    def open_page(path: Path, **options: Any) -> Visit:
        contexts.append(chromium.new_context(**options))
        # Playwright's 30 s are short where others use the machine.
        contexts[-1].set_default_timeout(1000 * PATIENCE)
        found = Visit(contexts[-1].new_page())
        found.page.goto(path.as_uri())
        return found

    yield open_page
    for context in contexts:
        context.close()
