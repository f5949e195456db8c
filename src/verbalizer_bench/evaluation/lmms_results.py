"""Read lmms-eval's result folders: `<date>_results.json` and `<date>_samples_<task>.jsonl`.

A number that lmms-eval wrote is taken only for what it is: a judged score with failed calls in it,
a score that is no number, a metric that is not there are refused by name, a run with `--limit` is
called one, and samples that are another run's are an error.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from verbalizer_bench.evaluation.items import KINDS, Items, mean_of_tasks
from verbalizer_bench.evaluation.recipe import Benchmark, Evaluation
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.io.jsonl import read_objects
from verbalizer_bench.results.files import lmms_samples_file
from verbalizer_bench.results.means import Mean
from verbalizer_bench.results.picture_runs import is_picture_task
from verbalizer_bench.results.schema import validate

# Of a task's settings those on which its score depends, beside prompts.
_SETTINGS = ("dataset_path", "dataset_name", "test_split", "generation_kwargs", "num_fewshot")
# lmms-eval rounds LLaVA-Bench's ratings and score.
_CLOSE, _ROUNDED = 1e-6, 0.1


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Config(_Part):
    """How lmms-eval was called."""

    model: str
    model_args: str | dict[str, Any] | None = None
    limit: float | None = None
    offset: int | None = None
    gen_kwargs: Any = None


class _Counts(_Part):
    """How many documents a task has, and how many were asked."""

    original: int
    effective: float


class LmmsResults(_Part):
    """What is read of a results file."""

    results: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    counts: dict[str, _Counts] = Field(alias="n-samples")
    versions: dict[str, Any] = {}
    config: _Config


class LmmsScore(NamedTuple):
    """A benchmark's score in a results file.

    Attributes:
        title: The benchmark's.
        benchmark: What the recipe says of it.
        given: The model's arguments.
        way: How it was asked, judged and scored.
        value: The score, times the recipe's scale; None: there is none, and `remark` says why.
        mean: With its interval; None: there is no interval.
        partial: Whether not all documents were asked.
        remark: What a reader must know.
        file: The results file.
    """

    title: str
    benchmark: Benchmark
    given: Mapping[str, str]
    way: str
    value: float | None
    mean: Mean | None
    partial: bool
    remark: str
    file: Path


def read_scores(file: Path, evaluation: Evaluation) -> tuple[list[LmmsScore], str]:
    """Return the scores of a recipe's benchmarks in a results file, and what is not among them.

    MMVP and NaturalBench are read elsewhere (`results.picture_runs`).

    Raises:
        ValueError: A file is not what lmms-eval writes, or samples are not those of the results.
    """
    results = validate(LmmsResults, read_record(file), file)
    if uncounted := sorted(set(results.configs) - set(results.counts)):
        raise ValueError(f"{file}: no {uncounted[0]} in its n-samples; run it again")
    scores = [
        _Reading(file, results, title, benchmark).score()
        for title, benchmark in evaluation.benchmarks.items()
        if any(task in results.results for task in benchmark.tasks)
    ]
    known = {task for one in evaluation.benchmarks.values() for task in one.tasks}
    others = sorted(
        task
        for task, config in results.configs.items()
        if task not in known and not is_picture_task(config)
    )
    more = f" and {len(others) - 5} more" if len(others) > 5 else ""
    left = f"{file}: not in the recipe, and not shown: {', '.join(others[:5])}{more}"
    return scores, left if others else ""


class _Reading(NamedTuple):
    """A benchmark in a results file."""

    file: Path
    results: LmmsResults
    title: str
    benchmark: Benchmark

    def score(self) -> LmmsScore:
        """Return the score, or why there is none."""
        tasks = {task: self._items(task) for task in self.benchmark.tasks}
        found = [items for items in tasks.values() if items]
        refusal = self._refusal(tasks)
        remarks = [refusal or "", *dict.fromkeys(one.remark for one in found), self._prompt()]
        mean = value = None
        if not refusal:
            value = self.benchmark.scale * _mean([self._reported(task) for task in tasks])
            if len(found) == len(tasks) and all(one.sure for one in found):
                mean = _scaled(mean_of_tasks(found), self.benchmark.scale)
                if math.isnan(mean.low):
                    remarks.append("no interval of so few questions, or of ones that are all alike")
            else:
                remarks.append("no interval" + ("" if found else ", for want of --log_samples"))
        remark = "; ".join(filter(None, remarks))
        about = (self.title, self.benchmark, self._given(), self._way(found))
        return LmmsScore(*about, value, mean, self._is_partial(), remark, self.file)

    def _given(self) -> dict[str, str]:
        given = self.results.config.model_args or {}
        if isinstance(given, str):
            given = dict(part.split("=", 1) for part in given.split(",") if "=" in part)
        return {key: str(value) for key, value in given.items()}

    def _refusal(self, tasks: Mapping[str, Items | None]) -> str | None:
        """Return why no score can be told; None if one can."""
        gone = [task for task in tasks if task not in self.results.results]
        if gone:
            return (
                f"no score: {', '.join(gone)} not beside {', '.join(set(tasks) - set(gone))}; run "
                f"them together: --tasks {','.join(tasks)}"
            )
        judges = sorted({judge for items in tasks.values() if items for judge in items.judges})
        if len(judges) > 1:
            return f"no score: its verdicts are of {len(judges)} judges: {', '.join(judges)}"
        for task, items in tasks.items():
            reported = self._reported(task)
            if isinstance(reported, str):
                return f"no score: {task} has {reported}"
            if self.benchmark.judge and items is None:
                return (
                    f"no score: {task} is judged, and without samples (--log_samples) nobody can "
                    "tell failed verdicts from scores"
                )
            if items and items.refusal:
                return f"no score: {items.refusal}"
            if items and not math.isfinite(items.value):
                return f"no score: a sample of {task} has {self._metric}=nan"
            if items and self.benchmark.judge and not items.sure:
                return (
                    f"no score: {items.remark}; a judge, or where its call failed a random letter, "
                    "stands for them"
                )
        return None

    def _reported(self, task: str) -> Any:
        """Return lmms-eval's own score; a text that says what stands there if it is none."""
        scores = self.results.results[task]
        found = {key: one for key, one in scores.items() if key.split(",")[0] == self._metric}
        if len(found) != 1:
            others = [key for key, one in scores.items() if isinstance(one, (int, float))]
            numbers = ", ".join(others) or "none"
            return f"{len(found) or 'no'} {self._metric}; of numbers it has {numbers}"
        (value,) = found.values()
        sure = isinstance(value, (int, float)) and math.isfinite(value)
        return float(value) if sure else f"{self._metric}={value!r}, which is no number"

    @property
    def _metric(self) -> str:
        return self.benchmark.metric

    def _items(self, task: str) -> Items | None:
        """Return a task's items; None where its samples were not kept.

        Raises:
            ValueError: They are not those of the results.
        """
        path = lmms_samples_file(self.file, task)
        if task not in self.results.results or not path.is_file():
            return None
        rows = [row for _, row in read_objects(path)]
        wanted = int(self.results.counts[task].effective)
        # With an offset lmms-eval counts those before it too.
        if len(rows) != wanted and not self.results.config.offset:
            raise ValueError(
                f"{path}: {len(rows):,} samples of {wanted:,} documents that {self.file.name} has; "
                "run the task again"
            )
        found = [row[self._metric] for row in rows if self._metric in row]
        try:
            items = KINDS[self.benchmark.items](found) if found else None
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ValueError(
                f"{path}: {self._metric} is not as lmms-eval's {task} writes it "
                f"({type(error).__name__}: {error}); run the task again"
            ) from error
        if items:
            self._check(path, items, self._reported(task))
        return items

    def _check(self, path: Path, items: Items, reported: Any) -> None:
        if isinstance(reported, str) or not items.sure or not math.isfinite(items.value):
            return
        room = _ROUNDED if self.benchmark.items == "relative" else _CLOSE * max(1, abs(reported))
        if abs(items.value - reported) > room:
            raise ValueError(
                f"{path}: its samples make {items.value:.6g}, and {self.file.name} has "
                f"{reported:.6g}: they are of another run; put back those that were written with it"
            )

    def _prompt(self) -> str:
        """Return in what the questions were asked otherwise than the recipe says."""
        for task in self.benchmark.tasks:
            path = lmms_samples_file(self.file, task)
            rows = read_objects(path) if path.is_file() else iter(())
            asked = next((row["input"] for _, row in rows if isinstance(row.get("input"), str)), "")
            if asked and not asked.endswith(self.benchmark.suffix):
                return f"asked without {self.benchmark.suffix!r} behind the question"
            if asked and not asked.startswith(self.benchmark.asked_before):
                return f"asked without {self.benchmark.asked_before!r} before the question"
        return ""

    def _way(self, found: Sequence[Items]) -> str:
        config = self.results.config
        configs = (self.results.configs.get(task, {}) for task in self.benchmark.tasks)
        sets = dict.fromkeys(str(one["dataset_path"]) for one in configs if "dataset_path" in one)
        tasks = ", ".join(self.benchmark.tasks)
        parts = [f"{self._metric} of lmms-eval's {tasks} ({', '.join(sets) or 'no data set'})"]
        judges = sorted({judge for items in found for judge in items.judges})
        if self.benchmark.judge:
            parts.append(f"judged by {', '.join(judges)}" if judges else "judged by nobody")
        all_of = sum(one.original for one in self._counts())
        part = f"{sum(int(one.effective) for one in self._counts()):,} of "
        start = f" from number {config.offset} on" if config.offset else ""
        parts.append(f"{part if self._is_partial() else ''}{all_of:,} documents{start}")
        parts.append(f"asked by {config.model}, settings {self._settings()}")
        return ", ".join(parts)

    def _is_partial(self) -> bool:
        skipped = any(one.effective < one.original for one in self._counts())
        return skipped or bool(self.results.config.offset)

    def _counts(self) -> list[_Counts]:
        counts = self.results.counts
        return [counts[task] for task in self.benchmark.tasks if task in counts]

    def _settings(self) -> str:
        """Return a hash of how the tasks were set up."""
        tasks = {task: self.results.configs.get(task, {}) for task in self.benchmark.tasks}
        prompts = ("pre_prompt", "post_prompt")
        asked: dict[str, Any] = {
            task: [config.get(key) for key in _SETTINGS]
            + [(config.get("lmms_eval_specific_kwargs") or {}).get(key) for key in prompts]
            for task, config in tasks.items()
        }
        asked["versions"] = [self.results.versions.get(task) for task in tasks]
        text = json.dumps([asked, self.results.config.gen_kwargs], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _scaled(mean: Mean, scale: float) -> Mean:
    return mean._replace(value=scale * mean.value, low=scale * mean.low, high=scale * mean.high)
