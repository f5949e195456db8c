"""Preference data: several completions of each prompt, a judge's ratings, and pairs of them.

verbalizer-bench build recipes/data/preference.yaml

Li, Lin & Pei 2024 (arXiv 2402.10884): prompts with images, completions that the model itself
samples, attributes from 0 to 4 by a judge, and the best against the worst.
"""

import hashlib
import json
from typing import Any

from verbalizer_bench.builders.export.preference_sets import CompletionLayout, PairLayout
from verbalizer_bench.builders.filters import screening
from verbalizer_bench.builders.kinds import annotation, completions, prompt_records
from verbalizer_bench.builders.kinds.local_sampling import LocalSampler
from verbalizer_bench.builders.pipeline.context import BuildContext, PlannedCalls, typical
from verbalizer_bench.builders.pipeline.recipe import Preference
from verbalizer_bench.builders.pipeline.sample import TrainingSample, Turn
from verbalizer_bench.builders.pipeline.stages import Stage

NEEDED = {
    "prompts": {annotation.ROLE: annotation.PLACEHOLDERS},
    "failures": {"other": ("detail",)},
}
# Of a typical question, and of an answer: LLaVA-1.5's to AlpacaEval have some 250.
_QUESTION_TOKENS, _ANSWER_TOKENS = 40, 250


class PreferenceStages:
    """The stages."""

    needed, roles = NEEDED, (completions.ROLE,)

    def __init__(self, context: BuildContext, recipe: Preference) -> None:
        """Choose prompts.

        Raises:
            FileNotFoundError: A file or folder is not there.
            ValueError: A file is none of records, or has fewer than are wanted.
        """
        self.context, self.recipe = context, recipe
        if recipe.images and not recipe.images.is_dir():
            raise FileNotFoundError(f"images={recipe.images}: no such folder")
        self.records = prompt_records.choose(recipe.records, recipe.limit)
        rules = recipe.pairs.items()
        self.layouts = (CompletionLayout(), *(PairLayout(name, rule) for name, rule in rules))

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        recipe, context = self.recipe, self.context
        judge = annotation.AnnotationStage(context, recipe.judge, recipe.images)
        rated = context.settings(annotation.ROLE) | {"judge": recipe.judge}
        screened = {name: screening.settings(recipe)[name] for name in ("leakage",)}
        return [
            Stage(prompt_records.STAGE, {"records": _sha256(self.records)}, self._prompts),
            Stage(completions.STAGE, self._sampled_by(), self._sampler().sample),
            Stage("check", screened, self._check),
            Stage(annotation.STAGE, rated, judge.annotate),
        ]

    def plan(self) -> list[PlannedCalls]:
        """Return the calls to make."""
        return plan(self.context, self.recipe, len(self.records))

    def _sampled_by(self) -> dict[str, Any]:
        """Return what completions depend on."""
        settings: dict[str, Any] = {"completions": self.recipe.completions}
        if not self.recipe.completions.checkpoint:
            settings |= self.context.settings(completions.ROLE) | {"prompts": None}
        return settings

    def _sampler(self) -> Any:
        settings, images = self.recipe.completions, self.recipe.images
        if settings.checkpoint:
            return LocalSampler(self.recipe.work, settings, settings.checkpoint, images)
        return completions.EndpointSampler(self.context, settings, images)

    async def _prompts(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        recipe = self.recipe
        return await prompt_records.prompt_samples(self.records, recipe.records, recipe.images)

    async def _check(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        return await completions.screen(samples, self.recipe)


def _sha256(records: list[prompt_records.PromptRecord]) -> str:
    content = json.dumps(records, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def plan(context: BuildContext, recipe: Preference, prompts: int) -> list[PlannedCalls]:
    """Return the calls to make for so many prompts."""
    k, image = recipe.completions.k, recipe.images
    question, answer = typical(_QUESTION_TOKENS), typical(_ANSWER_TOKENS)
    sample = TrainingSample("", turns=(Turn(question, ""),), image="" if image else None)
    values = {"before": "", "question": question, "answers": annotation.shown([answer] * k)}
    calls = []
    if not recipe.completions.checkpoint:
        asked = completions.conversation(sample, image)
        number = k * prompts
        calls.append(
            PlannedCalls(completions.STAGE, completions.ROLE, number, asked, None, _ANSWER_TOKENS)
        )
    twice = round(recipe.judge.twice * prompts) if k > 1 else 0
    messages = context.prompts.messages(annotation.ROLE, values, image)
    tokens = k * context.prompts.prompts[annotation.ROLE].reply_tokens
    schema = annotation.schema(k)
    calls.append(
        PlannedCalls(annotation.STAGE, annotation.ROLE, prompts + twice, messages, schema, tokens)
    )
    return calls
