"""The verbalizer suite asked of a model in this process, as `verbalizer-bench run` asks it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig

from verbalizer_bench.results.run import TaskScores
from verbalizer_bench.results.statistics import (
    Interval,
    by_dataset,
    estimate,
    score_table,
    type_weights,
    weight_matrix,
)
from verbalizer_bench.tasks.data import ENVIRONMENT, OFFLINE, resolve_data
from verbalizer_bench.tasks.metrics import METRICS, OUTCOMES
from verbalizer_bench.tasks.spec import TASKS_FOLDER
from verbalizer_bench.trainers.evaluation_settings import EvaluationSettings

log = logging.getLogger(__name__)
_LM_EVAL = logging.getLogger("lm_eval")


class Answer(NamedTuple):
    """What a model answered to a document, and how that was scored.

    Attributes:
        task: The task's name.
        doc_id: The document's number.
        response: The response.
        engine: What made it, `shared_prefix` or `generate`.
        scores: The value of each metric.
    """

    task: str
    doc_id: int
    response: str
    engine: str
    scores: Mapping[str, float]


class SuiteScores(NamedTuple):
    """Means over tasks, as `report` has them.

    Attributes:
        f1: Of each label type, and of `All` where all three were asked; with the bootstrap over
            documents that `report` has.
        outcomes: The share of each outcome, the mean over the label types.
        documents: How many they are over.
        responses: How many responses to these.
    """

    f1: Mapping[str, Interval]
    outcomes: Mapping[str, float]
    documents: int
    responses: int


class Suite:
    """Tasks with their first documents, and how they are asked of a model in memory.

    Attributes:
        tasks: The tasks by name, in the suite's order.
    """

    def __init__(self, settings: EvaluationSettings, sees: bool, folder: Path) -> None:
        """Load the tasks.

        Args:
            settings: Which, and how many documents.
            sees: Whether a vision-language model is asked.
            folder: The checkpoint's configurations, tokenizer and processor, as they are saved.

        Raises:
            ValueError: A name matches no verbalizer task, or the rows are wrong.
            OSError: The rows are not there.
        """
        self._settings, self._sees, self._folder = settings, sees, folder
        self._image = settings.image or "white"
        self.tasks = load_tasks(settings)
        for line in {line: None for task in self.tasks.values() for line in task.notices}:
            log.warning("evaluation: %s", line)
        if settings.num_beams != 10:
            for task in self.tasks.values():
                beams = {"num_beams": settings.num_beams}
                task.set_config(key="generation_kwargs", value=beams, update=True)
        self._generation_config = GenerationConfig.from_pretrained(folder)
        self._requests: list[Any] = []

    @property
    def generation_config(self) -> GenerationConfig:
        """Return what the saved checkpoint generates by."""
        return self._generation_config

    def record(self) -> dict[str, Any]:
        """Return what is asked at each evaluation, as JSON values."""
        return {
            "tasks": list(self.tasks),
            "limit": self._settings.limit,
            "sources": sorted({task.config.metadata["source"] for task in self.tasks.values()}),
            "identity": {name: t.config.metadata["identity"] for name, t in self.tasks.items()},
            "num_beams": self._settings.num_beams,
            "image": self._image if self._sees else None,
        }

    def ask(self, model: Any, rank: int = 0, processes: int = 1) -> list[Answer]:
        """Ask a model all documents; several processes share them, and each has all answers.

        Args:
            model: The model, lent.
            rank: This process.
            processes: How many there are.
        """
        adapter = self._adapter(model)
        if not self._requests:
            self._requests = list(self._built(adapter))
        mine = self._requests[rank::processes]
        found = adapter.responses(mine, disable_tqdm=True)
        answers = [
            self._scored(request, response) for request, response in zip(mine, found, strict=True)
        ]
        if processes == 1:
            return answers
        shares: list[Any] = [None] * processes
        torch.distributed.all_gather_object(shares, answers)
        order = {(one.task_name, one.doc_id): n for n, one in enumerate(self._requests)}
        every = (answer for share in shares for answer in share)
        return sorted(every, key=lambda answer: order[answer.task, answer.doc_id])

    def scores(self, answers: Sequence[Answer]) -> SuiteScores:
        """Return the means of what was answered."""
        tasks = [self._of_task(name, answers) for name in self.tasks]
        types = type_weights(tasks)
        means = {task.task: task.scores for task in tasks}
        every = types.get("All") or {
            name: weight / len(types) for group in types.values() for name, weight in group.items()
        }
        datasets = by_dataset(tasks)
        ordered = [task for of_dataset in datasets.values() for task in of_dataset]
        tables = {name: score_table(of_dataset, "f1") for name, of_dataset in datasets.items()}
        intervals = estimate(tables, weight_matrix(ordered, types))
        return SuiteScores(
            dict(zip(types, intervals, strict=True)),
            {name: _mean(means, every, name) for name in OUTCOMES},
            sum(len(table) for table in tables.values()),
            len(answers),
        )

    def _adapter(self, model: Any) -> Any:
        from verbalizer_bench.models.adapters.llm import VerbalizerLLM
        from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM

        options: dict[str, Any] = {"tokenizer": str(self._folder), "batch_size": "auto"}
        with _quiet():
            if self._sees:
                return VerbalizerLVLM(model, image=self._image, **options)
            return VerbalizerLLM(model, **options)

    def _built(self, adapter: Any) -> Iterator[Any]:
        template = adapter.processor if self._sees else adapter.tokenizer
        chat = bool(template.chat_template)
        for task in self.tasks.values():
            task.build_all_requests(
                limit=self._settings.limit,
                apply_chat_template=chat,
                chat_template=adapter.apply_chat_template if chat else None,
            )
            yield from task.instances

    def _scored(self, request: Any, response: Any) -> Answer:
        scores = self.tasks[request.task_name].process_results(request.doc, [response.text])
        return Answer(request.task_name, request.doc_id, response.text, response.engine, scores)

    def _of_task(self, name: str, answers: Sequence[Answer]) -> TaskScores:
        task = self.tasks[name]
        mine = [answer for answer in answers if answer.task == name]
        return TaskScores(
            name,
            task.spec.name,
            task.verbalizer,
            task.config.metadata["source"],
            task.config.metadata["identity"],
            tuple(answer.doc_id for answer in mine),
            {metric: np.array([one.scores[metric] for one in mine]) for metric in METRICS},
        )


def _mean(
    means: Mapping[str, Mapping[str, np.ndarray]], weights: Mapping[str, float], metric: str
) -> float:
    return float(sum(weight * means[task][metric].mean() for task, weight in weights.items()))


def load_tasks(settings: EvaluationSettings) -> dict[str, Any]:
    """Return the tasks that names, tags and globs of a recipe mean, with their rows.

    Raises:
        ValueError: A name matches no verbalizer task, or the rows are wrong.
        OSError: The rows are not there.
    """
    from lm_eval.tasks import TaskManager

    from verbalizer_bench.tasks.suite import suite

    with _quiet(), _named_as_in_recipes():
        index = TaskManager(
            include_defaults=False,
            include_path=[str(TASKS_FOLDER)],
            metadata={"data": resolve_data(settings.data)},
        )
        names: set[str] = set()
        for wanted in settings.tasks:
            known = [name for name in index.all_tasks if fnmatch(name, wanted)]
            found = set(index.load(known)["tasks"]) if known else set()
            if not found or not found <= set(suite()):
                other = sorted(found - set(suite()))
                raise ValueError(
                    f"evaluation.tasks={wanted}: "
                    + (f"{other[0]} is no verbalizer task" if other else "no such task")
                    + "; give verbalizer, or names, tags and globs that `verbalizer-bench ls tasks`"
                    " lists"
                )
            names |= found
        loaded = index.load(sorted(names))["tasks"]
    return {name: loaded[name] for name in suite() if name in names}


@contextmanager
def _named_as_in_recipes() -> Iterator[None]:
    """Call the source of the rows in errors by the recipe's key: train has no option for it."""
    key = "evaluation.data"
    fix = f"give {key}=sample or {key}=DIR, or set {ENVIRONMENT}"
    try:
        yield
    except OSError as error:
        text = str(error).replace(OFFLINE, fix).replace("--data ", f"{key}=")
        if text == str(error):
            raise
        raise type(error)(text) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out lm-eval's lines about each task, and about a model that is loaded already."""
    level = _LM_EVAL.level
    _LM_EVAL.setLevel(logging.ERROR)
    try:
        yield
    finally:
        _LM_EVAL.setLevel(level)
