"""Sampling: from an endpoint or from a checkpoint here, as a recipe says."""

from pathlib import Path
from typing import Any, Protocol

from verbalizer_bench.builders.kinds.completions import ROLE, EndpointSampler
from verbalizer_bench.builders.kinds.local_sampling import LocalSampler, files
from verbalizer_bench.builders.pipeline.context import BuildContext
from verbalizer_bench.builders.pipeline.preference_blocks import Completions
from verbalizer_bench.builders.pipeline.sample import TrainingSample


class Sampler(Protocol):
    """What gives samples their completions."""

    async def sample(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        """Return the samples with their completions."""


def sampler(context: BuildContext, settings: Completions, images: Path | None) -> Sampler:
    """Return what samples by a recipe's settings."""
    if settings.checkpoint:
        return LocalSampler(context.recipe.work, settings, settings.checkpoint, images)
    return EndpointSampler(context, settings, images)


def sampled_by(context: BuildContext, settings: Completions) -> dict[str, Any]:
    """Return what completions depend on, for their stage."""
    depends: dict[str, Any] = {"completions": settings}
    if settings.checkpoint:
        states = [(str(file), file.stat()) for file in files(settings.checkpoint)]
        depends["files"] = [(name, state.st_size, state.st_mtime_ns) for name, state in states]
    else:
        # Prompts are the records' own, whatever the recipe's texts are.
        depends |= context.settings(ROLE) | {"prompts": None}
    return depends
