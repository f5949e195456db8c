"""The functions that the YAMLs of this folder name: a task's documents, image and scores.

lmms-eval loads a data set itself before a task has a say, and gives a task no way to choose where
from. So a YAML loads a placeholder of one row under the task's name, and `process_docs` puts the
documents in its place, from where `VERBALIZER_BENCH_DATA` says.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from PIL import Image

from verbalizer_bench.models.images import task_image
from verbalizer_bench.tasks.data import resolve_data, test_documents
from verbalizer_bench.tasks.metrics import score
from verbalizer_bench.tasks.spec import DatasetSpec, Verbalizer, task_name
from verbalizer_bench.tasks.suite import suite_datasets


def process_docs(placeholder: Any) -> Any:
    """Return a task's documents, with the columns `prompt`, `target` and `other`.

    Args:
        placeholder: A `datasets.Dataset` whose configuration has the name of the task.

    Raises:
        FileNotFoundError: The data folder or a file of it is not there.
        ValueError: The rows are not as the data set's YAML says.
        ConnectionError: The hub cannot be reached.
    """
    from datasets import Dataset

    spec, verbalizer = _suite()[placeholder.config_name]
    return Dataset.from_list(
        [
            {
                "prompt": spec.render(doc, verbalizer),
                "target": spec.target(doc, verbalizer),
                "other": spec.other(doc, verbalizer),
            }
            for doc in test_documents(spec, resolve_data(None)).docs
        ]
    )


def doc_to_visual(doc: Mapping[str, str]) -> list[Image.Image]:
    """Return the white image that goes with every prompt."""
    return [task_image()]


def process_results(doc: Mapping[str, str], results: Sequence[str]) -> dict[str, float]:
    """Score the response."""
    return score(doc["target"], doc["other"], results[0])


@cache
def _suite() -> dict[str, tuple[DatasetSpec, Verbalizer]]:
    """Return the suite's 108 tasks by name."""
    return {
        task_name(spec.name, verbalizer): (spec, verbalizer)
        for spec, verbalizers in suite_datasets().values()
        for verbalizer in verbalizers
    }
