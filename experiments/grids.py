"""What the grids of all studies have alike: checks, what is kept of them, the choice of rates."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from verbalizer_bench.config import check, plain
from verbalizer_bench.io.files import write_whole


def check_lists(grid: Any, lists: Sequence[str], counts: Sequence[str]) -> None:
    """Check keys of the kinds that most grids have.

    Args:
        grid: A study's grid.
        lists: Keys with lists, in which nothing may stand twice.
        counts: Keys with numbers from 1 on, or None.

    Raises:
        ValueError: A value is wrong.
    """
    for name in lists:
        values = getattr(grid, name)
        right = bool(values) and len(set(values)) == len(values)
        check(name, list(values), right, "at least one, and none twice")
    for name in counts:
        value = getattr(grid, name)
        check(name, value, value is None or value >= 1, "at least 1")


def as_yaml(grid: Any) -> str:
    """Return a grid as its file has it."""
    return yaml.safe_dump(plain(dataclasses.asdict(grid)), sort_keys=False)


def keep_grid(file: Path, grid: Any, read: Callable[[Path], Any], sizes: Sequence[str]) -> None:
    """Note in a study's folder what is to be run.

    Args:
        file: Where the grid stands.
        grid: What is to be run.
        read: Reads a grid of its kind.
        sizes: The keys that must be those of what is there.

    Raises:
        ValueError: What is there was made with other sizes.
    """
    before = read(file) if file.exists() else grid
    for name in sizes:
        was, now = getattr(before, name), getattr(grid, name)
        if was != now:
            raise ValueError(
                f"{file}: the study there has {name}={was}, not {now}; give that, or another folder"
            )
    write_whole(file, as_yaml(grid))


def keep_weights(file: Path, now: str, name: str) -> None:
    """Note the weights of a base that a study starts from.

    Args:
        file: Where they are noted.
        now: Their sha256.
        name: What the base is called.

    Raises:
        ValueError: What is there was tuned from others.
    """
    if file.exists() and (was := file.read_text(encoding="utf-8").strip()) != now:
        raise ValueError(
            f"{file}: the study there started from weights {was[:12]}, {name} is {now[:12]}; give "
            "another folder"
        )
    write_whole(file, now + "\n")


def least_losses(found: Iterable[tuple[str, float, float]]) -> dict[str, float]:
    """Return each model's learning rate of the least loss, the mean over its trainings.

    Args:
        found: Model, rate and held-out loss of each training; of each rate as many.
    """
    losses: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for model, rate, loss in found:
        losses[model][rate].append(loss)
    return {
        name: min(by_rate, key=lambda rate: sum(by_rate[rate])) for name, by_rate in losses.items()
    }
