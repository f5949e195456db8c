"""What a tuned checkpoint was trained from, by the records beside its weights."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from verbalizer_bench.models.checkpoints.language_weights import LanguageModel, language_model
from verbalizer_bench.models.checkpoints.stored_weights import pieces, stored_weights
from verbalizer_bench.models.checkpoints.strict_loading import OTHER_MODALITIES
from verbalizer_bench.models.checkpoints.weight_hash import weights_sha256

log = logging.getLogger(__name__)


class Ancestor(NamedTuple):
    """What a checkpoint was trained from.

    Attributes:
        place: Folder or hub id.
        weights: The hash of its weights.
        alone: Whether it is known to be a language model alone.
    """

    place: str
    weights: str
    alone: bool


def warn_of_another_base(base: LanguageModel, tuned: LanguageModel) -> None:
    """Warn where the record of a tuned checkpoint says another base than the one that is given.

    A base is known by the hash of its weights or, where what was trained is at hand, by its
    language model, which may stand alone (`extract-llm`) or in an LVLM (`compose`). Nothing is said
    without a record, or where an LVLM that is not at hand may have the base's language model.
    """
    known = list(_ancestors(tuned.stored.folder))
    if not known:
        return
    own = weights_sha256(str(base.stored.folder))
    for one in known:
        at_hand = _is_at_hand(one)
        if own == one.weights or (at_hand and _same_language_model(base, one.place)):
            return
        if not at_hand and not one.alone:
            return
    log.warning(
        "%s: its training.json says that it was trained from %s, whose weights are not those of "
        "%s; a merge is meant with what it was trained from: give that as --base",
        tuned.stored.what,
        known[0].place,
        base.stored.what,
    )


def _ancestors(folder: Path) -> Iterator[Ancestor]:
    """Yield what a checkpoint was trained from, and that, as far as records are at hand."""
    seen = set()
    while folder not in seen:
        seen.add(folder)
        model = _read(folder / "recipe.yaml").get("model")
        wanted = _read(folder / "training.json").get("base_weights")
        if not isinstance(model, dict) or not isinstance(wanted, str):
            return
        place = str(model.get("path") or model.get("llm"))
        alone = not any(map(OTHER_MODALITIES.search, stored_weights(str(folder), "").tensors))
        one = Ancestor(place, wanted, alone or not model.get("path"))
        yield one
        if not _is_at_hand(one):
            return
        folder = Path(place)


def _is_at_hand(one: Ancestor) -> bool:
    """Return whether a folder is there and still has those weights."""
    return Path(one.place).is_dir() and weights_sha256(one.place) == one.weights


def _read(file: Path) -> dict[str, Any]:
    """Return what a training left beside a checkpoint; nothing where it cannot be read."""
    try:
        # JSON is YAML.
        table = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return table if isinstance(table, dict) else {}


def _same_language_model(base: LanguageModel, place: str) -> bool:
    """Return whether a checkpoint's language model has a base's weights, in the rows of both."""
    try:
        other = language_model(stored_weights(place, "base"))
    except ValueError:
        return False
    if base.names.keys() != other.names.keys():
        return False
    return all(_same(base, other, name) for name in base.names)


def _same(base: LanguageModel, other: LanguageModel, name: str) -> bool:
    one, two = base.weight(name), other.weight(name)
    if one.shape[1:] != two.shape[1:] or one.dtype != two.dtype:
        return False
    size = min(math.prod(one.shape), math.prod(two.shape))
    return all(torch.equal(one.values(*part), two.values(*part)) for part in pieces(size))
