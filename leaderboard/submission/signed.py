"""What a spot-check found, kept beside the submission: `spot-check.json`.

Whoever publishes runs the check and keeps the file. It belongs to the submission as it was: a
change of any file makes it stale.
"""

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.leaderboard.submission.models import Count, Hash, Line, Name, Score
from verbalizer_bench.leaderboard.submission.reading import (
    SIGNED,
    SUMS,
    Limits,
    Malformed,
    decode,
    parse,
    parse_json,
    read_bytes,
    sha256,
)

Difference = Annotated[float, Field(ge=-1, le=1)]
Status = Literal["passed", "failed", "repeated", "stale", "unreadable"]


class SpotCheckRecord(BaseModel):
    """spot-check.json.

    Attributes:
        submission: sha256 of the submission's SHA256SUMS, and so of all its files.
        seed: Of the choice of documents.
        fresh: Whether it was drawn for this check. Of a seed that was given somebody could have
            known the documents before.
        documents: The documents that were asked about, by data set, each with its verbalizers.
        responses: How many responses were regenerated.
        equal: How many are the submission's.
        agreement: Their share, and the ends of its interval.
        f1_submitted: The mean F1 of the submission's responses to these prompts.
        f1_regenerated: The mean F1 of the new ones.
        difference: Submitted minus regenerated, and the ends of its interval.
        threshold: The least agreement that passes.
        faults: Why it did not pass.
        weights: The hash of the weights that were asked now.
        same_weights: Whether they are the submission's; None where one is unknown.
        differs: In what else the new run differs.
        versions: Of the packages of the new run.
        date: When.
        by: Who ran it.
        package: The version of verbalizer-bench.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: Literal[1] = 1
    submission: Hash
    seed: Count
    fresh: bool
    documents: dict[Line, tuple[Count, ...]]
    responses: Annotated[int, Field(ge=1)]
    equal: Count
    agreement: tuple[Score, Score, Score]
    f1_submitted: Score
    f1_regenerated: Score
    difference: tuple[Difference, Difference, Difference]
    threshold: Score
    faults: tuple[Line, ...]
    weights: Line
    same_weights: bool | None
    differs: tuple[Line, ...]
    versions: dict[Line, Line]
    date: date
    by: Name
    package: Line

    @property
    def status(self) -> Status:
        """Return what the check says where the submission is as it was."""
        if self.faults:
            return "failed"
        return "passed" if self.fresh else "repeated"


def sign(record: SpotCheckRecord, folder: Path) -> Path:
    """Write `spot-check.json` into a submission's folder."""
    path = folder / SIGNED
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_whole(path, text + "\n")
    return path


def read_signed(folder: Path) -> tuple[Status, SpotCheckRecord | None] | None:
    """Return what a spot-check said of a submission; None where there was none.

    Raises:
        Malformed: The submission's SHA256SUMS cannot be read.
    """
    if not (folder / SIGNED).is_file():
        return None
    try:
        text = decode(SIGNED, read_bytes(folder, SIGNED, Limits().text))
        record = parse(SpotCheckRecord, SIGNED, parse_json(SIGNED, text))
    except Malformed:
        return "unreadable", None
    if record.submission != digest_of(folder):
        return "stale", record
    return record.status, record


def digest_of(folder: Path) -> str:
    """Return the hash of a submission's SHA256SUMS."""
    return sha256(read_bytes(folder, SUMS, Limits().text))
