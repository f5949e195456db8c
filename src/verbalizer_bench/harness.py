"""lm-eval's own command line with our tasks, models and data: `run`, `ls`, `validate`.

All of lm-eval's flags work. Ours besides: `--data`, `--resume`, `--shard`. `run` keeps every
response (`--log_samples`), wants `--output_path`, and ends with the summary of
`verbalizer-bench report`.
"""

import argparse
import difflib
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from verbalizer_bench.files import write_whole
from verbalizer_bench.leaderboard.merge import in_document_order
from verbalizer_bench.models.journal import Journal, recorded_command, recording
from verbalizer_bench.options import (
    check_names,
    check_resume,
    check_run,
    check_shard,
    include_paths,
)
from verbalizer_bench.tasks.data import resolve_data


def register_models() -> None:
    """Give lm-eval our adapters: its releases up to 0.4.13 do not read entry points."""
    import lm_eval.models  # noqa: F401  (fills the registry with lm-eval's own names first)
    from lm_eval.api.registry import model_registry

    for entry in entry_points(group="lm_eval.models"):
        if entry.value.startswith("verbalizer_bench.") and entry.name not in model_registry:
            model_registry.register(entry.name, target=entry.value)


def harness(command: str, argv: Sequence[str]) -> list[Path]:
    """Run lm-eval's `run`, `ls` or `validate`.

    Returns:
        For `run`, the run folders that were written; empty on all ranks but the first.

    Raises:
        ValueError: An option is missing or wrong.
        OSError: A folder is not there, or cannot be written.
    """
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    setup_logging()
    if _rank() != 0:
        _be_quiet()
    register_models()
    own, rest = _own_options(command, argv)
    if getattr(own, "resume", None) and not rest:
        argv = [*recorded_command(Path(own.resume)), *argv]
        own, rest = _own_options(command, argv)
    parser = HarnessCLI()
    args = _parse(parser, command, rest)
    if command == "run":
        return _run(parser, args, own, argv)
    args.include_path = include_paths(args.include_path)
    index = _task_index(args, {})
    if command == "validate":
        # lm-eval's `validate` knows no globs.
        args.tasks = ",".join(index.match_tasks(_names(args)))
    with _used_by_lm_eval(index):
        parser.execute(args)
    return []


def _parse(parser: Any, command: str, argv: Sequence[str]) -> argparse.Namespace:
    """Parse with lm-eval's parser under our name; a mistake raises ValueError."""

    def fail(message: str) -> None:
        raise ValueError(f"{command}: {message}; `verbalizer-bench {command} --help` lists all")

    known = parser._subparsers.choices[command]
    for each in (parser._parser, known):
        each.prog = f"verbalizer-bench {command}"
        each.error = fail
    for text, part in [(known, "usage"), (known, "epilog"), *((a, "help") for a in known._actions)]:
        setattr(text, part, (getattr(text, part) or "").replace("lm-eval", "verbalizer-bench"))
    # lm-eval reads the command line in places of its own.
    sys.argv = ["verbalizer-bench", command, *argv]
    args, unknown = parser._parser.parse_known_args(sys.argv[1:])
    if unknown:
        options = [option for action in known._actions for option in action.option_strings]
        ours = ["--data", "--resume", "--shard"] if command == "run" else []
        near = difflib.get_close_matches(unknown[0], [*options, *ours], n=1)
        fail(f"unknown argument {unknown[0]}" + (f" (did you mean {near[0]}?)" if near else ""))
    found: argparse.Namespace = args
    return found


def _rank() -> int:
    """Return this process's number among those that torchrun started."""
    return int(os.environ.get("RANK", "0"))


def _be_quiet() -> None:
    """Leave progress and news to rank 0."""
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    logging.getLogger().setLevel(logging.WARNING)
    disable_progress_bar()
    set_verbosity_error()


