"""The functions that the YAMLs of benchmarks with images of their own name; see `task`."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from PIL import Image

from verbalizer_bench.models.images import task_image
from verbalizer_bench.tasks.data import resolve_data
from verbalizer_bench.tasks.picture_benchmarks import SAMPLE_KEY
from verbalizer_bench.tasks.picture_task import PLACEHOLDER
from verbalizer_bench.tasks.spec import TASKS_FOLDER

# lmms-eval has a task of its own by this name, with another prompt rule.
RENAMED = {"naturalbench": "naturalbench_rule"}
FOLDERS = ("mmvp", "naturalbench")
# What a document has here beside its own.
_ADDED = ("task", "prompt", "target")


def process_docs(placeholder: Any) -> Any:
    """Return a task's documents, with the columns `task`, `prompt` and `target`.

    Args:
        placeholder: A `datasets.Dataset` whose configuration has the name of the task.

    Raises:
        OSError: The data folder, a file or an image is not there; the hub cannot be reached.
        ValueError: The rows are not as the benchmark has them.
    """
    from datasets import Dataset

    name = placeholder.config_name
    task = _task(name, resolve_data(None))
    return Dataset.from_list(
        [
            {
                **doc,
                "task": name,
                # The adapter puts the image in front.
                "prompt": task.doc_to_text(doc).removeprefix(PLACEHOLDER),
                "target": task.doc_to_target(doc),
            }
            for doc in task.eval_docs
        ]
    )


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """Return the document's image; of a blind task the white one, which our adapter replaces."""
    task = _task(doc["task"], resolve_data(None))
    images: list[Image.Image] = (
        task.doc_to_image(doc) if task.config.doc_to_image else [task_image()]
    )
    return images


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score the response as lm-eval's task does.

    lmms-eval keeps no document in its samples, and what is no metric of the task as it is: so the
    document, and where the rows came from, stand beside the scores.
    """
    task = _task(doc["task"], resolve_data(None))
    scored: dict[str, Any] = task.process_results(doc, results)
    rows = {key: task.config.metadata[key] for key in ("source", "documents", "identity")}
    own = {key: value for key, value in doc.items() if key not in _ADDED}
    return scored | {SAMPLE_KEY: {"doc": own, **rows}}


@cache
def _task(name: str, data: str) -> Any:
    """Return lm-eval's task of a name here."""
    from lm_eval.tasks import TaskManager

    known = {lmms: ours for ours, lmms in RENAMED.items()}
    manager = TaskManager(
        include_path=[str(TASKS_FOLDER / folder) for folder in FOLDERS],
        include_defaults=False,
        metadata={"data": data},
    )
    return manager.load([known.get(name, name)])["tasks"][known.get(name, name)]
