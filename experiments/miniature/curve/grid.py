"""What is evaluated while the arms are tuned, and where each arm is kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from verbalizer_bench.config import OneOrMore, check, read
from verbalizer_bench.experiments.grids import keep_grid
from verbalizer_bench.experiments.miniature.arms import ARMS, BASE
from verbalizer_bench.experiments.miniature.grids import check_grid, keep_base

GRID = Path(__file__).with_name("grid.yaml")
# What must be the same in all arms of a folder.
_SIZES = ("images", "steps", "limit", "texts", "items", "unseen", "captions")


@dataclass(frozen=True)
class CurveGrid:
    """The grid, read from a YAML file.

    Attributes:
        seeds: Tuning seeds: of the items, their order, the vision tower and the connector.
        arms: What is tuned, each as its recipe says.
        images: What LVLMs are shown; one.
        steps: Steps from one evaluation to the next.
        limit: Documents of each task.
        texts: How many texts a stand-in has, half of each class.
        items: Records that an arm is tuned on.
        unseen: Records of other scenes, for the held-out loss.
        captions: Captions that tower and connector are trained on; None for one a scene.
    """

    seeds: OneOrMore[int]
    arms: OneOrMore[str]
    images: OneOrMore[str]
    steps: int
    limit: int
    texts: int
    items: int
    unseen: int
    captions: int | None = None

    def __post_init__(self) -> None:
        check_grid(self, ("seeds", "arms", "images"), ("steps", "items", "unseen", "captions"))
        for name in self.arms:
            check("arms", name, name in ARMS, f"some of {', '.join(ARMS)}")
        check("images", list(self.images), len(self.images) == 1, "one")
        right = 2 <= self.limit <= self.texts
        check("limit", self.limit, right, "at least 2, for intervals, and at most texts")


class CurvePlace(NamedTuple):
    """The folder of the curves, and what is where in it."""

    folder: Path

    def keep(self, grid: CurveGrid) -> None:
        """Note the grid and the base; raise ValueError where what is there was made otherwise."""
        keep_grid(self.folder / "grid.yaml", grid, read_grid, _SIZES)
        keep_base(self.folder / "base_sha256", BASE, "the base")

    @property
    def fixed(self) -> Path:
        """Return the world whose texts every arm is asked."""
        return self.folder / "world"

    def cell(self, seed: int) -> Path:
        """Return a tuning seed's folder."""
        return self.folder / f"seed-{seed}"

    def world(self, seed: int) -> Path:
        """Return the world that a tuning seed draws."""
        return self.cell(seed) / "world"

    def connector(self, seed: int) -> Path:
        """Return a tuning seed's LLaVA, its connector aligned."""
        return self.cell(seed) / "connector"

    def arm(self, seed: int, name: str) -> Path:
        """Return an arm's checkpoint, with its curve."""
        return self.cell(seed) / name


def read_grid(path: str | Path = GRID) -> CurveGrid:
    """Read and check a grid; the shipped one by default."""
    return read(CurveGrid, path)
