"""What answers without a model score, by the suite's own tasks, metric and summary: `answers.csv`.

python -m verbalizer_bench.experiments.sanity.scores out --data DIR
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from verbalizer_bench.experiments.rows import write_rows
from verbalizer_bench.experiments.sanity.answers import ANSWERERS, Answerer, target
from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.results.schema import EvalResults
from verbalizer_bench.results.statistics import TypeScores, by_dataset, summarize
from verbalizer_bench.tasks.metrics import METRICS, OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES, TASKS_FOLDER
from verbalizer_bench.tasks.suite import suite
from verbalizer_bench.tasks.task import VerbalizerTask

FILE = "answers.csv"
ALL_SETS = "all"
GROUPS = (*LABEL_TYPES, "All")


def suite_tasks(data: str) -> Sequence[VerbalizerTask]:
    """Return the 108 tasks as lm-eval makes them.

    Args:
        data: Where the rows are: `sample` or a folder.
    """
    from lm_eval.tasks import TaskManager

    index = TaskManager(
        include_path=str(TASKS_FOLDER), include_defaults=False, metadata={"data": data}
    )
    loaded: Mapping[str, VerbalizerTask] = index.load(list(suite()))["tasks"]
    return [loaded[name] for name in suite()]


def answered(name: str, tasks: Sequence[VerbalizerTask], draw: int = 0) -> Run:
    """Return the run of what answers by a rule.

    Args:
        name: The answerer's.
        tasks: What is asked.
        draw: Which random numbers.
    """
    results = EvalResults.model_validate(
        {"results": {}, "configs": {}, "n-samples": {}, "config": {"model": name}}
    )
    scores = [_scores(ANSWERERS[name], task, draw) for task in tasks]
    return Run(Path(name), name, results, tuple(scores))


def _scores(answerer: Answerer, task: VerbalizerTask, draw: int) -> TaskScores:
    rng = random.Random(f"{task.config.task} {draw}")
    found = [
        task.process_results(doc, [answerer.answer(task, doc, rng)]) for doc in task.test_docs()
    ]
    metadata = task.config.metadata
    expected = Counter(target(task, doc) for doc in task.test_docs())
    return TaskScores(
        task=task.config.task,
        dataset=task.spec.name,
        verbalizer=task.verbalizer,
        source=metadata["source"],
        identity=metadata["identity"],
        doc_ids=tuple(range(len(found))),
        targets=tuple(sorted(expected.items())),
        scores={metric: np.array([one[metric] for one in found]) for metric in METRICS},
    )


def score_rows(tasks: Sequence[VerbalizerTask]) -> Iterator[dict[str, str]]:
    """Yield F1 by label type and outcomes, in points, a row an answerer, draw and data set."""
    for name, answerer in ANSWERERS.items():
        for draw in range(answerer.draws):
            run = answered(name, tasks, draw)
            sets = {ALL_SETS: run.tasks, **by_dataset(run.tasks)}
            for dataset, scored in sets.items():
                part = Run(run.file, name, run.results, tuple(scored))
                key = {"answer": name, "draw": str(draw), "data_set": dataset}
                # Nothing is drawn here that an interval would be of.
                yield key | _points(summarize(part, resamples=1))


def _points(types: Mapping[str, TypeScores]) -> dict[str, str]:
    f1 = {group: types[group].f1.mean for group in GROUPS}
    outcomes = {outcome: types["All"].outcomes[outcome] for outcome in OUTCOMES}
    return {name: f"{100 * share:.3f}" for name, share in (f1 | outcomes).items()}


def write_scores(data: str, folder: Path) -> Path:
    """Write `answers.csv`: what every answerer scores on the rows of a folder."""
    rows = list(score_rows(suite_tasks(data)))
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(rows, folder / FILE)
    return folder / FILE


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.sanity.scores")
    parser.add_argument("folder", type=Path, help="where the table goes")
    parser.add_argument("--data", required=True, help="sample, or the folder of the rows")
    args = parser.parse_args(argv)
    print(f"Wrote {write_scores(args.data, args.folder)}")


if __name__ == "__main__":
    main()
