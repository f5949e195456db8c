"""Where the files of a run directory stand, and how they are read and written as they are.

Also where lmms-eval's stand: `<date>_results.json` and `<date>_samples_<task>.jsonl`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.results.schema import EvalResults, validate

_LMMS_RESULTS = re.compile(r"\d{8}_\d{6}_results\.json")
Samples = dict[str, list[dict[str, Any]]]


def newest_results(path: Path) -> Path:
    """Return the newest results file at or below a path.

    Raises:
        FileNotFoundError: There is none.
    """
    files = sorted(path.rglob("results_*.json"), key=lambda file: file.name)
    if not files:
        what = "no results_*.json at or below it" if path.is_dir() else "no such folder"
        raise FileNotFoundError(f"{path}: {what}; give a run's folder")
    return files[-1]


def samples_file(results: Path, task: str) -> Path:
    """Return where lm-eval keeps the responses that a results file is of."""
    return results.with_name(f"samples_{task}_{results.stem.removeprefix('results_')}.jsonl")


def lmms_results_files(path: Path) -> list[Path]:
    """Return lmms-eval's results files at or below a path, ascending; it may be such a file."""
    found = [path] if path.is_file() else path.rglob("*_results.json")
    return sorted(file for file in found if _LMMS_RESULTS.fullmatch(file.name))


def lmms_samples_file(results: Path, task: str) -> Path:
    """Return where lmms-eval keeps the responses that a results file is of."""
    date = results.name.removesuffix("_results.json")
    return results.with_name(f"{date}_samples_{task}.jsonl")


def read_table(results: Path) -> dict[str, Any]:
    """Return a results file with all that stands in it, to be changed and written again.

    Raises:
        ValueError: It is not what lm-eval writes.
    """
    table = read_record(results)
    validate(EvalResults, table, results)
    return table


def read_rows(results: Path, tasks: Sequence[str]) -> Samples:
    """Return the samples of tasks with all that stands in them.

    Raises:
        FileNotFoundError: A task has no samples file.
        ValueError: A line is no JSON object.
    """
    rows = {}
    for task in tasks:
        file = samples_file(results, task)
        if not file.is_file():
            raise FileNotFoundError(f"{file}: missing; it stands beside its results file")
        rows[task] = [row for _, row in jsonl.read_objects(file)]
    return rows


def write_run(results: Path, table: Mapping[str, Any], samples: Samples) -> None:
    """Write a results file and its samples, as lm-eval does."""
    for task, rows in samples.items():
        write_whole(samples_file(results, task), jsonl.dumps(rows))
    write_whole(results, json.dumps(table, indent=2, ensure_ascii=False))


def write_run_json(results: Path, config: Mapping[str, Any], **made: Any) -> None:
    """Write `run.json` beside a results file: how the run was made.

    Args:
        results: The results file.
        config: Its `config`: the model, and what our adapters recorded.
        made: What else there is to say.
    """
    model = {key: config[key] for key in ("model", "model_args")}
    record = {"results": results.name, **made, **model, **config.get("verbalizer_bench", {})}
    write_whole(results.with_name("run.json"), json.dumps(record, indent=2, default=str) + "\n")
