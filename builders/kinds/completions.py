"""Completions: k answers to each prompt, sampled, and which of them can be used."""

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from verbalizer_bench.builders.filters import leakage, screening, wording
from verbalizer_bench.builders.pipeline.context import BuildContext
from verbalizer_bench.builders.pipeline.failure_monitor import OTHERWISE
from verbalizer_bench.builders.pipeline.generation import attempt_of
from verbalizer_bench.builders.pipeline.preference_blocks import Completions
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import Attempt, Candidate, TrainingSample
from verbalizer_bench.builders.pipeline.worker_pool import BuildStopped
from verbalizer_bench.client.protocol import Reply, Request
from verbalizer_bench.client.response_checks import Problem, artifact_problem, finish_kind
from verbalizer_bench.io.preferences import LENGTH, UNKNOWN

ROLE = "completion"
STAGE = "completions"
# What a judge is shown answers between.
TAG = re.compile(r"</?answer_\d+>")
# So many prompts without two different completions: it is not the prompts.
_FIRST = 20
# What ended a completion, besides `LENGTH`.
STOP, FILTERED = "stop", "filtered"


def conversation(sample: TrainingSample, images: Path | None) -> tuple[dict[str, Any], ...]:
    """Return a sample's prompt as a request has it, the image in front of the first question."""
    messages: list[dict[str, Any]] = []
    if sample.system:
        messages.append({"role": "system", "content": sample.system})
    for number, turn in enumerate(sample.turns):
        content: Any = turn.question
        if sample.image is not None and number == 0:
            assert images is not None
            shown = {"type": "image_file", "path": str(images / sample.image)}
            content = [shown, {"type": "text", "text": turn.question}]
        messages.append({"role": "user", "content": content})
        if turn.answer:
            messages.append({"role": "assistant", "content": turn.answer})
    return tuple(messages)


def seed_of(settings: Completions, sample: TrainingSample, number: int) -> int | None:
    """Return the seed of a sample's completion; None if none is sent."""
    if settings.seed is None:
        return None
    asked = f"{settings.seed}\t{sample.id}\t{number}"
    return int(hashlib.sha256(asked.encode()).hexdigest()[:8], 16) // 2


class EndpointSampler:
    """Samples completions from an endpoint."""

    def __init__(self, context: BuildContext, settings: Completions, images: Path | None) -> None:
        """Take what is sampled, and the folder of images."""
        self.context, self.settings, self.images = context, settings, images
        # Prompts with two answers or more that are one text, and with different ones.
        self._alike = self._different = 0

    async def sample(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        """Return the samples with their completions."""
        return await self.context.process_samples(STAGE, samples, self._one)

    async def _one(self, sample: TrainingSample) -> TrainingSample:
        messages = conversation(sample, self.images)
        candidates: list[Candidate] = []
        attempts: list[Attempt] = []
        for number in range(self.settings.k):
            seed = seed_of(self.settings, sample, number)
            parameters: Mapping[str, Any] = {} if seed is None else {"seed": seed}
            request = Request(ROLE, messages, None, number, parameters)
            reply = await self.context.generator.ask(request)
            if isinstance(reply, Problem):
                sample = replace(sample, attempts=(*sample.attempts, *attempts))
                return sample.reject(STAGE, *reply)
            candidate = candidate_of(reply, seed)
            problem = self_problem(candidate, self.settings)
            attempts.append(attempt_of(ROLE, reply, problem))
            candidates.append(candidate)
        sample = replace(sample, attempts=(*sample.attempts, *attempts))
        sample = with_candidates(sample, candidates, self.settings)
        self._check_sampling(sample)
        return sample

    def _check_sampling(self, sample: TrainingSample) -> None:
        """Raise BuildStopped if the server gives one answer, whatever the seed: it does not sample.

        `transformers serve` does so for a checkpoint whose generation_config.json has no do_sample.
        """
        problems = [one.problem for one in sample.candidates]
        if problems.count(None) > 1:
            self._different += 1
        elif any(str(problem).startswith("same:") for problem in problems):
            self._alike += 1
        if self._alike >= _FIRST and not self._different:
            model = self.context.endpoint(ROLE).model
            raise BuildStopped(
                f"each of the first {self._alike} prompts has the same completion "
                f"{self.settings.k} times: {model} does not sample",
                "have the server heed temperature and seed (of transformers serve: do_sample in "
                "the checkpoint's generation_config.json), raise the temperature, or give "
                f"completions.k=1; {OTHERWISE}",
            )


def candidate_of(reply: Reply, seed: int | None) -> Candidate:
    """Return a reply as a candidate."""
    kinds = {"complete": STOP, "too_long": LENGTH, "refused": FILTERED}
    ending = kinds.get(finish_kind(reply.finish_reason), UNKNOWN)
    if reply.refusal:
        return Candidate(reply.refusal, FILTERED, seed)
    return Candidate(reply.text.strip(), ending if reply.finish_reason else UNKNOWN, seed)


def with_candidates(
    sample: TrainingSample, candidates: Sequence[Candidate], settings: Completions
) -> TrainingSample:
    """Return a sample with its candidates, rejected if none of them can be used."""
    known: dict[str, int] = {}
    checked = []
    for number, candidate in enumerate(candidates):
        problem = self_problem(candidate, settings)
        first = number if problem else known.setdefault(candidate.text, number)
        if first != number:
            problem = Problem("same", f"as number {first}")
        checked.append(
            candidate._replace(problem=f"{problem.reason}: {problem.detail}" if problem else None)
        )
    return reject_unusable(replace(sample, candidates=tuple(checked)), STAGE)


def reject_unusable(sample: TrainingSample, stage: str) -> TrainingSample:
    """Return a sample, rejected for its first candidate's problem if no candidate can be used."""
    problems = [candidate.problem for candidate in sample.candidates]
    if sample.rejection or not all(problems):
        return sample
    reason, _, detail = str(problems[0]).partition(": ")
    return sample.reject(stage, reason, detail)


def self_problem(candidate: Candidate, settings: Completions) -> Problem | None:
    """Return why a candidate cannot be used, whatever the others are."""
    if candidate.ending == FILTERED:
        return Problem("refusal", candidate.text[:200] or "the server's content filter")
    if candidate.ending == LENGTH and settings.cut_off == "drop":
        return Problem("cut_off", "it is longer than max_tokens")
    if tag := TAG.search(candidate.text):
        return Problem("tags", f"it has {tag.group()}, which would part answers for the judge")
    return (
        wording.empty_problem(candidate.text, "the completion")
        or wording.placeholder_problem(candidate.text)
        or artifact_problem(candidate.text)
    )


async def screen(samples: list[TrainingSample], recipe: DataRecipe) -> list[TrainingSample]:
    """Reject prompts, and candidates, that share text with the evaluation data."""
    arms = sorted({sample.arm for sample in samples})
    samples = await screening.screen(samples, recipe, repeated=arms)

    def screened() -> list[TrainingSample]:
        index = leakage.evaluation(recipe.leakage)
        if index is None:
            return samples
        return [_without_leaks(sample, index) for sample in samples]

    return await asyncio.to_thread(screened)


def _without_leaks(sample: TrainingSample, index: leakage.EvaluationIndex) -> TrainingSample:
    if sample.rejection:
        return sample
    candidates = []
    for candidate in sample.candidates:
        overlap = None if candidate.problem else index.overlap([candidate.text])
        if overlap:
            problem = f"leakage: {overlap.dataset} has: {overlap.words}"
            candidate = candidate._replace(problem=problem)
        candidates.append(candidate)
    return reject_unusable(replace(sample, candidates=tuple(candidates)), "check")
