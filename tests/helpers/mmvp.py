"""Folders in MMVP's layout for tests: made images, and the questions of the release."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from verbalizer_bench.tasks.mmvp.questions import COLUMNS, FILE, IMAGES

SHARED = Path(os.environ.get("VERBALIZER_BENCH_SHARED", "../shared")) / "data" / "mmvp"
PAIR = ("Is the wing open or closed?", "(a) Open (b) Closed")


def rows(pairs: int = 2) -> list[list[Any]]:
    """Return rows of pairs, whose answers are (a), (b)."""
    made = []
    for index in range(1, 2 * pairs + 1):
        made.append([index, *PAIR, "(a)" if index % 2 else "(b)"])
    return made


def table(lines: Sequence[Sequence[Any]], header: Sequence[str] = COLUMNS) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    return text.getvalue()


def write_folder(
    folder: Path, content: str | bytes, images: int, suffix: str = ".jpg", mode: str = "RGB"
) -> Path:
    """Write a table and as many images, each of a grey level of its own."""
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    raw = content.encode() if isinstance(content, str) else content
    (folder / FILE).write_bytes(raw)
    for index in range(1, images + 1):
        image = Image.new("L", (8, 8), (index * 37) % 256).convert(mode)
        image.save(folder / IMAGES / f"{index}{suffix}")
    return folder
