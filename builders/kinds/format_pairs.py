"""Format pairs: an answer that obeys its instruction against one that does not, without a judge.

verbalizer-bench build recipes/data/format_pairs.yaml

IFEval's verifiers (Zhou et al. 2023, arXiv 2311.07911) say which is which. The one that does not is
what the same item is answered without the instruction, or a sampled completion.
"""

from dataclasses import replace
from typing import Any

from verbalizer_bench.builders.export.preference_sets import RankedPairLayout
from verbalizer_bench.builders.filters import screening
from verbalizer_bench.builders.filters.verifiers import verify
from verbalizer_bench.builders.kinds import completions
from verbalizer_bench.builders.kinds.sampling import sampled_by, sampler
from verbalizer_bench.builders.pipeline.context import BuildContext, PlannedCalls
from verbalizer_bench.builders.pipeline.prompts import check_records, fill
from verbalizer_bench.builders.pipeline.recipe import FormatPairs
from verbalizer_bench.builders.pipeline.sample import Candidate, TrainingSample, Turn, read_samples
from verbalizer_bench.builders.pipeline.stages import Stage
from verbalizer_bench.io.preferences import UNKNOWN

NEEDED = {
    "records": {
        "fovit": ("instruction", "question"),
        "foit": ("caption", "instruction", "question"),
    }
}
_TEXT = {"text": ("instruction", "question")}
_STAGE = "verify"
_ANSWER_TOKENS = 250


class FormatPairStages:
    """The stages."""

    needed, roles = NEEDED, (completions.ROLE,)

    def __init__(self, context: BuildContext, recipe: FormatPairs) -> None:
        """Read the data set's samples.

        Raises:
            FileNotFoundError: They are not there.
            ValueError: None of them has an instruction, or the plain answer that is wanted.
        """
        self.context, self.recipe = context, recipe
        if "text" in recipe.prompted:
            check_records(recipe.prompts, context.prompts, _TEXT)
        self.layouts = tuple(
            RankedPairLayout(f"pairs_{name}", (name,), image=name == "fovit")
            for name in recipe.prompted
        )
        self.items = self._read()

    def _read(self) -> list[TrainingSample]:
        recipe = self.recipe
        if not recipe.samples.is_file():
            raise FileNotFoundError(
                f"samples={recipe.samples}: no such file; give accepted.jsonl in the work folder "
                "of a format_oriented or response_format data set"
            )
        samples = read_samples(recipe.samples)
        by_id = {sample.id: sample for sample in samples}
        items = [sample for sample in samples if sample.instruction]
        if not items:
            raise ValueError(f"samples={recipe.samples}: no sample has an instruction")
        plain = {sample.id: by_id.get(sample.pair or "") for sample in items}
        if recipe.rejected == "plain" and not any(plain.values()):
            raise ValueError(
                f"samples={recipe.samples}: no item has an answer without its instruction; build "
                "them with pairing=same_items, or give rejected=sampled"
            )
        return [_item(sample, plain[sample.id]) for sample in items][: recipe.limit]

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        settings: dict[str, Any] = {"items": self.items, "prompted": self.recipe.prompted}
        settings |= {"prompts": self.context.prompts.records}
        verified = {"chosen": self.recipe.chosen, "rejected": self.recipe.rejected}
        stages = [Stage("items", settings, self._samples)]
        if self.recipe.is_sampled:
            screened = {"leakage": screening.settings(self.recipe)["leakage"]}
            depends = sampled_by(self.context, self.recipe.completions)
            stages.append(Stage(completions.STAGE, depends, self._sampled))
            stages.append(Stage("check", screened, self._check))
        return [*stages, Stage(_STAGE, verified, self._verified)]

    def plan(self) -> list[PlannedCalls]:
        """Return the calls to make."""
        recipe = self.recipe
        if not recipe.is_sampled or recipe.completions.checkpoint:
            return []
        longest = max(
            (self._sample(item, arm) for item in self.items for arm in recipe.prompted),
            key=lambda sample: len(sample.turns[0].question),
        )
        number = len(self.items) * len(recipe.prompted) * recipe.completions.k
        messages = completions.conversation(longest, recipe.images)
        role = completions.ROLE
        return [PlannedCalls(completions.STAGE, role, number, messages, None, _ANSWER_TOKENS)]

    async def _samples(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        return [self._sample(item, arm) for arm in self.recipe.prompted for item in self.items]

    def _sample(self, item: TrainingSample, arm: str) -> TrainingSample:
        """Return an item as a prompt, with the data set's answers as its candidates."""
        assert item.instruction
        values = {
            "question": item.turns[0].question,
            "instruction": item.instruction.text,
            "caption": item.caption or "",
        }
        prompt = fill(self.context.prompts.records[arm], values)
        sample = replace(item, id=_name(item, arm), arm=arm, turns=(Turn(prompt, ""),))
        if arm != "fovit":
            return replace(sample, image=None, image_sha256=None)
        return sample

    async def _sampled(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        """Return the samples with completions behind the data set's answers."""
        own = sampler(self.context, self.recipe.completions, self.recipe.images)
        asked = await own.sample([replace(sample, candidates=()) for sample in samples])
        return [
            replace(after, candidates=before.candidates + after.candidates)
            for before, after in zip(samples, asked, strict=True)
        ]

    async def _check(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        return await completions.screen(samples, self.recipe)

    async def _verified(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        items = {_name(item, arm): item for item in self.items for arm in self.recipe.prompted}
        return [
            sample if sample.rejection else self._pair(sample, items[sample.id])
            for sample in samples
        ]

    def _pair(self, sample: TrainingSample, item: TrainingSample) -> TrainingSample:
        """Return a sample with the chosen and the rejected answer alone, or why there is none."""
        assert sample.instruction
        asked, question = sample.instruction, item.turns[0].question
        own, sampled = item.candidates, sample.candidates[len(item.candidates) :]
        accepted = {
            candidate: verify(asked.type, asked.arguments, question, candidate.text)
            for candidate in sample.candidates
            if not candidate.problem
        }
        chosen = own[:1] if self.recipe.chosen == "set" else sampled
        rejected = own[1:] if self.recipe.rejected == "plain" else sampled
        if not rejected:
            return sample.reject(_STAGE, "no answer", "there is none without the instruction")
        for candidates in (chosen, rejected):
            if not any(one in accepted for one in candidates):
                alone = replace(sample, candidates=candidates)
                rejection = completions.reject_unusable(alone, _STAGE).rejection
                return replace(sample, rejection=rejection)
        good = [one for one in chosen if accepted.get(one)]
        bad = [one for one in rejected if accepted.get(one) is False]
        if not good:
            return sample.reject(_STAGE, "refused", f"no answer obeys: {asked.text}")
        if not bad:
            return sample.reject(_STAGE, "accepted", f"all answers obey: {asked.text}")
        return replace(sample, candidates=(good[0], bad[0]), verified=True)


def _item(sample: TrainingSample, plain: TrainingSample | None) -> TrainingSample:
    """Return a data set's sample with its answer, and the plain one, as candidates."""
    answers = [sample, *([plain] if plain else [])]
    candidates = tuple(Candidate(one.turns[0].answer, UNKNOWN) for one in answers)
    return replace(sample, candidates=candidates, pair=None, source="format_oriented")


def _name(item: TrainingSample, arm: str) -> str:
    return f"{item.id}-{arm}"
