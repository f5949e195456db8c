"""Check every record of a recipe's data as training would, before a GPU is paid for.

verbalizer-bench validate-data recipes/tiny/sft.yaml

No weight is read: the model's configuration and its tokenizer do.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from verbalizer_bench import config
from verbalizer_bench.io.conversations import BadRecordError
from verbalizer_bench.io.record_files import FORMATS, is_records
from verbalizer_bench.trainers.checkpoints.context import too_long
from verbalizer_bench.trainers.data.image_check import ImageCheck
from verbalizer_bench.trainers.data.overlap import Overlap, overlap
from verbalizer_bench.trainers.data.survey import Survey, survey
from verbalizer_bench.trainers.data.survey_summary import summary
from verbalizer_bench.trainers.model_shapes import (
    model_shapes,
    recipe_tokenizer,
    shapes_encoder,
    tokenizer_line,
)
from verbalizer_bench.trainers.prerequisites import missing_checkpoints, missing_files
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.training.inputs import drawn, row_kind, sample_order
from verbalizer_bench.trainers.training.schedule import check_steps, total_steps

log = logging.getLogger(__name__)

UNRESOLVED = "NOT RESOLVED"
# What of a recipe does not matter where its data alone are read.
_NEUTRAL: dict[str, Any] = {
    "output": "unused",
    "format": "tokenizer",
    "max_length": 2048,
    "num_train_epochs": 1,
    "global_batch_size": 1,
    "per_device_batch_size": 1,
    "learning_rate": 1e-5,
    "warmup_ratio": 0,
}


class Validation(NamedTuple):
    """What was found.

    Attributes:
        record: All of it, as JSON values.
        lengths: Tokens of each record of the data before the cut.
        stops: Why training would stop; empty where it would not.
    """

    record: dict[str, Any]
    lengths: np.ndarray
    stops: list[str]


def validation_recipe(first: str, words: Sequence[str]) -> Recipe:
    """Return the recipe whose data are to be checked.

    Args:
        first: A recipe, or a file of records.
        words: `key=value`; with a file of records other files of records too.

    Raises:
        FileNotFoundError: There is no such recipe.
        ValueError: A key is wrong, or nothing says what tokenizer is meant.
    """
    if not is_records(first):
        if Path(first).is_file() and Path(first).suffix not in (".yaml", ".yml"):
            raise ValueError(f"{first}: no recipe (.yaml), and no records: {', '.join(FORMATS)}")
        return read_recipe(first, words)
    files = [first, *(word for word in words if is_records(word) and "=" not in word)]
    values: dict[str, Any] = {**_NEUTRAL, "data": files}
    for word in words:
        if word not in files:
            config.override(values, word)
    if "model" not in values and "tokenizer" not in values:
        raise ValueError(
            f"{first}: give tokenizer=DIR, or model.path=DIR of what is to be trained (with "
            "format=, max_length=, images= and method= as a recipe has them), or a recipe"
        )
    values.setdefault("model", {"config": values.get("tokenizer")})
    sees = values.get("images") or _sees(values["model"])
    values.setdefault("method", "vit" if sees else "sft")
    return config.build(Recipe, values, words)


def _sees(model: Any) -> bool:
    """Tell whether a configuration that is at hand is of a model that sees, and no text model."""
    place = (model.get("path") or model.get("config")) if isinstance(model, dict) else None
    try:
        kind = type(AutoConfig.from_pretrained(str(place), local_files_only=True))
    except (OSError, ValueError):
        # Whoever reads it for the counts says so.
        return False
    sees = kind in AutoModelForImageTextToText._model_mapping
    return sees and kind not in AutoModelForCausalLM._model_mapping


def validate(
    recipe: Recipe, note: Callable[[str, BadRecordError], None] | None = None
) -> Validation:
    """Read, encode and check all records of a recipe, and what is held out.

    Args:
        recipe: The recipe.
        note: Is given each bad record, and the key of its file.

    Raises:
        OSError: The tokenizer, a file or the images are not at hand.
        ValueError: A file cannot be read as records, or the format fits no record.
    """
    missing = missing_checkpoints(recipe)
    if absent := missing_files(recipe):
        raise FileNotFoundError(absent[0])
    tokenizer = _tokenizer(recipe, missing)
    model, notes = _model(recipe, missing)
    encoder = shapes_encoder(recipe, tokenizer, model)
    notes += [
        f"{ending!r}, which ends answers, is no token: nothing will stop the model"
        for ending in encoder.unknown_endings
    ]
    record: dict[str, Any] = {
        "method": recipe.method,
        "format": recipe.format,
        "tokenizer": tokenizer_line(recipe, tokenizer),
    }
    surveys: dict[str, Survey] = {}
    for key, files in (("data", recipe.files), ("held_out", recipe.held_out or ())):
        if files:
            surveys[key], record[key] = _part(recipe, key, files, encoder, note)
    stops = _stops(recipe, model, surveys, record)
    record |= {"notes": notes, "stops": stops}
    return Validation(record, surveys["data"].full, stops)


def _tokenizer(recipe: Recipe, missing: dict[str, str]) -> Any:
    try:
        return recipe_tokenizer(recipe, missing)
    except OSError as error:
        line = missing.get("tokenizer") or next(iter(missing.values()), str(error))
        raise FileNotFoundError(line) from error


def _model(recipe: Recipe, missing: dict[str, str]) -> tuple[Any, list[str]]:
    """Return the model's shapes, None if they are not at hand; and what could not be told then."""
    try:
        return model_shapes(recipe, missing), []
    except OSError:
        if recipe.text_model:
            return None, []
        lacking = next((line for key, line in missing.items() if key != "tokenizer"), "")
        return None, [f"{UNRESOLVED}: an image counts as no token, for {lacking}"]


