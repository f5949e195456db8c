"""Build a data set: its stages in turn, then the sets, their card and their report.

verbalizer-bench build recipes/data/format_oriented.yaml limit=20
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from verbalizer_bench.builders.export import counts, dataset_card, report
from verbalizer_bench.builders.export.sets import Layout, Sets, write_sets
from verbalizer_bench.builders.filters import leakage
from verbalizer_bench.builders.kinds.existing_pairs import ExistingPairStages
from verbalizer_bench.builders.kinds.format_oriented import FormatOrientedStages
from verbalizer_bench.builders.kinds.format_pairs import FormatPairStages
from verbalizer_bench.builders.kinds.llava_style import LlavaStyleStages
from verbalizer_bench.builders.kinds.preference import PreferenceStages
from verbalizer_bench.builders.kinds.response_format import ResponseFormatStages
from verbalizer_bench.builders.pipeline.context import BuildContext, PlannedCalls
from verbalizer_bench.builders.pipeline.failure_monitor import OTHERWISE
from verbalizer_bench.builders.pipeline.prompts import read_prompts
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import TrainingSample, read_samples
from verbalizer_bench.builders.pipeline.stages import Pipeline, Stage, check_stage, hint
from verbalizer_bench.builders.pipeline.worker_pool import BuildStopped, Unanswered
from verbalizer_bench.client.budget import BudgetExceeded, UsageTotals
from verbalizer_bench.client.chat_client import ChatClient
from verbalizer_bench.client.event_loop import run_to_end
from verbalizer_bench.io.files import removed_if_empty

SETS = "sets"


class _Kind(Protocol):
    """The stages of a kind of data set, its sets, and the prompts that it needs."""

    layouts: Any  # of Layout
    needed: Any  # as `read_prompts` takes it
    roles: Any  # of endpoints, besides those that are named as prompts

    def __init__(self, context: BuildContext, recipe: Any) -> None: ...

    def stages(self) -> list[Stage]: ...

    def plan(self) -> list[PlannedCalls]: ...


_KINDS: dict[str, type[_Kind]] = {
    "existing_pairs": ExistingPairStages,
    "format_oriented": FormatOrientedStages,
    "format_pairs": FormatPairStages,
    "llava_style": LlavaStyleStages,
    "preference": PreferenceStages,
    "response_format": ResponseFormatStages,
}


class Built(NamedTuple):
    """The outcome of a build.

    Attributes:
        sets: Accepted and rejected samples; None if a single stage was run.
        files: What was written.
        usage: What the calls of this run cost.
    """

    sets: Sets | None
    files: tuple[Path, ...]
    usage: UsageTotals

    def __str__(self) -> str:
        tokens = self.usage.input_tokens + self.usage.output_tokens
        cost = f"{self.usage.calls:,} calls, {tokens:,} tokens, {self.usage.money:,.4f} spent"
        if self.sets is None:
            return cost
        accepted, rejected = len(self.sets.accepted), len(self.sets.rejected)
        empty = [name for name, chosen in self.sets.sets.items() if not chosen]
        note = f"; none in {', '.join(empty)}: report.md says why" if empty else ""
        return f"{accepted:,} records accepted, {rejected:,} rejected{note}; {cost}"


def prepare(recipe: DataRecipe) -> tuple[BuildContext, _Kind]:
    """Read and check what a recipe names, before any call."""
    kind = _KINDS[recipe.kind]
    roles = ["default", *kind.needed.get("prompts", ()), *kind.roles]
    for name in recipe.endpoints:
        if name not in roles:
            raise ValueError(f"endpoints.{name}: no stage has that role; {hint(name, roles)}")
    context = BuildContext(recipe, read_prompts(recipe.prompts, kind.needed))
    return context, kind(context, recipe)


def build(recipe: DataRecipe) -> Built:
    """Build a data set, or go on with it; what is stored or complete is not done again.

    Raises:
        ValueError: A setting is wrong, the budget is spent, or calls failed (responses are stored,
            and the same command goes on), or no record was accepted.
        FileNotFoundError: A file is not there.
    """
    context, stages = prepare(recipe)
    pipeline = Pipeline(recipe.work, stages.stages())
    names = [stage.name for stage in pipeline.stages]
    if recipe.stage:
        check_stage(recipe.stage, [*names, SETS])
    wanted = [recipe.stage] if recipe.stage else pipeline.pending()
    if "check" in wanted:
        # Better to fail here than after thousands of calls.
        leakage.evaluation(recipe.leakage)
    try:
        asked = bool(wanted) and wanted != [SETS]
        with removed_if_empty(recipe.work):
            usage = run_to_end(_run(recipe, context, pipeline)) if asked else UsageTotals()
    except BudgetExceeded as error:
        raise ValueError(f"stopped: {error}") from error
    except BuildStopped as error:
        raise ValueError(f"stopped: {error}; {error.fix}") from error
    except Unanswered as error:
        raise ValueError(
            f"{error}; run the same command again, or give failures=set_aside"
        ) from error
    if recipe.stage not in (None, SETS):
        return Built(None, (pipeline.path(str(recipe.stage)),), usage)
    return _finish(recipe, context, pipeline, stages.layouts, usage)


async def _run(recipe: DataRecipe, context: BuildContext, pipeline: Pipeline) -> UsageTotals:
    async with ChatClient(recipe.endpoints, recipe.work, budget=recipe.budget) as client:
        context.client = client
        await pipeline.run(recipe.stage)
        return client.usage


def _finish(
    recipe: DataRecipe,
    context: BuildContext,
    pipeline: Pipeline,
    layouts: Sequence[Layout],
    usage: UsageTotals,
) -> Built:
    """Write the sets of the last stage's samples."""
    last = pipeline.path(pipeline.stages[-1].name)
    if not last.is_file():
        raise FileNotFoundError(f"{last}: no such file; run stage={pipeline.stages[-1].name} first")
    samples = read_samples(last)
    sets = write_sets(samples, layouts, recipe, context.prompts)
    files = [recipe.output / layout.file for layout in layouts]
    files.append(dataset_card.write_card(samples, sets, recipe, context.prompts))
    files += report.write_report(samples, sets, recipe, [stage.name for stage in pipeline.stages])
    if not sets.accepted:
        raise ValueError(_nothing(samples, files[-2]))
    if recipe.push_to_hub:
        push(recipe, files)
    return Built(sets, tuple(files), usage)


