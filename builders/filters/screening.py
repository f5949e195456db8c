"""Screening: what is decided over all samples at once, after each was checked by itself."""

import asyncio
from collections.abc import Sequence
from typing import Any

from verbalizer_bench.builders.filters import leakage, wording
from verbalizer_bench.builders.filters.duplicates import near_duplicates
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.tasks.data import resolve_data

_STAGE = "check"


def settings(recipe: DataRecipe) -> dict[str, Any]:
    """Return what the screening depends on."""
    data = recipe.leakage.data
    return {
        "duplicates": recipe.duplicates,
        "leakage": [recipe.leakage.n, data if data == "none" else resolve_data(data)],
    }


async def screen(
    samples: list[TrainingSample], recipe: DataRecipe, repeated: Sequence[str] = ()
) -> list[TrainingSample]:
    """Reject samples that leak, that repeat another, and whose pair is rejected.

    Args:
        samples: All of them.
        recipe: What counts as leakage, and as a duplicate.
        repeated: Arms whose questions may be alike.
    """

    def screened() -> list[TrainingSample]:
        index = leakage.evaluation(recipe.leakage)
        clean = samples if index is None else [_without_leak(sample, index) for sample in samples]
        return reject_pairs(_distinct(reject_pairs(clean), recipe, repeated))

    return await asyncio.to_thread(screened)


def _without_leak(sample: TrainingSample, index: leakage.EvaluationIndex) -> TrainingSample:
    overlap = None if sample.rejection else index.overlap(wording.sample_texts(sample))
    if overlap is None:
        return sample
    return sample.reject(_STAGE, "leakage", f"{overlap.dataset} has: {overlap.words}")


def reject_pairs(samples: Sequence[TrainingSample]) -> list[TrainingSample]:
    """Reject samples whose pair is rejected: the sets would no longer have the same items."""
    by_id = {sample.id: sample for sample in samples}

    def reject(sample: TrainingSample) -> TrainingSample:
        other = by_id[sample.pair] if sample.pair else None
        if sample.rejection or other is None or other.rejection is None:
            return sample
        stage, reason, detail = other.rejection
        return sample.reject(stage, "pair", f"{other.id} is set aside: {reason}: {detail}")

    return [reject(sample) for sample in samples]


def _distinct(
    samples: Sequence[TrainingSample], recipe: DataRecipe, repeated: Sequence[str]
) -> list[TrainingSample]:
    """Reject samples whose first question is too like an earlier one of the same arm."""
    dropped: dict[str, str] = {}
    for arm in dict.fromkeys(sample.arm for sample in samples if sample.arm not in repeated):
        asked = {
            sample.id: sample.turns[0].question
            for sample in samples
            if sample.arm == arm and not sample.rejection
        }
        dropped |= near_duplicates(asked, recipe.duplicates)
    return [
        sample.reject(_STAGE, "duplicate", f"of {dropped[sample.id]}")
        if sample.id in dropped
        else sample
        for sample in samples
    ]
