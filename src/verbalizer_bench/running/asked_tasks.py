"""The tasks that a run is asked for: their index, and whether their rows are right."""

import argparse
import logging
from pathlib import Path
from typing import Any

from verbalizer_bench.running.options import asked_names, check_names, check_sees
from verbalizer_bench.running.task_names import OUR_TASKS
from verbalizer_bench.tasks.generate import check_task_files
from verbalizer_bench.tasks.picture_task import PictureTask
from verbalizer_bench.tasks.task import VerbalizerTask

log = logging.getLogger(__name__)


def task_index(args: argparse.Namespace, metadata: dict[str, Any]) -> Any:
    """Return lm-eval's task index, without lm-eval's own tasks if all names are found without.

    Indexing those takes 10 s.

    Raises:
        ValueError: A name matches no task.
    """
    from lm_eval.tasks import TaskManager

    for folder in args.include_path[1:]:
        check_task_files(Path(folder))
    options = {"include_path": args.include_path, "metadata": metadata}
    # lm-eval takes paths of task files and their folders too.
    names = [n for n in asked_names(args) if not n.endswith(".yaml") and not Path(n).is_dir()]
    index = TaskManager(include_defaults=False, **options)
    missing = [name for name in names if not index.match_tasks([name])]
    check_names([name for name in missing if name.startswith(OUR_TASKS)], index.all_tasks)
    if missing or not names:
        index = TaskManager(**options)
    check_names([name for name in missing if not index.match_tasks([name])], index.all_tasks)
    return index


def checked_tasks(
    index: Any, args: argparse.Namespace
) -> tuple[dict[str, VerbalizerTask | PictureTask], list[str]]:
    """Read the rows of our tasks, and few-shot examples, before a model is loaded.

    Returns:
        Our tasks, and the names of others.

    Raises:
        ValueError: Rows or examples are wrong, or other tasks than ours are to be sharded.
    """
    names = index.match_tasks(asked_names(args))
    ours = [name for name in names if name.startswith(OUR_TASKS)]
    loaded = index.load(ours)["tasks"] if ours else {}
    tasks = {
        name: task
        for name, task in loaded.items()
        if isinstance(task, VerbalizerTask | PictureTask)
    }
    check_sees(args.model, [name for name in tasks if getattr(tasks[name], "MULTIMODAL", False)])
    # lm-eval takes names, and paths of task files.
    others = [name for name in asked_names(args) if not index.match_tasks([name])]
    others += [name for name in names if name not in ours]
    others += [name for name in loaded if name not in tasks]
    whole = others + [name for name in tasks if not isinstance(tasks[name], VerbalizerTask)]
    if whole and "shard" in args.metadata:
        raise ValueError(f"run: --shard: {whole[0]} is no verbalizer task; run it without")
    for name, ids in (args.samples or {}).items():
        if name not in tasks and not others:
            raise ValueError(f"run: --samples: {name} is none of the tasks that are run")
        count = len(tasks[name].eval_docs) if name in tasks else max(ids) + 1
        if wrong := [i for i in ids if not 0 <= i < count]:
            raise ValueError(
                f"run: --samples {name}: {wrong[0]}: its documents are 0 to {count - 1}"
            )
    for line in {line: None for task in tasks.values() for line in task.notices}:
        log.warning(line)
    for name, task in tasks.items():
        if args.num_fewshot and task.config.num_fewshot == 0 and isinstance(task, VerbalizerTask):
            raise ValueError(
                f"run: --num_fewshot {args.num_fewshot}: {name} has num_fewshot: 0 in its YAML, "
                "which lm-eval keeps to; take it out there"
            )
        if args.num_fewshot:
            task.set_config(key="num_fewshot", value=args.num_fewshot)
        if task.config.num_fewshot:
            task.check_fewshot()
    return tasks, others
