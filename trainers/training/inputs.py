"""What a recipe trains on: encoded records, their order, and the collator of batches."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.io.images import image_size
from verbalizer_bench.io.unread_keys import unread_lines
from verbalizer_bench.io.wording import counted
from verbalizer_bench.trainers.checkpoints.load import Checkpoint
from verbalizer_bench.trainers.conversations.encoder import Encoder
from verbalizer_bench.trainers.conversations.pair_encoder import PairEncoder
from verbalizer_bench.trainers.conversations.processor_encoder import (
    ProcessorEncoder,
    ProcessorPairEncoder,
)
from verbalizer_bench.trainers.conversations.processor_texts import ProcessorTexts
from verbalizer_bench.trainers.conversations.steering import VARIABLE
from verbalizer_bench.trainers.data.cache import TrainingData, build
from verbalizer_bench.trainers.data.collator import Collator
from verbalizer_bench.trainers.data.encoded_files import BAD
from verbalizer_bench.trainers.data.mixture import Mixture, Proportions, mix
from verbalizer_bench.trainers.data.overlap import overlap
from verbalizer_bench.trainers.data.pair_collator import PairCollator, ProcessorPairCollator
from verbalizer_bench.trainers.data.processor_collator import ProcessorCollator
from verbalizer_bench.trainers.data.row_kinds import (
    BEST,
    CONVERSATIONS,
    PAIRS,
    STEERED,
    RowKind,
    with_texts,
)
from verbalizer_bench.trainers.data.sampler import GroupedSampler, SeededSampler
from verbalizer_bench.trainers.data.survey_summary import cut_line
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.training.contrastive import CaptionCollator

log = logging.getLogger(__name__)


def row_kind(recipe: Recipe) -> RowKind:
    """Return what a recipe's records are, and what is made of one."""
    kinds = {"dpo": PAIRS, "rejection": BEST, "steerlm": STEERED}
    return kinds.get(recipe.method, CONVERSATIONS)


def make_encoder(
    recipe: Recipe, tokenizer: Any, image_token_id: int | None, image_tokens: int
) -> Encoder | PairEncoder:
    """Return what makes token ids of a recipe's records; the arguments are `Encoder`'s."""
    # What a SteerLM's template ends questions with, its records have already.
    arguments = {VARIABLE: ""} if recipe.method == "steerlm" else {}
    encoder = Encoder(
        tokenizer,
        recipe.format,
        image_token_id,
        image_tokens,
        recipe.max_length,
        arguments,
        recipe.thoughts,
    )
    return PairEncoder(encoder) if row_kind(recipe) is PAIRS else encoder


def make_processor_encoder(
    recipe: Recipe, texts: ProcessorTexts
) -> ProcessorEncoder | ProcessorPairEncoder:
    """Return what makes token ids of a recipe's records by a checkpoint's own processor."""
    arguments = {VARIABLE: ""} if recipe.method == "steerlm" else {}
    folder = recipe.images_folder or Path()
    encoder = ProcessorEncoder(
        texts,
        recipe.format,
        lambda name: image_size(folder / name),
        recipe.max_length,
        arguments,
        recipe.thoughts,
    )
    return ProcessorPairEncoder(encoder) if row_kind(recipe) is PAIRS else encoder


def checkpoint_encoder(
    recipe: Recipe, checkpoint: Checkpoint
) -> tuple[Encoder | PairEncoder, RowKind]:
    """Return what makes token ids of a recipe's records, and the kind of their rows."""
    kind = row_kind(recipe)
    if checkpoint.texts:
        return make_processor_encoder(recipe, checkpoint.texts), with_texts(kind)
    sizes = checkpoint.image_token_id, checkpoint.image_tokens
    return make_encoder(recipe, checkpoint.tokenizer, *sizes), kind


