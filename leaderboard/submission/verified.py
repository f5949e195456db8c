"""What `submit validate` found of a submission: `verified.json`, of which the page is made.

Scores are F1 in [0, 1]. Whoever publishes writes the file by running the validation; one that came
with a submission is the submitter's word and is not read.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.leaderboard.submission.models import Hash, Submission, Words
from verbalizer_bench.leaderboard.submission.reading import VERIFIED
from verbalizer_bench.results.schema import Count, Line, Score, Share
from verbalizer_bench.results.statistics import TypeScores

Badge = Literal["self-reported", "re-scored"]
Status = Literal["passed", "not verified", "other protocol"]
Verdict = Literal["equal", "different", "unknown"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LevelResult(_Model):
    """What one level found.

    A failed level leaves no verified.json. `not verified`: prompts of a source that the package
    does not know. `other protocol`: shown in a table of its own.
    """

    level: Annotated[int, Field(ge=1, le=5)]
    name: Line
    status: Status
    notes: tuple[str, ...] = ()


class VerifiedTask(_Model):
    """One of the 108 tasks, its scores computed again from the responses."""

    task: Line
    dataset: Line
    verbalizer: Words
    source: Line
    identity: Verdict = Field(description="of its prompts, against the package's manifest")
    documents: Count
    f1: Score
    stderr: float | None
    outcomes: dict[Line, Share]
    responses: Hash = Field(description="a sketch of its responses, to tell copies")


class Documents(_Model):
    """A data set's documents, in the order of their prompts' hashes, for paired intervals.

    Attributes:
        prompts: sha256 over the raw prompts, in any order: submissions of equal ones can be paired.
        sums: For each label type the sum of a document's F1 over its verbalizers.
        verbalizers: How many verbalizers each sum has.
    """

    prompts: Hash
    sums: dict[Line, tuple[float, ...]]
    verbalizers: dict[Line, Count]


class Verified(_Model):
    """verified.json.

    Attributes:
        package: The version of verbalizer-bench that computed it.
        inputs: sha256 of every file of the submission.
        submission: submission.yaml.
        protocol: As derived from what was run, not as claimed.
        differences: In what it differs from `paper`.
        warnings: What a reader must know.
        weights: The hash of the stored weights, as the run recorded it.
        label_types: natural, neutral, unnatural, All.
        chat_template: Whether one was applied.
        documents: By data set.
    """

    schema_version: Literal[1] = 1
    package: Line
    inputs: dict[Line, Hash]
    submission: Submission
    levels: tuple[LevelResult, ...]
    badge: Badge
    protocol: Line
    differences: tuple[str, ...]
    warnings: tuple[str, ...]
    weights: Hash | None = None
    chat_template: bool
    label_types: dict[Line, TypeScores]
    tasks: tuple[VerifiedTask, ...]
    documents: dict[Line, Documents]


def read_verified(path: Path) -> Verified:
    """Read a `verified.json`.

    Raises:
        ValueError: It is not one.
    """
    try:
        return Verified.model_validate_json(path.read_bytes())
    except ValueError as error:
        first = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: not what `submit validate` writes ({first}); run `verbalizer-bench submit "
            "validate` on its folder again"
        ) from error


def write_verified(verified: Verified, folder: Path) -> Path:
    """Write `verified.json` into a submission's folder."""
    path = folder / VERIFIED
    text = json.dumps(verified.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"))
    write_whole(path, text + "\n")
    return path
