"""Format-oriented data: captions, questions and answers that obey an output format.

verbalizer-bench build recipes/data/format_oriented.yaml

Shiono et al. 2024 (arXiv 2512.23572): an image's caption and one of IFEval's instructions give
question and answer; the sets without format have questions that are answered without one.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from verbalizer_bench.builders.export.sets import Layout
from verbalizer_bench.builders.filters import screening, wording
from verbalizer_bench.builders.kinds.images import Annotated, image_rows, select, select_captions
from verbalizer_bench.builders.kinds.instructions import draw
from verbalizer_bench.builders.kinds.items import Items
from verbalizer_bench.builders.pipeline.context import Planned, Workshop, typical
from verbalizer_bench.builders.pipeline.generation import Question, set_aside, with_attempts
from verbalizer_bench.builders.pipeline.recipe import FormatOriented
from verbalizer_bench.builders.pipeline.sample import Instruction, Row
from verbalizer_bench.builders.pipeline.stages import Stage

NEEDED = {
    "prompts": {
        "caption": (),
        "item": ("caption", "instruction"),
        "question": ("caption",),
        "answer": ("caption", "question"),
    },
    "records": {
        "fovit": ("instruction", "question"),
        "foit": ("caption", "instruction", "question"),
        "nofovit": ("question",),
        "nofoit": ("caption", "question"),
    },
    "failures": dict.fromkeys(("other", "format", "mention"), ("detail",)),
}
LAYOUTS = (
    Layout("fovit", ("format",), image=True),
    Layout("foit", ("format",), image=False),
    Layout("nofovit", ("plain",), image=True),
    Layout("nofoit", ("plain",), image=False),
)


class FormatOrientedStages:
    """The stages; what they read besides each other's rows is read when they are made."""

    def __init__(self, shop: Workshop, recipe: FormatOriented) -> None:
        """Choose images and draw instructions.

        Raises:
            FileNotFoundError: A file or folder is not there.
            ValueError: Something is too few, or cannot be verified here.
        """
        self.shop, self.recipe = shop, recipe
        self.images = select(recipe.images, recipe.limit)
        rest = None if recipe.limit is None else recipe.limit - len(self.images)
        self.captioned = select_captions(recipe.captions, rest) if recipe.captions else []
        self.instructions = draw(recipe.ifeval, recipe.instructions)

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        recipe, shop, items = self.recipe, self.shop, Items(self.shop)
        captions = {"given": True} if recipe.images.captions else shop.settings("caption")
        dealt = {"instructions": self.instructions, "pairing": recipe.pairing}
        asked = shop.settings("item", "question", "answer")
        return [
            Stage("images", {"images": self.images}, self._images),
            Stage("captions", captions, self._captions),
            Stage("instructions", dealt | {"captions": self.captioned}, self._deal),
            Stage("items", asked, items.make),
            Stage("check", asked | screening.settings(recipe), items.check),
        ]

    def plan(self) -> list[Planned]:
        """Return the calls to make."""
        longest = max((one.text for one in self.instructions), key=len)
        return plan(self.shop, self.recipe, len(self.images), len(self.captioned), longest)

    async def _images(self, rows: list[Row]) -> list[Row]:
        images, settings = self.images, self.recipe.images
        if not settings.captions:
            images = [Annotated(image.image) for image in images]
        return await image_rows(images, settings.folder)

    async def _captions(self, rows: list[Row]) -> list[Row]:
        return await self.shop.each("captions", rows, self._caption, lambda row: [row])

    async def _caption(self, row: Row) -> Row:
        if row.set_aside:
            return row
        if self.recipe.images.captions:
            return captioned(row, "captions")
        path = self.recipe.images.folder / str(row.image)
        if row.image_sha256 is None:
            return row.put_aside("captions", "image", f"{path}: no such file")
        found = await self.shop.interview.ask(
            Question(
                "caption",
                self.shop.prompts.messages("caption", {}, path),
                None,
                lambda value: wording.caption_problem(value["text"]),
            )
        )
        row = with_attempts(row, found)
        if found.value is None:
            return set_aside(row, "captions", found)
        return dataclasses.replace(row, caption=found.value["text"])

    async def _deal(self, rows: list[Row]) -> list[Row]:
        """Give every image its arm, and its instruction."""
        entering = [
            captioned(dataclasses.replace(row, id=f"c{row.id}"), "instructions")
            for row in await image_rows(self.captioned, self.recipe.images.folder)
        ]
        # Places count within each list, so that more images change no row that there was.
        return [
            dealt
            for source in (rows, entering)
            for place, row in enumerate(source)
            for dealt in deal(row, place, self.instructions, self.recipe.pairing)
        ]


def captioned(row: Row, stage: str) -> Row:
    """Return a row that has its caption from a file, set aside if that cannot be used."""
    if row.set_aside:
        return row
    problem = wording.caption_problem(row.caption or "")
    return row.put_aside(stage, *problem) if problem else row


def deal(row: Row, place: int, instructions: Sequence[Instruction], pairing: str) -> Iterator[Row]:
    """Yield a row's arms: one in turn where they are disjoint, else both."""
    if pairing == "disjoint":
        if place % 2:
            yield dataclasses.replace(row, arm="plain")
        else:
            instruction = instructions[place // 2 % len(instructions)]
            yield dataclasses.replace(row, arm="format", instruction=instruction)
        return
    instruction = instructions[place % len(instructions)]
    names = (f"{row.id}-format", f"{row.id}-plain")
    yield dataclasses.replace(
        row, id=names[0], arm="format", instruction=instruction, pair=names[1]
    )
    yield dataclasses.replace(row, id=names[1], arm="plain", pair=names[0])


def plan(
    shop: Workshop,
    recipe: FormatOriented,
    images: int,
    captioned: int = 0,
    instruction: str = typical(60),
) -> list[Planned]:
    """Return the calls to make for so many images, and images that enter with captions."""
    prompts, same = shop.prompts, recipe.pairing == "same_items"
    with_format = images + captioned if same else (images + 1) // 2 + (captioned + 1) // 2
    plain = images + captioned if same else images // 2 + captioned // 2
    texts = {
        "caption": typical(prompts.prompts["caption"].reply_tokens),
        "question": typical(prompts.prompts["question"].reply_tokens),
        "instruction": instruction,
    }
    calls = {
        "caption": 0 if recipe.images.captions else images,
        "item": with_format,
        "question": 0 if same else plain,
        "answer": plain,
    }
    picture = prompts.messages("caption", {}, recipe.images.folder)
    return [
        Planned(
            "captions" if role == "caption" else "items",
            role,
            number,
            picture if role == "caption" else prompts.messages(role, texts),
        )
        for role, number in calls.items()
    ]
