"""Workshop: what the stages of every kind of data set work with."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from verbalizer_bench.builders.client.budget import UsageTotals
from verbalizer_bench.builders.client.endpoint import Endpoint
from verbalizer_bench.builders.pipeline.failure_monitor import FailureMonitor
from verbalizer_bench.builders.pipeline.generation import Asker, ResponseGenerator
from verbalizer_bench.builders.pipeline.progress import ProgressBar
from verbalizer_bench.builders.pipeline.prompts import PromptTemplates
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import Sample
from verbalizer_bench.builders.pipeline.worker_pool import Unit, map_ordered


class PlannedCalls(NamedTuple):
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
class BuildContext:
    """A recipe, its prompts, and who is asked.

    Attributes:
        recipe: The recipe.
        prompts: Its prompts.
        caller: Who is asked; None where stages are only looked at.
        spent: Says what calls have cost.
        why: Says what calls wait for; "" while answers come.
    """

    recipe: DataRecipe
    prompts: PromptTemplates
    client: Asker | None = None
    usage: Callable[[], UsageTotals] = field(default=UsageTotals)
    waiting_for: Callable[[], str] = field(default=str)

    def connect(
        self, client: Asker, usage: Callable[[], UsageTotals], waiting_for: Callable[[], str]
    ) -> None:
        """Have someone to ask."""
        self.client, self.usage, self.waiting_for = client, usage, waiting_for

    @property
    def generator(self) -> ResponseGenerator:
        """Return who asks."""
        assert self.client is not None
        recipe = self.recipe
        final = ("mention",) if recipe.mentions == "drop" else ()
        return ResponseGenerator(self.client, self.prompts, recipe.retries, recipe.failures, final)

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
        samples: Callable[[Unit], Sequence[Sample]],
    ) -> list[Unit]:
        """Work on all units under a progress bar, in a fixed order.

        Raises:
            Stopped: The server refuses whatever is asked.
        """
        # Twice as many as are under way at once, so that the server never waits for us.
        slots = sum(endpoint.concurrency for endpoint in self.recipe.endpoints.values())
        refusals = FailureMonitor(stage, self.recipe.failures)

        with ProgressBar(stage, len(units), self.usage) as progress:

            def done(place: int, result: Unit) -> None:
                progress.done(*samples(result))
                refusals.add(place, samples(units[place]), samples(result))

            watch = asyncio.create_task(progress.watch(self.waiting_for))
            try:
                results = await map_ordered(units, work, 2 * slots + 1, done)
            finally:
                watch.cancel()
        refusals.end()
        return results
