"""Build context: what the stages of every kind of data set work with."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from verbalizer_bench.builders.pipeline.failure_monitor import FailureMonitor
from verbalizer_bench.builders.pipeline.generation import GenerationTask, ResponseGenerator
from verbalizer_bench.builders.pipeline.progress import StageProgress
from verbalizer_bench.builders.pipeline.prompts import PromptTemplates
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.builders.pipeline.worker_pool import Unit, map_ordered
from verbalizer_bench.client.chat_client import ChatClient
from verbalizer_bench.client.endpoint import Endpoint, endpoint_for


class PlannedCalls(NamedTuple):
    """Calls that a stage will make.

    Attributes:
        stage: Its name.
        role: Chooses the endpoint, and names the prompt.
        calls: How many, without further attempts.
        messages: Of a typical call.
        schema: Of the object that is wanted.
        reply_tokens: Of a typical response; None: as the prompt says.
    """

    stage: str
    role: str
    calls: int
    messages: Sequence[Mapping[str, Any]]
    schema: Mapping[str, Any] | None = None
    reply_tokens: int | None = None

    def of(self, which: str) -> "PlannedCalls":
        """Return the calls, with what tells them from others of the stage in its name."""
        return self._replace(stage=f"{self.stage}, {which}")


def typical(tokens: int) -> str:
    """Return a text of so many tokens as an estimate counts them, three bytes each."""
    return "abc" * tokens


@dataclass
class BuildContext:
    """A recipe, its prompts, and the client.

    Attributes:
        recipe: The recipe.
        prompts: Its prompts.
        client: Sends requests; None while no stage runs.
    """

    recipe: DataRecipe
    prompts: PromptTemplates
    client: ChatClient | None = None

    @property
    def generator(self) -> ResponseGenerator:
        """Return what generates responses by the recipe's settings."""
        assert self.client is not None
        recipe = self.recipe
        final = ("mention",) if recipe.mentions == "drop" else ()
        return ResponseGenerator(self.client, self.prompts, recipe.retries, recipe.failures, final)

    async def generate(
        self, stage: str, sample: TrainingSample, task: GenerationTask
    ) -> tuple[TrainingSample, Any]:
        """Return a sample with its new attempts, and the accepted value; rejected, and None."""
        result = await self.generator.generate(task)
        sample = replace(sample, attempts=sample.attempts + result.attempts)
        return sample.reject(stage, *result.problem) if result.problem else sample, result.value

    def endpoint(self, role: str) -> Endpoint:
        """Return the endpoint of a role; ValueError if the recipe has none."""
        return endpoint_for(self.recipe.endpoints, role)

    def settings(self, *roles: str) -> dict[str, Any]:
        """Return what samples depend on that are made by asking in some roles."""
        endpoints = [self.endpoint(role) for role in roles]
        return {
            "endpoints": [[one.model, one.parameters, one.structured] for one in endpoints],
            "prompts": self.prompts.sha256,
            "retries": self.recipe.retries,
            "failures": self.recipe.failures,
            "mentions": self.recipe.mentions,
        }

    async def process_samples(
        self,
        stage: str,
        samples: Sequence[TrainingSample],
        work: Callable[[TrainingSample], Awaitable[TrainingSample]],
    ) -> list[TrainingSample]:
        """Work on all samples that are not rejected; see `process`."""

        async def skip_rejected(sample: TrainingSample) -> TrainingSample:
            return sample if sample.rejection else await work(sample)

        return await self.process(stage, samples, skip_rejected, lambda sample: [sample])

    async def process(
        self,
        stage: str,
        units: Sequence[Unit],
        work: Callable[[Unit], Awaitable[Unit]],
        samples: Callable[[Unit], Sequence[TrainingSample]],
    ) -> list[Unit]:
        """Work on all units under a progress bar; return the results in the units' order.

        Args:
            stage: Its name.
            units: What is worked on.
            work: Makes a result of a unit.
            samples: Returns the samples of a unit or of a result.

        Raises:
            BuildStopped: The server refuses whatever it is asked.
        """
        assert self.client is not None
        # Twice as many as can be in flight, so that the server never waits for us.
        slots = sum(endpoint.concurrency for endpoint in self.recipe.endpoints.values())
        monitor = FailureMonitor(self.recipe.failures)
        with StageProgress(stage, len(units), self.client.usage) as progress:

            def done(place: int, result: Unit) -> None:
                progress.done(*samples(result))
                monitor.add(place, samples(units[place]), samples(result))

            watch = asyncio.create_task(progress.watch(self.client))
            try:
                results = await map_ordered(units, work, 2 * slots + 1, done)
            finally:
                watch.cancel()
        monitor.end()
        return results
