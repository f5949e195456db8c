"""Preference data: several completions of each prompt, a judge's ratings, and pairs of them.

verbalizer-bench build recipes/data/preference.yaml

Li, Lin & Pei 2024 (arXiv 2402.10884): prompts with images, completions that the model itself
samples, attributes from 0 to 4 by a judge, and the best against the worst.
"""

import hashlib
import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from verbalizer_bench.builders.export.preference_sets import CompletionLayout, PairLayout
from verbalizer_bench.builders.filters import screening, wording
from verbalizer_bench.builders.kinds import annotation, completions, prompt_records
from verbalizer_bench.builders.kinds.sampling import sampled_by, sampler
from verbalizer_bench.builders.pipeline.context import BuildContext, PlannedCalls, typical
from verbalizer_bench.builders.pipeline.recipe import Preference
from verbalizer_bench.builders.pipeline.sample import TrainingSample, Turn
from verbalizer_bench.builders.pipeline.stages import Stage
from verbalizer_bench.io.conversations import Conversation

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
        sampled = sampler(context, recipe.completions, recipe.images)
        judge = annotation.AnnotationStage(context, recipe.judge, recipe.images)
        rated = context.settings(annotation.ROLE) | {"judge": recipe.judge}
        screened = {"leakage": screening.settings(recipe)["leakage"]}
        return [
            Stage(prompt_records.STAGE, self._asked(), self._prompts),
            Stage(completions.STAGE, sampled_by(context, recipe.completions), sampled.sample),
            Stage("check", screened, self._check),
            Stage(annotation.STAGE, rated, judge.annotate),
        ]

    def plan(self) -> list[PlannedCalls]:
        """Return the calls to make."""
        asked = [one.record for one in self.records if isinstance(one.record, Conversation)]
        texts = ["".join(turn.text for turn in record.messages) for record in asked]
        length = sum(len(text.encode()) for text in texts) // max(1, len(texts))
        shown = sum(bool(record.images) for record in asked)
        question = max(1, round(length / 3))
        return plan(self.context, self.recipe, shown, len(asked) - shown, question)

    def _asked(self) -> dict[str, Any]:
        """Return what prompts depend on: records, and whether their images are there."""
        recipe = self.recipe
        files = prompt_records.image_states(self.records, recipe.records, recipe.images)
        below = {name: source.images for name, source in recipe.records.items()}
        return {"records": _sha256(self.records), "images": below, "files": _sha256(files)}

    async def _prompts(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        recipe = self.recipe
        made = await prompt_records.prompt_samples(self.records, recipe.records, recipe.images)
        return [_without_tags(sample) for sample in made]

    async def _check(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        return await completions.screen(samples, self.recipe)


def _without_tags(sample: TrainingSample) -> TrainingSample:
    """Return a sample, rejected if a judge could take what is asked for an answer."""
    found = completions.TAG.search("\n".join(wording.sample_texts(sample)))
    if sample.rejection or not found:
        return sample
    detail = f"the prompt has {found.group()}, which parts answers for the judge"
    return sample.reject(prompt_records.STAGE, "tags", detail)


def _sha256(values: Sequence[Any]) -> str:
    content = json.dumps(values, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def plan(
    context: BuildContext,
    recipe: Preference,
    shown: int,
    bare: int = 0,
    tokens: int = _QUESTION_TOKENS,
) -> list[PlannedCalls]:
    """Return the calls to make.

    Args:
        context: With the prompts.
        recipe: What is sampled, and how it is judged.
        shown: Prompts with an image.
        bare: Prompts without one.
        tokens: Of a typical prompt.
    """
    numbers = ((shown, recipe.images), (bare, None))
    made = [_plan(context, recipe, number, image, tokens) for number, image in numbers if number]
    if len(made) > 1:
        shown_or_not = zip(made, ("with an image", "without"), strict=True)
        made = [[one.of(which) for one in some] for some, which in shown_or_not]
    # All completions come before all verdicts.
    return [one for stage in zip_longest(*made) for one in stage if one]


def _plan(
    context: BuildContext, recipe: Preference, prompts: int, image: Path | None, tokens: int
) -> list[PlannedCalls]:
    """Return the calls about prompts that all have an image, or none."""
    k, role = recipe.completions.k, annotation.ROLE
    question, answer = typical(tokens), typical(_ANSWER_TOKENS)
    sample = TrainingSample("", turns=(Turn(question, ""),), image="" if image else None)
    calls = []
    if not recipe.completions.checkpoint:
        asked = (completions.STAGE, completions.ROLE, k * prompts)
        messages = completions.conversation(sample, image)
        calls.append(PlannedCalls(*asked, messages, None, _ANSWER_TOKENS))
    values = {"before": "", "question": question, "answers": annotation.shown([answer] * k)}
    messages = context.prompts.messages(role, values, image)
    judged = prompts + (round(recipe.judge.twice * prompts) if k > 1 else 0)
    longest = k * context.prompts.prompts[role].reply_tokens
    schema = annotation.schema(k)
    calls.append(PlannedCalls(annotation.STAGE, role, judged, messages, schema, longest))
    return calls
