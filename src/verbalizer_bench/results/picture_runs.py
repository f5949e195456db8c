"""Find runs of benchmarks with images of their own: lm-eval's, and lmms-eval's results files.

lmms-eval keeps no documents, so our tasks there put each into its sample (`SAMPLE_KEY`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.results.contrast import LMMS
from verbalizer_bench.results.files import lmms_results_files, lmms_samples_file
from verbalizer_bench.results.picture_scores import (
    Asked,
    PictureScores,
    read_picture_scores,
    score_responses,
)
from verbalizer_bench.results.run import Run, model_args, run_name
from verbalizer_bench.results.schema import EvalResults, validate
from verbalizer_bench.tasks.picture_benchmarks import BENCHMARKS, SAMPLE_KEY


def picture_runs(source: Run | str | Path) -> list[list[PictureScores]]:
    """Return the scores of each run at or below a path, in lm-eval's folders, then lmms-eval's.

    Args:
        source: A run, a folder or a results file of lmms-eval's.

    Returns:
        A list for each run of lm-eval's, empty where no such task was asked, and for each of
        lmms-eval's that has such tasks.

    Raises:
        FileNotFoundError: A task's responses are not there.
        ValueError: A file is not what our tasks write.
    """
    if isinstance(source, Run):
        if source.results.config.harness == LMMS:
            return [list(_of_lmms(source.file))]
        return [list(read_picture_scores(source.folder))]
    path = Path(source)
    folders = sorted({file.parent for file in path.rglob("results_*.json")})
    found = [list(read_picture_scores(folder)) for folder in folders]
    return found + [scores for file in lmms_results_files(path) if (scores := list(_of_lmms(file)))]


def is_picture_task(config: Any) -> bool:
    """Say whether a task's settings in a results file are those of one of these benchmarks."""
    metadata = config.get("metadata") if isinstance(config, dict) else None
    return isinstance(metadata, dict) and metadata.get("benchmark") in BENCHMARKS


def _of_lmms(file: Path) -> Iterator[PictureScores]:
    raw = read_record(file)
    configs = raw.get("configs")
    configs = configs if isinstance(configs, dict) else {}
    tasks = {task: one for task, one in configs.items() if is_picture_task(one)}
    if not tasks:
        return
    results = validate(EvalResults, raw | {"configs": tasks, "date": file.stat().st_mtime}, file)
    settings = {"harness": LMMS, "model_dtype": model_args(results).get("dtype")}
    results = results.model_copy(update={"config": results.config.model_copy(update=settings)})
    run = Run(file, run_name(results), results, ())
    offset = raw["config"].get("offset")
    found = [_scores(run, task, config["metadata"], offset) for task, config in tasks.items()]
    yield from sorted(found, key=lambda one: (one.asked.place, one.task))


def _scores(run: Run, task: str, metadata: Mapping[str, Any], offset: Any) -> PictureScores:
    samples = lmms_samples_file(run.file, task)
    if not samples.is_file():
        raise FileNotFoundError(
            f"{samples}: missing; pairs need every response: run lmms-eval with --log_samples"
        )
    rows = [_as_lm_eval(samples, place, row) for place, row in jsonl.read_objects(samples)]
    counts = run.results.n_samples.get(task)
    wanted = counts.effective if counts else 0
    # With an offset lmms-eval counts those before it too.
    if not rows or (len(rows) != wanted and not offset):
        raise ValueError(
            f"{samples}: {len(rows):,} samples of {wanted:,} documents that {run.file.name} has; "
            "run the task again"
        )
    asked = validate(Asked, {**rows[0][1][SAMPLE_KEY], **metadata}, samples)
    return score_responses(run, task, asked, samples, rows)


def _as_lm_eval(samples: Path, place: str, row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a sample with document and response where lm-eval has them."""
    record = row.get(SAMPLE_KEY)
    if not isinstance(record, dict) or "doc" not in record:
        raise ValueError(
            f"{samples}, {place}: no document in it, as an earlier version's tasks wrote it; run "
            "the task again"
        )
    return place, {**row, "doc": record["doc"], "filtered_resps": [row.get("filtered_resps")]}
