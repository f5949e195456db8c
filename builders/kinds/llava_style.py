"""Data in the manner of LLaVA-Instruct: from captions and boxes, by a language model.

verbalizer-bench build recipes/data/llava_style.yaml

Liu et al. 2023 (arXiv 2304.08485), section 3: conversation, detailed description and complex
reasoning of an image that is given to the model as its captions and its objects' boxes.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from verbalizer_bench.builders.export.sets import Layout
from verbalizer_bench.builders.filters import screening, wording
from verbalizer_bench.builders.kinds.images import Annotated, context, image_rows, select
from verbalizer_bench.builders.kinds.items import schema
from verbalizer_bench.builders.pipeline.context import Planned, Workshop, typical
from verbalizer_bench.builders.pipeline.generation import (
    Problem,
    Question,
    set_aside,
    with_attempts,
)
from verbalizer_bench.builders.pipeline.recipe import LlavaStyle
from verbalizer_bench.builders.pipeline.sample import Row, Turn
from verbalizer_bench.builders.pipeline.stages import Stage

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
    Layout("llava_style", ARMS, image=True, template="llava"),
    *(Layout(arm, (arm,), image=True, template="llava") for arm in ARMS),
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

    def __init__(self, shop: Workshop, recipe: LlavaStyle) -> None:
        """Choose images.

        Raises:
            FileNotFoundError: A file or folder is not there.
            ValueError: There are too few, or they have no captions.
        """
        self.shop, self.recipe = shop, recipe
        self.images = select(recipe.images, recipe.limit, files=False)
        if not any(image.captions for image in self.images):
            raise ValueError("images.annotations: no image has a caption; give COCO's captions")

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        asked = self.shop.settings(*self.recipe.answers)
        return [
            Stage("images", {"images": self.images, "arms": self.recipe.answers}, self._images),
            Stage("items", asked, self._items),
            Stage("check", screening.settings(self.recipe), self._check),
        ]

    def plan(self) -> list[Planned]:
        """Return the calls to make."""
        longest = max((context(image) for image in self.images), key=len)
        return plan(self.shop, self.recipe, len(self.images), longest)

    async def _images(self, rows: list[Row]) -> list[Row]:
        rows = await image_rows(self.images, self.recipe.images.folder)
        return [
            dataclasses.replace(known, id=f"{row.id}_{arm}", arm=arm, caption=None)
            for row, image in zip(rows, self.images, strict=True)
            for known in [_known(row, image)]
            for arm in self.recipe.answers
        ]

    async def _items(self, rows: list[Row]) -> list[Row]:
        return await self.shop.each("items", rows, self._item, lambda row: [row])

    async def _item(self, row: Row) -> Row:
        if row.set_aside:
            return row
        if row.context is None:
            return row.put_aside("items", "empty", "it has no caption")
        question = self._detail_question(row) if row.arm == "detail" else ""
        values = {"context": row.context, "question": question}
        messages = self.shop.prompts.messages(row.arm, values)
        found = await self.shop.interview.ask(
            Question(row.arm, messages, _SCHEMAS[row.arm], _judge(question))
        )
        row = with_attempts(row, found)
        if found.value is None:
            return set_aside(row, "items", found)
        return dataclasses.replace(row, turns=_turns(found.value, question))

    def _detail_question(self, row: Row) -> str:
        """Return one of the questions, by the hash of the row's image."""
        questions = self.shop.prompts.questions["detail"]
        number = int(hashlib.sha256(str(row.image).encode()).hexdigest(), 16)
        return questions[number % len(questions)]

    async def _check(self, rows: list[Row]) -> list[Row]:
        # A detailed description's question is one of a few by intention.
        return await screening.screen(rows, self.recipe, repeated=("detail",))


def _known(row: Row, image: Annotated) -> Row:
    """Return an image's row with what is known of it, set aside if a caption cannot be used."""
    row = dataclasses.replace(row, context=context(image) if image.captions else None)
    problem = next(filter(None, map(wording.caption_problem, image.captions)), None)
    return row.put_aside("images", *problem) if problem and not row.set_aside else row


def _turns(value: Mapping[str, Any], question: str) -> tuple[Turn, ...]:
    if "text" in value:
        return (Turn(question, value["text"]),)
    turns = value.get("turns", [value])
    return tuple(Turn(turn["question"], turn["answer"]) for turn in turns)


def _judge(question: str) -> Callable[[Mapping[str, Any]], Problem | None]:
    """Return what says what is wrong with a response to a question, or with its own."""

    def judge(value: Mapping[str, Any]) -> Problem | None:
        turns = _turns(value, question)
        if not turns:
            return Problem("empty", "there is no question")
        for turn in turns:
            problem = None if question else wording.question_problem(turn.question, boxes=True)
            problem = problem or wording.empty(turn.answer, "the answer")
            problem = problem or wording.placeholder(turn.answer)
            problem = problem or wording.mention(turn.answer, boxes=True)
            if problem:
                return problem
        return None

    return judge


def plan(
    shop: Workshop, recipe: LlavaStyle, images: int, longest: str = typical(250)
) -> list[Planned]:
    """Return the calls to make for so many images."""
    values = {"context": longest, "question": max(shop.prompts.questions["detail"], key=len)}
    return [
        Planned("items", arm, images, shop.prompts.messages(arm, values), _SCHEMAS[arm])
        for arm in recipe.answers
    ]
