"""What `ls` prints: our tasks at once, then lm-eval's, whose index takes ten seconds."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

# What lm-eval's tables show of an index, by the word behind `ls`.
_SHOWN: Mapping[str, Mapping[str, bool]] = MappingProxyType(
    {
        "tasks": {},
        "groups": {"list_subtasks": False, "list_tags": False},
        "subtasks": {"list_groups": False, "list_tags": False},
        "tags": {"list_groups": False, "list_subtasks": False},
    }
)


def list_tasks(what: str | None, include_path: Sequence[str]) -> None:
    """Print tasks, groups or tags, ours and the user's first.

    Args:
        what: `tasks` (all three), `groups`, `subtasks` or `tags`; None for a short list of ours.
        include_path: The suite's folder, and the user's.
    """
    from lm_eval.tasks import TaskManager

    ours = TaskManager(include_path=list(include_path), include_defaults=False)
    if what is None:
        print("\n".join(_short(ours)))
        return
    shown = _SHOWN[what]
    print("verbalizer-bench's, and those of --include_path:")
    print(ours.list_all_tasks(**shown), end="", flush=True)
    print("lm-eval's:", flush=True)
    print(TaskManager().list_all_tasks(**shown), end="")


def _short(index: Any) -> list[str]:
    """Return the groups and tags of an index, and its tasks that have no tag."""
    entries = index.task_index
    tagged = {name for tag in index.all_tags for name in entries[tag].tags}
    rows = [(name, "the suite" if name == "verbalizer" else "a group") for name in index.all_groups]
    rows += [(name, f"{len(entries[name].tags)} tasks") for name in index.all_tags]
    rows += [(name, "a task") for name in index.all_subtasks if name not in tagged]
    width = max(len(name) for name, _ in rows)
    return [
        "For --tasks (several with commas; globs such as 'verbalizer_sst2_n*' too):",
        *(f"  {name:<{width}}  {kind}" for name, kind in rows),
        "`verbalizer-bench ls tasks` lists every task, then lm-eval's.",
    ]
