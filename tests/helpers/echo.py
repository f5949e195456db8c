"""A model of lm-eval's that answers without weights."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.evaluator import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from verbalizer_bench.tasks.spec import TASKS_FOLDER


class Echo(LM):
    """Answer every request with what a rule says."""

    MULTIMODAL = True

    def __init__(self, answer: Callable[[Any], str]) -> None:
        super().__init__()
        self.answer = answer

    def generate_until(self, requests, disable_tqdm=False):
        self.prompts = [request.args[0] for request in requests]
        self.kwargs = [request.args[1] for request in requests]
        return [self.answer(request) for request in requests]

    def loglikelihood(self, requests):
        raise AssertionError

    loglikelihood_rolling = loglikelihood


@cache
def _manager(data: str, include: str | None) -> TaskManager:
    """Return the index of the tasks, which takes a second to make."""
    return TaskManager(
        include_path=[str(TASKS_FOLDER), *([include] if include else [])],
        include_defaults=False,
        metadata={"data": data},
    )


def write_run(
    folder: Path,
    answer: str,
    tasks: list[str],
    data: str = "sample",
    include: str | None = None,
    says: Callable[[Any], str] | None = None,
    **options: Any,
) -> Path:
    """Write a run folder as lm-eval does, of a model that always says `answer`.

    Or what `says` makes of a request; `answer` is then its name.
    """
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.model_name_sanitized = answer
    results = simple_evaluate(
        model=Echo(says or (lambda request: answer)),
        tasks=tasks,
        task_manager=_manager(data, include),
        bootstrap_iters=0,
        **options,
    )
    assert results is not None
    samples = results.pop("samples")
    results["config"]["model"] = "hf"
    tracker.general_config_tracker.model_name = answer
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task_name=task, samples=rows)
    return folder / answer
