"""Prompts of existing records: which are asked, and why others cannot be."""

import asyncio
import hashlib
import heapq
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from verbalizer_bench.builders.filters import wording
from verbalizer_bench.builders.kinds.images import look_at
from verbalizer_bench.builders.pipeline.preference_blocks import PromptRecords
from verbalizer_bench.builders.pipeline.sample import TrainingSample, Turn
from verbalizer_bench.client.response_checks import artifact_problem
from verbalizer_bench.io.conversation_files import read_prompts
from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message

STAGE = "prompts"
ARM = "prompt"


class PromptRecord(NamedTuple):
    """A record, its source's name, and the order that the seed gives it."""

    record: Conversation | BadRecordError
    source: str
    order: str


def choose(sources: dict[str, PromptRecords], limit: int | None = None) -> list[PromptRecord]:
    """Return the first n records of each source, all in one order, by hashes.

    A greater n keeps the records of a smaller one.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is none of records, or has fewer than n.
    """
    chosen = []
    for name, source in sources.items():
        if not source.file.is_file():
            raise FileNotFoundError(f"records.{name}.file={source.file}: no such file")
        known = (_ordered(name, source, record) for record in read_prompts(source.file))
        if source.n is None:
            first = list(known)
        else:
            # Of a large file only those that are taken are held in memory.
            first = heapq.nsmallest(source.n, known, key=lambda one: one.order)
        if not first:
            raise ValueError(f"records.{name}.file={source.file}: no record in it; give another")
        if len(first) < (source.n or 1):
            raise ValueError(
                f"records.{name}.n={source.n}: {source.file} has {len(first)} records; lower n, or "
                "give another file"
            )
        chosen += first
    return sorted(chosen, key=lambda one: one.order)[:limit]


def _ordered(
    name: str, source: PromptRecords, record: Conversation | BadRecordError
) -> PromptRecord:
    if source.turn == "first" and isinstance(record, Conversation):
        record = first_turn(record)
    return PromptRecord(record, name, order(source.seed, name, record.index))


def first_turn(record: Conversation) -> Conversation:
    """Return a record that ends with its first question."""
    end = next(n for n, message in enumerate(record.messages, 1) if message.role == "user")
    return record._replace(messages=record.messages[:end])


def order(seed: int, name: str, index: int) -> str:
    """Return what records are sorted by before the first n are taken."""
    return hashlib.sha256(f"{seed}\t{name}\t{index}".encode()).hexdigest()


def image_states(
    records: Sequence[PromptRecord], sources: dict[str, PromptRecords], images: Path | None
) -> list[tuple[int, int] | None]:
    """Return size and time of each image's file, None where there is none.

    A build that goes on once an image was put in its place shall find it.
    """
    names = [
        Path(images or "", sources[one.source].images, name)
        for one in records
        if isinstance(one.record, Conversation)
        for name in one.record.images
    ]
    states = [path.stat() if path.is_file() else None for path in names]
    return [(state.st_size, state.st_mtime_ns) if state else None for state in states]


async def prompt_samples(
    records: Sequence[PromptRecord], sources: dict[str, PromptRecords], images: Path | None
) -> list[TrainingSample]:
    """Return the records' samples; those that cannot be asked, or were asked before, are rejected.

    Args:
        records: The records.
        sources: Where they are from.
        images: The folder that images' names are relative to.
    """

    def all_samples() -> list[TrainingSample]:
        made = [_sample(one, sources[one.source].images, images) for one in records]
        return distinct(made, STAGE)

    return await asyncio.to_thread(all_samples)


def _sample(one: PromptRecord, below: str, images: Path | None) -> TrainingSample:
    sample = TrainingSample(id=f"{one.source}-{one.record.index:06}", arm=ARM, source=one.source)
    if isinstance(one.record, BadRecordError):
        return sample.reject(STAGE, "record", str(one.record))
    return asked(sample, one.record, below, images, STAGE)


def asked(
    sample: TrainingSample, record: Conversation, below: str, images: Path | None, stage: str
) -> TrainingSample:
    """Return a sample with what a record asks, rejected if it cannot be asked.

    Args:
        sample: Its id, arm and source.
        record: The prompt.
        below: The folder of its image below `images`.
        images: The folder that images' names are relative to.
        stage: The stage that rejects.
    """
    system = "".join(message.text for message in record.messages if message.role == "system")
    turns = _turns([message for message in record.messages if message.role != "system"])
    sample = replace(sample, system=system or None, turns=turns)
    if problem := _text_problem(sample):
        return sample.reject(stage, *problem)
    names = [Path(below, name).as_posix() for name in record.images]
    return _with_image(sample, names, images, stage)


def _turns(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """Return questions with their answers, the last of which is empty."""
    texts = [message.text for message in messages]
    return tuple(
        Turn(*pair) for pair in itertools.zip_longest(texts[::2], texts[1::2], fillvalue="")
    )


def _text_problem(sample: TrainingSample) -> tuple[str, str] | None:
    for text in wording.sample_texts(sample):
        if problem := wording.placeholder_problem(text) or artifact_problem(text):
            return problem
    return wording.empty_problem(sample.turns[-1].question, "the question")


def _with_image(
    sample: TrainingSample, names: Sequence[str], images: Path | None, stage: str
) -> TrainingSample:
    """Return a sample with its image, rejected if it cannot be shown."""
    if not names:
        return sample
    if len(names) > 1:
        return sample.reject(stage, "images", f"{len(names)} images; prompts have one at most")
    if images is None:
        return sample.reject(stage, "image", f"{names[0]}: give images, the folder that it is in")
    sha256, problem = look_at(images / names[0])
    sample = replace(sample, image=names[0], image_sha256=sha256)
    return sample.reject(stage, "image", problem) if problem else sample


def distinct(samples: Sequence[TrainingSample], stage: str) -> list[TrainingSample]:
    """Reject samples with the prompt, image and answers of an earlier one."""
    first: dict[object, str] = {}
    distinct = []
    for sample in samples:
        texts = tuple(candidate.text for candidate in sample.candidates)
        whole = (sample.image_sha256, sample.system, sample.turns, texts)
        known = None if sample.rejection else first.setdefault(whole, sample.id)
        repeated = known not in (None, sample.id)
        distinct.append(sample.reject(stage, "duplicate", f"of {known}") if repeated else sample)
    return distinct
