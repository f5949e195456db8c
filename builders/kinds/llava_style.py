"""Data in the manner of LLaVA-Instruct: from captions and boxes, by a language model.

verbalizer-bench build recipes/data/llava_style.yaml

Liu et al. 2023 (arXiv 2304.08485), section 3: conversation, detailed description and complex
reasoning of an image that is given to the model as its captions and its objects' boxes.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from verbalizer_bench.builders.export.sets import SetLayout
from verbalizer_bench.builders.filters import screening, wording
from verbalizer_bench.builders.kinds.images import AnnotatedImage, describe, image_samples, select
from verbalizer_bench.builders.kinds.items import schema
from verbalizer_bench.builders.pipeline.context import BuildContext, PlannedCalls, typical
from verbalizer_bench.builders.pipeline.generation import GenerationTask
from verbalizer_bench.builders.pipeline.recipe import LlavaStyle
from verbalizer_bench.builders.pipeline.sample import TrainingSample, Turn
from verbalizer_bench.builders.pipeline.stages import Stage
from verbalizer_bench.client.response_checks import Problem

ARMS = ("conversation", "detail", "complex")
NEEDED = {
    "prompts": {
        "conversation": ("context",),
        "detail": ("context", "question"),
        "complex": ("context",),
    },
    "records": {"llava": ("question",)},
    "questions": {"detail": ()},
    "failures": dict.fromkeys(("other", "mention"), ("detail",)),
}
LAYOUTS = (
    SetLayout("llava_style", ARMS, image=True, template="llava"),
    *(SetLayout(arm, (arm,), image=True, template="llava") for arm in ARMS),
)
_CONVERSATION = {
    "type": "object",
    "properties": {"turns": {"type": "array", "items": schema("question", "answer")}},
    "required": ["turns"],
    "additionalProperties": False,
}
_SCHEMAS = {
    "conversation": _CONVERSATION,
    "detail": None,
    "complex": schema("question", "answer"),
}


class LlavaStyleStages:
    """The stages."""

    layouts, needed, roles = LAYOUTS, NEEDED, ()

    def __init__(self, context: BuildContext, recipe: LlavaStyle) -> None:
        """Choose images.

        Raises:
            FileNotFoundError: A file or folder is not there.
            ValueError: There are too few, or they have no captions.
        """
        self.context, self.recipe = context, recipe
        self.images = select(recipe.images, recipe.limit, files=False)
        if not any(image.captions for image in self.images):
            raise ValueError("images.annotations: no image has a caption; give COCO's captions")

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        asked = self.context.settings(*self.recipe.answers)
        return [
            Stage("images", {"images": self.images, "arms": self.recipe.answers}, self._images),
            Stage("items", asked, self._items),
            Stage("check", screening.settings(self.recipe), self._check),
        ]

    def plan(self) -> list[PlannedCalls]:
        """Return the calls to make."""
        longest = max((describe(image) for image in self.images), key=len)
        return plan(self.context, self.recipe, len(self.images), longest)

    async def _images(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        samples = await image_samples(self.images, self.recipe.images.folder)
        return [
            replace(known, id=f"{sample.id}_{arm}", arm=arm, caption=None)
            for sample, image in zip(samples, self.images, strict=True)
            for known in [_known(sample, image)]
            for arm in self.recipe.answers
        ]

    async def _items(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        return await self.context.process_samples("items", samples, self._item)

    async def _item(self, sample: TrainingSample) -> TrainingSample:
        if sample.context is None:
            return sample.reject("items", "empty", "it has no caption")
        question = self._detail_question(sample) if sample.arm == "detail" else ""
        values = {"context": sample.context, "question": question}
        messages = self.context.prompts.messages(sample.arm, values)
        task = GenerationTask(sample.arm, messages, _SCHEMAS[sample.arm], _judge(question))
        sample, value = await self.context.generate("items", sample, task)
        return sample if value is None else replace(sample, turns=_turns(value, question))

    def _detail_question(self, sample: TrainingSample) -> str:
        """Return one of the questions, by the hash of the image's name."""
        questions = self.context.prompts.questions["detail"]
        number = int(hashlib.sha256(str(sample.image).encode()).hexdigest(), 16)
        return questions[number % len(questions)]

    async def _check(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        # A detailed description's question is meant to be one of a few.
        return await screening.screen(samples, self.recipe, repeated=("detail",))


def _known(sample: TrainingSample, image: AnnotatedImage) -> TrainingSample:
    """Return an image's sample with what is known of it, rejected if a caption is unusable."""
    sample = replace(sample, context=describe(image) if image.captions else None)
    problem = next(filter(None, map(wording.caption_problem, image.captions)), None)
    return sample.reject("images", *problem) if problem and not sample.rejection else sample


def _turns(value: Mapping[str, Any], question: str) -> tuple[Turn, ...]:
    if "text" in value:
        return (Turn(question, value["text"]),)
    turns = value.get("turns", [value])
    return tuple(Turn(turn["question"], turn["answer"]) for turn in turns)


def _judge(question: str) -> Callable[[Mapping[str, Any]], Problem | None]:
    """Return what judges a response to a question, or one that has its own questions."""

    def judge(value: Mapping[str, Any]) -> Problem | None:
        turns = _turns(value, question)
        if not turns:
            return Problem("empty", "there is no question")
        for turn in turns:
            problem = None if question else wording.question_problem(turn.question, boxes=True)
            problem = problem or wording.empty_problem(turn.answer, "the answer")
            problem = problem or wording.placeholder_problem(turn.answer)
            problem = problem or wording.mention_problem(turn.answer, boxes=True)
            if problem:
                return problem
        return None

    return judge


def plan(
    context: BuildContext, recipe: LlavaStyle, images: int, longest: str = typical(250)
) -> list[PlannedCalls]:
    """Return the calls to make for so many images."""
    values = {"context": longest, "question": max(context.prompts.questions["detail"], key=len)}
    return [
        PlannedCalls("items", arm, images, context.prompts.messages(arm, values), _SCHEMAS[arm])
        for arm in recipe.answers
    ]
