"""Export a submission for other collections of evaluations.

verbalizer-bench submit export DIR --to eee -o data        # Every Eval Ever, schema 0.3.0
verbalizer-bench submit export DIR --to hf --dataset org/benchmark -o .eval_results

Scores go out in [0, 1], as computed again from the responses. Every Eval Ever's file of single
responses is not written: it needs the prompts' text, which a submission does not hold.
"""

import json
import re
import uuid
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import yaml

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.leaderboard.submission.validate import validate
from verbalizer_bench.leaderboard.submission.verified import Verified, VerifiedTask
from verbalizer_bench.results.few import FEW
from verbalizer_bench.results.statistics import TypeScores
from verbalizer_bench.tasks.suite import suite_datasets

EEE_VERSION = "0.3.0"
# The developer of a model that names none.
_NOBODY = "local"


def export(folder: Path, to: str, output: Path, dataset: str | None = None) -> Path:
    """Validate a submission and write it in another collection's format.

    Args:
        folder: The submission's own folder.
        to: `eee` (Every Eval Ever, https://github.com/evaleval/every_eval_ever) or `hf` (the
            `.eval_results` of a model repository on the Hugging Face hub).
        output: The folder to write into.
        dataset: For `hf`: the hub id of the benchmark's data set that the hub lists scores under.

    Returns:
        The file.

    Raises:
        ValueError: The submission is not valid, or an argument is missing.
    """
    if to == "hf" and not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset or ""):
        raise ValueError(
            f"submit export: --dataset {dataset or ''}: --to hf needs ORG/NAME, the benchmark's "
            "on the hub"
        )
    validation = validate(folder, write=False)
    if validation.verified is None:
        raise ValueError(f"{folder}: level {validation.failed} failed: {validation.problems[0]}")
    if to == "hf":
        assert dataset is not None
        path = output / f"{dataset.rpartition('/')[2]}.yaml"
        text = yaml.safe_dump(_hub_entries(validation.verified, dataset), sort_keys=False)
    else:
        record = _eee_record(validation.verified)
        developer, _, name = validation.verified.submission.model.id.rpartition("/")
        # Files are named by random UUIDs there; this one is as random, and the same every time.
        key = uuid.UUID(validation.verified.inputs["results.json"][:32], version=4)
        path = output / "verbalizer-bench" / (developer or _NOBODY) / name / f"{key}.json"
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_whole(path, text)
    return path


def _hub_entries(verified: Verified, dataset: str) -> list[dict[str, Any]]:
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    stated = verified.submission
    notes = f"protocol {verified.protocol}; {verified.badge} by verbalizer-bench {verified.package}"
    entries = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=name.lower(),
            value=scores.f1.mean,
            date=stated.date.isoformat(),
            source_url=stated.links[0] if stated.links else None,
            source_name=stated.submitter if stated.links else None,
            notes=notes,
        )
        for name, scores in verified.label_types.items()
    ]
    return eval_result_entries_to_yaml(entries)


def _eee_record(verified: Verified) -> dict[str, Any]:
    stated, model = verified.submission, verified.submission.model
    made = str(int(datetime.combine(stated.date, time(), UTC).timestamp()))
    weights = {"revision": model.revision, "weights_sha256": model.weights_sha256}
    details = {"kind": model.kind, "base": model.base, "recipe": model.recipe, **weights}
    # A commit is of the hub's; whoever ran the model elsewhere does not say whether it is open.
    details["model_availability"] = "open_weights" if model.revision else "unknown"
    details["deployment_type"] = "self_deployed"
    details["parameters"] = None if model.parameters is None else str(model.parameters)
    developer, _, name = model.id.rpartition("/")
    return {
        "schema_version": EEE_VERSION,
        "evaluation_id": f"verbalizer-bench/{model.id}/{made}",
        "evaluation_timestamp": made,
        "retrieved_timestamp": made,
        "source_metadata": {
            "source_name": "verbalizer-bench",
            "source_type": "evaluation_run",
            "source_organization_name": stated.submitter,
            # A submission does not say whose model it is.
            "evaluator_relationship": "other",
            "additional_details": {
                **{
                    "badge": verified.badge,
                    "protocol": verified.protocol,
                    "licence": stated.licence,
                },
                **{"links": " ".join(stated.links), "notes": stated.notes},
                "results_sha256": verified.inputs["results.json"],
            },
        },
        "eval_library": {"name": "verbalizer-bench", "version": verified.package},
        "model_info": {
            "name": name,
            "id": model.id,
            "developer": developer or _NOBODY,
            "additional_details": {k: str(v) for k, v in details.items() if v is not None},
        },
        "evaluation_results": [
            *(_eee_type(name, scores) for name, scores in verified.label_types.items()),
            *(_eee_task(task) for task in verified.tasks),
        ],
    }


def _eee_type(name: str, scores: TypeScores) -> dict[str, Any]:
    f1 = scores.f1
    uncertainty: dict[str, Any] = {"num_samples": scores.responses}
    if f1.low is not None and f1.high is not None:
        method = (
            "percentile bootstrap over documents, which share their verbalizers; where fewer than "
            f"{FEW} of them differ, with a bound for documents not seen"
        )
        ends = {"lower": f1.low, "upper": f1.high, "confidence_level": 0.95, "method": method}
        uncertainty["confidence_interval"] = ends
    return {
        "evaluation_name": f"verbalizer-bench {name}",
        "source_data": {"dataset_name": "the nine data sets of the suite", "source_type": "other"},
        "metric_config": _metric(_meaning(name, scores.tasks)),
        "score_details": {"score": f1.mean, "uncertainty": uncertainty},
    }


def _meaning(name: str, tasks: int) -> str:
    if name == "All":
        return (
            "mean of the means of natural, neutral and unnatural label words, each the unweighted "
            f"mean of token F1 over its tasks, {tasks} in all"
        )
    return f"unweighted mean of token F1 over the {tasks} tasks with {name} label words"


def _eee_task(task: VerifiedTask) -> dict[str, Any]:
    uncertainty: dict[str, Any] = {"num_samples": task.documents}
    if task.stderr is not None:
        uncertainty["standard_error"] = {"value": task.stderr, "method": "analytic"}
    return {
        "evaluation_name": task.task,
        "source_data": _eee_source(task),
        "metric_config": _metric("mean token F1 (SQuAD v2's rule) of the response"),
        "score_details": {"score": task.f1, "uncertainty": uncertainty},
    }


def _eee_source(task: VerifiedTask) -> dict[str, Any]:
    details = {"source": task.source, "identity": task.identity}
    if task.identity == "equal" and task.source in ("hub", "snapshot"):
        return {
            "dataset_name": task.dataset,
            "source_type": "hf_dataset",
            "hf_repo": suite_datasets()[task.dataset][0].loader.path,
            "samples_number": task.documents,
            "additional_details": details,
        }
    return {"dataset_name": task.dataset, "source_type": "other", "additional_details": details}


def _metric(description: str) -> dict[str, Any]:
    return {
        "evaluation_description": description,
        "lower_is_better": False,
        "score_type": "continuous",
        "min_score": 0,
        "max_score": 1,
    }
