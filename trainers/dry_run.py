"""What a recipe would do, without reading a weight: parameters, steps, tokens, memory, a sample.

verbalizer-bench train recipes/paper/llm_foit.yaml --dry-run

What is not at hand, such as a configuration on a hub that cannot be reached, is named and left out
of the estimates.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from verbalizer_bench.io.conversations import BadRecordError, listed
from verbalizer_bench.io.record_files import lacking
from verbalizer_bench.io.unread_keys import unread_lines
from verbalizer_bench.io.wording import counted
from verbalizer_bench.trainers.checkpoints.context import context, too_long
from verbalizer_bench.trainers.checkpoints.trainable import (
    count_parameters,
    describe_trained,
    is_tied,
    left_out,
    mismatch,
)
from verbalizer_bench.trainers.conversations.encoder import Encoded
from verbalizer_bench.trainers.curve.suite import load_tasks
from verbalizer_bench.trainers.data.mixture import Mixture
from verbalizer_bench.trainers.data.overlap import Overlap, overlap
from verbalizer_bench.trainers.data.survey import Survey, survey
from verbalizer_bench.trainers.data.survey_summary import cut_line, seen_twice
from verbalizer_bench.trainers.model_shapes import (
    model_shapes,
    recipe_tokenizer,
    shapes_encoder,
    tokenizer_line,
)
from verbalizer_bench.trainers.optimizers import OPTIMIZERS
from verbalizer_bench.trainers.output.folder import OutputFolder
from verbalizer_bench.trainers.output.hub import unpushable
from verbalizer_bench.trainers.prerequisites import (
    missing_checkpoints,
    missing_files,
    missing_packages,
)
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.recipe_settings import DpoSettings
from verbalizer_bench.trainers.sample_text import legend, show
from verbalizer_bench.trainers.training.inputs import drawn, row_kind, sample_order
from verbalizer_bench.trainers.training.memory_estimate import (
    cards,
    each_device,
    heaviest,
    memory,
    reference_memory,
)
from verbalizer_bench.trainers.training.resources import disk, gib, lacking_room
from verbalizer_bench.trainers.training.schedule import check_schedule, check_steps, total_steps


class DataSummary(NamedTuple):
    """What a recipe's data contain.

    Attributes:
        lengths: Tokens of each record, image tokens counted.
        lost: Tokens that the cut to `max_length` takes of each.
        has_image: Of each record, bool.
        tokens: That a model sees in an epoch.
        trained: Tokens that the loss is on, of all records.
        bad: How many records cannot be trained on, by reason.
        worst: The first of these.
        unread: A line for each file with keys that are not read.
        first: The first record, encoded; of a pair with either answer.
        mixture: How many records of each file are drawn; None for all.
        held_out: What is held out contains; None without.
        shared: What of it is trained on too.
    """

    lengths: np.ndarray
    lost: np.ndarray
    has_image: np.ndarray
    tokens: int
    trained: int
    bad: Counter[str]
    worst: list[BadRecordError]
    unread: list[str]
    first: tuple[Encoded, ...]
    mixture: Mixture | None
    held_out: Survey | None = None
    shared: Overlap | None = None


class Plan(NamedTuple):
    """What `--dry-run` says.

    Attributes:
        text: What is printed.
        mismatch: That another number of parameters is trained than the recipe states; None: it is
            that number, or was not told.
    """

    text: str
    mismatch: str | None


def dry_run(recipe: Recipe, colour: bool) -> Plan:
    """Return what a recipe would do.

    Args:
        recipe: The recipe.
        colour: Show what is trained in colour; else between brackets.

    Raises:
        ValueError: The recipe cannot work, whatever is at hand.
    """
    check_schedule(recipe)
    lines = [("method", f"{recipe.method}{_losses(recipe)}, {describe_trained(recipe)}")]
    missing = missing_checkpoints(recipe)
    absent = [*missing_packages(recipe), *missing.values(), *missing_files(recipe)]
    absent += [problem] if (problem := unpushable(recipe)) else []
    lines += [("MISSING", line) for line in absent]
    try:
        OutputFolder(recipe, main=True)
    except ValueError as error:
        lines.append(("WOULD STOP", str(error)))
    model = tokenizer = summary = None
    try:
        model = model_shapes(recipe, missing)
        lines += _model_lines(recipe, model)
    except OSError as error:
        lines.append(("model", _not_resolved(error)))
    try:
        tokenizer = recipe_tokenizer(recipe, missing)
        lines.append(("tokenizer", tokenizer_line(recipe, tokenizer)))
        if any(map(lacking, (*recipe.files, *(recipe.held_out or ())))):
            raise FileNotFoundError("it is missing, as said above")
        summary = _summarize(recipe, tokenizer, model)
        lines += _data_lines(recipe, summary)
    except OSError as error:
        lines.append(("tokenizer" if tokenizer is None else "data", _not_resolved(error)))
        lines += [("", f"  {note}") for note in getattr(error, "__notes__", ())]
    if model is not None:
        lines += _context_lines(recipe, model, summary)
        lines += _memory_lines(recipe, model, summary)
    lines += _evaluation_lines(recipe, summary)
    text = "\n".join(f"{name:<12}{line}" for name, line in lines)
    if summary is not None and summary.first:
        shown = (show(one, tokenizer, model, colour) for one in summary.first)
        between = "\n\nThe same with the rejected answer:\n"
        text += f"\n\n{legend(colour)}\n{between.join(shown)}"
    return Plan(text, None if model is None else mismatch(model, recipe))


def _losses(recipe: Recipe) -> str:
    """Return the losses of pairs with their weights: ` (0.8 sigmoid + 0.2 bco_pair)`."""
    if recipe.method != "dpo":
        return ""
    settings = recipe.dpo or DpoSettings()
    weights = settings.loss_weights or [1.0] * len(settings.loss_type)
    parts = zip(weights, settings.loss_type, strict=True)
    terms = (name if weight == 1 else f"{weight:g} {name}" for weight, name in parts)
    return f" ({' + '.join(terms)})"


def _not_resolved(error: OSError) -> str:
    return f"NOT RESOLVED, left out of what follows: {' '.join(str(error).split())}"


def _model_lines(recipe: Recipe, model: Any) -> list[tuple[str, str]]:
    base = recipe.model
    where = base.config or base.path or f"{base.towers} + {base.llm} + {base.connector}"
    trained, frozen = count_parameters(model, recipe)
    lines = [
        ("model", f"{type(model).__name__}, shapes of {where}"),
        ("parameters", f"{trained:,} trained, {frozen:,} frozen"),
    ]
    if is_tied(model):
        state = "trained" if model.get_output_embeddings().weight.requires_grad else "frozen"
        lines.append(("", f"the output layer is the input embeddings, {state} as one"))
    if kept := left_out(model, recipe):
        lines.append(("", f"not trained, an adapter cannot hold it: {', '.join(kept)}"))
    return lines


def _summarize(recipe: Recipe, tokenizer: Any, model: Any) -> DataSummary:
    """Encode every record; images need only be there, unless the encoder looks at them."""
    encoder = shapes_encoder(recipe, tokenizer, model)
    written = recipe.cache.expanduser() if encoder.reads_images else None

    def surveyed(files: Sequence[Path]) -> Survey:
        kind, folder = row_kind(recipe), recipe.images_folder
        return survey(files, encoder, kind, folder, None, written=written)

    found = surveyed(recipe.files)
    if not len(found.records):
        why = "".join(f"; {number:,}: {reason}" for reason, number in found.bad.most_common())
        files = ", ".join(map(str, recipe.files))
        error = FileNotFoundError(f"no record to train on in {files}{why} (training would stop)")
        for line in listed(found.worst, found.bad.total()):
            error.add_note(line)
        raise error
    mixture = drawn(recipe, found.records, found.images > 0, found.counts)
    rows = np.arange(len(found.records)) if mixture is None else mixture.rows
    held_out = surveyed(recipe.held_out) if recipe.held_out else None
    return DataSummary(
        found.lengths[rows],
        (found.full - found.lengths)[rows],
        found.images[rows] > 0,
        int(found.tokens[rows].sum()),
        int(found.trained[rows].sum()),
        found.bad,
        found.worst,
        list(unread_lines(recipe.files, found.unread, found.counts)),
        found.first,
        mixture,
        held_out,
        overlap(found.hashes.take(rows), held_out.hashes) if held_out else None,
    )


def _data_lines(recipe: Recipe, data: DataSummary) -> list[tuple[str, str]]:
    order = sample_order(recipe, data.lengths, data.has_image)
    steps = total_steps(recipe, len(order))
    lines = [
        (
            "data",
            f"{counted(len(data.lengths), 'record')}, {int(data.has_image.sum()):,} with images",
        ),
        (
            "tokens",
            f"{data.tokens:,} an epoch, {data.trained:,} of them trained on; "
            f"longest record {int(data.lengths.max()):,}",
        ),
        (
            "steps",
            f"{steps:,} of {counted(recipe.global_batch_size, 'record')}, {_epochs(recipe)}",
        ),
    ]
    if order.seen_twice:
        lines.append(("", seen_twice(order.seen_twice, "the last step")))
    if data.lost.any():
        cut, lost = int((data.lost > 0).sum()), int(data.lost.sum())
        lines.append(("cut off", cut_line(cut, lost, recipe.max_length)))
    if data.mixture:
        parts = zip(recipe.files, data.mixture.drawn, data.mixture.available, strict=True)
        shares = ", ".join(f"{n:,} of {size:,} of {file}" for file, n, size in parts)
        lines.insert(1, ("drawn", shares))
    try:
        check_steps(recipe, data.has_image, steps)
    except ValueError as error:
        lines.append(("schedule", f"{error} (training would stop)"))
    lines += [("not read", line) for line in data.unread]
    lines += _held_out_lines(recipe, data)
    return [*lines, *_bad_lines(recipe, data.bad, data.worst)]


def _bad_lines(
    recipe: Recipe, bad: Counter[str], worst: Sequence[BadRecordError]
) -> list[tuple[str, str]]:
    """Return how many records cannot be trained on, by reason, and where the first ones stand."""
    fate = "training would stop" if recipe.bad_records == "error" else "left out"
    lines = [
        ("bad records", f"{number:,}: {reason} ({fate})") for reason, number in bad.most_common()
    ]
    return lines + [("", f"  {line}") for line in listed(worst, bad.total())]


def _held_out_lines(recipe: Recipe, data: DataSummary) -> list[tuple[str, str]]:
    """Return what is held out, and what of it is trained on too."""
    held_out, shared = data.held_out, data.shared
    if not held_out or not shared or not recipe.held_out:
        return []
    tokens, trained = int(held_out.tokens.sum()), int(held_out.trained.sum())
    records = counted(len(held_out.records), "record")
    line = f"{records}, {counted(tokens, 'token')}, the loss on {trained:,} of them"
    lines = [("held out", line)]
    if held_out.images.any() and data.has_image.any():
        line = "images are compared by name here, by content in validate-data and in training"
        lines.append(("", line))
    lines += _bad_lines(recipe, held_out.bad, held_out.worst)
    if fault := shared.fault(recipe.held_out, row_kind(recipe).parse):
        lines.append(("WOULD STOP", fault))
    if warning := shared.warning(recipe.held_out):
        lines.append(("", warning))
    return lines


def _evaluation_lines(recipe: Recipe, data: DataSummary | None) -> list[tuple[str, str]]:
    """Return how often what is measured while the model is trained."""
    settings, lines = recipe.evaluation, []
    if settings is None:
        return []
    parts = ["held-out loss"] if settings.held_out and recipe.held_out else []
    if settings.tasks:
        try:
            tasks = load_tasks(settings)
            sizes = [len(task.eval_docs) for task in tasks.values()]
            asked = sum(min(size, settings.limit or size) for size in sizes)
            parts.append(
                f"{counted(asked, 'response')} of {counted(len(tasks), 'task')}, "
                f"{counted(settings.num_beams, 'beam')}"
            )
        except (OSError, ValueError) as error:
            lines.append(("MISSING", str(error)))
    times = f"every {counted(int(settings.steps), 'step')}"
    if settings.steps < 1:
        times = f"after every {settings.steps:g} of the steps"
    if data is not None:
        steps = total_steps(recipe, len(sample_order(recipe, data.lengths, data.has_image)))
        points = -(-steps // settings.every(steps)) + settings.at_start
        times = f"{counted(points, 'time')}, every {counted(settings.every(steps), 'step')}"
        if settings.every(steps) > steps:
            times += f", of which there are {steps:,}"
    return [*lines, ("evaluation", f"{times}: {'; '.join(parts)}")]


def _context_lines(recipe: Recipe, model: Any, data: DataSummary | None) -> list[tuple[str, str]]:
    """Return what there is to say of the tokens that the model has positions for."""
    if data is not None and (fault := too_long(model.config, data.lengths)):
        return [("context", f"{fault} (training would stop)")]
    limit = context(model.config)
    if limit is None or recipe.max_length <= limit:
        return []
    line = (
        f"max_length={recipe.max_length:,} is above the {limit:,} that the model has positions for"
    )
    return [("context", f"{line}; no record is that long" if data else line)]


def _epochs(recipe: Recipe) -> str:
    return f"{recipe.num_train_epochs:g} epoch{'s' if recipe.num_train_epochs != 1 else ''}"


def _memory_lines(recipe: Recipe, model: Any, data: DataSummary | None) -> list[tuple[str, str]]:
    lengths, has_image = (None, None) if data is None else (data.lengths, data.has_image)
    parts = memory(recipe, model, heaviest(recipe, lengths, has_image))
    files, longest = disk(recipe, model), recipe.max_length if lengths is None else lengths.max()
    total = sum(parts.values())
    lines = [
        ("memory", f"{gib(total)} on one device, estimated: {_listed(parts)}"),
        *_card_lines(recipe, model, parts),
        ("disk", f"{gib(sum(files.values()))}, estimated: {_listed(files)}"),
    ]
    if recipe.method == "dpo":
        size = gib(reference_memory(model, min(int(longest), recipe.max_length)))
        line = f"{size} on one device, estimated, before training: float32, one pair at a time"
        lines.insert(-1, ("reference", line))
    lacking = lacking_room(recipe, model)
    return [*lines, ("NO ROOM", lacking)] if lacking else lines


def _card_lines(recipe: Recipe, model: Any, parts: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return by how many GiB cards hold it, on one device and spread over several."""
    total = sum(parts.values())
    paged = parts["optimizer"] if OPTIMIZERS[recipe.optim].paged else 0
    without = f", the optimizer's {gib(paged)} paged out" if paged else ""
    lines = [("cards", f"one device{without}: {cards(total - paged)}")]
    if recipe.quantization:
        return [*lines, ("", "the same on each of several devices: few bits are not spread")]
    how = "FSDP2 or ZeRO-3" if OPTIMIZERS[recipe.optim].spread else "ZeRO-3"
    for devices in (2, 4, 8):
        each = each_device(recipe, model, parts, devices)
        where = f"{gib(each)} on each of {devices} ({how})"
        lines.append(("", f"{where}: {cards(each)}"))
    return lines


def _listed(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {gib(value)}" for name, value in parts.items() if value)
