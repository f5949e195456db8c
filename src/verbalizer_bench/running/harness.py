"""lm-eval's own command line with our tasks, models and data: `run`, `ls`, `validate`.

All of lm-eval's flags work. Ours besides: `--data`, `--resume`, `--shard`, `--verbose`. `run` keeps
every response (`--log_samples`) and wants `--output_path`.
"""

import argparse
import hashlib
import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from verbalizer_bench.errors import Interrupted
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import removed_if_empty
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.models.adapters.journal import Journal, recorded_command
from verbalizer_bench.models.adapters.log_lines import (
    quiet_task_lines,
    readable_lines,
    show_log_lines,
)
from verbalizer_bench.results.files import samples_file, write_run_json
from verbalizer_bench.running.arguments import merge_config, our_options, parse
from verbalizer_bench.running.header import header, loaded_line
from verbalizer_bench.running.listing import list_tasks
from verbalizer_bench.running.merge import in_document_order
from verbalizer_bench.running.options import (
    OUR_MODELS,
    asked_names,
    check_model,
    check_resume,
    check_run,
    check_shard,
    finished_run,
    include_paths,
    read_samples,
)
from verbalizer_bench.running.resume_hints import run_hint
from verbalizer_bench.running.screen import LOG, Screen, other_tables
from verbalizer_bench.running.task_names import check_task_names
from verbalizer_bench.tasks.data import resolve_data


def register_models() -> None:
    """Register our adapters with lm-eval, whose releases up to 0.4.13 do not read entry points."""
    import lm_eval.models  # noqa: F401  (fills the registry with lm-eval's own names first)
    from lm_eval.api.registry import model_registry

    for entry in entry_points(group="lm_eval.models"):
        if entry.value.startswith("verbalizer_bench.") and entry.name not in model_registry:
            model_registry.register(entry.name, target=entry.value)


def harness(command: str, argv: Sequence[str], shown: bool = False) -> list[Path]:
    """Run lm-eval's `run`, `ls` or `validate`.

    Args:
        command: Which.
        argv: The arguments behind it.
        shown: Whether `run` says on the terminal what it does; warnings and a bar are there anyway.

    Returns:
        For `run`, the run folders that were written; empty on all ranks but the first.

    Raises:
        ValueError: An option is missing or wrong.
        OSError: A folder is not there, or cannot be written.
    """
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    setup_logging()
    show_log_lines()
    if _rank() != 0:
        _be_quiet()
    register_models()
    ours, rest = our_options(command, argv)
    if getattr(ours, "resume", None) and not rest:
        alone = set(argv) <= {"--resume", ours.resume, f"--resume={ours.resume}"}
        with readable_lines(logging.WARNING):
            written = finished_run(Path(ours.resume)) if alone else []
        if written:
            return written if _rank() == 0 else []
        argv = [*recorded_command(Path(ours.resume)), *argv]
        ours, rest = our_options(command, argv)
    parser = HarnessCLI()
    args = parse(parser, command, rest)
    if command == "run":
        screen = Screen(args, shown, ours.verbose)
        with screen.lines():
            return _run(parser, args, ours, argv, screen)
    args.include_path = include_paths(args.include_path)
    if command == "ls":
        list_tasks(args.what, args.include_path)
        return []
    check_task_names(asked_names(args), args.include_path)
    from verbalizer_bench.running.asked_tasks import task_index

    index = task_index(args, {})
    # lm-eval's `validate` knows no globs.
    args.tasks = ",".join(index.match_tasks(asked_names(args)))
    with _handed_to_lm_eval(index):
        parser.execute(args)
    return []


