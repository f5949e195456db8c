"""Recipes of benchmarks: which of lmms-eval's tasks, by which metric and prompt, judged by whom.

verbalizer-bench benchmarks evaluation/llava15 CHECKPOINT… -o out
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from verbalizer_bench.config import OneOrMore, check, read

LLAVA15 = "evaluation/llava15"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark by tasks of lmms-eval.

    Attributes:
        tasks: The tasks, of which the score is the mean.
        metric: Its name in their results.
        items: What a sample has under that name (`evaluation.items`).
        prompt: What the paper puts behind a question.
        known_from: LLaVA's documents and code (`llava`), or memory of the paper's table.
        split: What is asked.
        scale: What the metric is times for the table.
        digits: The table's decimals.
        asked: What the task puts behind a question; None: `prompt`.
        asked_before: What the task puts before a question.
        gen_kwargs: What replaces the task's own settings of generation.
        judge: Who scores; None: a rule.
        ours: The command of this package that is to be preferred, without judge, model and output.
        note: In what it differs from the paper.
    """

    tasks: OneOrMore[str]
    metric: str
    items: Literal["value", "option", "yes_no", "pairs", "circular", "relative", "rating"]
    prompt: str
    known_from: Literal["llava", "memory"]
    split: str
    scale: float = 1.0
    digits: int = 1
    asked: str | None = None
    asked_before: str = ""
    gen_kwargs: str | None = None
    judge: str | None = None
    ours: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        check("tasks", list(self.tasks), all(self.tasks) and self.tasks, "names of tasks")
        check("scale", self.scale, self.scale > 0, "above 0")
        check("digits", self.digits, 0 <= self.digits <= 6, "0 to 6")

    @property
    def suffix(self) -> str:
        """Return what the tasks put behind a question."""
        return self.prompt if self.asked is None else self.asked


@dataclass(frozen=True)
class Evaluation:
    """The benchmarks of a recipe.

    Attributes:
        lmms_eval: The version of lmms-eval in which tasks and metrics were looked up.
        benchmarks: By title.
    """

    lmms_eval: str
    benchmarks: Mapping[str, Benchmark]

    def __post_init__(self) -> None:
        check("benchmarks", dict(self.benchmarks), self.benchmarks, "at least one")
        tasks = [task for one in self.benchmarks.values() for task in one.tasks]
        twice = sorted({task for task in tasks if tasks.count(task) > 1})
        check("tasks", ", ".join(twice), not twice, "each in one benchmark only")


def read_evaluation(recipe: str | Path) -> Evaluation:
    """Read a recipe of benchmarks.

    Raises:
        FileNotFoundError: There is no such recipe.
        ValueError: A key or value is wrong, in one line.
    """
    return read(Evaluation, recipe)
