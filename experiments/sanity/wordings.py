"""The suite's prompts in other words, as data sets of their own that ask about the same rows."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.yaml_reading import read_yaml
from verbalizer_bench.tasks.data import read_rows, read_sources
from verbalizer_bench.tasks.generate import build
from verbalizer_bench.tasks.spec import DatasetSpec, Verbalizer, task_name
from verbalizer_bench.tasks.suite import suite_datasets, suite_files

WORDINGS = Path(__file__).with_name("wordings.yaml")
# The suite's own prompt with a space where the line before "Answer:" ends.
SPACE = "space"


def prompts() -> dict[str, dict[str, str]]:
    """Return the prompts that are not the suite's: of each wording that of each data set."""
    found: dict[str, dict[str, str]] = {SPACE: {}}
    for dataset, (spec, _) in suite_datasets().items():
        found[SPACE][dataset] = spec.prompt.replace("\nAnswer:", " Answer:")
    for dataset, wordings in read_yaml(WORDINGS).items():
        for wording, prompt in wordings.items():
            found.setdefault(wording, {})[dataset] = prompt
    return found


def write_sets(folder: Path) -> None:
    """Write a data set of own for each prompt that is not the suite's, with its leaves.

    Args:
        folder: For lm-eval's `--include_path`.
    """
    for wording, of_datasets in prompts().items():
        for dataset, prompt in of_datasets.items():
            name = f"{dataset}_{wording}"
            own = suite_files()[dataset].read_text(encoding="utf-8")
            text = own.replace(f"dataset: {dataset}\n", f"dataset: {name}\n")
            head, _, rest = text.partition("doc_to_text: |-\n")
            metadata = rest[rest.index("metadata:") :]
            lines = "".join(f"  {line}".rstrip() + "\n" for line in prompt.split("\n"))
            file = folder / name / f"_{name}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, f"{head}doc_to_text: |-\n{lines}{metadata}")
            build(file)


def write_rows(data: str, folder: Path, documents: int, seed: int) -> None:
    """Write a data folder of a few rows of each of the suite's sets, for all wordings.

    Half of them are of each class, so that a constant answer scores 50.

    Args:
        data: Where the rows are; a folder.
        folder: Where they go.
        documents: How many of each set.
        seed: Of the choice.

    Raises:
        FileNotFoundError: Rows are not there.
        ValueError: `documents` is odd, or a class has fewer rows.
    """
    if documents < 2 or documents % 2:
        raise ValueError(f"--documents {documents}: give an even number, half for each class")
    sources = read_sources(Path(data))
    for dataset, (spec, _) in suite_datasets().items():
        split = sources.get(dataset, {}).get("split", spec.test_split)
        rows = read_rows(spec, split, data)
        chosen = []
        for value in spec.label_values:
            of_class = [row for row in rows if row["label"] == value]
            if len(of_class) < documents // 2:
                raise ValueError(
                    f"{data}: {dataset}: {len(of_class)} rows have the label {value!r}; "
                    f"--documents {2 * len(of_class)} or fewer can be drawn"
                )
            chosen += random.Random(seed).sample(of_class, documents // 2)
        for name in (dataset, *(f"{dataset}_{wording}" for wording in prompts())):
            (folder / name).mkdir(parents=True, exist_ok=True)
            write_whole(folder / name / f"{spec.test_split}.jsonl", jsonl.dumps(chosen))


def suite_names(chosen: Sequence[tuple[str, int]], wording: str | None = None) -> Mapping[str, str]:
    """Return the tasks of some verbalizers, by the suite's name of each.

    Args:
        chosen: Label types, and which of their verbalizers.
        wording: None for the suite's own prompts.
    """
    names = {}
    for dataset, (spec, verbalizers) in suite_datasets().items():
        for label_type, place in chosen:
            one = [v for v in verbalizers if v.type == label_type][place]
            names[task_name(dataset, one)] = _name(spec, one, wording)
    return names


def _name(spec: DatasetSpec, verbalizer: Verbalizer, wording: str | None) -> str:
    return task_name(f"{spec.name}_{wording}" if wording else spec.name, verbalizer)
