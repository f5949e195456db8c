"""Task files and rows: `tasks path|build|check` and `data fetch|verify`."""

import json
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from verbalizer_bench.cli.options import CommandGroup, Data, Json

commands, tasks, rows = CommandGroup(), CommandGroup(), CommandGroup()
commands.add_typer(tasks, name="tasks", help="Task files: path, build, check.")
commands.add_typer(rows, name="data", help="The nine data sets: fetch, verify.")


@tasks.command()
def path(harness: Annotated[Literal["lm-eval", "lmms"], Option("--for")] = "lm-eval") -> None:
    """Print the folder for a harness's --include_path.

    Args:
        harness: lmms is lmms-eval.
    """
    from verbalizer_bench.lmms.generate import LMMS_FOLDER
    from verbalizer_bench.tasks.spec import TASKS_FOLDER

    print({"lm-eval": TASKS_FOLDER, "lmms": LMMS_FOLDER}[harness])


@tasks.command()
def build(files: list[Path], data: Data = None) -> None:
    """Write the leaves of a data set's YAML beside it.

    verbalizer-bench tasks build my_set/_my_set.yaml

    Args:
        files: The YAML of a data set each.
        data: Where the rows are (default: VERBALIZER_BENCH_DATA, else hub).
    """
    for file in files:
        for line in _build(file, data):
            print(line)


def _build(file: Path, data: str | None) -> list[str]:
    """Write a data set's leaves; return what to say of them and of its rows."""
    from verbalizer_bench.tasks.data import resolve_data, test_documents
    from verbalizer_bench.tasks.generate import build, f1_notices
    from verbalizer_bench.tasks.rows import notices
    from verbalizer_bench.tasks.suite import read_dataset

    spec, verbalizers = read_dataset(file)
    lines = f1_notices(verbalizers, str(file))
    try:
        read = test_documents(spec, resolve_data(data))
        for document in read.docs:
            spec.render(document, verbalizers[0])
        checked = f"{len(read.docs)} documents; {read.others} rows of other classes left out"
        lines += notices(spec, read.left_out)
    except (ConnectionError, FileNotFoundError) as error:
        if spec.loader.data_files:
            raise
        checked = f"NOT checked against its rows: {error}"
    return [f"{file}: wrote {len(build(file))} tasks ({checked})", *lines]


@tasks.command()
def check(
    include_path: Annotated[Path | None, Option("--include_path")] = None, data: Data = None
) -> None:
    """Load every task of the suite and render a prompt of each.

    Args:
        include_path: A folder of other tasks, in place of the suite's: yours, or tasks/mmvp.
        data: Where the rows are (default: VERBALIZER_BENCH_DATA, else hub).
    """
    from lm_eval.tasks import TaskManager

    from verbalizer_bench.tasks.data import resolve_data
    from verbalizer_bench.tasks.generate import check_task_files
    from verbalizer_bench.tasks.spec import TASKS_FOLDER
    from verbalizer_bench.tasks.suite import suite

    folder = include_path or TASKS_FOLDER
    if include_path:
        check_task_files(folder)
    manager = TaskManager(
        include_path=str(folder), include_defaults=False, metadata={"data": resolve_data(data)}
    )
    if not manager.all_subtasks:
        raise ValueError(f"{folder}: no task in it; `verbalizer-bench tasks build` writes them")
    missing = sorted(set(suite()) - set(manager.all_subtasks))
    if missing and not include_path:
        raise ValueError(f"tasks missing from the index: {', '.join(missing)}")
    names = manager.all_subtasks if include_path else list(suite())
    loaded = manager.load(names)["tasks"]
    for task in loaded.values():
        task.doc_to_text(task.eval_docs[0])
    documents = sum(len(task.eval_docs) for task in loaded.values())
    print(f"{len(loaded)} tasks load and render; {documents} prompts")


@rows.command()
def fetch(folder: Path) -> None:
    """Store the hub's rows in a folder for --data.

    verbalizer-bench data fetch rows
    verbalizer-bench data verify rows

    Args:
        folder: Where they go, in the layout of --data.
    """
    from verbalizer_bench.tasks.fetch import fetch

    for line in fetch(folder):
        print(line)


@rows.command()
def verify(data: Annotated[str, Argument(metavar="hub|sample|DIR")], as_json: Json = False) -> int:
    """Compare rows with the manifest.

    Args:
        data: Where the rows are.
        as_json: Print entries in the manifest's layout.
    """
    from verbalizer_bench.tasks.identity import verify

    verified = verify(data)
    if as_json:
        print(json.dumps({row.dataset: {row.source: row.entry} for row in verified}, indent=2))
        return 0
    for row in verified:
        print(f"{row.dataset:<8} {row.source:<12} {row.entry['n']:>5} documents  {row.text}")
    return 1 if any(row.verdict == "different" for row in verified) else 0
