"""Self-contained HTML: one file, no other host, every text escaped.

A template extends `base.html.jinja`. Its scripts are inline, and the page's content security policy
allows these and no other: text that slips through as markup still could not run.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from verbalizer_bench.results.answers import interval, row_name

TEMPLATES = Path(str(files("verbalizer_bench.leaderboard.pages"))) / "templates"


class Shade(NamedTuple):
    """A cell's colours, as CSS has them."""

    background: str
    text: str


def render(template: str, *, scripts: Sequence[str] = ("tables.js",), **values: Any) -> str:
    """Return a page.

    Args:
        template: A file of `templates`, which extends `base.html.jinja`.
        scripts: The scripts of `templates` that it runs, in order.
        values: What the template shows; text is escaped.
    """
    texts = [_read(name) for name in scripts]
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(_read("style.css")),
            scripts=[Markup(text) for text in texts],
            hashes=[_script_hash(text) for text in texts],
            **values,
        )
    )


def svg_image(draw: Callable[[Sequence[Path]], None], alternative: str) -> Markup:
    """Return an `<img>` that holds an SVG figure.

    Args:
        draw: Writes the figure to the files that it is given.
        alternative: What the figure shows, for readers who do not see it.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figure.svg"
        draw((file,))
        encoded = base64.b64encode(file.read_bytes()).decode()
    source = f"data:image/svg+xml;base64,{encoded}"
    return Markup('<img alt="{}" src="{}">').format(alternative, source)


def embedded_json(value: Any) -> Markup:
    """Return JSON that can stand inside a `<script>`: without `<`, which could end it."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def shade(share: float) -> Shade:
    """Return a heat map's colours for a number in [0, 1]: light to dark blue, one hue.

    The lightness falls evenly, so that it reads without colour too.
    """
    share = min(1.0, max(0.0, share))
    light, dark = (0xF4, 0xF8, 0xFC), (0x0B, 0x3C, 0x6F)
    mixed = [round(a + (b - a) * share) for a, b in zip(light, dark, strict=True)]
    return Shade("#" + "".join(f"{part:02x}" for part in mixed), "#fff" if share > 0.68 else "#000")


def percent(share: float | None, signed: bool = False) -> str:
    """Return a share as a number of points of 100 with one decimal; `-` for None."""
    if share is None:
        return "-"
    points = round(100 * share, 1) + 0.0
    # What rounds to 0 has no sign.
    return f"{points:+.1f}" if signed and points else f"{points:.1f}"


def count_of(number: int | None) -> str:
    """Return a large number as a reader would say it: 7.06B, 1.1M; nothing for None."""
    if number is None:
        return ""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, shade=shade, count_of=count_of)
    environment.filters.update(told=interval, row_name=row_name)
    return environment


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _script_hash(text: str) -> str:
    """Return what a content security policy calls a script that may run."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
