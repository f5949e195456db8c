"""What a recipe would do, without touching a weight: parameters, steps, tokens, memory, a sample.

verbalizer-bench train recipes/paper/llm_foit.yaml --dry-run

What is not at hand, such as a configuration on a hub that cannot be reached, is named and left out
of the estimates.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from verbalizer_bench.trainers.checkpoints.load import count, load_shapes, stand_in_tokenizer
from verbalizer_bench.trainers.conversations.formats import Encoded, Encoder
from verbalizer_bench.trainers.conversations.records import BadRecord, BadRecordError, read_records
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.train import images_folder, missing_files, order_of
from verbalizer_bench.trainers.training.resources import disk, gib, lacking_room, memory
from verbalizer_bench.trainers.training.schedule import check_schedule, check_steps, total_steps

_GREEN, _DIM, _PLAIN = "\033[32m", "\033[2m", "\033[0m"


class Contents(NamedTuple):
    """What a recipe's data hold.

    Attributes:
        lengths: Tokens of each record, image tokens counted.
        modalities: Whether each has an image.
        trained: Tokens that the loss is on, of all records.
        bad: How many records cannot be trained on, by reason.
        first: The first record, encoded.
    """

    lengths: np.ndarray
    modalities: np.ndarray
    trained: int
    bad: Counter[str]
    first: Encoded | None


def dry_run(recipe: Recipe, colour: bool) -> str:
    """Return what `--dry-run` prints.

    Args:
        recipe: The recipe.
        colour: Show what is trained in colour; else between brackets.
    """
    check_schedule(recipe)
    lines = [("method", f"{recipe.method}, {_how(recipe)}")]
    lines += [("MISSING", line) for line in missing_files(recipe)]
    model = tokenizer = contents = None
    try:
        model = load_shapes(recipe)
        lines += _model_lines(recipe, model)
    except OSError as error:
        lines.append(("model", _not_resolved(error)))
    try:
        tokenizer = _tokenizer(recipe)
        lines.append(("tokenizer", _tokenizer_line(recipe, tokenizer)))
        contents = _contents(recipe, tokenizer, model)
        lines += _data_lines(recipe, contents)
    except OSError as error:
        lines.append(("tokenizer" if tokenizer is None else "data", _not_resolved(error)))
    if model is not None:
        longest = recipe.max_length if contents is None else int(contents.lengths.max())
        lines += _memory_lines(recipe, model, longest)
    text = "\n".join(f"{name:<12}{line}" for name, line in lines)
    if contents is not None and contents.first is not None:
        text += f"\n\n{_legend(colour)}\n{show(contents.first, tokenizer, model, colour)}"
    return text


def _how(recipe: Recipe) -> str:
    if recipe.method == "pretrain":
        return "the connector alone"
    if recipe.lora:
        return f"low-rank adapter, r={recipe.lora.r}, alpha={recipe.lora.alpha}"
    return "connector and language model" if recipe.method == "vit" else "all weights"


def _not_resolved(error: OSError) -> str:
    return f"NOT RESOLVED, left out of what follows: {' '.join(str(error).split())[:160]}"


def _model_lines(recipe: Recipe, model: Any) -> list[tuple[str, str]]:
    own = recipe.model
    where = own.config or own.path or f"{own.vision_tower} + {own.llm} + {own.connector}"
    trained, frozen = count(model, recipe)
    return [
        ("model", f"{type(model).__name__}, shapes of {where}"),
        ("parameters", f"{trained:,} trained, {frozen:,} frozen"),
    ]


def _tokenizer(recipe: Recipe) -> Any:
    own = recipe.model
    place = recipe.tokenizer or own.path or own.llm or own.config
    assert place is not None
    try:
        return stand_in_tokenizer(place)[0]
    # What transformers says of a folder without one.
    except ValueError as error:
        raise FileNotFoundError(f"{place}: no tokenizer in it: {error}") from error


def _tokenizer_line(recipe: Recipe, tokenizer: Any) -> str:
    if recipe.tokenizer is None:
        return f"{tokenizer.name_or_path}, {len(tokenizer):,} words"
    return f"{recipe.tokenizer}, {len(tokenizer):,} words (a stand-in: lengths are this one's)"


def _contents(recipe: Recipe, tokenizer: Any, model: Any) -> Contents:
    """Encode every record; images are looked for but not opened."""
    encoder = Encoder(
        tokenizer,
        recipe.format,
        None if recipe.method == "sft" else tokenizer.convert_tokens_to_ids("<image>"),
        int(getattr(getattr(model, "config", None), "image_seq_length", 0)),
        recipe.max_length,
    )
    lengths, modalities, trained, first = [], [], 0, None
    bad: Counter[str] = Counter()
    folder = images_folder(recipe) or Path()
    for record in (record for file in recipe.data for record in read_records(file)):
        if isinstance(record, BadRecord):
            bad[record.reason] += 1
            continue
        try:
            encoded = encoder.encode(record)
        except BadRecordError as error:
            bad[error.bad.reason] += 1
            continue
        if any(not (folder / name).is_file() for name in record.images):
            bad["image missing"] += 1
        first = first or encoded
        lengths.append(encoded.length)
        modalities.append(bool(record.images))
        trained += sum(encoded.answer)
    if not lengths:
        raise FileNotFoundError(f"no record to train on in {', '.join(map(str, recipe.data))}")
    return Contents(np.array(lengths), np.array(modalities), trained, bad, first)


def _data_lines(recipe: Recipe, found: Contents) -> list[tuple[str, str]]:
    order = order_of(recipe, found.lengths, found.modalities)
    steps, tokens = total_steps(recipe, len(order)), int(found.lengths.sum())
    lines = [
        ("data", f"{len(found.lengths):,} records, {int(found.modalities.sum()):,} with images"),
        (
            "tokens",
            f"{tokens:,} an epoch, {found.trained:,} of them trained on; "
            f"longest record {int(found.lengths.max()):,}",
        ),
        ("steps", f"{steps:,} of {recipe.global_batch} records, {recipe.epochs:g} epochs"),
    ]
    try:
        check_steps(recipe, found.modalities, steps)
    except ValueError as error:
        lines.append(("schedule", f"{error} (training would stop)"))
    for reason, number in found.bad.most_common():
        fate = "training would stop" if recipe.bad_records == "error" else "left out"
        lines.append(("bad records", f"{number:,}: {reason} ({fate})"))
    return lines


def _memory_lines(recipe: Recipe, model: Any, longest: int) -> list[tuple[str, str]]:
    parts = memory(recipe, model, longest)
    each = parts["activations"] + parts["logits"]
    spread = sum(parts.values()) - each
    files = disk(recipe, model)
    lines = [
        ("memory", f"{gib(sum(parts.values()))} on one device, estimated: {_listed(parts)}"),
        ("", f"{gib(spread / 8 + each)} on each of 8 (FSDP2 or ZeRO-3)"),
        ("disk", f"{gib(sum(files.values()))}, estimated: {_listed(files)}"),
    ]
    lacking = lacking_room(recipe, model)
    return [*lines, ("NO ROOM", lacking)] if lacking else lines


def _listed(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {gib(value)}" for name, value in parts.items() if value)


def _legend(colour: bool) -> str:
    how = f"{_GREEN}in green{_PLAIN}" if colour else "between ⟦ and ⟧"
    return f"First sample; the loss is on what stands {how}:"


def show(encoded: Encoded, tokenizer: Any, model: Any, colour: bool) -> str:
    """Return a sample as text, with what the loss is on marked."""
    image_tokens = getattr(getattr(model, "config", None), "image_seq_length", None)
    text = ""
    for trained, run in groupby(
        zip(encoded.input_ids, encoded.answer, strict=True), lambda p: p[1]
    ):
        piece = _decode([token for token, _ in run], tokenizer, image_tokens)
        if colour:
            text += f"{_GREEN if trained else _DIM}{piece}{_PLAIN}"
        else:
            text += f"⟦{piece}⟧" if trained else piece
    return text


def _decode(ids: Sequence[int], tokenizer: Any, image_tokens: int | None) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False)
    return text.replace("<image>", f"<image x {image_tokens}>") if image_tokens else text
