"""Write this folder's YAMLs from those of `tasks`: nothing about a task is stated here.

python -m verbalizer_bench.lmms.generate
"""

import dataclasses
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.lmms.pictures import FOLDERS, RENAMED
from verbalizer_bench.tasks.spec import TASKS_FOLDER, protocol, read_spec_file, task_name
from verbalizer_bench.tasks.suite import suite_datasets, suite_files

LMMS_FOLDER = Path(str(files("verbalizer_bench.lmms")))
# lmms-eval looks for an included file in the working directory first: no other has this name.
_SHARED = "_verbalizer_protocol.yaml"
_MARK = "# Written by `make leaves` from the YAMLs of tasks; edit those instead.\n"


def lmms_files() -> dict[Path, str]:
    """Return the content of this folder's YAMLs."""
    contents = {
        LMMS_FOLDER / _SHARED: _MARK + _dump(_shared()) + _functions("task"),
        LMMS_FOLDER / "verbalizer.yaml": _MARK + _dump(_group()),
    }
    for name, (spec, verbalizers) in suite_datasets().items():
        version = read_spec_file(suite_files()[name])["metadata"]["version"]
        for verbalizer in verbalizers:
            task = task_name(name, verbalizer)
            leaf = {
                "include": f"../{_SHARED}",
                "task": task,
                "dataset_name": task,
                "tag": [f"verbalizer_{name}", f"verbalizer_{verbalizer.type}"],
                "metadata": {
                    "version": version,
                    "dataset": spec.name,
                    "verbalizer": dataclasses.asdict(verbalizer),
                },
            }
            contents[LMMS_FOLDER / name / f"{task}.yaml"] = _MARK + _dump(leaf)
    return contents | _picture_files()


def _picture_files() -> dict[Path, str]:
    """Return the YAMLs of the benchmarks whose documents have images of their own."""
    contents = {}
    for folder in FOLDERS:
        shared = f"_verbalizer_{folder}.yaml"
        common = read_spec_file(TASKS_FOLDER / folder / "protocol.yaml")
        keys = _loading(common["output_type"]) | {"metric_list": common["metric_list"]}
        # What names a function of ours is one.
        text = _dump(keys).replace(": verbalizer_bench.", ": !function verbalizer_bench.")
        contents[LMMS_FOLDER / shared] = _MARK + text + _functions("pictures")
        for file in sorted((TASKS_FOLDER / folder).glob(f"{folder}*.yaml")):
            config = common | read_spec_file(file)
            name = RENAMED.get(config["task"], config["task"])
            leaf = {
                **{"include": f"../{shared}", "task": name, "dataset_name": name},
                "generation_kwargs": _generation(config["generation_kwargs"]),
                "metadata": config["metadata"],
            }
            contents[LMMS_FOLDER / folder / f"{name}.yaml"] = _MARK + _dump(leaf)
    return contents


def build() -> list[Path]:
    """Write the YAMLs and remove obsolete ones."""
    wanted = lmms_files()
    for old in set(LMMS_FOLDER.rglob("*.yaml")) - set(wanted):
        old.unlink()
    for file, content in wanted.items():
        write_whole(file, content)
    return list(wanted)


def _functions(module: str) -> str:
    """Return the keys that name the functions of a module here."""
    return "".join(
        f"{name}: !function verbalizer_bench.lmms.{module}.{name}\n"
        for name in ("process_docs", "doc_to_visual", "process_results")
    )


def _shared() -> dict[str, Any]:
    """Return the keys that all tasks of the suite share."""
    common = protocol()
    return {
        **_loading(common["output_type"]),
        "generation_kwargs": _generation(common["generation_kwargs"]),
        "metric_list": common["metric_list"],
    }


def _loading(output_type: str) -> dict[str, Any]:
    """Return the keys by which the placeholder is loaded, and documents are asked."""
    return {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "placeholder.jsonl"}},
        "test_split": "test",
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "num_fewshot": 0,
        "output_type": output_type,
    }


def _generation(settings: dict[str, Any]) -> dict[str, Any]:
    """Return lm-eval's settings by lmms-eval's names.

    lmms-eval's adapters take a missing `num_beams` for 1, a missing `max_new_tokens` for 1024, and
    decide by the temperature whether to sample.
    """
    kept = {key: value for key, value in settings.items() if key != "max_gen_toks"}
    return {**kept, "max_new_tokens": settings["max_gen_toks"], "temperature": 0}


def _group() -> dict[str, Any]:
    """Return the suite's group; its sub-groups get the names that lm-eval gives them."""
    group: dict[str, Any] = read_spec_file(TASKS_FOLDER / "verbalizer.yaml")
    for part in group["task"]:
        part["group"] = f"{group['group']}::{part['group']}"
    return group


def _dump(config: dict[str, Any]) -> str:
    text: str = yaml.dump(
        config, Dumper=_NoAliases, sort_keys=False, default_flow_style=None, allow_unicode=True
    )
    return text


class _NoAliases(yaml.SafeDumper):
    """A dumper that writes a repeated value out instead of an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True for every value."""
        return True


if __name__ == "__main__":
    build()
