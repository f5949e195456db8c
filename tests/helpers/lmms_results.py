"""Folders in lmms-eval's layout, as version 0.7.3 was seen to write them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from verbalizer_bench.lmms.generate import LMMS_FOLDER
from verbalizer_bench.lmms.pictures import process_docs, process_results
from verbalizer_bench.tasks.spec import read_spec_file

DATE = "20261130_103213"
SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."


class Made(NamedTuple):
    """A task's results.

    Attributes:
        metric: Its name.
        score: What lmms-eval made of the samples.
        values: What each sample has under that name.
        suffix: What stands behind its questions.
        before: What stands before them.
    """

    metric: str
    score: Any
    values: Sequence[Any]
    suffix: str = SHORT
    before: str = ""


def yes_no(prediction: str, truth: str, number: int = 1) -> dict[str, Any]:
    """Return what POPE's samples have."""
    about = {"question_id": str(number), "score": float(prediction == truth)}
    return about | {"prediction": prediction, "ground_truth": truth}


def choice(index: int, prediction: str, answer: str) -> dict[str, Any]:
    """Return what MMBench's samples have."""
    options = {"A": "ant", "B": "bee", "C": "cat", "D": "nan", "E": "nan"}
    return {"index": index, "prediction": prediction, "answer": answer, **options}


def review(ratings: tuple[float, float], judge: str = "gpt-4o") -> dict[str, Any]:
    """Return what LLaVA-Bench's samples have."""
    return {"question": "what", "scores": list(ratings), "eval_model": judge, "review": "8 6"}


VALUES = Made("exact_match", 0.5, [1.0, 0.0, 0.5, 0.5] * 2)


def write_lmms(
    folder: Path,
    tasks: Mapping[str, Made],
    pretrained: str = "/x/llava",
    date: str = DATE,
    samples: bool = True,
    **config: Any,
) -> Path:
    """Write a results file and the samples beside it; return the folder that they are in."""
    folder = folder / "x__llava"
    folder.mkdir(parents=True, exist_ok=True)
    given = {"model": "verbalizer-lvlm", "model_args": f"pretrained={pretrained},dtype=float32"}
    limit = config.get("limit")
    results: dict[str, Any] = {"results": {}, "configs": {}, "versions": {}, "n-samples": {}}
    for task, made in tasks.items():
        name, count = f"{made.metric},none", len(made.values)
        results["results"][task] = {
            "alias": task,
            name: made.score,
            f"{made.metric}_stderr,none": "N/A",
        }
        results["configs"][task] = {"task": task, "dataset_path": "hub/made"}
        results["versions"][task] = "Yaml"
        results["n-samples"][task] = {"original": 5000 if limit else count, "effective": count}
        rows = (
            {
                **{"doc_id": n, "target": "yes", "filtered_resps": "yes", "token_counts": [None]},
                made.metric: value,
                "input": f"{made.before}what {n}{made.suffix}",
            }
            for n, value in enumerate(made.values)
        )
        if samples:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{date}_samples_{task}.jsonl").write_text(text)
    results |= {"config": given | {"limit": None, "offset": 0, "gen_kwargs": ""} | config}
    results |= {"lmms_eval_version": "unknown@unknown", "date": date, "model_name": pretrained}
    (folder / f"{date}_results.json").write_text(json.dumps(results, indent=2))
    return folder


def write_lmms_pictures(
    folder: Path,
    tasks: Mapping[str, Callable[[Mapping[str, Any]], str]],
    pretrained: str = "/x/llava",
    date: str = DATE,
    limit: int | None = None,
    **config: Any,
) -> Path:
    """Write what lmms-eval makes of our benchmarks with images; return the results file.

    Rows are where `VERBALIZER_BENCH_DATA` says.

    Args:
        folder: The --output_path.
        tasks: By the task's name, what the model says to a document.
        pretrained: The checkpoint.
        date: Of the files.
        limit: How many documents are asked.
        config: How else lmms-eval was called.
    """
    folder = folder / "x__llava"
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"results": {}, "configs": {}, "versions": {}, "n-samples": {}}
    for task, says in tasks.items():
        (yaml,) = LMMS_FOLDER.rglob(f"{task}.yaml")
        leaf = read_spec_file(yaml)
        docs = process_docs(SimpleNamespace(config_name=task))
        rows = [
            {
                **{"doc_id": n, "target": doc["target"], "filtered_resps": says(doc)},
                **{"token_counts": [None], "input_media": [doc["image"]]},
                **process_results(doc, [says(doc)]),
                "input": doc["prompt"],
            }
            for n, doc in enumerate(docs)
            if limit is None or n < limit
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{date}_samples_{task}.jsonl").write_text(text)
        results["results"][task] = {"alias": task, "unparsed,none": 0.0}
        results["configs"][task] = {"task": task, "dataset_path": "json", "doc_to_text": "prompt"}
        results["configs"][task] |= {key: leaf[key] for key in ("metadata", "generation_kwargs")}
        results["n-samples"][task] = {"original": len(docs), "effective": len(rows)}
    given = {"model": "verbalizer-lvlm", "model_args": f"pretrained={pretrained},dtype=float32"}
    results["config"] = given | {"limit": limit, "offset": 0, "gen_kwargs": ""} | config
    results |= {"date": date, "model_name": pretrained}
    file = folder / f"{date}_results.json"
    file.write_text(json.dumps(results))
    return file
