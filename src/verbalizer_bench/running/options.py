"""Check the options of `run` before a model is loaded; each error is one line with its fix."""

import argparse
import difflib
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from verbalizer_bench.io.json_reading import read_json
from verbalizer_bench.tasks.spec import TASKS_FOLDER

SERVED = "verbalizer-api"
OUR_MODELS = ("verbalizer-llm", "verbalizer-lvlm", SERVED)
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# Arguments of `generate` that are numbers; counts are checked besides.
_NUMBERS = {"length_penalty", "repetition_penalty", "temperature", "top_p", "top_k", "min_length"}

log = logging.getLogger(__name__)


def check_run(args: argparse.Namespace) -> None:
    """Check the options that need neither tasks nor torch.

    Raises:
        ValueError: One is missing or wrong.
        OSError: A folder is not there, or cannot be written.
    """
    if not any(name.strip() for name in asked_names(args)):
        raise ValueError(
            "run: --tasks is missing; give verbalizer for the suite, or names, tags and globs "
            "that `verbalizer-bench ls tasks` lists"
        )
    _check_output(args.output_path)
    for option in ("batch_size", "max_batch_size"):
        _check_batch_size(option, getattr(args, option, None))
    # NaN is above nothing.
    if args.limit is not None and (not args.limit > 0 or (args.limit > 1 and args.limit % 1)):
        raise ValueError(
            f"run: --limit {args.limit:g}: give a count of documents a task, or a share below 1"
        )
    if (args.num_fewshot or 0) < 0:
        raise ValueError(f"run: --num_fewshot {args.num_fewshot}: give a count of examples")
    verbosity = getattr(args, "verbosity", None)
    if verbosity is not None and verbosity not in _LEVELS:
        raise ValueError(f"run: --verbosity {verbosity}: give one of {', '.join(_LEVELS)}")
    if getattr(args, "check_integrity", False):
        raise ValueError(
            "run: --check_integrity: lm-eval's own tests are not in its package; leave it out"
        )
    if getattr(args, "wandb_args", None) and not find_spec("wandb"):
        raise ValueError("run: --wandb_args: the package wandb is missing; `pip install wandb`")


def check_model(args: argparse.Namespace) -> None:
    """Check the model's arguments, and those of `generate`; transformers is imported.

    Raises:
        ValueError: One is missing or wrong.
        OSError: A checkpoint's folder is not there.
    """
    _check_model(args.model, args.model_args or {}, args.device)
    _check_generation(args.gen_kwargs if isinstance(args.gen_kwargs, dict) else {})


def check_resume(folder: str, model: str | None) -> None:
    """Check that a run can be resumed, so that it does not silently start over.

    Raises:
        ValueError: The model keeps no journal.
        FileNotFoundError: The folder holds none.
    """
    from verbalizer_bench.models.adapters.journal import recorded_command

    if model is None:
        raise ValueError(
            f"run: --resume {folder}: give it alone, or with the whole command; --model is missing"
        )
    if model not in OUR_MODELS:
        raise ValueError(
            f"run: --resume {folder}: --model {model} keeps no journal; one of "
            f"{', '.join(OUR_MODELS)} does"
        )
    recorded_command(Path(folder))


def finished_run(folder: Path) -> list[Path]:
    """Return the run folders of a run that is finished, and say so; none where there is work left.

    To go on with it would write the same results a second time.
    """
    from verbalizer_bench.models.adapters.journal import is_finished

    if not is_finished(folder):
        return []
    written = sorted({file.parent for file in folder.rglob("results_*.json")})
    if written:
        log.warning(
            "--resume %s: the run is finished, and nothing is left to do; give another "
            "--output_path to ask again",
            folder,
        )
    return written


def check_shard(shard: str, model: str | None) -> str:
    """Check and normalise `I/N`.

    Raises:
        ValueError: It is not 1 <= I <= N, or the model is none of ours: `merge` needs their record.
    """
    if model not in OUR_MODELS:
        raise ValueError(f"run: --shard {shard}: --model {model}: one of {', '.join(OUR_MODELS)}")
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"run: --shard {shard}: give the shard and their count, such as 1/4")
    return f"{int(number)}/{int(count)}"


def check_sees(model: str, tasks: Sequence[str]) -> None:
    """Raise ValueError where a model that takes no images is to be asked about some."""
    from lm_eval.api.registry import get_model

    if tasks and not getattr(get_model(model), "MULTIMODAL", False):
        control = tasks[0].removesuffix("_swapped") + "_blind"
        raise ValueError(
            f"run: --tasks {tasks[0]}: it asks about images, and --model {model} takes none; give "
            f"--model verbalizer-lvlm, or --tasks {control}, which asks without them as a control"
        )


def read_samples(samples: Any) -> dict[str, list[int]] | None:
    """Return lm-eval's `--samples`, documents by task, from JSON or a JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or no mapping of names to lists of numbers.
    """
    if isinstance(samples, str):
        if not Path(samples).is_file():
            raise FileNotFoundError(f"run: --samples {samples}: neither JSON nor a file of it")
        samples = read_json(Path(samples))
    if samples is None:
        return None
    if not isinstance(samples, dict) or not all(
        isinstance(ids, list) and ids and all(type(number) is int for number in ids)
        for ids in samples.values()
    ):
        raise ValueError(
            f"run: --samples {str(samples)[:60]}: give documents by task, such as "
            '{"verbalizer_sst2_neutral_foo_bar": [0, 1]}'
        )
    return samples


