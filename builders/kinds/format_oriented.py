"""Format-oriented data: captions, questions and answers that obey an output format.

verbalizer-bench build recipes/data/format_oriented.yaml

Shiono et al. 2024 (arXiv 2512.23572): an image's caption and one of IFEval's instructions give
question and answer; the sets without format have questions that are answered without one.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from verbalizer_bench.builders.export.sets import SetLayout
from verbalizer_bench.builders.filters import screening, wording
from verbalizer_bench.builders.kinds.images import (
    AnnotatedImage,
    image_samples,
    select,
    select_captions,
)
from verbalizer_bench.builders.kinds.instructions import draw
from verbalizer_bench.builders.kinds.items import ItemStages
from verbalizer_bench.builders.pipeline.context import BuildContext, PlannedCalls, typical
from verbalizer_bench.builders.pipeline.generation import GenerationTask
from verbalizer_bench.builders.pipeline.recipe import FormatOriented
from verbalizer_bench.builders.pipeline.sample import Instruction, TrainingSample
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
    SetLayout("fovit", ("format",), image=True),
    SetLayout("foit", ("format",), image=False),
    SetLayout("nofovit", ("plain",), image=True),
    SetLayout("nofoit", ("plain",), image=False),
)


class FormatOrientedStages:
    """The stages; whatever they read besides each other's samples is read at the beginning."""

    layouts, needed, roles = LAYOUTS, NEEDED, ()

    def __init__(self, context: BuildContext, recipe: FormatOriented) -> None:
        """Choose images and draw instructions.

        Raises:
            FileNotFoundError: A file or folder is not there.
            ValueError: There are too few of something, or an instruction cannot be verified here.
        """
        self.context, self.recipe = context, recipe
        self.images = select(recipe.images, recipe.limit)
        rest = None if recipe.limit is None else recipe.limit - len(self.images)
        self.captioned = select_captions(recipe.captions, rest) if recipe.captions else []
        self.instructions = draw(recipe.ifeval, recipe.instructions)

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        recipe, context, items = self.recipe, self.context, ItemStages(self.context)
        captions = {"given": True} if recipe.images.captions else context.settings("caption")
        dealt = {"instructions": self.instructions, "pairing": recipe.pairing}
        asked = context.settings("item", "question", "answer")
        return [
            Stage("images", {"images": self.images}, self._images),
            Stage("captions", captions, self._captions),
            Stage("instructions", dealt | {"captions": self.captioned}, self._deal),
            Stage("items", asked, items.make),
            Stage("check", asked | screening.settings(recipe), items.check),
        ]

    def plan(self) -> list[PlannedCalls]:
        """Return the calls to make."""
        longest = max((one.text for one in self.instructions), key=len)
        return plan(self.context, self.recipe, len(self.images), len(self.captioned), longest)

    async def _images(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        images, settings = self.images, self.recipe.images
        if not settings.captions:
            images = [AnnotatedImage(image.image) for image in images]
        return await image_samples(images, settings.folder)

    async def _captions(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        return await self.context.process_samples("captions", samples, self._caption)

    async def _caption(self, sample: TrainingSample) -> TrainingSample:
        if self.recipe.images.captions:
            return captioned(sample, "captions")
        path = self.recipe.images.folder / str(sample.image)
        if sample.image_sha256 is None:
            return sample.reject("captions", "image", f"{path}: no such file")
        task = GenerationTask(
            "caption",
            self.context.prompts.messages("caption", {}, path),
            None,
            lambda value: wording.caption_problem(value["text"]),
        )
        sample, value = await self.context.generate("captions", sample, task)
        return sample if value is None else dataclasses.replace(sample, caption=value["text"])

    async def _deal(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        """Give every image its arm, and its instruction."""
        entering = [
            captioned(dataclasses.replace(sample, id=f"c{sample.id}"), "instructions")
            for sample in await image_samples(self.captioned, self.recipe.images.folder)
        ]
        # Places count within each list, so that more images leave earlier samples as they are.
        return [
            dealt
            for source in (samples, entering)
            for place, sample in enumerate(source)
            for dealt in deal(sample, place, self.instructions, self.recipe.pairing)
        ]


def captioned(sample: TrainingSample, stage: str) -> TrainingSample:
    """Return a sample with a caption from a file, rejected if the caption is unusable."""
    if sample.rejection:
        return sample
    problem = wording.caption_problem(sample.caption or "")
    return sample.reject(stage, *problem) if problem else sample


def deal(
    sample: TrainingSample, place: int, instructions: Sequence[Instruction], pairing: str
) -> Iterator[TrainingSample]:
    """Yield a sample's arms: in turn one or the other if they are disjoint, otherwise both."""
    if pairing == "disjoint":
        if place % 2:
            yield dataclasses.replace(sample, arm="plain")
        else:
            instruction = instructions[place // 2 % len(instructions)]
            yield dataclasses.replace(sample, arm="format", instruction=instruction)
        return
    instruction = instructions[place % len(instructions)]
    names = (f"{sample.id}-format", f"{sample.id}-plain")
    yield dataclasses.replace(
        sample, id=names[0], arm="format", instruction=instruction, pair=names[1]
    )
    yield dataclasses.replace(sample, id=names[1], arm="plain", pair=names[0])


def plan(
    context: BuildContext,
    recipe: FormatOriented,
    images: int,
    captioned: int = 0,
    instruction: str = typical(60),
) -> list[PlannedCalls]:
    """Return the calls to make for so many images, and images that come with captions."""
    prompts, same = context.prompts, recipe.pairing == "same_items"
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
        PlannedCalls(
            "captions" if role == "caption" else "items",
            role,
            number,
            picture if role == "caption" else prompts.messages(role, texts),
        )
        for role, number in calls.items()
    ]
