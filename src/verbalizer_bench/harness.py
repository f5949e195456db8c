"""lm-eval's own command line with our tasks, models and data: `run`, `ls`, `validate`.

All of lm-eval's flags work. Ours besides: `--data`. `run` keeps every response (`--log_samples`),
wants `--output_path`, and ends with the summary of `verbalizer-bench report`.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from verbalizer_bench.tasks.data import check_data, resolve_data
from verbalizer_bench.tasks.spec import TASKS_FOLDER


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
        FileNotFoundError: The data folder is not there.
    """
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    setup_logging()
    register_models()
    data, rest = _own_options(command, argv)
    parser = HarnessCLI()
    # lm-eval parses sys.argv and nothing else.
    sys.argv = ["verbalizer-bench", command, *rest]
    args = parser.parse_args()
    args.include_path = [str(TASKS_FOLDER), *_paths(args.include_path)]
    if command != "run":
        with _task_index(_names(args), args.include_path):
            parser.execute(args)
        return []
    return _run(parser, args, data)


def _own_options(command: str, argv: Sequence[str]) -> tuple[str | None, list[str]]:
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
    known, rest = ours.parse_known_args(list(argv))
    if command == "run" and {"-h", "--help"} & set(rest):
        ours.print_help()
    return getattr(known, "data", None), rest


def _run(parser: Any, args: argparse.Namespace, data: str | None) -> list[Path]:
    _merge_config(args)
    if not args.output_path:
        raise ValueError("run: --output_path is missing; give a folder for the results")
    output = Path(args.output_path)
    if output.suffix == ".json":
        raise ValueError(f"run: --output_path={output}: give a folder, not a file")
    _check_model(args)
    for alias in {"max_new_tokens", "max_tokens", "max_completion_tokens"} & set(
        args.gen_kwargs if isinstance(args.gen_kwargs, dict) else ()
    ):
        raise ValueError(
            f"run: --gen_kwargs {alias}: lm-eval gives way to the tasks' max_gen_toks; "
            "write max_gen_toks="
        )
    args.log_samples = True
    if args.use_cache:
        args.use_cache = f"{args.use_cache}-{_cache_key(args)}"
    metadata = args.metadata or {}
    args.metadata = {**metadata, "data": resolve_data(data or metadata.get("data"))}
    if any(name.startswith("verbalizer") for name in _names(args)):
        check_data(args.metadata["data"])
    before = set(output.rglob("results_*.json"))
    started, clock = datetime.now(timezone.utc), time.monotonic()
    with _task_index(_names(args), args.include_path):
        parser.execute(args)
    if int(os.environ.get("RANK", "0")) != 0:
        return []
    written = sorted(set(output.rglob("results_*.json")) - before)
    if not written:
        raise ValueError(f"run: lm-eval wrote no results under {output}; its log says why")
    for file in written:
        _write_record(file, started, time.monotonic() - clock)
    if getattr(args, "predict_only", False):
        print("No summary: --predict_only scores nothing")
        return []
    return [file.parent for file in written]


def _merge_config(args: argparse.Namespace) -> None:
    """Take what this module looks at from lm-eval's `--config` file, where no flag gives it."""
    if not args.config:
        return
    from lm_eval.config.evaluate_config import EvaluatorConfig

    config = EvaluatorConfig.load_yaml_config(args.config)
    for key in ("output_path", "metadata", "tasks", "model", "model_args", "use_cache"):
        if not getattr(args, key, None) and config.get(key):
            setattr(args, key, config[key])
    args.include_path += _paths(config.get("include_path"))


def _check_model(args: argparse.Namespace) -> None:
    """Say at once that a checkpoint is not named or not there."""
    if args.model not in ("verbalizer-llm", "verbalizer-lvlm"):
        return
    pretrained = str((args.model_args or {}).get("pretrained", ""))
    if not pretrained:
        raise ValueError(
            f"run: --model_args has no pretrained=…; {args.model} needs a checkpoint: "
            "a folder or a hub id"
        )
    is_path = pretrained.startswith((".", "/", "~")) or pretrained.count("/") > 1
    if is_path and not Path(pretrained).is_dir():
        raise FileNotFoundError(f"run: --model_args pretrained={pretrained}: no such folder")


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
    (results.parent / "run.json").write_text(text, encoding="utf-8")


def _paths(include_path: str | None) -> list[str]:
    """Return the user's folders; lm-eval documents `a:b`."""
    paths = [path for path in (include_path or "").split(":") if path]
    for path in paths:
        if not Path(path).is_dir():
            raise FileNotFoundError(f"--include_path {path}: no such folder")
    return paths


def _names(args: argparse.Namespace) -> list[str]:
    tasks = getattr(args, "tasks", None) or []
    return tasks.split(",") if isinstance(tasks, str) else list(tasks)


@contextmanager
def _task_index(names: Sequence[str], include_path: list[str]) -> Iterator[None]:
    """Leave lm-eval's own tasks out of its index where all names are found without: it takes 10 s.

    lm-eval's command line makes its TaskManager itself, with no option for this, so the class is
    replaced for the time of the call.
    """
    import lm_eval.tasks

    original = lm_eval.tasks.TaskManager
    small = partial(original, include_defaults=False)
    index = small(include_path=include_path)
    if names and all(index.match_tasks([name]) for name in names):
        lm_eval.tasks.TaskManager = small
    try:
        yield
    finally:
        lm_eval.tasks.TaskManager = original
