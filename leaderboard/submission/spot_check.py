"""Regenerate a few documents of a submission: the check that finds invented responses.

verbalizer-bench submit spot-check submissions/org__model/20260101-0123abcd -k 20 --data rows

For maintainers: it runs the model. The documents are drawn when the check is run, from a seed that
nobody knew before. Responses can differ without anybody's fault (another device or precision rounds
otherwise), so a share of them may.
"""

import dataclasses
import getpass
import json
import random
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from verbalizer_bench.leaderboard.submission import asking
from verbalizer_bench.leaderboard.submission.agreement import (
    THRESHOLD,
    THRESHOLD_LOW,
    Agreement,
    agreement,
)
from verbalizer_bench.leaderboard.submission.checks import check_complete
from verbalizer_bench.leaderboard.submission.contents import Contents, read_submission
from verbalizer_bench.leaderboard.submission.names import check_name
from verbalizer_bench.leaderboard.submission.reading import Malformed, escaped
from verbalizer_bench.leaderboard.submission.signed import SpotCheckRecord, digest_of, sign
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.schema import RunRecord, short
from verbalizer_bench.tasks.metrics import token_f1
from verbalizer_bench.tasks.suite import suite
from verbalizer_bench.version import __version__

# A hash of the weights in memory, which older records have, says nothing of those in files.
_OTHER_KIND = "weights: the submission has a hash of another kind"


@dataclasses.dataclass(frozen=True)
class SpotCheck:
    """How many regenerated responses are those of the submission.

    Attributes:
        folder: The submission.
        seed: Of the choice of documents.
        fresh: Whether it was drawn for this check, so that nobody knew the documents before.
        chosen: The documents that were asked about, by data set, each with twelve verbalizers.
        agreement: How far the responses agree.
        threshold: The least share of equal responses that passes.
        weights: The hash of the weights that were asked now.
        same_weights: Whether they are the submission's; None if one is unknown.
        differs: In what else the new run differs, a line each.
        differing: Task, document, the submission's and the new response of the first that differ.
        versions: Of the packages of the new run.
    """

    folder: Path
    seed: int
    fresh: bool
    chosen: Mapping[str, tuple[int, ...]]
    agreement: Agreement
    threshold: float
    weights: str
    same_weights: bool | None
    differs: tuple[str, ...]
    differing: tuple[tuple[str, int, str, str], ...]
    versions: Mapping[str, str]

    @property
    def documents(self) -> int:
        """Return how many documents were asked about."""
        return sum(map(len, self.chosen.values()))

    @property
    def responses(self) -> int:
        """Return how many responses were regenerated."""
        return self.agreement.responses

    @property
    def equal(self) -> int:
        """Return how many responses are the submission's, character for character."""
        return self.agreement.equal

    @property
    def faults(self) -> tuple[str, ...]:
        """Return why it does not pass; empty where it does."""
        others = () if self.same_weights is not False else ("the weights are others",)
        return (*self.agreement.faults(self.threshold), *others)

    def __str__(self) -> str:
        agreement = self.agreement
        weights = {
            True: "the submission's",
            False: "OTHERS than the submission's",
            None: "not known to be the same",
        }
        share, low, high = (f"{100 * value:.1f}" for value in agreement.share)
        difference = [f"{100 * value:+.1f}" for value in agreement.difference]
        lines = [
            f"{escaped(self.folder)}: {agreement.equal} of {agreement.responses} responses "
            f"agree ({share} %, 95 % interval {low} to {high}), {agreement.equal_f1} in F1; "
            f"{self.documents} documents, 12 verbalizers each",
            f"F1 of these: {100 * agreement.submitted:.1f} submitted, "
            f"{100 * agreement.regenerated:.1f} regenerated, "
            f"difference {difference[0]} [{difference[1]}, {difference[2]}]",
            f"weights: {weights[self.same_weights]}",
            *(f"differs: {line}" for line in self.differs),
            f"documents drawn with seed {self.seed}; `--seed {self.seed}` draws the same"
            + ("" if self.fresh else ". It was given: a submitter could have known them"),
        ]
        for task, doc_id, old, new in self.differing:
            lines.append(
                f"  {task}, document {doc_id}: {short(old, 60)} there, {short(new, 60)} now"
            )
        verdict = f"FAILED: {'; '.join(self.faults)}" if self.faults else "passed"
        return "\n".join([*lines, verdict])

    def record(self, by: str) -> SpotCheckRecord:
        """Return what is kept of it beside the submission."""
        agreement = self.agreement
        return SpotCheckRecord(
            submission=digest_of(self.folder),
            seed=self.seed,
            fresh=self.fresh,
            documents=dict(self.chosen),
            responses=agreement.responses,
            equal=agreement.equal,
            agreement=agreement.share,
            f1_submitted=agreement.submitted,
            f1_regenerated=agreement.regenerated,
            difference=agreement.difference,
            threshold=self.threshold,
            faults=self.faults,
            weights=self.weights,
            same_weights=self.same_weights,
            differs=tuple(line[:200] for line in self.differs),
            versions=dict(self.versions),
            date=datetime.now(UTC).date(),
            by=by,
            package=__version__,
        )


