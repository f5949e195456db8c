"""Dry run: how many calls a build makes, and what they cost by the recipe's prices."""

from collections.abc import Collection, Sequence

from verbalizer_bench.builders.export.markdown import table
from verbalizer_bench.builders.kinds import format_oriented, llava_style, preference
from verbalizer_bench.builders.pipeline.context import BuildContext, PlannedCalls
from verbalizer_bench.builders.pipeline.recipe import (
    DataRecipe,
    FormatOriented,
    LlavaStyle,
    Preference,
)
from verbalizer_bench.client.protocol import Request, estimate

_HEAD = ("stage", "role", "model", "calls", "input tokens", "output tokens", "cost")


def describe(recipe: DataRecipe, context: BuildContext, plan: Sequence[PlannedCalls]) -> str:
    """Return the calls, tokens and cost of each stage and of all, as a table."""
    lines, calls, tokens, money = [], 0, 0, 0.0
    unpriced: set[str] = set()
    for planned in plan:
        endpoint = context.endpoint(planned.role)
        request = Request(planned.role, tuple(planned.messages), planned.schema)
        given = planned.calls * estimate(request, endpoint).input_tokens
        taken = planned.calls * _reply_tokens(context, planned)
        cost = endpoint.money(given, taken)
        unpriced |= set() if endpoint.is_priced else {planned.role}
        numbers = (f"{planned.calls:,}", f"{given:,}", f"{taken:,}", f"{cost:,.2f}")
        lines.append((planned.stage, planned.role, endpoint.model, *numbers))
        calls, tokens, money = calls + planned.calls, tokens + given + taken, money + cost
    if not lines:
        return "No model is asked: 0 calls, 0 tokens."
    return "\n\n".join(
        [
            table(_HEAD, lines),
            f"{calls:,} calls, about {tokens:,} tokens, {_cost(money, unpriced)} "
            f"A record whose response is not taken is asked for again, up to {recipe.retries} "
            "times; what is stored already costs nothing.",
            *_beyond(recipe, tokens, money),
        ]
    )


def _cost(money: float, unpriced: Collection[str]) -> str:
    """Return the cost in words; of roles without a price nothing is known."""
    without = f", without that of {', '.join(sorted(unpriced))}, which has no price in it"
    return (
        f"about {money:,.2f} in the currency of the recipe's prices{without if unpriced else ''}."
    )


def _reply_tokens(context: BuildContext, planned: PlannedCalls) -> int:
    if planned.reply_tokens is not None:
        return planned.reply_tokens
    return context.prompts.prompts[planned.role].reply_tokens


def plan_without_data(recipe: DataRecipe, context: BuildContext) -> list[PlannedCalls] | None:
    """Return the calls for what the recipe's numbers name; None where it names none."""
    if isinstance(recipe, Preference):
        numbers = [source.n for source in recipe.records.values()]
        prompts = sum(number or 0 for number in numbers)
        prompts = min(prompts, recipe.limit or prompts)
        shown = prompts if recipe.images else 0
        plan = preference.plan(context, recipe, shown, prompts - shown)
        return plan if all(numbers) else None
    if not isinstance(recipe, (FormatOriented, LlavaStyle)) or recipe.images.n is None:
        return None
    images = min(recipe.images.n, recipe.limit or recipe.images.n)
    if isinstance(recipe, LlavaStyle):
        return llava_style.plan(context, recipe, images)
    return format_oriented.plan(context, recipe, images)


def _beyond(recipe: DataRecipe, tokens: int, money: float) -> list[str]:
    """Return a line for each limit of the budget that the estimate is above."""
    budget = recipe.budget
    return [
        f"That is more than budget.{name}={limit:,}: the build would stop there."
        for name, limit, needed in (
            ("money", budget.money, money),
            ("tokens", budget.tokens, tokens),
        )
        if limit is not None and needed > limit
    ]
