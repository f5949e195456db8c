"""Checkpoints that are not what they should be."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]


def clone(source: Path, folder: Path, **config: Any) -> Path:
    """Copy a checkpoint and change its config.json; None takes a setting out."""
    shutil.copytree(source, folder)
    file = folder / "config.json"
    settings = json.loads(file.read_text()) | config
    file.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    return folder


def rewrite(folder: Path, change: Callable[[Weights], Weights], name: str = "model") -> Path:
    """Change the weights of a checkpoint or of an adapter."""
    file = folder / f"{name}.safetensors"
    weights = {key: tensor.clone() for key, tensor in change(load_file(file)).items()}
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def renamed(old: str, new: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key.replace(old, new, 1): w for key, w in weights.items()}


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: w for key, w in weights.items() if part not in key}
