"""Log-probabilities of pairs under the model that training starts from, kept in a file.

They are computed once, in float32 (of a base in few bits: as it is trained), one pair at a time, so
that neither an order nor a batch changes them, and then no reference model is needed. The file is
named after all that they depend on: the base's weights, the chat template, what is done to images,
the precision; and a line after its pair: token ids and the images' contents. A computation that was
stopped goes on where it was, and another training of the same base waits for it.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from verbalizer_bench.io.append_log import AppendLog, read_log
from verbalizer_bench.io.files import wait_for_lock
from verbalizer_bench.models.checkpoints.weight_hash import weights_sha256
from verbalizer_bench.trainers.checkpoints.load import Checkpoint, load
from verbalizer_bench.trainers.checkpoints.quantized import is_quantized
from verbalizer_bench.trainers.data.cache import TrainingData
from verbalizer_bench.trainers.data.collator import IGNORED
from verbalizer_bench.trainers.data.encoded_files import checked_images
from verbalizer_bench.trainers.data.image_check import current_images
from verbalizer_bench.trainers.data.pair_collator import PairRows, ReferenceLogps, pair_key
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.training.preference import show_images_twice

log = logging.getLogger(__name__)

_KIND, _VERSION = "reference_logps", 1
_UNSTABLE = ("_name_or_path", "transformers_version", "dtype")
# Seconds between looks at what other processes have computed.
_PAUSE = 1.0


@dataclass(frozen=True)
class Reference:
    """The stored log-probabilities of some pairs.

    Attributes:
        logps: Of the preferred and the other answer, as `PairRows` takes them.
        folder: Where they are kept.
        made_of: What they depend on besides the pairs.
    """

    logps: ReferenceLogps
    folder: Path
    made_of: Mapping[str, str]

    def record(self) -> dict[str, Any]:
        """Return what identifies them, as JSON values."""
        return {"folder": str(self.folder), "pairs": len(self.logps), **self.made_of}


def reference(
    recipe: Recipe,
    checkpoint: Checkpoint,
    data: Sequence[TrainingData],
    collator: PairRows,
    arguments: Any,
) -> Reference:
    """Return the reference log-probabilities of pairs; compute what is not stored yet.

    To be called on all processes, before training: each computes its share.

    Args:
        recipe: The recipe.
        checkpoint: Its model, before training.
        data: The pairs.
        collator: Of a recipe's pairs, without a reference.
        arguments: Of the trainer: device, number of processes.

    Raises:
        ValueError: A stored line is not what was written.
        OSError: The cache cannot be written to; what was computed is kept.
    """
    made_of = _made_of(recipe, checkpoint)
    name = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]
    folder = recipe.cache.expanduser() / "reference" / name
    pairs = [pair for one in data for pair in _pairs(one, recipe.images_folder)]
    stored = _stored(folder, made_of)
    share = pairs[arguments.process_index :: arguments.world_size]
    if _missing(share, stored):
        number = arguments.process_index
        with wait_for_lock(folder.parent.with_name("reference_locks") / f"{name}-{number}"):
            # Another training of the same base may have held it.
            if missing := _missing(share, _stored(folder, made_of)):
                log.info("Reference log-probabilities of %d pairs are computed", len(missing))
                with _exact_model(recipe, checkpoint, arguments.device) as model:
                    _compute(model, collator, missing, folder / f"{number}.jsonl", made_of)
        stored = _stored(folder, made_of)
    # A process that fails ends the others.
    while not all(pair.key in stored for pair in pairs):
        time.sleep(_PAUSE)
        stored = _stored(folder, made_of)
    return Reference({pair.name: stored[pair.key] for pair in pairs}, folder, made_of)


def _made_of(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, str]:
    """Return what log-probabilities depend on besides the pairs, as the file's header has it."""
    place = recipe.model.path
    weights = weights_sha256(place) if place else f"random, seed {recipe.seed}"
    if weights.startswith("unknown"):
        raise ValueError(
            f"model.path={place}: its weights have no hash ({weights}), by which its reference "
            "log-probabilities would be kept; give a folder of safetensors"
        )
    template = [recipe.format, checkpoint.processor.chat_template]
    return {
        "weights": weights,
        "config": _sha256(_stable(checkpoint.config.to_dict())),
        "template": _sha256(template),
        "images": _images(checkpoint),
        "precision": recipe.precision if recipe.quantization else "float32",
    }


def _images(checkpoint: Checkpoint) -> str:
    """Return the sha256 of what is done to images."""
    if checkpoint.texts:
        return _sha256(checkpoint.texts.fingerprint())
    images = getattr(checkpoint.processor, "image_processor", None)
    return _sha256([images.to_dict(), checkpoint.image_tokens]) if images else "none"


