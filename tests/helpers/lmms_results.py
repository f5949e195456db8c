"""Folders in lmms-eval's layout, as version 0.7.3 was seen to write them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
