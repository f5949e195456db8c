"""The command line's `tasks` and `data`: task files and rows."""

import argparse
import json
from pathlib import Path

from verbalizer_bench.parsing import Commands, Parser, add_data_option, examples


def add_tasks(commands: "Commands[Parser]") -> None:
    """Add `tasks path|build|check`."""
    tasks = commands.add_parser("tasks", help="task files: path, build, check")
    actions = tasks.add_subparsers(metavar="ACTION", required=True)
    path = actions.add_parser("path", help="print the folder for a harness's --include_path")
    path.add_argument(
        "--for",
        dest="harness",
        choices=("lm-eval", "lmms"),
        default="lm-eval",
        help="lmms is lmms-eval (default: lm-eval)",
    )
    path.set_defaults(command=_tasks_path)
    build = actions.add_parser(
        "build",
        help="write the leaves of a data set's YAML beside it",
        **examples("verbalizer-bench tasks build my_set/_my_set.yaml"),
    )
    build.add_argument("yaml", nargs="+", type=Path, metavar="YAML")
    add_data_option(build)
    build.set_defaults(command=_tasks_build)
    check = actions.add_parser("check", help="load every task and render a prompt of each")
    check.add_argument(
        "--include_path",
        type=Path,
        metavar="DIR",
        help="a folder of your own tasks, in place of the suite's",
    )
    add_data_option(check)
    check.set_defaults(command=_tasks_check)


def add_data(commands: "Commands[Parser]") -> None:
    """Add `data fetch|verify`."""
    data = commands.add_parser("data", help="the nine data sets: fetch, verify")
    actions = data.add_subparsers(metavar="ACTION", required=True)
    fetch = actions.add_parser(
        "fetch",
        help="store the hub's rows in a folder for --data",
        **examples("verbalizer-bench data fetch rows", "verbalizer-bench data verify rows"),
    )
    fetch.add_argument("folder", type=Path, metavar="DIR")
    fetch.set_defaults(command=_data_fetch)
    verify = actions.add_parser("verify", help="compare rows with the manifest")
    verify.add_argument("data", metavar="hub|sample|DIR")
    verify.add_argument(
        "--json", action="store_true", help="print entries in the manifest's layout"
    )
    verify.set_defaults(command=_data_verify)


def _tasks_path(args: argparse.Namespace) -> int:
    from verbalizer_bench.lmms.generate import LMMS_FOLDER
    from verbalizer_bench.tasks.spec import TASKS_FOLDER

    print({"lm-eval": TASKS_FOLDER, "lmms": LMMS_FOLDER}[args.harness])
    return 0


def _tasks_build(args: argparse.Namespace) -> int:
    from verbalizer_bench.tasks.data import check_data, resolve_data, test_documents
    from verbalizer_bench.tasks.generate import build, f1_notices
    from verbalizer_bench.tasks.rows import notices
    from verbalizer_bench.tasks.suite import read_dataset

    if args.data:
        check_data(args.data)
    for path in args.yaml:
        spec, verbalizers = read_dataset(path)
        lines = f1_notices(verbalizers, str(path))
        try:
            found = test_documents(spec, resolve_data(args.data))
            for doc in found.docs:
                spec.render(doc, verbalizers[0])
            checked = f"{len(found.docs)} documents; {found.others} rows of other classes left out"
            lines += notices(spec, found.left_out)
        except (ConnectionError, FileNotFoundError) as error:
            if spec.brings_its_own_files:
                raise
            checked = f"NOT checked against its rows: {error}"
        print(f"{path}: wrote {len(build(path))} tasks ({checked})")
        for line in lines:
            print(line)
    return 0


def _tasks_check(args: argparse.Namespace) -> int:
    from lm_eval.tasks import TaskManager

    from verbalizer_bench.tasks.data import resolve_data
    from verbalizer_bench.tasks.generate import check_task_files
    from verbalizer_bench.tasks.spec import TASKS_FOLDER
    from verbalizer_bench.tasks.suite import suite

    folder = args.include_path or TASKS_FOLDER
    if args.include_path:
        check_task_files(folder)
    manager = TaskManager(
        include_path=str(folder),
        include_defaults=False,
        metadata={"data": resolve_data(args.data)},
    )
    if not manager.all_subtasks:
        raise ValueError(f"{folder}: no task in it; `verbalizer-bench tasks build` writes them")
    missing = sorted(set(suite()) - set(manager.all_subtasks))
    if missing and not args.include_path:
        raise ValueError(f"tasks missing from the index: {', '.join(missing)}")
    loaded = manager.load(manager.all_subtasks)["tasks"]
    documents = 0
    for task in loaded.values():
        task.doc_to_text(task.eval_docs[0])
        documents += len(task.eval_docs)
    print(f"{len(loaded)} tasks load and render; {documents} prompts")
    return 0


def _data_fetch(args: argparse.Namespace) -> int:
    from verbalizer_bench.tasks.fetch import fetch

    for line in fetch(args.folder):
        print(line)
    return 0


def _data_verify(args: argparse.Namespace) -> int:
    from verbalizer_bench.tasks.identity import verify

    found = verify(args.data)
    if args.json:
        print(json.dumps({row.dataset: {row.source: row.entry} for row in found}, indent=2))
        return 0
    for row in found:
        print(f"{row.dataset:<8} {row.source:<12} {row.entry['n']:>5} documents  {row.text}")
    return 1 if any(row.verdict == "different" for row in found) else 0