def _stable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without what changes no log-probability."""
    without = {name: value for name, value in config.items() if name not in _UNSTABLE}
    return {n: _stable(value) if isinstance(value, dict) else value for n, value in without.items()}


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class _Pair(NamedTuple):
    """A pair: its key with images by name and by content, and where its row is."""

    name: str
    key: str
    data: TrainingData
    row: int


def _pairs(data: TrainingData, images: Path | None) -> Iterator[_Pair]:
    before = checked_images(data.folder)
    contents = {image.name: image.content for image in current_images(images, before)}
    for number, row in enumerate(data.dataset):
        names = row.get("pictures") or ()
        key = pair_key(row, [contents[name] for name in names])
        yield _Pair(pair_key(row, names), key, data, number)


def _missing(pairs: Sequence[_Pair], stored: Mapping[str, Any]) -> list[_Pair]:
    """Return the pairs that are not stored, each once."""
    return list({pair.key: pair for pair in pairs if pair.key not in stored}.values())


def _stored(folder: Path, made_of: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Return the log-probabilities that a folder's files have, by pair.

    Raises:
        ValueError: A file was made of something else, or a line is not what was written.
    """
    found: dict[str, tuple[float, float]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for number, (place, row) in enumerate(read_log(file, _KIND, _VERSION)):
            where = f"{file}, {place}"
            if number == 0:
                _check_header(row, made_of, where)
            else:
                key, logps = _checked(row, where)
                found[key] = logps
    return found


def _check_header(row: Mapping[str, Any], made_of: Mapping[str, str], where: str) -> None:
    for name, wanted in made_of.items():
        if row.get(name) != wanted:
            raise ValueError(
                f"{where}: these reference log-probabilities are of {name}={row.get(name)}, and "
                f"{wanted} is trained; delete the file, and they are computed again"
            )


def _checked(row: Mapping[str, Any], where: str) -> tuple[str, tuple[float, float]]:
    key, logps = row.get("pair"), row.get("logps")
    if not isinstance(logps, list) or row.get("check") != _check(key, logps):
        raise ValueError(
            f"{where}: pair={key}, logps={logps} is not what was written there; delete the file, "
            "and they are computed again"
        )
    return str(key), (float(logps[0]), float(logps[1]))


def _check(key: Any, logps: Any) -> str:
    return _sha256([key, logps])[:8]


@contextmanager
def _exact_model(recipe: Recipe, checkpoint: Checkpoint, device: torch.device) -> Iterator[Any]:
    """Yield the base in float32 on a device: the checkpoint's own model where it is that.

    A base in few bits is the checkpoint's own too, and stays on its device.
    """
    model, quantized = checkpoint.model, is_quantized(checkpoint.model)
    if not quantized and any(weight.dtype != torch.float32 for weight in model.parameters()):
        model = load(replace(recipe, precision="fp32")).model
    mode, hooks = model.training, show_images_twice(model)
    convolutions = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield model.eval() if quantized else model.eval().to(device)
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        for hook in hooks:
            hook.remove()
        model.train(mode)
        if not quantized:
            model.to("cpu")


def _compute(
    model: Any,
    collator: PairRows,
    missing: Sequence[_Pair],
    file: Path,
    made_of: Mapping[str, str],
) -> None:
    """Compute the log-probabilities of pairs, and append each to a file as it is there."""
    lines = AppendLog(file, _KIND, _VERSION, "wait for it")
    try:
        if lines.is_empty:
            lines.append({_KIND: _VERSION, **made_of})
        for pair in tqdm(missing, desc="Reference", unit="pair"):
            row = pair.data.dataset[pair.row]
            logps = pair_logps(model, collator([row]))
            if not all(map(math.isfinite, logps)):
                raise ValueError(
                    f"record {row['record'] + 1}: its reference log-probabilities are {logps}; "
                    "give another base"
                )
            lines.append({"pair": pair.key, "logps": logps, "check": _check(pair.key, logps)})
        lines.sync()
    except OSError as error:
        if error.filename != str(file):
            raise
        raise OSError(
            f"{file}: {error.strerror}; make room, or give another cache: what was computed is "
            "kept, and the same command goes on from there"
        ) from error
    finally:
        lines.close()


@torch.no_grad()
def pair_logps(model: Any, batch: Mapping[str, torch.Tensor]) -> list[float]:
    """Return the summed log-probabilities of a pair's two answers.

    Args:
        model: In float32, with `show_images_twice`.
        batch: A pair collator's, of one pair.
    """
    inputs = {name: value.to(model.device) for name, value in batch.items()}
    mask = inputs.pop("completion_mask")[:, 1:].bool()
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    labels = torch.where(mask, inputs["input_ids"][:, 1:], IGNORED)
    losses = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    return [float(value) for value in -losses.sum(1)]
