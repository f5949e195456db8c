"""The runs of `sensitivity` as a table: `ways.csv`, a row for each model and way to ask.

    python -m verbalizer_bench.experiments.sanity.gathering runs --table experiments/sanity/results

Models that are in the table and not among the runs stay: one is added by its runs alone.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from verbalizer_bench.experiments.rows import read_rows, score_row, write_rows
from verbalizer_bench.experiments.sanity.sensitivity import REFERENCE, VERBALIZERS, WAYS
from verbalizer_bench.experiments.sanity.wordings import suite_names
from verbalizer_bench.results.differences import Pair, differences
from verbalizer_bench.results.run import Run, load_run
from verbalizer_bench.tasks.suite import suite

FILE = "ways.csv"


def gather(folder: Path, table: Path) -> Path:
    """Write `ways.csv` of what was asked in a folder; rows of other models stay, in front.

    Raises:
        FileNotFoundError: A model's reference is not there.
        ValueError: Two ways were not asked about the same documents.
    """
    rows = [row for place in sorted(folder.iterdir()) for row in _rows(place)]
    table.mkdir(parents=True, exist_ok=True)
    asked = {row["model"] for row in rows}
    kept = [row for row in earlier_rows(table) if row["model"] not in asked]
    write_rows([*kept, *rows], table / FILE)
    return table / FILE


def earlier_rows(table: Path) -> list[dict[str, str]]:
    """Return what the table has already."""
    return read_rows(table / FILE) if (table / FILE).is_file() else []


def _rows(place: Path) -> Iterator[dict[str, str]]:
    """Yield a model's rows; differences are from the reference, in points of 100."""
    done = [way for way in WAYS if (place / "runs" / way / "seconds").is_file()]
    if REFERENCE not in done:
        raise FileNotFoundError(f"{place}: no reference in it; run `sensitivity` to its end")
    stored = [load_run(place / "runs" / way) for way in done]
    names = [suite_names(VERBALIZERS, WAYS[way].wording) for way in done]
    check_documents(stored, names)
    runs = [as_suite(run, by_suite) for run, by_suite in zip(stored, names, strict=True)]
    pairs = [None, *(differences(runs) if len(runs) > 1 else ())]
    for way, run, pair in zip(done, stored, pairs, strict=True):
        documents = sum({task.dataset: len(task.doc_ids) for task in run.tasks}.values())
        key = {"model": place.name, "way": way, "documents": str(documents)}
        for said in ("seconds", "machine"):
            key[said] = (place / "runs" / way / said).read_text(encoding="utf-8").strip()
        yield key | {"bos": bos_of(run)} | score_row(run) | (_changes(pair) if pair else {})


def bos_of(run: Run) -> str:
    """Return how many BOS the prompts began with; empty where nobody writes any."""
    counts = run.record.bos_counts
    return " to ".join(str(count) for count in sorted(set(counts))) if counts else ""


def _changes(pair: Pair) -> dict[str, str]:
    row = {}
    for change in pair.family("label type"):
        for part in ("base", "model", "difference", "low", "high"):
            row[f"{change.name}_{part}"] = f"{100 * (getattr(change, part) or 0.0):.2f}"
        row[f"{change.name}_p_holm"] = f"{change.p_holm:.4f}"
    return row


def as_suite(run: Run, names: Mapping[str, str]) -> Run:
    """Return a run of other wordings with the suite's names for its tasks.

    Args:
        run: Of sets of own.
        names: Of its tasks, by the suite's.
    """
    suites = {name: task for task, name in names.items()}
    tasks = tuple(
        dataclasses.replace(task, task=suites[task.task], dataset=suite()[suites[task.task]][0])
        for task in run.tasks
    )
    return dataclasses.replace(run, tasks=tasks)


def check_documents(runs: Sequence[Run], names: Sequence[Mapping[str, str]]) -> None:
    """Raise ValueError where runs were not asked about the same documents.

    Args:
        runs: As they are stored.
        names: Of each the names of its tasks, by the suite's.
    """
    for task in names[0]:
        asked = [
            {sample.doc_id: sample.doc for sample in run.samples(by_suite[task])}
            for run, by_suite in zip(runs, names, strict=True)
        ]
        for run, documents in zip(runs, asked, strict=True):
            if documents != asked[0]:
                raise ValueError(
                    f"{run.folder}: {task}: other documents than in {runs[0].folder}; "
                    "remove both and run them again"
                )


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.sanity.gathering")
    parser.add_argument("folder", type=Path, help="what `sensitivity` wrote")
    parser.add_argument("--table", type=Path, required=True, help="where the table goes")
    args = parser.parse_args(argv)
    print(f"Wrote {gather(args.folder, args.table)}")


if __name__ == "__main__":
    main()
