"""Existing pairs: published preference data in our kind, checked. No model is asked.

verbalizer-bench build recipes/data/existing_pairs.yaml
"""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from verbalizer_bench.builders.export.preference_sets import RankedPairLayout
from verbalizer_bench.builders.filters import screening, wording
from verbalizer_bench.builders.kinds import completions
from verbalizer_bench.builders.kinds.prompt_records import asked, distinct, order
from verbalizer_bench.builders.kinds.published_pairs import (
    PublishedPair,
    count,
    parse,
    rows,
    unpack,
)
from verbalizer_bench.builders.pipeline.context import BuildContext, PlannedCalls
from verbalizer_bench.builders.pipeline.preference_blocks import PublishedPairs
from verbalizer_bench.builders.pipeline.recipe import ExistingPairs
from verbalizer_bench.builders.pipeline.sample import Candidate, TrainingSample
from verbalizer_bench.builders.pipeline.stages import Stage
from verbalizer_bench.client.response_checks import Problem, artifact_problem
from verbalizer_bench.io.conversations import BadRecordError
from verbalizer_bench.io.preferences import UNKNOWN

_STAGE = "records"
_ARM = "pair"
NEEDED: dict[str, dict[str, tuple[str, ...]]] = {}
LAYOUTS = (RankedPairLayout("pairs", (_ARM,)),)


class ExistingPairStages:
    """The stages."""

    layouts, needed, roles = LAYOUTS, NEEDED, ()

    def __init__(self, context: BuildContext, recipe: ExistingPairs) -> None:
        """Choose rows.

        Raises:
            FileNotFoundError: A file is not there.
            ValueError: A file cannot be read, or has fewer than are wanted.
        """
        self.recipe = recipe
        self.chosen = choose(recipe.records, recipe.limit)

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        files = [_state(source.file) for source in self.recipe.records.values()]
        chosen = {name: sorted(places) for name, places in self.chosen.items()}
        settings: dict[str, Any] = {
            "records": self.recipe.records,
            "files": files,
            "chosen": chosen,
        }
        if self.recipe.images:
            # Images that are put in their place later.
            beside = [
                source for source in self.recipe.records.values() if source.layout != "rlaif_v"
            ]
            folders = [self.recipe.images / source.images for source in beside]
            settings["folders"] = [one.stat().st_mtime_ns for one in folders if one.is_dir()]
        screened = {"leakage": screening.settings(self.recipe)["leakage"]}
        return [
            Stage(_STAGE, settings | {"images": self.recipe.images}, self._samples),
            Stage("check", screened, self._check),
        ]

    def plan(self) -> list[PlannedCalls]:
        """Return no call."""
        return []

    async def _samples(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        return await asyncio.to_thread(self._read)

    def _read(self) -> list[TrainingSample]:
        made = []
        for name, source in self.recipe.records.items():
            for index, (place, row) in enumerate(rows(source.file)):
                if index in self.chosen[name]:
                    made.append(_sample(name, source, index, (place, row), self.recipe.images))
        return distinct(made, _STAGE)

    async def _check(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        screened = await completions.screen(samples, self.recipe)
        return [_without_problem(sample, "check") for sample in screened]


def choose(sources: dict[str, PublishedPairs], limit: int | None) -> dict[str, frozenset[int]]:
    """Return the places of the first n rows of each source by their hashes, `limit` in all."""
    chosen: list[tuple[str, str, int]] = []
    for name, source in sources.items():
        if not source.file.exists():
            raise FileNotFoundError(f"records.{name}.file={source.file}: no such file")
        total = count(source.file)
        if not total:
            raise ValueError(f"records.{name}.file={source.file}: no pair in it; give another")
        if total < (source.n or 1):
            raise ValueError(
                f"records.{name}.n={source.n}: {source.file} has {total} pairs; lower n, or give "
                "another file"
            )
        ordered = sorted((order(source.seed, name, index), name, index) for index in range(total))
        chosen += ordered[: source.n]
    taken = sorted(chosen)[:limit]
    return {name: frozenset(index for _, of, index in taken if of == name) for name in sources}


def _state(path: Path) -> list[tuple[str, int, int]]:
    """Return what files are known by: reading several gigabytes for a hash would take minutes."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _sample(
    name: str, source: PublishedPairs, index: int, row: tuple[str, object], images: Path | None
) -> TrainingSample:
    """Return a row's sample: the chosen answer first, then the rejected one."""
    place, value = row
    sample = TrainingSample(id=f"{name}-{index:06}", arm=_ARM, source=name)
    try:
        pair = parse(source.layout, index, value)
    except BadRecordError as error:
        error.place = place
        return sample.reject(_STAGE, "record", str(error))
    if pair.image is not None and images:
        unpack(pair.image, images / source.images / pair.prompt.images[0])
    sample = asked(sample, pair.prompt, source.images, images, _STAGE)
    return sample if sample.rejection else _without_problem(_answered(sample, pair), _STAGE)


def _answered(sample: TrainingSample, pair: PublishedPair) -> TrainingSample:
    candidates: list[Candidate] = []
    for text in (pair.chosen, pair.rejected):
        problem = (
            wording.empty_problem(text, "the answer")
            or wording.placeholder_problem(text)
            or artifact_problem(text)
        )
        if not problem and candidates and text == candidates[0].text:
            problem = Problem("same", "chosen and rejected are the same text")
        said = f"{problem.reason}: {problem.detail}" if problem else None
        candidates.append(Candidate(text, UNKNOWN, None, said))
    return replace(sample, candidates=tuple(candidates))


def _without_problem(sample: TrainingSample, stage: str) -> TrainingSample:
    """Return a pair, rejected if either of its answers cannot be used."""
    problems = [one.problem for one in sample.candidates if one.problem]
    if sample.rejection or not problems:
        return sample
    reason, _, detail = problems[0].partition(": ")
    return sample.reject(stage, reason, detail)
