"""What the repair study runs: its grid, the points of it, and where each of them is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.config import OneOrMore, check, read
from verbalizer_bench.experiments.grids import keep_grid
from verbalizer_bench.experiments.miniature.arms import ALIGNED, BASE
from verbalizer_bench.experiments.miniature.grids import check_grid, keep_base, shown_images
from verbalizer_bench.experiments.miniature.repair.remedies import PLAIN, REMEDIES, merged_name
from verbalizer_bench.io.json_reading import read_record

GRID = Path(__file__).with_name("grid.yaml")
# What must be the same in all points of a folder.
_SIZES = ("texts", "items", "unseen", "prompts", "minimum_gap", "replay", "captions")


@dataclass(frozen=True)
class RepairGrid:
    """The repair study's grid, read from a YAML file.

    Attributes:
        seeds: Tuning seeds: of the items, their order, tower, connector and prompts.
        images: What checkpoints are shown; the first one is shown at every point.
        texts: How many texts a stand-in has, half of each class.
        items: Records, or pairs, of a training.
        unseen: Records of other scenes: so many give the held-out loss, and others are asked.
        prompts: Prompts that preference data are made of, and items of format pairs.
        minimum_gap: Of the marks of a pair.
        replay: The share of text in `Replay`.
        coefficients: The tuned model's shares in merged weights.
        learning_rates: What each remedy is tried with, at the first tuning seed.
        tuned_rates: Other rates of the tuning itself, at the first tuning seed: how much is
            forgotten where less is learned.
        captions: Captions that tower and connector are trained on; None for one a scene.
    """

    seeds: OneOrMore[int]
    images: OneOrMore[str]
    texts: int
    items: int
    unseen: int
    prompts: int
    minimum_gap: int
    replay: float
    coefficients: OneOrMore[float]
    learning_rates: dict[str, OneOrMore[float]]
    tuned_rates: OneOrMore[float] = ()
    captions: int | None = None

    def __post_init__(self) -> None:
        counts = ("items", "unseen", "prompts", "captions")
        check_grid(self, ("seeds", "images", "coefficients"), counts)
        first = self.images[0]
        check("images", first, first != "none", f"an image first, for {ALIGNED} is asked with it")
        check("replay", self.replay, 0 < self.replay < 1, "above 0 and below 1")
        for name in self.learning_rates:
            check("learning_rates", name, name in REMEDIES, f"some of {', '.join(REMEDIES)}")
        missing = [name for name in REMEDIES if not self.learning_rates.get(name)]
        check("learning_rates", "", not missing, f"at least one rate for {', '.join(missing)}")

    @property
    def models(self) -> tuple[str, ...]:
        """Return what is scored, in the order of tables."""
        merged = (merged_name(coefficient) for coefficient in self.coefficients)
        return ("base", ALIGNED, PLAIN, *REMEDIES, *merged)

    def tried(self) -> "list[RemedyPoint]":
        """Return the remedies at the first tuning seed with every learning rate."""
        return [
            RemedyPoint(self.seeds[0], name, rate)
            for name in REMEDIES
            for rate in self.learning_rates[name]
        ]

    def tuned(self) -> "list[RemedyPoint]":
        """Return the tuned model at the first tuning seed with other rates than its recipe's."""
        return [RemedyPoint(self.seeds[0], PLAIN, rate) for rate in self.tuned_rates]

    def of_cell(self, seed: int, rates: dict[str, float]) -> "list[RemedyPoint]":
        """Return what is scored of a tuning seed, the remedies with their chosen rates."""
        names = [name for name in self.models if name != "base"]
        return [RemedyPoint(seed, name, rates.get(name)) for name in names]


class RemedyPoint(NamedTuple):
    """A checkpoint of the repair study.

    Attributes:
        seed: Tuning seed; None for the base itself.
        model: `base`, `LVLM-aligned`, `LVLM-LLaVA`, a remedy, or `Merge-` with a coefficient.
        rate: Learning rate of a remedy, or of a tuning whose rate is not its recipe's; None for
            the others.
    """

    seed: int | None
    model: str
    rate: float | None = None

    @property
    def adapter(self) -> str:
        """Return what asks it."""
        return "verbalizer-llm" if self.model == "base" else "verbalizer-lvlm"

    def images(self, every: Sequence[str]) -> tuple[str, ...]:
        """Return those of the images that it is asked with; a text model has one way, `""`."""
        return ("",) if self.model == "base" else shown_images(self.model, every)


BASE_POINT = RemedyPoint(None, "base")


class RepairPlace(NamedTuple):
    """The folder of a repair study, and what is where in it."""

    folder: Path

    def keep(self, grid: RepairGrid) -> None:
        """Note the grid and the base; raise ValueError where what is there was made otherwise."""
        keep_grid(self.folder / "grid.yaml", grid, read_grid, _SIZES)
        keep_base(self.folder / "base_sha256", BASE, "the base")

    @property
    def fixed(self) -> Path:
        """Return the world whose texts and unseen scenes all points are asked."""
        return self.folder / "world"

    def cell(self, seed: int) -> Path:
        """Return a tuning seed's folder."""
        return self.folder / f"seed-{seed}"

    def world(self, seed: int) -> Path:
        """Return the world that a tuning seed draws, with its preference data."""
        return self.cell(seed) / "world"

    def point(self, point: RemedyPoint) -> Path:
        """Return the folder of a point: its checkpoint, runs and answers."""
        if point.seed is None:
            return self.folder / "base"
        name = point.model if point.rate is None else f"{point.model}-lr-{point.rate:g}"
        return self.cell(point.seed) / name

    def checkpoint(self, point: RemedyPoint) -> Path:
        """Return a point's checkpoint."""
        return BASE if point.seed is None else self.point(point) / "checkpoint"

    def training(self, point: RemedyPoint) -> dict[str, Any]:
        """Return what stands beside a point's checkpoint of its training."""
        return read_record(self.checkpoint(point) / "training.json")

    def run(self, point: RemedyPoint, image: str) -> Path:
        """Return the folder of a point's run with an image; `""` for a text model."""
        return self.point(point) / "runs" / (image or "text")


def read_grid(path: str | Path = GRID) -> RepairGrid:
    """Read and check a grid; the shipped one by default."""
    return read(RepairGrid, path)
