"""What the study runs: its grid, the points of it, and where each of them is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.config import OneOrMore, read
from verbalizer_bench.experiments.grids import keep_grid
from verbalizer_bench.experiments.miniature.arms import ALIGNED, ARMS, BASE
from verbalizer_bench.experiments.miniature.grids import check_grid, keep_base, shown_images
from verbalizer_bench.io.json_reading import read_record

GRID = Path(__file__).with_name("grid.yaml")


@dataclass(frozen=True)
class Grid:
    """The study's grid, read from a YAML file.

    Attributes:
        bases: Seeds of the bases; 0 is the shipped one.
        seeds: Tuning seeds: of the items, their order, the vision tower and the connector.
        learning_rates: What each arm is tried with, at the first tuning seed.
        images: What LVLMs are shown; the first one is shown at every point.
        texts: How many texts a stand-in has, half of each class.
        items: Instruction records that an arm is tuned on.
        unseen: Records of other scenes: so many give the held-out loss, and others are asked in
            the second measure.
        captions: Captions that tower and connector are trained on; None for one a scene.
    """

    bases: OneOrMore[int]
    seeds: OneOrMore[int]
    learning_rates: OneOrMore[float]
    images: OneOrMore[str]
    texts: int
    items: int
    unseen: int
    captions: int | None = None

    def __post_init__(self) -> None:
        lists = ("bases", "seeds", "learning_rates", "images")
        check_grid(self, lists, ("items", "unseen", "captions"))

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Return each base with each tuning seed."""
        return [(base, seed) for base in self.bases for seed in self.seeds]

    def tried(self) -> "list[Point]":
        """Return the arms at the first tuning seed with every learning rate."""
        return [
            Point(base, self.seeds[0], name, rate)
            for base in self.bases
            for name in ARMS
            for rate in self.learning_rates
        ]

    def chosen(self, rates: dict[str, float]) -> "list[Point]":
        """Return each cell's arms with their chosen rates."""
        return [Point(base, seed, name, rates[name]) for base, seed in self.cells for name in ARMS]

    def untuned(self) -> "list[Point]":
        """Return the bases, and each cell's LLaVA whose connector alone was trained."""
        return [Point(base, None, "base", None) for base in self.bases] + [
            Point(base, seed, ALIGNED, None) for base, seed in self.cells
        ]


class Point(NamedTuple):
    """A checkpoint of the study.

    Attributes:
        base: Seed of its base.
        seed: Tuning seed; None for the base itself.
        model: `base`, `LVLM-aligned` or an arm.
        rate: Learning rate; None for what was not tuned.
    """

    base: int
    seed: int | None
    model: str
    rate: float | None

    @property
    def adapter(self) -> str:
        """Return what asks it."""
        if self.model in ARMS:
            return ARMS[self.model].adapter
        return "verbalizer-lvlm" if self.model == ALIGNED else "verbalizer-llm"

    @property
    def shows_images(self) -> bool:
        """Tell whether it is an LVLM."""
        return self.adapter == "verbalizer-lvlm"

    def images(self, every: Sequence[str]) -> tuple[str, ...]:
        """Return those of the images that it is asked with; a text model has one way, `""`."""
        return shown_images(self.model, every) if self.shows_images else ("",)


class Place(NamedTuple):
    """The folder of a study, and what is where in it."""

    folder: Path

    def keep(self, grid: Grid) -> None:
        """Note the grid; raise ValueError where what is there was made with other sizes."""
        sizes = ("texts", "items", "unseen", "captions")
        keep_grid(self.folder / "study" / "grid.yaml", grid, read_grid, sizes)

    def keep_base(self, seed: int) -> None:
        """Note a base's weights; raise ValueError where what is there was tuned from others."""
        file = self.folder / "study" / f"base-{seed}" / "sha256"
        keep_base(file, self.base(seed), f"base {seed}")

    @property
    def fixed(self) -> Path:
        """Return the world whose texts and unseen scenes all points are asked."""
        return self.folder / "study" / "world"

    def base(self, seed: int) -> Path:
        """Return a base's checkpoint."""
        return BASE if seed == 0 else self.folder / f"base-{seed}" / "base"

    def world(self, seed: int) -> Path:
        """Return the world that a tuning seed draws."""
        return self.folder / "study" / f"seed-{seed}" / "world"

    def tower(self, seed: int) -> Path:
        """Return a tuning seed's vision tower."""
        return self.folder / "study" / f"seed-{seed}" / "tower"

    def connector(self, base: int, seed: int) -> Path:
        """Return the LLaVA of a base and a seed's tower, its connector aligned."""
        return self.folder / "study" / f"seed-{seed}" / f"connector-of-base-{base}"

    def point(self, point: Point) -> Path:
        """Return the folder of a point: its checkpoint, runs and answers."""
        name = point.model if point.rate is None else f"{point.model}-lr-{point.rate:g}"
        cell = "base" if point.seed is None else f"seed-{point.seed}"
        return self.folder / "study" / f"base-{point.base}" / cell / name

    def checkpoint(self, point: Point) -> Path:
        """Return a point's checkpoint."""
        if point.seed is None:
            return self.base(point.base)
        if point.model == ALIGNED:
            return self.connector(point.base, point.seed)
        return self.point(point) / "checkpoint"

    def training(self, point: Point) -> dict[str, Any]:
        """Return what stands beside a point's checkpoint of its training."""
        return read_record(self.checkpoint(point) / "training.json")

    def answers(self, point: Point) -> Path:
        """Return the file of a point's answers about unseen scenes."""
        return self.point(point) / "formats.json"

    def run(self, point: Point, image: str) -> Path:
        """Return the folder of a point's run with an image; `""` for a text model."""
        return self.point(point) / "runs" / (image or "text")


def read_grid(path: str | Path = GRID) -> Grid:
    """Read and check a grid; the shipped one by default."""
    return read(Grid, path)
