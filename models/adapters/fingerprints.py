"""Hashes of what a response depends on: weights in memory, configuration, tokenizer, template."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

PACKAGES = (
    "verbalizer-bench",
    "lm_eval",
    "transformers",
    "tokenizers",
    "torch",
    "accelerate",
    "peft",
    "pillow",
)

_CHUNK = 1 << 24


def versions() -> dict[str, str]:
    """Return the versions of the packages that a response depends on."""
    return {name: version(name) for name in PACKAGES}


def weights_fingerprint(model: Any) -> str:
    """Return a hash of a torch model's weights; see `state_fingerprint`."""
    return state_fingerprint(model.state_dict())


def state_fingerprint(state: Mapping[str, Any]) -> str:
    """Return a hash of weights by name: names, shapes, types and all values.

    Two sums over each tensor's bits, one weighted by position, so that it takes seconds where
    hashing every byte takes minutes. It tells checkpoints apart; it is no proof against forgery.
    Weights that are offloaded to a disk cannot be read here; the result then says so.
    """
    total = hashlib.sha256()
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            continue
        if tensor.is_meta:
            return "unknown: offloaded"
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(" ".join(map(str, _bit_sums(tensor.detach()))).encode() + b"\n")
    return total.hexdigest()


def _bit_sums(tensor: torch.Tensor) -> tuple[int, int]:
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = tensor.contiguous().view(integers[tensor.element_size()]).flatten()
    plain, weighted = 0, 0
    for start in range(0, len(bits), _CHUNK):
        chunk = bits[start : start + _CHUNK].long()
        places = torch.arange(start + 1, start + 1 + len(chunk), device=chunk.device)
        plain += int(chunk.sum())
        weighted += int((chunk * places).sum())
    return plain, weighted


def settings_sha256(settings: Mapping[str, Any]) -> str:
    """Return the sha256 of a configuration, without where it was read and what wrote it."""
    kept = {
        key: value
        for key, value in settings.items()
        if key not in ("_name_or_path", "name_or_path", "transformers_version")
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def tokenizer_sha256(tokenizer: Any) -> str:
    """Return the sha256 of a tokenizer: its rules if it is a fast one, else its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend else tokenizer.get_vocab()
    # Padding and truncation are of the last call.
    rules = {key: rule for key, rule in rules.items() if key not in ("padding", "truncation")}
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def template_sha256(template: Any) -> str | None:
    """Return the sha256 of a chat template (a text, or a table of named ones); None without one."""
    if template is None:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
