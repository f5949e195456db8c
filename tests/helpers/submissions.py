"""Small valid submissions, and ways to change them. Made by hand: no lm-eval, no model."""

import gzip
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from verbalizer_bench.tasks.metrics import METRICS, score
from verbalizer_bench.tasks.suite import suite

Files = dict[str, bytes]
Rows = dict[str, list[dict[str, Any]]]


def digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def make_rows(documents: int, respond: Callable[[str, str, int], str]) -> Rows:
    """Return rows of all tasks; `respond` gets the target, the other word and the document."""
    rows: Rows = {}
    for task, (dataset, verbalizer) in suite().items():
        words = (verbalizer.first, verbalizer.second)
        rows[task] = []
        for doc_id in range(documents):
            target, other = words[doc_id % 2], words[1 - doc_id % 2]
            response = respond(target, other, doc_id)
            rows[task].append(
                {
                    "doc_id": doc_id,
                    "doc_hash": digest(f"{dataset} {doc_id}"),
                    "raw_prompt_hash": digest(f"{task} {doc_id}"),
                    # No chat template: what is asked is the raw prompt.
                    "prompt_hash": digest(f"{task} {doc_id}"),
                    "target": target,
                    "response": response,
                    "f1": score(target, other, response)["f1"],
                }
            )
    return rows


def make_results(rows: Rows, source: str = "local") -> dict[str, Any]:
    """Return what lm-eval would write of these rows, as far as it is read."""
    results: dict[str, Any] = {"results": {}, "configs": {}, "n-samples": {}, "task_hashes": {}}
    columns: dict[str, dict[str, np.ndarray]] = {}
    for task, own in rows.items():
        dataset, verbalizer = suite()[task]
        words = (verbalizer.first, verbalizer.second)
        scores = [score(r["target"], words[r["target"] == words[0]], r["response"]) for r in own]
        columns[task] = {m: np.array([s[m] for s in scores]) for m in METRICS}
        results["results"][task] = {"alias": task, **means([columns[task]])}
        prompts = "".join(f"{r['raw_prompt_hash']}\t{r['target']}\n" for r in own)
        hashes = "".join(r["doc_hash"] + r["prompt_hash"] + digest(r["target"]) for r in own)
        results["task_hashes"][task] = digest(hashes)
        results["n-samples"][task] = {"original": len(own), "effective": len(own)}
        results["configs"][task] = {
            "task": task,
            "num_fewshot": 0,
            "generation_kwargs": {
                **{"num_beams": 10, "max_gen_toks": 15, "do_sample": False, "until": []}
            },
            "metadata": {
                "dataset": dataset,
                "source": source,
                "documents": len(own),
                "identity": digest(prompts),
                "fewshot_from": "train",
                "verbalizer": vars(verbalizer),
            },
        }
    results["results"]["verbalizer"] = means(list(columns.values()))
    results["config"] = {
        "model": "verbalizer-llm",
        "limit": None,
        "verbalizer_bench": {
            "adapter": "verbalizer-llm",
            "engine": {"shared_prefix": sum(map(len, rows.values()))},
            "image": None,
            "fingerprint": {"weights": digest("weights")},
            "generation_config": {},
            "first_input_ids": [1, 5, 9],
            "bos_counts": [1, 1],
            "truncated_prompts": 0,
            "escaped_prompts": 0,
            "chat_template_sha256": None,
        },
    }
    return results


def means(columns: list[dict[str, np.ndarray]]) -> dict[str, float]:
    found = {}
    for metric in METRICS:
        values = [own[metric] for own in columns]
        errors = [v.std(ddof=1) / math.sqrt(len(v)) for v in values]
        found[f"{metric},none"] = float(np.mean([v.mean() for v in values]))
        error = math.sqrt(sum(e**2 for e in errors)) / len(errors)
        found[f"{metric}_stderr,none"] = float(error)
    return found


def make_files(rows: Rows, results: Mapping[str, Any], **stated: Any) -> Files:
    """Return a submission's files without SHA256SUMS; `stated` replaces submission.yaml's keys."""
    submission = {
        "schema_version": 1,
        # A few documents are not as many as Table 1 has.
        "protocol": "other",
        "model": {"id": "org/model", "weights_sha256": digest("weights"), "kind": "llm"},
        "submitter": "A. Name",
        "date": "2026-01-31",
        "links": ["https://example.org/paper"],
        "licence": "CC-BY-4.0",
        "image_mode": "n/a",
        "notes": "",
    }
    record = {
        "results": "results_2026.json",
        "model": "verbalizer-llm",
        **results["config"].get("verbalizer_bench", {}),
    }
    files = {
        "submission.yaml": yaml.safe_dump({**submission, **stated}, sort_keys=False).encode(),
        "results.json": json.dumps(results).encode(),
        "run.json": json.dumps(record).encode(),
    }
    for task, own in rows.items():
        files[f"samples/{task}.jsonl.gz"] = pack_rows(own)
    return files


def pack_rows(rows: list[dict[str, Any]]) -> bytes:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return gzip.compress(text.encode("utf-8", "surrogatepass"), 1, mtime=0)


def sums(files: Files) -> bytes:
    return "".join(f"{digest(files[name])}  {name}\n" for name in sorted(files)).encode()


def write_files(folder: Path, files: Files, checksums: bytes | None = None) -> Path:
    """Write a submission below `folder`, in the place that its content asks for."""
    try:
        stated = yaml.safe_load(files["submission.yaml"])
        name = stated["model"]["id"]
        slug = (name if "/" in name else f"local/{name}").replace("/", "__")[:100]
        day = str(stated["date"]).replace("-", "")
        place = folder / slug / f"{day}-{digest(files['results.json'])[:8]}"
    except (
        yaml.YAMLError,
        ArithmeticError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ):
        place = folder / "org__model" / "20260131-00000000"
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    (place / "SHA256SUMS").write_bytes(sums(files) if checksums is None else checksums)
    return place


def follows_or_not(target: str, other: str, doc_id: int) -> str:
    """Answer as a model that follows two documents of three, and is wordy about one of them."""
    return {0: target, 1: f"It is {target}.", 2: other}[doc_id % 3]


def valid_files(documents: int = 4, **stated: Any) -> Files:
    rows = make_rows(documents, follows_or_not)
    return make_files(rows, make_results(rows), **stated)
