"""The suite: nine data sets with twelve verbalizers each, 108 tasks."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from verbalizer_bench.tasks.spec import (
    DATASETS,
    TASKS_FOLDER,
    DatasetSpec,
    Verbalizer,
    parse_spec,
    read_spec_file,
    spec_verbalizers,
    task_name,
)


def suite_files() -> dict[str, Path]:
    """Return the nine data sets' YAML files, by name."""
    return {name: TASKS_FOLDER / name / f"_{name}.yaml" for name in DATASETS}


@cache
def suite_datasets() -> Mapping[str, tuple[DatasetSpec, tuple[Verbalizer, ...]]]:
    """Return each data set's specification and verbalizers, by name; read once."""
    return MappingProxyType({name: read_dataset(path) for name, path in suite_files().items()})


@cache
def suite() -> Mapping[str, tuple[str, Verbalizer]]:
    """Return the data set and the verbalizer of each of the 108 tasks, in the suite's order."""
    return MappingProxyType(
        {
            task_name(name, verbalizer): (name, verbalizer)
            for name, (_, verbalizers) in suite_datasets().items()
            for verbalizer in verbalizers
        }
    )


def in_suite(path: Path) -> bool:
    """Return whether a data set's YAML belongs to the suite."""
    return path.resolve().parent.parent == TASKS_FOLDER.resolve()


def read_dataset(path: Path) -> tuple[DatasetSpec, tuple[Verbalizer, ...]]:
    """Read and check a data set's YAML: `_<dataset>.yaml`, whatever its folder."""
    config = read_spec_file(path)
    spec = parse_spec(config, str(path))
    if path.name != f"_{spec.name}.yaml":
        raise ValueError(
            f"{path}: dataset={spec.name!r}: the file must be named _{spec.name}.yaml, "
            "since its leaves find it by that name"
        )
    if spec.name in DATASETS and not in_suite(path):
        raise ValueError(
            f"{path}: dataset={spec.name!r} is one of the suite's; choose another name"
        )
    if config.get("class") != "verbalizer_bench.tasks.task.VerbalizerTask":
        raise ValueError(
            f"{path}: class={config.get('class')!r}: "
            "write `class: !function verbalizer_bench.tasks.task.VerbalizerTask`"
        )
    return spec, spec_verbalizers(config, spec, str(path))
