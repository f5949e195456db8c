"""Workshop: what the stages of every kind of data set work with."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from verbalizer_bench.builders.client.budget import Spending
from verbalizer_bench.builders.client.endpoint import Endpoint
from verbalizer_bench.builders.pipeline.failure_monitor import Refusals
from verbalizer_bench.builders.pipeline.generation import Asker, Interview
from verbalizer_bench.builders.pipeline.progress import Progress, Spent
from verbalizer_bench.builders.pipeline.prompts import Prompts
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import Row
from verbalizer_bench.builders.pipeline.worker_pool import Unit, for_each


class Planned(NamedTuple):
    """Calls that a stage will make.

    Attributes:
        stage: Its name.
        role: Who is asked, and the prompt's name.
        calls: How many, without further attempts.
        messages: Of a call like most.
        schema: Of the object that is wanted.
    """

    stage: str
    role: str
    calls: int
    messages: Sequence[Mapping[str, Any]]
    schema: Mapping[str, Any] | None = None


def typical(tokens: int) -> str:
    """Return a text of so many tokens as an estimate counts them, three bytes each."""
    return "abc" * tokens


@dataclass
class Workshop:
    """A recipe, its prompts, and who is asked.

    Attributes:
        recipe: The recipe.
        prompts: Its prompts.
        caller: Who is asked; None where stages are only looked at.
        spent: Says what calls have cost.
        why: Says what calls wait for; "" while answers come.
    """

    recipe: DataRecipe
    prompts: Prompts
    caller: Asker | None = None
    spent: Callable[[], Spent] = field(default=Spending)
    why: Callable[[], str] = field(default=str)

    def employ(self, caller: Asker, spent: Callable[[], Spent], why: Callable[[], str]) -> None:
        """Have someone to ask."""
        self.caller, self.spent, self.why = caller, spent, why

    @property
    def interview(self) -> Interview:
        """Return who asks."""
        assert self.caller is not None
        recipe = self.recipe
        final = ("mention",) if recipe.mentions == "drop" else ()
        return Interview(self.caller, self.prompts, recipe.retries, recipe.failures, final)

    def endpoint(self, role: str) -> Endpoint:
        """Return who answers a role.

        Raises:
            ValueError: The recipe names nobody.
        """
        found = self.recipe.endpoints.get(role) or self.recipe.endpoints.get("default")
        if found is None:
            raise ValueError(
                f"endpoints.{role}: missing, and no endpoints.default; give one, such as "
                "{model: …, base_url: …}"
            )
        return found

    def settings(self, *roles: str) -> dict[str, Any]:
        """Return what rows depend on that are made by asking in some roles."""
        endpoints = [self.endpoint(role) for role in roles]
        return {
            "endpoints": [[one.model, one.parameters, one.structured] for one in endpoints],
            "prompts": self.prompts.sha256,
            "retries": self.recipe.retries,
            "failures": self.recipe.failures,
            "mentions": self.recipe.mentions,
        }

    async def each(
        self,
        stage: str,
        units: Sequence[Unit],
        work: Callable[[Unit], Awaitable[Unit]],
        rows: Callable[[Unit], Sequence[Row]],
    ) -> list[Unit]:
        """Work on all units under a progress bar, in a fixed order.

        Raises:
            Stopped: The server refuses whatever is asked.
        """
        # Twice as many as are under way at once, so that the server never waits for us.
        slots = sum(endpoint.concurrency for endpoint in self.recipe.endpoints.values())
        refusals = Refusals(stage, self.recipe.failures)

        with Progress(stage, len(units), self.spent) as progress:

            def done(place: int, result: Unit) -> None:
                progress.done(*rows(result))
                refusals.add(place, rows(units[place]), rows(result))

            watch = asyncio.create_task(progress.watch(self.why))
            try:
                results = await for_each(units, work, 2 * slots + 1, done)
            finally:
                watch.cancel()
        refusals.end()
        return results