def encoded_data(recipe: Recipe, checkpoint: Checkpoint, files: Sequence[Path]) -> TrainingData:
    """Encode the records of some of a recipe's files, or load them from the cache."""
    encoder, kind = checkpoint_encoder(recipe, checkpoint)
    for ending in encoder.unknown_endings:
        log.warning("%r, which ends answers, is no token: nothing will stop the model", ending)
    data = build(
        files,
        recipe.images_folder,
        encoder,
        skip_bad=recipe.bad_records == "skip",
        cache=recipe.cache.expanduser(),
        kind=kind,
    )
    for reason, number in data.skipped.items():
        left = counted(number, "record")
        log.warning("%s left out: %s; listed in %s", left, reason, data.folder / BAD)
    if data.cut:
        log.warning("%s", cut_line(data.cut, data.lost, recipe.max_length))
    for line in unread_lines([one.file for one in data.files], data.unread, data.counts):
        log.warning("%s", line)
    return data


def training_data(recipe: Recipe, checkpoint: Checkpoint) -> TrainingData:
    """Return what a recipe trains on: of all of its files what it draws of them."""
    data = encoded_data(recipe, checkpoint, recipe.files)
    records = data.dataset.data.column("record").to_numpy()
    mixture = drawn(recipe, records, data.has_image, data.counts)
    return data.mixed(mixture) if mixture else data


def held_out_data(
    recipe: Recipe, checkpoint: Checkpoint, data: TrainingData
) -> TrainingData | None:
    """Return a recipe's held-out records, None without; warn of prompts that are trained on.

    Raises:
        ValueError: Records of it are trained on as a whole.
    """
    if not recipe.held_out:
        return None
    held_out = encoded_data(recipe, checkpoint, recipe.held_out)
    folder = recipe.images_folder
    found = overlap(data.hashes(folder), held_out.hashes(folder))
    if fault := found.fault(recipe.held_out, row_kind(recipe).parse):
        raise ValueError(fault)
    if warning := found.warning(recipe.held_out):
        log.warning("%s", warning)
    return replace(held_out, prompts_trained=found.prompts)


def drawn(
    recipe: Recipe, records: np.ndarray, has_image: np.ndarray, counts: Sequence[int]
) -> Mixture | None:
    """Return what a recipe draws of its files; None for all records.

    Args:
        recipe: The recipe.
        records: The number of each row's record.
        has_image: Of each row, bool.
        counts: How many records each file has.

    Raises:
        ValueError: A file that is drawn from has no record, or one that is replayed has images.
    """
    replay = recipe.text_replay
    proportions = Proportions(
        records=recipe.data_records,
        weights=recipe.data_weights,
        temperature=recipe.data_temperature,
        replayed=len(replay.data) if replay else 0,
        share=replay.share if replay else 0.0,
    )
    if proportions == Proportions():
        return None
    replayed = (records >= sum(counts[: len(recipe.data)])) & has_image
    if replayed.any():
        raise ValueError(
            f"text_replay.data: record {records[replayed][0] + 1} shows an image, and "
            f"{int(replayed.sum()) - 1:,} more; give records of text"
        )
    return mix(records, counts, proportions, recipe.seed)


def sample_order(recipe: Recipe, lengths: np.ndarray, has_image: np.ndarray) -> SeededSampler:
    """Return the order of a recipe's records."""
    if recipe.group == "none":
        return SeededSampler(len(lengths), recipe.global_batch_size, recipe.seed)
    micro_batch = recipe.per_device_batch_size if recipe.loss == "micro_batches" else None
    sizes = recipe.global_batch_size, recipe.seed, recipe.group, micro_batch
    return GroupedSampler(lengths, has_image, *sizes)


def make_collator(recipe: Recipe, checkpoint: Checkpoint) -> Collator:
    """Return the collator of a recipe's rows."""
    if checkpoint.texts:
        own = ProcessorPairCollator if recipe.method == "dpo" else ProcessorCollator
        return own(checkpoint.texts, recipe.images_folder, recipe.loss_weights)
    pad = checkpoint.tokenizer.pad_token_id
    kinds = {"tower": CaptionCollator, "dpo": PairCollator}
    return kinds.get(recipe.method, Collator)(
        image_processor=getattr(checkpoint.processor, "image_processor", None),
        # Padding is masked: any id does.
        pad_token_id=0 if pad is None else pad,
        image_token_id=checkpoint.image_token_id,
        image_tokens=checkpoint.image_tokens,
        images=recipe.images_folder,
        weights=recipe.loss_weights,
    )
