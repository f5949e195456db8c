"""The JSON Schemas of a submission's files, for those who check them without Python.

python -m verbalizer_bench.leaderboard.submission.schema  # writes schemas/*.schema.json again
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from verbalizer_bench.leaderboard.submission.models import (
    Submission,
    SubmittedResults,
    SubmittedRun,
    SubmittedSample,
)
from verbalizer_bench.leaderboard.submission.verified import Verified

MODELS: dict[str, type[BaseModel]] = {
    "submission": Submission,
    "row": SubmittedSample,
    "run": SubmittedRun,
    "results": SubmittedResults,
    "verified": Verified,
}


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a file of a submission."""
    definition = MODELS[name].model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **definition}


def write_schemas() -> list[Path]:
    """Write `schemas/*.schema.json` in the package."""
    folder = Path(str(files("verbalizer_bench.leaderboard.submission"))) / "schemas"
    written = []
    for name in MODELS:
        path = folder / f"{name}.schema.json"
        path.write_text(json.dumps(schema(name), indent=2) + "\n", encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for path in write_schemas():
        print(f"Wrote {path}")