def _rank() -> int:
    """Return this process's rank under torchrun; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def _be_quiet() -> None:
    """Silence progress bars and log messages on other ranks than 0."""
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    logging.getLogger().setLevel(logging.WARNING)
    disable_progress_bar()
    set_verbosity_error()


def _set_log_level(verbosity: str | None) -> None:
    """Take `--verbosity` before the model is loaded, which lm-eval does after it."""
    from lm_eval.utils import setup_logging

    if verbosity is not None:
        setup_logging(verbosity)
        show_log_lines()


def _run(
    parser: Any,
    args: argparse.Namespace,
    ours: argparse.Namespace,
    argv: Sequence[str],
    screen: Screen,
) -> list[Path]:
    merge_config(args, ours)
    if ours.resume:
        check_resume(ours.resume, args.model)
        args.output_path = ours.resume
    with removed_if_empty(Path(args.output_path or ".")):
        return _run_into_folder(parser, args, ours, argv, screen)


def _run_into_folder(
    parser: Any,
    args: argparse.Namespace,
    ours: argparse.Namespace,
    argv: Sequence[str],
    screen: Screen,
) -> list[Path]:
    check_run(args)
    args.include_path = include_paths(args.include_path)
    check_task_names(asked_names(args), args.include_path)
    from verbalizer_bench.running.asked_tasks import checked_tasks, task_index

    check_model(args)
    _set_log_level(args.verbosity)
    args.log_samples, args.samples = True, read_samples(args.samples)
    if args.use_cache:
        args.use_cache = f"{args.use_cache}-{_cache_key(args)}"
    metadata = args.metadata or {}
    args.metadata = {**metadata, "data": resolve_data(ours.data or metadata.get("data"))}
    if shard := ours.shard or metadata.get("shard"):
        args.metadata["shard"] = check_shard(str(shard), args.model)
    # lm-eval gives tasks the model's arguments too.
    index = task_index(args, {**(args.model_args or {}), **args.metadata})
    tasks, others = checked_tasks(index, args)
    asked = _whole_command(argv, ours, args)
    versions = {name: task.VERSION for name, task in tasks.items()}
    output = Path(args.output_path)
    try:
        with screen.of_run(output), _journal(args, asked, versions, bool(ours.resume)) as journal:
            screen.say(*header(args, tasks, others, output / LOG))
            written = _evaluate(parser, args, index, asked, journal, screen)
            if journal:
                journal.finish()
    except KeyboardInterrupt as error:
        raise Interrupted(run_hint(Path(args.output_path), args.model)) from error
    if getattr(args, "predict_only", False) and written:
        screen.print("No summary: --predict_only scores nothing")
        return []
    if not screen.verbose:
        screen.print(*map(other_tables, written))
    return [file.parent for file in written]


@contextmanager
def _journal(
    args: argparse.Namespace, asked: Sequence[str], versions: Mapping[str, Any], resume: bool
) -> Iterator[Journal | None]:
    """Open the run's journal; models other than our adapters keep none."""
    if args.model not in OUR_MODELS:
        yield None
        return
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    output = Path(args.output_path)
    journal = Journal(output, asked, _protocol(args), versions, resume, _rank(), world_size)
    with closing(journal):
        yield journal


def _evaluate(
    parser: Any,
    args: argparse.Namespace,
    index: Any,
    asked: Sequence[str],
    journal: Journal | None,
    screen: Screen,
) -> list[Path]:
    """Run lm-eval; return the results files that it wrote, none on ranks but the first."""
    output = Path(args.output_path)
    before = set(output.rglob("results_*.json"))
    started, clock = datetime.now(UTC), time.monotonic()
    served = args.model == "verbalizer-api"

    def loaded(model: Any) -> None:
        screen.say(loaded_line(model))

    with _handed_to_lm_eval(index, journal, loaded), quiet_task_lines(served):
        parser.execute(args)
    if _rank() != 0:
        return []
    written = sorted(set(output.rglob("results_*.json")) - before)
    if not written:
        raise ValueError(f"run: lm-eval wrote no results under {output}; its log says why")
    for file in written:
        _check_whole(file, args)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            in_document_order(file)
        _write_record(file, asked, started, time.monotonic() - clock)
    return written