# Takes the arguments of `verbalizer-bench run`.
Runner = Callable[[Sequence[str]], Run]


def spot_check(
    folder: Path,
    run: Runner,
    documents: int = 20,
    *,
    model_args: str | None = None,
    data: str | None = None,
    device: str | None = None,
    batch_size: str = "8",
    seed: int | None = None,
    threshold: float | None = None,
    by: str | None = None,
) -> SpotCheck:
    """Ask the model again about a few documents of each data set, and sign what was found.

    Args:
        folder: The submission's own folder; `spot-check.json` is written into it.
        run: What asks the model: `running.regenerate.regenerate`.
        documents: How many, over all data sets.
        model_args: lm-eval's; default: the hub commit that the submission names. Of the
            submission's own arguments dtype, image and `_GENERATION` are taken, where these do not
            say otherwise: others could run code.
        data: Where the rows are, as for `run`.
        device: lm-eval's.
        batch_size: lm-eval's.
        seed: Of the choice of documents; default: a fresh random one.
        threshold: The least share of equal responses that passes, in (0, 1]; default: 0.9, and 0.75
            where either run was below float32.
        by: Who runs it; default: the name of the account.

    Raises:
        ValueError: The submission is malformed, or was run in a way that cannot be repeated.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"submit spot-check: --threshold {threshold:g}: give a share up to 1")
    if seed is not None and not 0 <= seed < 2**53:
        raise ValueError(f"submit spot-check: --seed {seed}: give a number that a check printed")
    by = _signer(by)
    contents = _whole(folder)
    there = _count(contents)
    if not 1 <= documents <= there:
        raise ValueError(f"submit spot-check: -k {documents}: give 1 to {there} documents")
    drawn = secrets.randbits(48) if seed is None else seed
    chosen = asking.choose(contents, documents, random.Random(drawn))
    told = asking.arguments(contents, model_args)
    numbers = asking.located(contents, chosen, data)
    samples = {task: sorted(places) for task, places in numbers.items()}
    with tempfile.TemporaryDirectory(prefix="spot-check-") as place:
        told += ["--tasks", ",".join(samples), "--samples", json.dumps(samples)]
        told += ["--output_path", place, "--batch_size", batch_size]
        told += ["--data", data] if data else []
        told += ["--device", device] if device else []
        check = _compare(contents, numbers, run(told))
    check = dataclasses.replace(
        check, seed=drawn, fresh=seed is None, threshold=threshold or check.threshold
    )
    sign(check.record(by), folder)
    return check


def _whole(folder: Path) -> Contents:
    """Read a submission, and refuse one that is malformed or lacks something."""
    try:
        contents = read_submission(folder)
    except Malformed as error:
        raise ValueError(f"{escaped(folder)}: {error}") from error
    if problem := next(check_complete(contents), None):
        raise ValueError(f"{escaped(folder)}: {problem}")
    return contents


def _signer(by: str | None) -> str:
    try:
        return check_name(by or getpass.getuser())
    except (OSError, KeyError) as error:
        raise ValueError("submit spot-check: give --by NAME: who signs what is found") from error
    except ValueError as error:
        raise ValueError(f"submit spot-check: --by {short(by)}: {error}") from error


def _count(contents: Contents) -> int:
    first = {dataset: task for task, (dataset, _) in reversed(list(suite().items()))}
    return sum(len(contents.rows.get(task, ())) for task in first.values())


def _compare(
    contents: Contents,
    numbers: Mapping[str, Mapping[int, int]],
    run: Run,
) -> SpotCheck:
    equal: list[bool] = []
    scores: dict[str, list[tuple[float, float]]] = {}
    differing, rendered = [], 0
    for task, places in numbers.items():
        stated = {row.doc_id: row for row in contents.rows[task]}
        for sample in run.samples(task):
            old, new = stated[places[sample.doc_id]], sample.response
            asking.check_prompt(contents.folder, task, old, sample)
            rendered += sample.prompt_hash != old.prompt_hash
            equal.append(old.response == new)
            pair = token_f1(old.target, old.response), token_f1(old.target, new)
            scores.setdefault(f"{suite()[task][0]} {old.doc_id}", []).append(pair)
            if old.response != new:
                differing.append((task, old.doc_id, old.response, new))
    weights, same, differs = _settings(contents, run.record)
    if rendered:
        differs = (
            *differs,
            f"{rendered} of {len(equal)} prompts as the chat template renders them",
        )
    return SpotCheck(
        folder=contents.folder,
        seed=0,
        fresh=False,
        chosen={
            suite()[task][0]: tuple(sorted(places.values())) for task, places in numbers.items()
        },
        agreement=agreement(equal, scores),
        threshold=THRESHOLD_LOW if _is_low(contents.run.dtype, run.record.dtype) else THRESHOLD,
        weights=weights,
        same_weights=same,
        differs=differs,
        differing=tuple(differing[:10]),
        versions=run.record.versions or {},
    )


def _is_low(*dtypes: str | None) -> bool:
    """Say whether one of the types rounds more than float32 does."""
    return any("float16" in str(dtype) for dtype in dtypes)


def _settings(contents: Contents, recorded: RunRecord) -> tuple[str, bool | None, tuple[str, ...]]:
    """Return the weights that were asked now, whether they are the same, and what else differs."""
    record = contents.results.config.verbalizer_bench
    there = dict(record.fingerprint) if record else {}
    here = recorded.fingerprint
    weights, differs = str(here.get("weights")), []
    same = None
    if there.get("weights_kind") == here.get("weights_kind"):
        known = all(len(str(one.get("weights"))) == 64 for one in (there, here))
        same = there["weights"] == weights if known else None
    elif there.get("weights"):
        differs.append(_OTHER_KIND)
    old = contents.run.image or {}
    new = recorded.image.model_dump(exclude_unset=True) if recorded.image else {}
    # A file is known by its pixels, wherever it lies.
    key = "sha256" if "sha256" in old and "sha256" in new else "mode"
    if old.get(key) != new.get(key):
        modes = (short(image.get("mode", "n/a")) for image in (new, old))
        differs.append("image: {}, OTHER than the submission's ({})".format(*modes))
    for key in (
        "architecture",
        "config",
        "tokenizer",
        "image_processor",
        "dtype",
        "max_length",
        "eos_token_ids",
        "mixed_precision",
    ):
        if key in there and there[key] != here.get(key):
            differs.append(f"{key}: {short(here.get(key), 40)}, there {short(there[key], 40)}")
    packages = there.get("versions")
    for name, number in (recorded.versions or {}).items():
        other = packages.get(name) if isinstance(packages, dict) else None
        if other is not None and other != number:
            differs.append(f"{name} {number}, there {short(other, 40)}")
    return weights, same, tuple(differs)
