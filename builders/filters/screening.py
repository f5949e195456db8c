"""Screening: what is decided over all rows at once, after each was checked by itself."""

import asyncio
from collections.abc import Sequence
from typing import Any

from verbalizer_bench.builders.filters import leakage, wording
from verbalizer_bench.builders.filters.duplicates import near_duplicates
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import Sample
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
    samples: list[Sample], recipe: DataRecipe, repeated: Sequence[str] = ()
) -> list[Sample]:
    """Set aside rows that leak, whose pair is set aside, and that come a second time.

    Args:
        samples: All of them.
        recipe: What leaks, and what is a second time.
        repeated: Arms whose questions may be alike.
    """

    def screened() -> list[Sample]:
        evaluation = leakage.evaluation(recipe.leakage)
        leakless = (
            samples if evaluation is None else [_leakless(sample, evaluation) for sample in samples]
        )
        return fallen(_distinct(fallen(leakless), recipe, repeated))

    return await asyncio.to_thread(screened)


def _leakless(sample: Sample, evaluation: leakage.EvaluationIndex) -> Sample:
    match = None if sample.rejection else evaluation.match(wording.sample_texts(sample))
    if match is None:
        return sample
    return sample.reject(_STAGE, "leakage", f"{match.dataset} has: {match.words}")


def fallen(samples: Sequence[Sample]) -> list[Sample]:
    """Set aside rows whose pair is set aside: the sets would no longer be of the same items."""
    by_id = {sample.id: sample for sample in samples}

    def fall(sample: Sample) -> Sample:
        other = by_id[sample.pair] if sample.pair else None
        if sample.rejection or other is None or other.rejection is None:
            return sample
        stage, reason, detail = other.rejection
        return sample.reject(stage, "pair", f"{other.id} is set aside: {reason}: {detail}")

    return [fall(sample) for sample in samples]


def _distinct(
    samples: Sequence[Sample], recipe: DataRecipe, repeated: Sequence[str]
) -> list[Sample]:
    """Set aside rows whose first question is too like an earlier one of the same arm."""
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