def asked_names(args: argparse.Namespace) -> list[str]:
    """Return the names of `--tasks`: tasks, tags, groups, globs, paths of task files."""
    tasks = getattr(args, "tasks", None) or []
    return tasks.split(",") if isinstance(tasks, str) else list(tasks)


def check_names(missing: Sequence[str], known: Collection[str]) -> None:
    """Raise ValueError for task names that match nothing (`missing`), with the nearest `known`."""
    if not missing:
        return
    near = [hit for name in missing for hit in difflib.get_close_matches(name, sorted(known), n=1)]
    hint = f"did you mean {', '.join(near)}?" if near else "`verbalizer-bench ls tasks` lists them"
    raise ValueError(
        f"--tasks {','.join(missing)}: no such task, tag or group; {hint} "
        "(a data set of your own needs `verbalizer-bench tasks build` once, and --include_path)"
    )


def include_paths(include_path: str | None) -> list[str]:
    """Return the suite's folder and the user's, which lm-eval documents as `a:b`.

    Raises:
        FileNotFoundError: One is not there.
    """
    paths = [path for path in (include_path or "").split(":") if path]
    for path in paths:
        if not Path(path).is_dir():
            raise FileNotFoundError(
                f"--include_path {path}: no such folder; give the one that holds the task YAMLs"
            )
    return [str(TASKS_FOLDER), *paths]


def _check_output(output_path: str | None) -> None:
    if not output_path:
        raise ValueError("run: --output_path is missing; give a folder for the results")
    output = Path(output_path)
    if output.suffix == ".json" or output.is_file():
        raise ValueError(f"run: --output_path={output}: give a folder, not a file")
    output.mkdir(parents=True, exist_ok=True)
    if not os.access(output, os.W_OK | os.X_OK):
        raise PermissionError(f"run: --output_path={output}: cannot be written; give another")


def _check_model(model: str | None, model_args: Mapping[str, Any], device: str | None) -> None:
    from lm_eval.api.registry import model_registry

    from verbalizer_bench.models.adapters.model_args import check_device

    if model is not None and model not in model_registry:
        near = difflib.get_close_matches(model, [*OUR_MODELS, *model_registry], n=1)
        raise ValueError(
            f"run: --model {model}: no such model class; "
            + (f"did you mean {near[0]}?" if near else f"ours are {' and '.join(OUR_MODELS)}")
        )
    for key in {"device", "batch_size", "max_batch_size"} & set(model_args):
        raise ValueError(
            f"run: --model_args {key}={model_args[key]}: write --{key} {model_args[key]}"
        )
    if model == SERVED:
        _check_served(model_args, device)
    if model not in OUR_MODELS or model == SERVED:
        return
    if device is not None:
        check_device(device)
    pretrained = str(model_args.get("pretrained", ""))
    if not pretrained:
        raise ValueError(
            f"run: --model_args has no pretrained=…; {model} needs a checkpoint: "
            "a folder or a hub id"
        )
    is_path = pretrained.startswith((".", "/", "~")) or pretrained.count("/") > 1
    place = Path(pretrained)
    # Of a GGUF in place of its folder the adapter says more.
    is_gguf = place.suffix == ".gguf" and place.is_file()
    if place.is_file() and not is_gguf:
        raise ValueError(
            f"run: --model_args pretrained={pretrained}: a file; give the folder that it is in"
        )
    if is_path and not (place.is_dir() or is_gguf):
        raise FileNotFoundError(
            f"run: --model_args pretrained={pretrained}: no such folder; "
            "give a checkpoint's folder or a hub id"
        )


def _check_served(model_args: Mapping[str, Any], device: str | None) -> None:
    """Check before a file is written, into which a key must not get."""
    from verbalizer_bench.models.served.settings import read_settings

    if device is not None:
        raise ValueError(f"run: --device {device}: the model is the server's; leave it out")
    read_settings(model_args).endpoint.key()


def _check_batch_size(option: str, value: Any) -> None:
    if value in (None, "", "auto"):
        return
    number = str(value).removeprefix("auto:")
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"run: --{option} {value}: give a count of prompts, or auto")


def _check_generation(gen_kwargs: Mapping[str, Any]) -> None:
    from transformers import GenerationConfig

    for alias in {"max_new_tokens", "max_tokens", "max_completion_tokens"} & set(gen_kwargs):
        raise ValueError(
            f"run: --gen_kwargs {alias}: lm-eval gives way to the tasks' max_gen_toks; "
            "write max_gen_toks="
        )
    for alias in {"stop", "stop_strings", "stop_sequences"} & set(gen_kwargs):
        raise ValueError(
            f"run: --gen_kwargs {alias}={gen_kwargs[alias]}: lm-eval's name for it is until; "
            "write until="
        )
    for key in ("max_gen_toks", "num_beams"):
        value = gen_kwargs.get(key, 1)
        if type(value) is not int or value < 1:
            raise ValueError(f"run: --gen_kwargs {key}={value}: give a count, at least 1")
    for key in _NUMBERS & set(gen_kwargs):
        if isinstance(gen_kwargs[key], (str, bool)):
            raise ValueError(f"run: --gen_kwargs {key}={gen_kwargs[key]}: give a number")
    known = {*GenerationConfig().to_dict(), "max_gen_toks", "until"}
    for key in gen_kwargs:
        near = difflib.get_close_matches(key, sorted(known - {key}), n=1, cutoff=0.75)
        if key not in known and near:
            raise ValueError(
                f"run: --gen_kwargs {key}={gen_kwargs[key]}: no argument of generate; "
                f"did you mean {near[0]}?"
            )
