"""The command line: reads arguments and calls what does the work."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

HARNESS = {
    "run": "evaluate a model (lm-eval's run and flags, our tasks, models and data)",
    "ls": "list tasks, groups and tags (lm-eval's)",
    "validate": "check that task names exist (lm-eval's)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code. A usage error is one line and code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] and arguments[0] in HARNESS:
            return _harness(arguments[0], arguments[1:])
        args = _parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = args.command
        return command(args)
    except (ValueError, OSError, MemoryError) as error:
        log.debug("The error in full:", exc_info=True)
        print(f"verbalizer-bench: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "verbalizer-bench",
        description="Does tuning hurt a model's ability to follow instructions?",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in HARNESS.items():
        commands.add_parser(name, help=text, add_help=False)
    report = commands.add_parser("report", help="table and figure of runs")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="an --output_path")
    report.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="default: `report` in the first RUN"
    )
    report.set_defaults(command=_report)
    demo = commands.add_parser("demo", help="train two toy checkpoints and score them, offline")
    demo.add_argument("-o", "--output", type=Path, default=Path("demo_out"), metavar="DIR")
    demo.add_argument(
        "--steps", type=int, default=600, help="training steps of the Llama; the LLaVA gets a third"
    )
    demo.set_defaults(command=_demo)
    _add_tasks(commands)
    _add_data(commands)
    return parser


def _add_tasks(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    tasks = commands.add_parser("tasks", help="task files: path, build, check")
    actions = tasks.add_subparsers(metavar="ACTION", required=True)
    path = actions.add_parser("path", help="print the folder for lm_eval --include_path")
    path.set_defaults(command=_tasks_path)
    build = actions.add_parser("build", help="write the leaves of a data set's YAML beside it")
    build.add_argument("yaml", nargs="+", type=Path, metavar="YAML")
    _add_data_option(build)
    build.set_defaults(command=_tasks_build)
    check = actions.add_parser("check", help="load every task and render a prompt of each")
    check.add_argument(
        "--include_path", type=Path, metavar="DIR", help="a folder of your own tasks"
    )
    _add_data_option(check)
    check.set_defaults(command=_tasks_check)


def _add_data(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    data = commands.add_parser("data", help="the nine data sets: fetch, verify")
    actions = data.add_subparsers(metavar="ACTION", required=True)
    fetch = actions.add_parser("fetch", help="store the hub's rows in a folder for --data")
    fetch.add_argument("folder", type=Path, metavar="DIR")
    fetch.set_defaults(command=_data_fetch)
    verify = actions.add_parser("verify", help="compare rows with the manifest")
    verify.add_argument("data", metavar="hub|sample|DIR")
    verify.add_argument(
        "--json", action="store_true", help="print entries in the manifest's layout"
    )
    verify.set_defaults(command=_data_verify)


def _add_data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="hub|sample|DIR",
        help="where the rows are (default: VERBALIZER_BENCH_DATA, else hub)",
    )


def _harness(command: str, argv: Sequence[str]) -> int:
    from verbalizer_bench.harness import harness

    folders = harness(command, argv)
    if folders:
        from verbalizer_bench.leaderboard.report import write_report
        from verbalizer_bench.leaderboard.runs import NotAVerbalizerRun, read_run

        try:
            runs = [read_run(folder) for folder in folders]
        except NotAVerbalizerRun as error:
            print(f"No summary: {error}")
            return 0
        report = write_report(runs, folders[0] / "report")
        print(f"\n{report.markdown}\n")
        for file in report.files:
            print(f"Wrote {file}")
    return 0


def _report(args: argparse.Namespace) -> int:
    from verbalizer_bench.leaderboard.report import write_report
    from verbalizer_bench.leaderboard.runs import find_runs

    report = write_report(find_runs(args.runs), args.output or args.runs[0] / "report")
    print(f"{report.markdown}\n")
    for file in report.files:
        print(f"Wrote {file}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from verbalizer_bench.demo import demo

    demo(args.output, args.steps)
    return 0


def _tasks_path(args: argparse.Namespace) -> int:
    from verbalizer_bench.tasks.spec import TASKS_FOLDER

    print(TASKS_FOLDER)
    return 0


def _tasks_build(args: argparse.Namespace) -> int:
    from verbalizer_bench.tasks.data import resolve_data, test_documents
    from verbalizer_bench.tasks.generate import build, read_dataset

    for path in args.yaml:
        spec, _ = read_dataset(path)
        try:
            count = len(test_documents(spec, resolve_data(args.data)).docs)
            checked = f"{count} documents"
        except (ConnectionError, FileNotFoundError) as error:
            checked = f"NOT checked against its rows: {error}"
        print(f"{path}: wrote {len(build(path))} tasks ({checked})")
    return 0


def _tasks_check(args: argparse.Namespace) -> int:
    from lm_eval.tasks import TaskManager

    from verbalizer_bench.tasks.data import resolve_data
    from verbalizer_bench.tasks.generate import suite_tasks
    from verbalizer_bench.tasks.spec import TASKS_FOLDER

    folders = [str(TASKS_FOLDER), *([str(args.include_path)] if args.include_path else [])]
    manager = TaskManager(
        include_path=folders, include_defaults=False, metadata={"data": resolve_data(args.data)}
    )
    missing = sorted(set(suite_tasks()) - set(manager.all_subtasks))
    if missing:
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
