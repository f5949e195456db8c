"""What each tower of a cell is blind to: blind pairs, statements about pairs, and linear probes.

Blind pairs are searched for as in Tong et al. 2024, among all test scenes, with their thresholds:
what one tower takes for the same (a cosine above 0.95) and the other does not (below 0.6).
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from verbalizer_bench.experiments.miniature.mof.probes import WHOLE, probe
from verbalizer_bench.experiments.miniature.mof.scenes import scenes
from verbalizer_bench.experiments.miniature.mof.towers import TOWERS
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.vision.blind_pairs import ROLES, make_features, search_shard, take_pairs
from verbalizer_bench.vision.embedding import parse_embedding
from verbalizer_bench.vision.search import Rule
from verbalizer_bench.vision.selection import Choice
from verbalizer_bench.vision.towers import load_tower
from verbalizer_bench.vision.vlm_benchmark import read_vlm_benchmark
from verbalizer_bench.vision.vlm_pairs import DIRECTIONS, load_model, score

# What two scenes of a pair differ in; other scenes may stand at other places too.
DIFFERENCES = ("direction", "colour", "both", "neither")


def see_once(asked: Path, cell: Path, file: Path) -> None:
    """Write what a cell's towers see, unless it was written.

    Args:
        asked: With `images` and `vlm`.
        cell: With the towers.
        file: What is written.
    """
    if file.exists():
        return
    found: dict[str, Any] = {
        "probes": {name: probe(name, cell / name) for name in TOWERS},
        "statements": _statements(asked / "vlm", cell / TOWERS[0]),
        "blind_pairs": {
            name: _blind_pairs(asked / "images", cell, (name, other))
            for name, other in (TOWERS, TOWERS[::-1])
        },
    }
    write_whole(file, json.dumps(found, indent=1) + "\n")


def _statements(folder: Path, tower: Path) -> dict[str, str]:
    """Return of each pattern, a digit a pair, whether both statements prefer their image."""
    scored = score(load_model(str(tower)), read_vlm_benchmark(folder))
    right: dict[str, str] = {}
    for one in scored.judged:
        pattern = one.pair.pattern
        right[pattern] = right.get(pattern, "") + str(int(one.is_right(DIRECTIONS[0])))
    return right


def _blind_pairs(images: Path, cell: Path, names: tuple[str, str]) -> dict[str, int]:
    """Return how many pairs one tower is blind to and the other is not, by what they differ in."""
    output, rule = cell / f"blind-pairs-{names[0]}", Rule()
    towers = {
        role: load_tower(str(cell / name), parse_embedding(WHOLE[name], role), role)
        for role, name in zip(ROLES, names, strict=True)
    }
    make_features(images, towers, output, 1, 1, 64)
    search_shard(output, rule)
    pairs = take_pairs(output, rule, Choice(cap=0, crowd=0)).pairs
    by_name = {f"{scene.name}.png": scene for scene in scenes("test")}
    counts: Counter[str] = Counter()
    for pair in pairs:
        one, other = (by_name[name] for name in pair.images)
        colour, direction = one.colour != other.colour, one.direction != other.direction
        counts[_difference(colour, direction)] += 1
    return {kind: counts[kind] for kind in DIFFERENCES}


def _difference(colour: bool, direction: bool) -> str:
    if colour and direction:
        return "both"
    return "colour" if colour else "direction" if direction else "neither"
