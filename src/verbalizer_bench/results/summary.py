"""A run in short: its scores, how it was asked, and what a reader must know. `summary.json`."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.results.protocol import derive_protocol, facts, is_partial, warnings
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.schema import Score, Text
from verbalizer_bench.results.statistics import TypeScores, rounded, summarize


class TaskSummary(BaseModel):
    """A task's mean F1, and where its documents came from."""

    f1: Score
    documents: int
    source: str
    identity: str


class RunSummary(BaseModel):
    """`summary.json`; shares and scores are in [0, 1].

    Attributes:
        model: The run's name.
        protocol: How the model was asked, by name.
        partial: Whether less than the suite was run.
        differences: In what the run differs from the paper's protocol.
        warnings: What a reader must know.
        facts: What a reader may want to know.
        label_types: natural, neutral, unnatural and, with all three, All.
        tasks: The tasks by name.
    """

    model_config = ConfigDict(frozen=True)

    model: Text
    protocol: str
    partial: bool
    differences: list[str]
    warnings: list[str]
    facts: list[str]
    label_types: dict[str, TypeScores]
    tasks: dict[str, TaskSummary]

    def write(self, folder: Path) -> None:
        """Write `summary.json` into a run directory."""
        types = {name: scores.rounded() for name, scores in self.label_types.items()}
        table = self.model_copy(update={"label_types": types}).model_dump(by_alias=True)
        write_whole(folder / "summary.json", json.dumps(table, indent=2) + "\n")


def summary_of(run: Run) -> RunSummary:
    """Summarise a run.

    Raises:
        ValueError: Its tasks do not share documents or arguments.
    """
    protocol = derive_protocol(run)
    tasks = {
        task.task: TaskSummary(
            f1=rounded(task.scores["f1"].mean()),
            documents=len(task.doc_ids),
            source=task.source,
            identity=task.identity,
        )
        for task in run.tasks
    }
    return RunSummary(
        model=run.name,
        protocol=protocol.name,
        partial=is_partial(run),
        differences=list(protocol.differences),
        warnings=warnings(run),
        facts=facts(run),
        label_types=summarize(run),
        tasks=tasks,
    )