def _nothing(samples: Sequence[TrainingSample], where: Path) -> str:
    """Return why there is no record at all."""
    if not samples:
        return "no record was made: the recipe's source has none"
    (stage, reason), rejected = next(iter(counts.rejections(samples).items()))
    first = rejected[0]
    return (
        f"no record was accepted: all {len(samples):,} are rejected, {len(rejected):,} of them in "
        f"{stage} for {reason}, such as {first.id}: {first.rejection and first.rejection.detail}; "
        f"{where} has the others"
        f"{f'; {OTHERWISE}' if any(sample.attempts for sample in samples) else ''}"
    )


def push(recipe: DataRecipe, files: Sequence[Path]) -> None:
    """Upload sets, provenance, card and report; stages and calls stay here."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(str(recipe.hub_id), repo_type="dataset", private=True, exist_ok=True)
    names = [file.name for file in files]
    api.upload_folder(
        folder_path=recipe.output,
        repo_id=str(recipe.hub_id),
        repo_type="dataset",
        allow_patterns=[*names, *(f"{file.stem}.provenance.jsonl" for file in files)],
    )


def dry_run(recipe: DataRecipe) -> str:
    """Return how many calls a build would make and what they would cost, without making any.

    If images or instructions are not here yet, their number is the recipe's.
    """
    from verbalizer_bench.builders.dry_run import describe, plan_without_data

    try:
        context, stages = prepare(recipe)
    except (FileNotFoundError, ConnectionError) as error:
        context = BuildContext(recipe, read_prompts(recipe.prompts, _KINDS[recipe.kind].needed))
        plan = plan_without_data(recipe, context)
        if plan is None:
            raise
        return f"{describe(recipe, context, plan)}\n\nNumbers are the recipe's, for {error}."
    return describe(recipe, context, stages.plan())
