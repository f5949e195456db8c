"""What the study of mixtures runs: its grid, the points of it, and where each of them is kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.config import OneOrMore, check, read
from verbalizer_bench.experiments.grids import keep_grid
from verbalizer_bench.experiments.miniature.arms import BASE
from verbalizer_bench.experiments.miniature.grids import check_grid, keep_base
from verbalizer_bench.experiments.miniature.mof.scenes import scenes
from verbalizer_bench.experiments.miniature.mof.towers import TOWERS
from verbalizer_bench.io.json_reading import read_record

GRID = Path(__file__).with_name("grid.yaml")
ADDITIVE, INTERLEAVED, CHANNEL = "Additive-", "Interleaved", "Channel"
# What must be the same in all points of a folder.
_SIZES = ("texts", "pairs", "items", "held_out", "captions", "tower_steps")


@dataclass(frozen=True)
class MofGrid:
    """The grid of the study of mixtures, read from a YAML file.

    Attributes:
        seeds: Tuning seeds: of towers, connector, records and their order.
        images: What checkpoints are shown with the suite's prompts; the first one leads.
        texts: How many texts a stand-in has, half of each class.
        pairs: Pairs in MMVP's layout of either kind.
        items: Records of a tuning.
        held_out: Records of other scenes, of the held-out loss.
        captions: Captions that connectors are aligned on.
        tower_steps: Steps of a tower's training.
        alphas: The first tower's shares in additive mixtures.
        learning_rates: What all arms are tried with, at the first tuning seed.
    """

    seeds: OneOrMore[int]
    images: OneOrMore[str]
    texts: int
    pairs: int
    items: int
    held_out: int
    captions: int
    tower_steps: int
    alphas: OneOrMore[float]
    learning_rates: OneOrMore[float]

    def __post_init__(self) -> None:
        counts = ("pairs", "items", "held_out", "captions", "tower_steps")
        check_grid(self, ("seeds", "images", "alphas", "learning_rates"), counts)
        for alpha in self.alphas:
            check("alphas", alpha, 0 < alpha < 1, "above 0 and below 1")
        for name, split in (("pairs", "test"), ("captions", "train")):
            most = len(scenes(split))
            check(name, getattr(self, name), getattr(self, name) <= most, f"at most {most}")

    @property
    def arms(self) -> tuple[str, ...]:
        """Return the arms in the order of tables."""
        additive = (f"{ADDITIVE}{alpha:g}" for alpha in self.alphas)
        first, second = TOWERS
        return (first, *additive, second, INTERLEAVED, CHANNEL)


class MofPoint(NamedTuple):
    """A checkpoint of the study.

    Attributes:
        seed: Tuning seed; None for the base itself.
        arm: `base` or an arm.
        rate: Learning rate; None for the base.
    """

    seed: int | None
    arm: str
    rate: float | None = None


BASE_POINT = MofPoint(None, "base")


class MofPlace(NamedTuple):
    """The folder of a study of mixtures, and what is where in it."""

    folder: Path

    def keep(self, grid: MofGrid) -> None:
        """Note the grid and the base; raise ValueError where what is there was made otherwise."""
        keep_grid(self.folder / "grid.yaml", grid, read_grid, _SIZES)
        keep_base(self.folder / "base_sha256", BASE, "the base")

    @property
    def fixed(self) -> Path:
        """Return the folder of what all points are asked."""
        return self.folder / "asked"

    def cell(self, seed: int) -> Path:
        """Return a tuning seed's folder."""
        return self.folder / f"seed-{seed}"

    def world(self, seed: int) -> Path:
        """Return the world that a tuning seed draws."""
        return self.cell(seed) / "world"

    def tower(self, seed: int, name: str) -> Path:
        """Return a tuning seed's tower."""
        return self.cell(seed) / name

    def seen(self, seed: int) -> Path:
        """Return the file of what a tuning seed's towers see."""
        return self.cell(seed) / "seen.json"

    def point(self, point: MofPoint) -> Path:
        """Return the folder of a point: its checkpoints and runs."""
        if point.seed is None:
            return self.folder / "base"
        return self.cell(point.seed) / f"{point.arm}-lr-{point.rate:g}"

    def aligned(self, point: MofPoint) -> Path:
        """Return a LLaVA whose connector alone was trained, the same for every rate."""
        assert point.seed is not None
        return self.cell(point.seed) / f"{point.arm}-aligned"

    def checkpoint(self, point: MofPoint) -> Path:
        """Return a point's checkpoint."""
        return BASE if point.seed is None else self.point(point) / "checkpoint"

    def training(self, point: MofPoint) -> dict[str, Any]:
        """Return what stands beside a point's checkpoint of its training."""
        return read_record(self.checkpoint(point) / "training.json")

    def run(self, point: MofPoint, image: str) -> Path:
        """Return the folder of a point's run of the suite with an image; `""` for a text model."""
        return self.point(point) / "runs" / (image or "text")

    def pairs(self, point: MofPoint) -> Path:
        """Return the folder of a point's run of the pairs."""
        return self.point(point) / "runs" / "pairs"


def read_grid(path: str | Path = GRID) -> MofGrid:
    """Read and check a grid; the shipped one by default."""
    return read(MofGrid, path)
