"""What the pages of the miniature's studies have alike: how they are written, and some cells."""

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.results.tables import markdown_table


def write_page(folder: Path, parts: Sequence[str]) -> Path:
    """Write a folder's `README.md` of its parts."""
    file = folder / "README.md"
    write_whole(file, "\n\n".join(parts) + "\n")
    return file


def write_from_tables(
    module: str, write: Callable[[Path], Path], argv: Sequence[str] | None
) -> None:
    """Write a report by the command line of its module: the folder of its tables."""
    parser = argparse.ArgumentParser(f"python -m {module}")
    parser.add_argument("folder", type=Path, help="where the study's tables are")
    print(f"Wrote {write(parser.parse_args(argv).folder)}")


def answers(found: Sequence[tuple[str, str]]) -> str:
    """Return questions and what is answered as a list."""
    return "\n".join(f"- *{question}* {answer}" for question, answer in found)


def spread(cells: np.ndarray, scale: float = 1.0) -> str:
    """Return the mean of cells, times a scale, and, unless they are alike, the least and most."""
    mean, low, high = (scale * float(value) for value in (cells.mean(), cells.min(), cells.max()))
    return f"{mean:.1f}" if high - low < 0.05 else f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def response_table(rows: Sequence[Mapping[str, str]], images: Collection[str]) -> str:
    """Return the responses that `rows.example_rows` gave, to some images."""
    cells = [
        [
            f"{row['model']}{', ' + row['image'] if row['image'] else ''}",
            row["task"].removeprefix("verbalizer_"),
            row["target"],
            f"`{' '.join(row['response'].replace('`', ' ').split()) or ' '}`",
            row["outcome"],
        ]
        for row in rows
        if row["image"] in images
    ]
    return markdown_table(["Model", "Task", "Wanted", "Response", "Outcome"], cells)