def _own_options(command: str, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split off our options; `--help` shows ours and then lm-eval's."""
    ours = argparse.ArgumentParser(
        f"verbalizer-bench {command}", add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS
    )
    if command == "run":
        group = ours.add_argument_group("options of verbalizer-bench (all others are lm-eval's)")
        group.add_argument(
            "--data",
            metavar="hub|sample|DIR",
            help="where the rows are (default: VERBALIZER_BENCH_DATA, else hub)",
        )
        group.add_argument(
            "--resume",
            metavar="OUT",
            help="go on with the killed run in OUT, with its own arguments unless others are given",
        )
        group.add_argument(
            "--shard",
            metavar="I/N",
            help="run every N-th document only, from the I-th on; `merge` puts shards together",
        )
    known, rest = ours.parse_known_args(list(argv))
    if command == "run" and {"-h", "--help"} & set(rest):
        ours.print_help()
    return known, rest


def _run(
    parser: Any, args: argparse.Namespace, own: argparse.Namespace, argv: Sequence[str]
) -> list[Path]:
    _merge_config(args)
    if own.resume:
        check_resume(own.resume, args.model)
        args.output_path = own.resume
    check_run(args)
    args.include_path = include_paths(args.include_path)
    args.log_samples = True
    if args.use_cache:
        args.use_cache = f"{args.use_cache}-{_cache_key(args)}"
    metadata = args.metadata or {}
    args.metadata = {**metadata, "data": resolve_data(own.data or metadata.get("data"))}
    if shard := own.shard or metadata.get("shard"):
        args.metadata["shard"] = check_shard(str(shard), args.model)
    output = Path(args.output_path)
    before = set(output.rglob("results_*.json"))
    started, clock = datetime.now(UTC), time.monotonic()
    # lm-eval gives tasks the model's arguments too.
    index = _task_index(args, {**(args.model_args or {}), **args.metadata})
    versions = _check_tasks(index, args)
    rank, world_size = _rank(), int(os.environ.get("WORLD_SIZE", "1"))
    asked = _without_resume(argv)
    book = Journal(output, asked, _protocol(args), versions, bool(own.resume), rank, world_size)
    with recording(book):
        with _used_by_lm_eval(index):
            parser.execute(args)
        if rank != 0:
            book.finish()
            return []
        written = sorted(set(output.rglob("results_*.json")) - before)
        if not written:
            raise ValueError(f"run: lm-eval wrote no results under {output}; its log says why")
        for file in written:
            if world_size > 1:
                in_document_order(file)
            _write_record(file, started, time.monotonic() - clock)
        book.finish()
    if getattr(args, "predict_only", False):
        print("No summary: --predict_only scores nothing")
        return []
    return [file.parent for file in written]


def _merge_config(args: argparse.Namespace) -> None:
    """Take what is checked from lm-eval's `--config` file, where no flag gives it."""
    if not args.config:
        return
    from lm_eval.config.evaluate_config import EvaluatorConfig
    from lm_eval.utils import simple_parse_args_string

    config = EvaluatorConfig.load_yaml_config(args.config)
    for key in ("model_args", "metadata", "gen_kwargs"):
        if isinstance(config.get(key), str):
            config[key] = simple_parse_args_string(config[key])
    for key in (
        *("output_path", "metadata", "tasks", "model", "model_args", "use_cache"),
        *("batch_size", "gen_kwargs", "limit", "num_fewshot"),
    ):
        if getattr(args, key, None) in (None, "", [], {}) and config.get(key):
            setattr(args, key, config[key])
    args.include_path = ":".join(
        path for path in (args.include_path, config.get("include_path")) if path
    )


def _cache_key(args: argparse.Namespace) -> str:
    """Return what lm-eval's cache of responses does not know: model, arguments, template."""
    template = getattr(args, "apply_chat_template", False)
    text = json.dumps([args.model, args.model_args, template], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _write_record(results: Path, started: datetime, seconds: float) -> None:
    """Write `run.json`: how this run was made, beside lm-eval's results."""
    config = json.loads(results.read_text(encoding="utf-8"))["config"]
    record = {
        "results": results.name,
        "command": ["verbalizer-bench", *sys.argv[1:]],
        "started": started.isoformat(timespec="seconds"),
        "wall_seconds": round(seconds, 1),
        "model": config["model"],
        "model_args": config["model_args"],
        **config.get("verbalizer_bench", {}),
    }
    text = json.dumps(record, indent=2, default=str) + "\n"
    write_whole(results.parent / "run.json", text)


def _names(args: argparse.Namespace) -> list[str]:
    tasks = getattr(args, "tasks", None) or []
    return tasks.split(",") if isinstance(tasks, str) else list(tasks)


def _task_index(args: argparse.Namespace, metadata: dict[str, Any]) -> Any:
    """Return lm-eval's index of tasks; its own are left out where all names are found without.

    They take 10 s.

    Raises:
        ValueError: A name matches no task.
    """
    from lm_eval.tasks import TaskManager

    options = {"include_path": args.include_path, "metadata": metadata}
    # lm-eval takes paths of task files and their folders too.
    names = [n for n in _names(args) if not n.endswith(".yaml") and not Path(n).is_dir()]
    index = TaskManager(include_defaults=False, **options)
    if not names or not all(index.match_tasks([name]) for name in names):
        index = TaskManager(**options)
    check_names([n for n in names if not index.match_tasks([n])], index.all_tasks)
    return index


@contextmanager
def _used_by_lm_eval(index: Any) -> Iterator[None]:
    """Have lm-eval's command line use this index; it makes its own, with no option for another."""
    import lm_eval.tasks

    original = lm_eval.tasks.TaskManager
    lm_eval.tasks.TaskManager = lambda **options: index
    try:
        yield
    finally:
        lm_eval.tasks.TaskManager = original


def _check_tasks(index: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Read the rows of our tasks, and few-shot examples, before a model is loaded.

    Returns:
        Our tasks' versions.

    Raises:
        ValueError: Rows or examples are wrong, or other tasks than ours are to be sharded.
    """
    from verbalizer_bench.tasks.task import VerbalizerTask

    names = index.match_tasks(_names(args))
    ours = [name for name in names if name.startswith("verbalizer")]
    loaded = index.load(ours)["tasks"] if ours else {}
    tasks = {name: task for name, task in loaded.items() if isinstance(task, VerbalizerTask)}
    # lm-eval takes names, and paths of task files.
    others = [name for name in _names(args) if not index.match_tasks([name])]
    others += [name for name in names if name not in ours]
    others += [name for name in loaded if name not in tasks]
    if others and "shard" in args.metadata:
        raise ValueError(f"run: --shard: {others[0]} is no verbalizer task; run it without")
    samples = args.samples if isinstance(args.samples, dict) else {}
    for name, ids in samples.items():
        if name not in tasks and not others:
            raise ValueError(f"run: --samples: {name} is none of the tasks that are run")
        count = len(tasks[name].eval_docs) if name in tasks else max(ids) + 1
        if wrong := [i for i in ids if not 0 <= i < count]:
            raise ValueError(
                f"run: --samples {name}: {wrong[0]}: its documents are 0 to {count - 1}"
            )
    for task in tasks.values() if args.num_fewshot else ():
        task.set_config(key="num_fewshot", value=args.num_fewshot)
        task.check_fewshot()
    return {name: task.VERSION for name, task in tasks.items()}


def _without_resume(argv: Sequence[str]) -> list[str]:
    """Return the arguments without `--resume OUT`, to be kept for the next attempt."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume")
    return parser.parse_known_args(list(argv))[1]


def _protocol(args: argparse.Namespace) -> dict[str, Any]:
    """Return what a journal's responses depend on beside tasks and model."""
    keys = ("gen_kwargs", "num_fewshot", "apply_chat_template", "fewshot_as_multiturn")
    return {
        **{key: getattr(args, key, None) for key in (*keys, "system_instruction")},
        **{key: args.metadata.get(key) for key in ("data", "shard")},
    }
