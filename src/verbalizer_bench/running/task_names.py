"""Refuse task names that do not exist within a second: by the text of the task files.

lm-eval's index of its 14,000 files takes ten times as long. A name that is in it stands in one of
their files, so that a name that stands in none does not exist; all others are left to the index.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from verbalizer_bench.running.options import check_names

# Nobody else's tasks are called so.
OUR_TASKS = ("verbalizer", "mmvp", "naturalbench")
# What YAML writes as it is: other names may stand in a file with escapes.
_PLAIN = re.compile(r"[A-Za-z0-9_.+-]+")
_NAMED = re.compile(r"""^[ \t-]*(?:task|group|tag)[ \t]*:[ \t]*["']?([\w.+-]+)["']?[ \t]*$""", re.M)
_TAGS = re.compile(r"^tag[ \t]*:[ \t]*(?:\[([^\]]*)\]|((?:\n[ \t]*-[ \t]*\S+)+))", re.M)


def check_task_names(names: Sequence[str], include_path: Sequence[str]) -> None:
    """Raise ValueError for names that stand in no task file, with the nearest that do.

    Args:
        names: Of `--tasks`: tasks, tags, groups; globs and paths are left to lm-eval.
        include_path: The suite's folder, and the user's.
    """
    names = [name for name in names if _PLAIN.fullmatch(name) and not _is_path(name)]
    given = list(_texts(map(Path, include_path)))
    missing = _absent(names, given)
    check_names([name for name in missing if name.startswith(OUR_TASKS)], _named(given))
    if not missing:
        return
    lm_evals = list(_texts([_lm_eval_tasks()]))
    check_names(_absent(missing, lm_evals), [*_named(given), *_named(lm_evals)])


def _is_path(name: str) -> bool:
    return name.endswith(".yaml") or Path(name).is_dir()


def _lm_eval_tasks() -> Path:
    """Return the folder of lm-eval's tasks; the package is not imported, which takes a second."""
    spec = find_spec("lm_eval")
    assert spec and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "tasks"


def _texts(folders: Iterable[Path]) -> Iterator[str]:
    """Yield the files below some folders that may be task files, or what such files include."""
    for folder in folders:
        for file in folder.rglob("*"):
            if file.suffix not in (".py", ".pyc", ".jsonl", ".parquet") and file.is_file():
                yield file.read_text("utf-8", errors="replace")


def _absent(names: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Return the names that stand in none of the texts, as a whole word."""
    left = dict.fromkeys(names)
    for text in texts:
        for name in [name for name in left if name in text]:
            if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text):
                del left[name]
        if not left:
            break
    return list(left)


def _named(texts: Iterable[str]) -> set[str]:
    """Return what texts call their tasks, groups and tags, as far as plain lines say it."""
    found: set[str] = set()
    for text in texts:
        found.update(_NAMED.findall(text))
        for inline, block in _TAGS.findall(text):
            found.update(
                word.strip("\"'") for word in re.findall(r"[^\s,-][^\s,]*", inline or block)
            )
    return found
