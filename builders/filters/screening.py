"""Screening: what is decided over all rows at once, after each was checked by itself."""

import asyncio
from collections.abc import Sequence
from typing import Any

from verbalizer_bench.builders.filters import leakage, wording
from verbalizer_bench.builders.filters.duplicates import near_duplicates
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import Row
from verbalizer_bench.tasks.data import resolve_data

_STAGE = "check"


def settings(recipe: DataRecipe) -> dict[str, Any]:
    """Return what the screening depends on."""
    data = recipe.leakage.data
    return {
        "duplicates": recipe.duplicates,
        "leakage": [recipe.leakage.n, data if data == "none" else resolve_data(data)],
    }


async def screen(rows: list[Row], recipe: DataRecipe, repeated: Sequence[str] = ()) -> list[Row]:
    """Set aside rows that leak, whose pair is set aside, and that come a second time.

    Args:
        rows: All of them.
        recipe: What leaks, and what is a second time.
        repeated: Arms whose questions may be alike.
    """

    def screened() -> list[Row]:
        evaluation = leakage.evaluation(recipe.leakage)
        leakless = rows if evaluation is None else [_leakless(row, evaluation) for row in rows]
        return fallen(_distinct(fallen(leakless), recipe, repeated))

    return await asyncio.to_thread(screened)


def _leakless(row: Row, evaluation: leakage.Evaluation) -> Row:
    match = None if row.set_aside else evaluation.match(wording.row_texts(row))
    if match is None:
        return row
    return row.put_aside(_STAGE, "leakage", f"{match.dataset} has: {match.words}")


def fallen(rows: Sequence[Row]) -> list[Row]:
    """Set aside rows whose pair is set aside: the sets would no longer be of the same items."""
    by_id = {row.id: row for row in rows}

    def fall(row: Row) -> Row:
        other = by_id[row.pair] if row.pair else None
        if row.set_aside or other is None or other.set_aside is None:
            return row
        stage, reason, detail = other.set_aside
        return row.put_aside(stage, "pair", f"{other.id} is set aside: {reason}: {detail}")

    return [fall(row) for row in rows]


def _distinct(rows: Sequence[Row], recipe: DataRecipe, repeated: Sequence[str]) -> list[Row]:
    """Set aside rows whose first question is too like an earlier one of the same arm."""
    dropped: dict[str, str] = {}
    for arm in dict.fromkeys(row.arm for row in rows if row.arm not in repeated):
        asked = {
            row.id: row.turns[0].question for row in rows if row.arm == arm and not row.set_aside
        }
        dropped |= near_duplicates(asked, recipe.duplicates)
    return [
        row.put_aside(_STAGE, "duplicate", f"of {dropped[row.id]}") if row.id in dropped else row
        for row in rows
    ]
