"""Invented leaderboards: validated submissions without the responses that they were made of."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.submissions import digest
from verbalizer_bench import __version__
from verbalizer_bench.leaderboard.site.entries import Entry, read_board
from verbalizer_bench.leaderboard.submission.contents import slug
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.tasks.suite import suite

# Beside verified.json stand files as a submission has them. They are hashed, and not read.
FILES = ("submission.yaml", "results.json", "run.json", "SHA256SUMS", "samples/x.jsonl.gz")


def invented(number: int, sizes: dict[str, int], **changes: Any) -> dict[str, Any]:
    """Return a verified.json; a dictionary in `changes` is merged, another value replaces."""
    generator = np.random.default_rng(number)
    level = generator.uniform(0.2, 0.95, len(LABEL_TYPES))
    counts = {"natural": 3, "neutral": 6, "unnatural": 3}
    documents: dict[str, Any] = {}
    for name, size in sizes.items():
        sums = {
            t: generator.binomial(counts[t], share, size).astype(float).tolist()
            for t, share in zip(LABEL_TYPES, level, strict=True)
        }
        documents[name] = {"prompts": digest(name), "sums": sums, "verbalizers": counts}
    means = {
        t: float(np.mean([np.mean(own["sums"][t]) / counts[t] for own in documents.values()]))
        for t in LABEL_TYPES
    }
    means["All"] = sum(means.values()) / 3
    tasks = [
        {
            **{"task": task, "dataset": dataset, "verbalizer": vars(verbalizer)},
            **{"source": "hub", "identity": "equal", "documents": sizes.get(dataset, 1)},
            **{"f1": means[verbalizer.type], "stderr": 0.01},
            "outcomes": dict.fromkeys(OUTCOMES, 0.2),
            "responses": digest(f"{number} {task}"),
        }
        for task, (dataset, verbalizer) in suite().items()
    ]
    found = {
        "schema_version": 1,
        "package": __version__,
        "inputs": {},
        "submission": {
            "schema_version": 1,
            "protocol": "paper",
            "model": {
                **{"id": f"example/model-{number}", "revision": f"{number:040x}"},
                **{"kind": ("llm", "lvlm")[number % 2], "parameters": 7 * 10**9},
            },
            "submitter": f"Submitter {number % 7}",
            "date": f"2026-{number % 12 + 1:02}-{number % 28 + 1:02}",
            "links": ["https://example.org/paper"],
            "licence": "CC-BY-4.0",
            "image_mode": "n/a",
            "notes": "Invented.",
        },
        "levels": [
            {"level": i, "name": name, "status": "passed", "notes": []}
            for i, name in enumerate(("schema", "complete", "identity", "re-score", "protocol"), 1)
        ],
        "badge": "re-scored",
        "protocol": "paper",
        "differences": [],
        "warnings": ["chat template: applied"],
        "chat_template": True,
        "label_types": {
            name: {
                "f1": {"mean": m, "low": max(0, m - 0.02), "high": min(1, m + 0.02)},
                "f1_weighted": m,
                "outcomes": dict(zip(OUTCOMES, (m, *[(1 - m) / 4] * 4), strict=True)),
                "tasks": 108 if name == "All" else 9 * counts[name],
                "responses": sum(sizes.values()) * counts.get(name, 12),
            }
            for name, m in means.items()
        },
        "tasks": tasks,
        "documents": documents,
    }
    found = merged(found, changes)
    model = found["submission"]["model"]
    # Weights are of the model's name, and a base is known by its weights.
    weights = {"weights": digest(model["id"]), **found}
    if model.get("base"):
        model.setdefault("base_weights_sha256", digest(model["base"]))
    return weights


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    result = dict(one)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(one.get(key), dict)
        result[key] = merged(one[key], value) if both else value
    return result


def write_submission(folder: Path, verified: dict[str, Any]) -> Path:
    """Write a verified.json and what it is said to be of."""
    stated = verified["submission"]
    key = hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()
    place = folder / slug(stated["model"]["id"]) / f"{stated['date'].replace('-', '')}-{key[:8]}"
    (place / "samples").mkdir(parents=True)
    for name in FILES:
        (place / name).write_text(f"{name} of {key}")
    inputs = {name: digest((place / name).read_bytes()) for name in FILES}
    text = json.dumps({**verified, "inputs": inputs}, ensure_ascii=False)
    (place / "verified.json").write_text(text, encoding="utf-8")
    return place


def write_board(folder: Path, count: int, sizes: dict[str, int]) -> Path:
    """Write `count` submissions, every third tuned from the one before."""
    for number in range(count):
        changes: dict[str, Any] = {}
        if number % 3 == 2:
            changes = {"submission": {"model": {"base": f"example/model-{number - 1}"}}}
        write_submission(folder, invented(number, sizes, **changes))
    return folder


def read_entries(submissions: Path) -> list[Entry]:
    """Return the submissions of a folder that was just validated, by their `verified.json`.

    Raises:
        ValueError: One has no verified.json or a stale one, is a link, or stands where none should.
        FileNotFoundError: There is no submission.
    """
    board = read_board(submissions, trusted=True)
    if board.left_out:
        raise ValueError(board.left_out[0])
    return list(board.entries)
