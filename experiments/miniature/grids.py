"""What the grids of the miniature's studies have alike: checks, images, the base."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.config import check
from verbalizer_bench.experiments.grids import check_lists, keep_weights
from verbalizer_bench.experiments.miniature.arms import ALIGNED
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.models.images import MODES


def check_grid(grid: Any, lists: Sequence[str], counts: Sequence[str]) -> None:
    """Check the keys that all grids have, and others of their kinds.

    Args:
        grid: With `seeds`, `images` and `texts`.
        lists: Keys with lists, in which nothing may stand twice.
        counts: Keys with numbers from 1 on, or None.

    Raises:
        ValueError: A value is wrong.
    """
    check_lists(grid, lists, counts)
    for image in grid.images:
        check("images", image, image in MODES, f"one of {', '.join(MODES)}")
    check("seeds", list(grid.seeds), len(grid.seeds) > 1, "at least two: intervals are over them")
    check("texts", grid.texts, grid.texts >= 2 and grid.texts % 2 == 0, "even, at least 2")


def keep_base(file: Path, base: Path, name: str) -> None:
    """Note the weights of a base that a study starts from; see `keep_weights`."""
    keep_weights(file, read_record(base / "base.json")["sha256"], name)


def shown_images(model: str, every: Sequence[str]) -> tuple[str, ...]:
    """Return those of the images that an LVLM is asked with.

    A LLaVA that is not tuned is its base where there is no image.
    """
    return tuple(image for image in every if model != ALIGNED or image != "none")
