"""What a tower sees, by linear probes: can what it makes of a scene tell colour, direction, place?

Ridge regression on standardised features, of train scenes, asked of test scenes, whose settings no
tower and no probe saw.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch

from verbalizer_bench.experiments.miniature.mof.scenes import (
    VALUES,
    Scene,
    picture,
    scenes,
    value,
)
from verbalizer_bench.models.checkpoints.vision_tower import FEATURE_LAYER
from verbalizer_bench.vision.embedding import parse_embedding
from verbalizer_bench.vision.towers import Tower, load_tower

# A vector of an image, and all patches that a LLaVA takes, one after the other.
FEATURES = ("whole", "patches")
# What is taken of the towers for blind pairs and probes.
WHOLE = {"CLIP-like": "projected", "DINO-like": "pooled"}
_TRAINED, _RIDGE = 2000, 0.01


def probe(name: str, folder: Path) -> dict[str, dict[str, float]]:
    """Return a tower's accuracy on test scenes, in [0, 1], by feature and by what is told.

    Args:
        name: One of `TOWERS`.
        folder: The tower.
    """
    tower = load_tower(str(folder), parse_embedding(WHOLE[name], "whole"), name)
    train, test = Random(0).sample(scenes("train"), _TRAINED), scenes("test")
    learned, asked = features(tower, train), features(tower, test)
    return {
        feature: {
            kind: _accuracy(
                learned[feature], _words(train, kind), asked[feature], _words(test, kind)
            )
            for kind in VALUES
        }
        for feature in FEATURES
    }


def features(tower: Tower, shown: Sequence[Scene]) -> dict[str, torch.Tensor]:
    """Return what a tower makes of scenes, shape (scenes, width), by `FEATURES`."""
    inputs = tower.inputs([picture(scene) for scene in shown])
    model = getattr(tower.model, "vision_model", tower.model)
    with torch.inference_mode():
        seen = model(**inputs, output_hidden_states=True).hidden_states[FEATURE_LAYER]
    return {"whole": tower.features(inputs), "patches": seen[:, 1:].flatten(1)}


def _words(shown: Sequence[Scene], kind: str) -> torch.Tensor:
    return torch.tensor([VALUES[kind].index(value(scene, kind)) for scene in shown])


def _accuracy(
    learned: torch.Tensor, right: torch.Tensor, asked: torch.Tensor, wanted: torch.Tensor
) -> float:
    mean, deviation = learned.double().mean(dim=0), learned.double().std(dim=0)
    learned, asked = ((part.double() - mean) / (deviation + 1e-9) for part in (learned, asked))
    targets = torch.nn.functional.one_hot(right).double()
    targets -= targets.mean(dim=0)
    penalty = _RIDGE * len(learned) * torch.eye(learned.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(learned.T @ learned + penalty, learned.T @ targets)
    return float(((asked @ weights).argmax(dim=1) == wanted).double().mean())
