"""What the study runs: its grid, its points, and where each of them is kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from verbalizer_bench.config import OneOrMore, check, read
from verbalizer_bench.experiments.grids import check_lists, keep_grid, keep_weights
from verbalizer_bench.experiments.smollm2.arms import ARMS, MERGE, merged_name
from verbalizer_bench.models.checkpoints import smollm2
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256

GRID = Path(__file__).with_name("grid.yaml")
PACKAGED = "packaged"
T = TypeVar("T")
BASE = "base"
# What must be the same at all points of a folder.
_SIZES = (
    *("documents", "num_beams", "items", "batch", "held_out", "replay", "ifeval"),
    *("ifeval_tokens", "curve_steps", "curve_documents", "device"),
)


@dataclass(frozen=True)
class Grid:
    """The study's grid, read from a YAML file.

    Attributes:
        bases: What is tuned, by names of `paths`.
        paths: A folder or a hub id by name; `packaged`: SmolLM2 of PyPI's package.
        arms: Which of `ARMS`, and `Merge`.
        seeds: Tuning seeds.
        documents: Documents of each data set, half of each class.
        num_beams: Of the suite's responses.
        items: Records that an arm is tuned on.
        batch: Records of a step.
        micro_batch: Of these so many are computed at once; even.
        held_out: Items that are not trained on, whose loss chooses the learning rates.
        rates: What a recipe's learning rate is tried with, at the first seed.
        coefficients: Shares of the tuned weights where they are merged with the base's.
        replay: The share of other instructions among the records of the arm that has some.
        ifeval: Prompts of IFEval.
        ifeval_tokens: New tokens of an answer to them at most.
        curve: Arms that are asked while they are tuned.
        curve_steps: Steps from one of these evaluations to the next.
        curve_documents: Documents of each data set in them.
        device: Where models are asked and tuned: `cpu` or `cuda`.
    """

    bases: OneOrMore[str]
    paths: dict[str, str]
    arms: OneOrMore[str]
    seeds: OneOrMore[int]
    documents: int
    num_beams: int
    items: int
    batch: int
    micro_batch: int
    held_out: int
    rates: dict[str, OneOrMore[float]]
    coefficients: OneOrMore[float]
    replay: float
    ifeval: int
    ifeval_tokens: int
    curve: OneOrMore[str]
    curve_steps: int
    curve_documents: int
    device: str = "cpu"

    def __post_init__(self) -> None:
        counts = ("num_beams", "items", "batch", "held_out", "ifeval", "ifeval_tokens")
        check_lists(self, ("bases", "arms", "seeds", "coefficients"), (*counts, "curve_steps"))
        for name in self.bases:
            check("bases", name, name in self.paths, f"some of {', '.join(self.paths)}")
        known = (*ARMS, MERGE)
        for name in self.arms:
            check("arms", name, name in known, f"some of {', '.join(known)}")
        for name in self.curve:
            check("curve", name, name in ARMS, f"some of {', '.join(ARMS)}")
        for name in ("documents", "curve_documents"):
            value = getattr(self, name)
            check(name, value, value >= 2 and value % 2 == 0, "even, at least 2")
        right = self.micro_batch % 2 == 0 and self.batch % self.micro_batch == 0
        check("micro_batch", self.micro_batch, right, f"even, and batch={self.batch} is of some")
        right = self.items % self.batch == 0
        check("items", self.items, right, f"steps of batch={self.batch}")
        check("device", self.device, self.device in ("cpu", "cuda"), "cpu or cuda")
        check("replay", self.replay, 0 < self.replay < 1, "above 0 and below 1")
        for arm in ARMS.values():
            check("rates", arm.recipe, self.rates.get(arm.recipe), "at least one of each recipe")

    @property
    def steps(self) -> int:
        """Return the steps of a tuning."""
        return self.items // self.batch

    def models(self, arm: str) -> tuple[str, ...]:
        """Return the models of an arm, of which merging has one for each coefficient."""
        return tuple(map(merged_name, self.coefficients)) if arm == MERGE else (arm,)

    def tried(self, base: str, arm: str) -> "list[Point]":
        """Return an arm at the first seed with every learning rate; none of one without its own."""
        own = arm in ARMS and not ARMS[arm].rate_of
        rates = self.rates[ARMS[arm].recipe] if own else ()
        return [Point(base, self.seeds[0], arm, rate) for rate in rates]


class Point(NamedTuple):
    """A checkpoint of the study.

    Attributes:
        base: Its base's name.
        seed: Of its tuning; None for the base itself.
        model: `base`, one of `ARMS`, or `Merge-` with a coefficient.
        rate: Learning rate; None where nothing is trained.
    """

    base: str
    seed: int | None
    model: str
    rate: float | None = None

    def __str__(self) -> str:
        words = [self.base, self.model] + ([] if self.seed is None else [f"seed {self.seed}"])
        return ", ".join(words + ([] if self.rate is None else [f"learning rate {self.rate:g}"]))


class Place(NamedTuple):
    """The folder of a study, and what is where in it."""

    folder: Path

    @property
    def grid(self) -> Grid:
        """Return the grid of all that was asked for here."""
        return read_grid(self.folder / "grid.yaml")

    def keep(self, grid: Grid) -> None:
        """Note a grid beside what is there.

        Raises:
            ValueError: What is there was made with other sizes.
        """
        file = self.folder / "grid.yaml"
        keep_grid(file, widened(self.grid, grid) if file.exists() else grid, read_grid, _SIZES)

    def keep_base(self, grid: Grid, name: str) -> None:
        """Note a base's weights; raise ValueError where what is there was tuned from others."""
        path = base_path(grid, name)
        if Path(path).is_dir():
            keep_weights(self.folder / name / "weights_sha256", checkpoint_sha256(Path(path)), name)

    @property
    def data(self) -> Path:
        """Return the folder of what all points have alike."""
        return self.folder / "data"

    def items(self, seed: int | None) -> Path:
        """Return the folder of the records of a tuning seed; of None the held-out ones."""
        return self.data / ("held_out" if seed is None else f"seed-{seed}")

    def point(self, point: Point) -> Path:
        """Return the folder of a point: its checkpoint, run and answers."""
        if point.seed is None:
            return self.folder / point.base / BASE
        name = point.model if point.rate is None else f"{point.model}-lr-{point.rate:g}"
        return self.folder / point.base / f"seed-{point.seed}" / name


def widened(before: Grid, grid: Grid) -> Grid:
    """Return a grid with the bases, arms, seeds and coefficients of another besides its own."""
    return replace(
        grid,
        bases=union(before.bases, grid.bases),
        arms=union(before.arms, grid.arms),
        seeds=union(before.seeds, grid.seeds),
        coefficients=union(before.coefficients, grid.coefficients),
        curve=union(before.curve, grid.curve),
    )


def union(before: Iterable[T], now: Iterable[T]) -> tuple[T, ...]:
    """Return what is in one of two lists, in their order."""
    return tuple(dict.fromkeys((*before, *now)))


def base_path(grid: Grid, name: str) -> str:
    """Return a base's folder or hub id."""
    path = grid.paths[name]
    return str(smollm2.smollm_folder()) if path == PACKAGED else path


def read_grid(path: str | Path = GRID, overrides: Sequence[str] = ()) -> Grid:
    """Read and check a grid; the shipped one by default."""
    return read(Grid, path, overrides)
