"""Level 1: read a submission's files, each checked against its model and its sum."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from verbalizer_bench.leaderboard.submission.models import (
    Submission,
    SubmittedResults,
    SubmittedRun,
    SubmittedSample,
)
from verbalizer_bench.leaderboard.submission.reading import (
    LINE,
    SUMS,
    TEXTS,
    Limits,
    Malformed,
    decode,
    list_files,
    parse,
    parse_json,
    parse_yaml,
    read_bytes,
    read_sums,
    sha256,
    unpack,
)
from verbalizer_bench.results.schema import short


@dataclasses.dataclass(frozen=True)
class Contents:
    """A submission that is well formed; whether it is true, the later levels ask.

    Attributes:
        folder: Where it is.
        submission: submission.yaml.
        run: run.json.
        results: results.json, as far as it is read.
        rows: The rows of each samples file, by task.
        inputs: sha256 of each file, SHA256SUMS included.
    """

    folder: Path
    submission: Submission
    run: SubmittedRun
    results: SubmittedResults
    rows: Mapping[str, list[SubmittedSample]]
    inputs: Mapping[str, str]


def slug(model_id: str) -> str:
    """Return a model's folder, `<org>__<model>`; `local` stands for no organisation."""
    return (model_id if "/" in model_id else f"local/{model_id}").replace("/", "__")


def folder_name(submission: Submission, results: bytes) -> str:
    """Return a submission's folder below the submissions, of model, date and results.json."""
    day = submission.date.isoformat().replace("-", "")
    return f"{slug(submission.model.id)}/{day}-{sha256(results)[:8]}"


def read_submission(folder: Path, limits: Limits | None = None) -> Contents:
    """Read a submission's folder.

    Raises:
        Malformed: A file is missing, not what it must be, too large, or not what SHA256SUMS says.
    """
    limits = limits or Limits()
    names = list_files(folder, limits)
    caps = {name: limits.packed if name.endswith(".gz") else limits.json for name in names}
    sums = read_bytes(folder, SUMS, limits.text)
    listed = read_sums(SUMS, decode(SUMS, sums))
    _check_listed(names, listed)
    inputs, texts = {SUMS: sha256(sums)}, {}
    for name in TEXTS:
        texts[name] = _summed(folder, name, caps[name], listed)
        inputs[name] = listed[name]
    yaml, results, run = (texts[name] for name in TEXTS)
    submission = parse(Submission, TEXTS[0], parse_yaml(TEXTS[0], decode(TEXTS[0], yaml)))
    contents = Contents(
        folder=folder,
        submission=submission,
        results=parse(SubmittedResults, TEXTS[1], parse_json(TEXTS[1], decode(TEXTS[1], results))),
        run=parse(SubmittedRun, TEXTS[2], parse_json(TEXTS[2], decode(TEXTS[2], run))),
        rows=_read_samples(folder, listed, limits, inputs),
        inputs=inputs,
    )
    _check_folder(folder, submission, results)
    return contents


def _read_samples(
    folder: Path, listed: Mapping[str, str], limits: Limits, inputs: dict[str, str]
) -> dict[str, list[SubmittedSample]]:
    rows: dict[str, list[SubmittedSample]] = {}
    left, rows_left = limits.total, limits.rows
    for name in sorted(set(listed) - set(TEXTS)):
        content = unpack(name, _summed(folder, name, limits.packed, listed), limits.unpacked)
        left -= len(content)
        if left < 0:
            raise Malformed(name, f"all samples unpack to more than {limits.total} bytes")
        rows_left -= content.count(b"\n")
        if rows_left < 0:
            raise Malformed(name, f"all samples have more than {limits.rows} rows")
        task = name.removeprefix("samples/").removesuffix(".jsonl.gz")
        rows[task] = list(_parse_rows(name, decode(name, content)))
        inputs[name] = listed[name]
    return rows


def _parse_rows(name: str, text: str) -> Iterator[SubmittedSample]:
    # Not splitlines(): responses may hold U+2028, which JSON does not escape.
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        where = f"{name}:{number}"
        if len(line) > LINE:
            raise Malformed(where, f"{len(line)} characters; at most {LINE} are read")
        yield parse(SubmittedSample, where, parse_json(where, line))


def _summed(folder: Path, name: str, cap: int, listed: Mapping[str, str]) -> bytes:
    content = read_bytes(folder, name, cap)
    if (digest := sha256(content)) != listed[name]:
        raise Malformed(
            name, f"sha256 {digest[:12]}…, but {SUMS} has {listed[name][:12]}…: edited or damaged"
        )
    return content


def _check_listed(names: list[str], listed: Mapping[str, Any]) -> None:
    there = set(names) - {SUMS}
    if missing := sorted(set(listed) - there):
        raise Malformed(SUMS, f"lists {short(missing[0])}, which is not there")
    if others := sorted(there - set(listed)):
        raise Malformed(others[0], f"not listed in {SUMS}")


def _check_folder(folder: Path, submission: Submission, results: bytes) -> None:
    expected = folder_name(submission, results)
    place = folder.resolve()
    if f"{place.parent.name}/{place.name}" != expected:
        raise Malformed(
            ".",
            f"stands in {short(f'{place.parent.name}/{place.name}')}, but its model, date and "
            f"results.json belong in {expected}: moved, or edited",
        )
