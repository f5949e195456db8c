"""Annotation: a judge rates a prompt's completions, shown to it together in a shuffled order."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from verbalizer_bench.builders.export.agreement import asked_twice, usable
from verbalizer_bench.builders.filters import wording
from verbalizer_bench.builders.pipeline.context import BuildContext
from verbalizer_bench.builders.pipeline.generation import GenerationTask
from verbalizer_bench.builders.pipeline.preference_blocks import Judge
from verbalizer_bench.builders.pipeline.sample import TrainingSample, Verdict
from verbalizer_bench.client.response_checks import Problem
from verbalizer_bench.io.preferences import ATTRIBUTES

ROLE = "judge"
STAGE = "annotations"
PLACEHOLDERS = ("before", "question", "answers")


def schema(answers: int) -> dict[str, Any]:
    """Return the schema of a verdict about so many answers: reasons, then values, of each."""
    value = {"type": "integer", "enum": [0, 1, 2, 3, 4]}
    names = ("reasons", *ATTRIBUTES)
    one = {
        "type": "object",
        "properties": {"reasons": {"type": "string"}, **dict.fromkeys(ATTRIBUTES, value)},
        "required": list(names),
        "additionalProperties": False,
    }
    keys = [_key(number) for number in range(answers)]
    return {
        "type": "object",
        "properties": dict.fromkeys(keys, one),
        "required": keys,
        "additionalProperties": False,
    }


def _key(number: int) -> str:
    return f"answer_{number + 1}"


def shown(answers: Sequence[str]) -> str:
    """Return answers as the judge reads them."""
    return "\n\n".join(
        f"<{_key(number)}>\n{answer}\n</{_key(number)}>" for number, answer in enumerate(answers)
    )


def order_of(sample: TrainingSample, seed: int) -> tuple[int, ...]:
    """Return the places of the candidates that can be used, in the order that the seed gives."""

    def drawn(number: int) -> str:
        return hashlib.sha256(f"{seed}\t{sample.id}\t{number}".encode()).hexdigest()

    return tuple(sorted(usable(sample), key=drawn))


class AnnotationStage:
    """Asks the judge."""

    def __init__(self, context: BuildContext, settings: Judge, images: Path | None) -> None:
        """Take how it is asked, and the folder of images."""
        self.context, self.settings, self.images = context, settings, images

    async def annotate(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        """Return the samples with verdicts; one whose verdict cannot be used is rejected."""
        twice = asked_twice(samples, self.settings)
        return await self.context.process_samples(STAGE, samples, partial(self._rated, twice))

    async def _rated(self, twice: frozenset[str], sample: TrainingSample) -> TrainingSample:
        order = order_of(sample, self.settings.seed)
        sample = await self._asked(sample, order)
        if sample.rejection or sample.id not in twice:
            return sample
        # A second verdict that fails is counted as missing; the first one stands.
        return replace(await self._asked(sample, order[::-1]), rejection=None)

    async def _asked(self, sample: TrainingSample, order: tuple[int, ...]) -> TrainingSample:
        task = GenerationTask(
            ROLE, self._messages(sample, order), schema(len(order)), reasons_problem
        )
        sample, value = await self.context.generate(STAGE, sample, task)
        if value is None:
            return sample
        return replace(sample, verdicts=(*sample.verdicts, verdict(value, order)))

    def _messages(
        self, sample: TrainingSample, order: Sequence[int]
    ) -> tuple[Mapping[str, Any], ...]:
        values = {
            "before": _before(sample),
            "question": sample.turns[-1].question,
            "answers": shown([sample.candidates[number].text for number in order]),
        }
        image = self.images / sample.image if self.images and sample.image else None
        return self.context.prompts.messages(ROLE, values, image)


def _before(sample: TrainingSample) -> str:
    """Return what comes before the question: the system turn, and earlier turns."""
    lines = [f"[system] {sample.system}"] if sample.system else []
    for turn in sample.turns[:-1]:
        lines += [f"[user] {turn.question}", f"[assistant] {turn.answer}"]
    return "\n\n".join(lines) or "(nothing)"


def verdict(value: Mapping[str, Any], order: tuple[int, ...]) -> Verdict:
    """Return a judge's object as a verdict."""
    answers = [value[_key(number)] for number in range(len(order))]
    # A schema takes 3.0 for a whole number.
    scores = tuple({name: int(answer[name]) for name in ATTRIBUTES} for answer in answers)
    return Verdict(order, scores, tuple(answer["reasons"] for answer in answers))


def reasons_problem(value: Mapping[str, Any]) -> Problem | None:
    """Return a problem if the reasons for an answer's values are missing."""
    for key, answer in value.items():
        if problem := wording.empty_problem(answer["reasons"], f"reasons of {key}"):
            return problem
    return None