def _part(
    recipe: Recipe,
    key: str,
    files: Sequence[Path],
    encoder: Any,
    note: Callable[[str, BadRecordError], None] | None,
) -> tuple[Survey, dict[str, Any]]:
    folder = recipe.images_folder
    check = ImageCheck(folder)
    noted = (lambda error: note(key, error)) if note else None
    written = None if folder is None else recipe.cache.expanduser()
    found = survey(files, encoder, row_kind(recipe), folder, check, noted, written)
    fate = "training would stop" if recipe.bad_records == "error" else "left out"
    said = summary(found, files, row_kind(recipe).parse, recipe.max_length, check.used())
    return found, said | {"fate": fate}


def _stops(
    recipe: Recipe, model: Any, surveys: dict[str, Survey], record: dict[str, Any]
) -> list[str]:
    """Return why training would stop, and add to the record what an epoch has."""
    stops = []
    for key, found in surveys.items():
        if model is not None and (fault := too_long(model.config, found.lengths)):
            stops.append(f"{key}: {fault}")
        bad = sum(found.bad.values())
        if not len(found.records):
            stops.append(f"{key}: none of {found.total:,} records can be trained on")
        elif bad and recipe.bad_records == "error":
            stops.append(
                f"{key}: {bad:,} of {found.total:,} records cannot be trained on; correct them, or "
                "leave them out with bad_records=skip"
            )
    if len(surveys["data"].records):
        stops += _epoch(recipe, surveys, record)
    return stops


def _epoch(recipe: Recipe, surveys: dict[str, Survey], record: dict[str, Any]) -> list[str]:
    data, stops = surveys["data"], []
    try:
        mixture = drawn(recipe, data.records, data.images > 0, data.counts)
        rows = np.arange(len(data.records)) if mixture is None else mixture.rows
        has_image = data.images[rows] > 0
        order = sample_order(recipe, data.lengths[rows], has_image)
        steps = total_steps(recipe, len(order))
        record["epoch"] = {
            "records": len(rows),
            "tokens": int(data.tokens[rows].sum()),
            "trained": int(data.trained[rows].sum()),
            "steps": steps,
            "seen_twice": order.seen_twice,
            "global_batch_size": recipe.global_batch_size,
        }
        if mixture:
            parts = zip(recipe.files, mixture.drawn, mixture.available, strict=True)
            record["epoch"]["drawn"] = [
                {"file": str(file), "drawn": number, "of": size} for file, number, size in parts
            ]
        if "held_out" in surveys:
            shared = overlap(data.hashes.take(rows), surveys["held_out"].hashes)
            stops += _shared(recipe, shared, record)
        check_steps(recipe, has_image, steps)
    except ValueError as error:
        return [*stops, str(error)]
    return stops


def _shared(recipe: Recipe, shared: Overlap, record: dict[str, Any]) -> list[str]:
    """Return why training would stop for what is held out, and add to the record what is shared."""
    record["held_out"]["in data"] = {"records": shared.records, "prompts": shared.prompts}
    fault = shared.fault(recipe.held_out or (), row_kind(recipe).parse)
    return [fault] if fault else []
