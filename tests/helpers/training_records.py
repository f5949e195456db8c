"""Records that tests of training data write."""

import json
from pathlib import Path
from typing import Any


def conversation(question: str, answer: str, image: str | None = None) -> dict[str, Any]:
    """Return a record of one question and answer in LLaVA's layout."""
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": f"id-{answer}", "conversations": turns} | ({"image": image} if image else {})


def write(path: Path, *rows: Any) -> Path:
    """Write rows as JSON lines or as a list, as the file's name says; return the file."""
    text = "\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows)
    path.write_text(text)
    return path
