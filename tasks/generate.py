"""Write the leaf YAMLs of a data set: one task per verbalizer, four lines that include its YAML.

verbalizer-bench tasks build my_set/_my_set.yaml
"""

import json
from collections.abc import Sequence
from pathlib import Path

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.tasks.metrics import unseen_by_f1
from verbalizer_bench.tasks.spec import DatasetSpec, Verbalizer, read_spec_file, task_name
from verbalizer_bench.tasks.suite import in_suite, read_dataset

_MARK = "# Written by `verbalizer-bench tasks build`; edit {include} instead.\n"


def leaves(path: Path) -> dict[Path, str]:
    """Return the content of the files that `build` writes.

    Raises:
        ValueError: The YAML is wrong; one line with the file, the key, the value and the fix.
    """
    spec, verbalizers = read_dataset(path)
    return {
        path.parent / f"{task_name(spec.name, verbalizer)}.yaml": _leaf(path, spec, verbalizer)
        for verbalizer in verbalizers
    }


def build(path: Path) -> list[Path]:
    """Write the leaves of a data set next to its YAML and remove obsolete ones."""
    wanted = leaves(path)
    mark = _MARK.format(include=path.name)
    for old in path.parent.glob("verbalizer_*.yaml"):
        if old not in wanted and old.read_text(encoding="utf-8").startswith(mark):
            old.unlink()
    for file, content in wanted.items():
        write_whole(file, content)
    return list(wanted)


def check_task_files(folder: Path) -> None:
    """Check the leaves below a folder, and the files they include, as strictly as `tasks build`.

    lm-eval passes over a file that it cannot read: a tag would then stand for fewer tasks.

    Raises:
        ValueError: One is not UTF-8, not YAML, or has a key twice.
        FileNotFoundError: An included file is not there.
    """
    checked: set[Path] = set()
    for leaf in sorted(folder.rglob("verbalizer_*.yaml")):
        config = read_spec_file(leaf)
        include = leaf.parent / str(config.get("include", leaf.name))
        if include not in checked:
            read_spec_file(include)
            checked.add(include)


def f1_notices(verbalizers: Sequence[Verbalizer], where: str) -> list[str]:
    """Return a line for each label word that F1 cannot see in every answer, unlike the outcomes."""
    label_words = dict.fromkeys(w for one in verbalizers for w in (one.first, one.second))
    return [
        f"{where}: label word {word!r}: {reason}; `follows` and `contains_label` count such answers"
        for word in label_words
        if (reason := unseen_by_f1(word))
    ]


def _leaf(path: Path, spec: DatasetSpec, verbalizer: Verbalizer) -> str:
    # lm-eval lets the tags of a later folder replace those of an earlier one: only the suite's own
    # leaves may carry its type tags, or a user's set would empty the suite's groups.
    tag = f"verbalizer_{verbalizer.type}"
    if not in_suite(path):
        tag = f"verbalizer_{spec.name}_{verbalizer.type}"
    first, second = (
        json.dumps(w, ensure_ascii=False) for w in (verbalizer.first, verbalizer.second)
    )
    return (
        f"{_MARK.format(include=path.name)}"
        f"include: {path.name}\n"
        f"task: {task_name(spec.name, verbalizer)}\n"
        f"tag: [verbalizer_{spec.name}, {tag}]\n"
        f"verbalizer: {{type: {verbalizer.type}, first: {first}, second: {second}}}\n"
    )