def _check_whole(results: Path, args: argparse.Namespace) -> None:
    """Raise ValueError if lm-eval's files are incomplete: it only warns about a full disk."""
    try:
        for task, config in read_record(results)["configs"].items():
            if {"verbalizer", "benchmark"} & set(config.get("metadata") or {}):
                for _ in jsonl.read_objects(samples_file(results, task)):
                    pass
    except (ValueError, OSError) as error:
        kept = run_hint(Path(args.output_path), args.model)
        raise ValueError(
            f"run: lm-eval could not write its results whole ({error}); make room on the disk, or "
            f"see its log: {kept}"
        ) from error


def _cache_key(args: argparse.Namespace) -> str:
    """Return a hash of what lm-eval's response cache ignores: model, arguments, template."""
    template = getattr(args, "apply_chat_template", False)
    text = json.dumps([args.model, args.model_args, template], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _write_record(results: Path, asked: Sequence[str], started: datetime, seconds: float) -> None:
    """Write `run.json`, the record of how this run was made, next to lm-eval's results."""
    write_run_json(
        results,
        read_record(results)["config"],
        command=["verbalizer-bench", "run", *asked],
        started=started.isoformat(timespec="seconds"),
        wall_seconds=round(seconds, 1),
    )


@contextmanager
def _handed_to_lm_eval(
    index: Any, journal: Journal | None = None, loaded: Callable[[Any], None] = lambda model: None
) -> Iterator[None]:
    """Make lm-eval's command line use this index, and give its model this journal.

    `loaded` is called with the model as soon as it is there.

    It creates both itself, with no option to pass others. Outside a repository git's complaint, of
    which nothing follows, would stand before the results: it is not shown.
    """
    import lm_eval.evaluator
    import lm_eval.tasks
    from lm_eval.api import registry

    task_manager, get_model = lm_eval.tasks.TaskManager, registry.get_model
    git_hash = lm_eval.evaluator.get_git_commit_hash

    def journaled(name: str) -> Any:
        adapter = get_model(name)

        def create(self: Any, *values: Any, **options: Any) -> None:
            adapter.__init__(self, *values, **options)
            loaded(self)

        kept = {"journal": journal} if journal else {}
        return type(adapter.__name__, (adapter,), {"__init__": create, **kept})

    lm_eval.tasks.TaskManager, registry.get_model = lambda **options: index, journaled
    lm_eval.evaluator.get_git_commit_hash = _git_hash
    try:
        yield
    finally:
        lm_eval.tasks.TaskManager, registry.get_model = task_manager, get_model
        lm_eval.evaluator.get_git_commit_hash = git_hash


def _git_hash() -> str | None:
    """Return what lm-eval's results call `git_hash`: the commit of the working folder, if any."""
    from lm_eval.loggers.utils import get_commit_from_path

    try:
        command = ["git", "describe", "--always"]
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()
    except (subprocess.CalledProcessError, OSError):
        found: str | None = get_commit_from_path(os.getcwd())
        return found


def _whole_command(
    argv: Sequence[str], ours: argparse.Namespace, args: argparse.Namespace
) -> list[str]:
    """Return the arguments without `--resume OUT`, completed by what the environment added.

    Copied, they use the same rows and output folder from any working directory.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume")
    command = parser.parse_known_args(list(argv))[1]
    if ours.resume and not {"--output_path", "-o"} & set(command):
        command += ["--output_path", args.output_path]
    if ours.data is None and args.metadata["data"] != "hub":
        command += ["--data", args.metadata["data"]]
    return command


def _protocol(args: argparse.Namespace) -> dict[str, Any]:
    """Return what responses depend on besides tasks and model."""
    keys = ("gen_kwargs", "num_fewshot", "apply_chat_template", "fewshot_as_multiturn")
    return {
        **{key: getattr(args, key, None) for key in (*keys, "system_instruction")},
        **{key: args.metadata.get(key) for key in ("data", "shard")},
    }
