"""Validate a submission, level by level, and write what was found: `verified.json`.

verbalizer-bench submit validate submissions/org__model/20260101-0123abcd

Level 1: files and schema; 2: complete; 3: identity of the prompts; 4: scores computed again;
5: protocol and claims. A level that fails ends the validation. No check finds invented responses.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.leaderboard.submission import checks, claims
from verbalizer_bench.leaderboard.submission.contents import Contents, read_submission
from verbalizer_bench.leaderboard.submission.reading import (
    VERIFIED,
    Limits,
    Malformed,
    escaped,
    sha256,
)
from verbalizer_bench.leaderboard.submission.verified import (
    Documents,
    LevelResult,
    Status,
    Verified,
    VerifiedTask,
    write_verified,
)
from verbalizer_bench.results.protocol import derive_protocol, warnings
from verbalizer_bench.results.run import Run, TaskScores
from verbalizer_bench.results.schema import short
from verbalizer_bench.results.statistics import by_dataset, rounded, summarize
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.version import __version__

LEVELS = ("schema", "complete", "identity", "re-score", "protocol")
# Enough to see what is wrong; a broken file can have a problem in every row.
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        folder: The submission.
        levels: Those that passed, in order.
        failed: The level that failed, or None.
        problems: What is wrong, a line each.
        verified: What was written to `verified.json`, or None where a level failed.
    """

    folder: Path
    levels: tuple[LevelResult, ...]
    failed: int | None
    problems: tuple[str, ...]
    verified: Verified | None

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        badge = None if self.verified is None else self.verified.badge
        return {
            "folder": str(self.folder),
            "valid": self.failed is None,
            "badge": badge,
            "levels": [level.model_dump(mode="json") for level in self.levels],
            "failed": self.failed,
            "problems": list(self.problems),
            "warnings": [] if self.verified is None else list(self.verified.warnings),
        }

    def __str__(self) -> str:
        lines = [escaped(self.folder)]
        for level in self.levels:
            notes = f": {'; '.join(level.notes)}" if level.notes else ""
            lines.append(f"  level {level.level} {level.name}: {level.status}{notes}")
        if self.failed is not None:
            head = f"  level {self.failed} {LEVELS[self.failed - 1]}: FAILED"
            lines += [f"{head}: {problem}" for problem in self.problems]
        if self.verified is not None:
            lines += [f"  warning: {escaped(text)}" for text in self.verified.warnings]
            lines.append(f"  {self.verified.badge}; protocol {self.verified.protocol}")
        return "\n".join(lines)


def validate(
    folder: Path, level: int = 5, *, write: bool = True, limits: Limits | None = None
) -> Validation:
    """Check a submission up to a level.

    Args:
        folder: The submission's own folder.
        level: The last level, 1 to 5.
        write: Whether to write `verified.json` when all of 2 levels or more pass; an old one is
            removed first.
        limits: How many bytes are read at most.

    Raises:
        ValueError: There is no such level.
    """
    if not 1 <= level <= len(LEVELS):
        raise ValueError(f"submit validate: --level {level}: give 1 to {len(LEVELS)}")
    try:
        return _validated(folder, level, write, limits)
    except Malformed as error:
        problem = str(error)
    except OSError as error:
        problem = f"{short(Path(error.filename or '.').name)}: {error.strerror}; see to the folder"
    return Validation(folder, (), 1, (problem,), None)


def _validated(folder: Path, level: int, write: bool, limits: Limits | None) -> Validation:
    old = folder / VERIFIED
    if write and not folder.is_symlink() and (old.is_symlink() or old.is_file()):
        old.unlink()
    contents = read_submission(folder, limits)
    levels = [LevelResult(level=1, name=LEVELS[0], status="passed")]
    run: Run | None = None
    for number in range(2, level + 1):
        if number == 4:
            run = checks.as_run(contents, checks.rescore(contents))
        problems, result = _check(contents, run, number)
        if problems:
            return Validation(folder, tuple(levels), number, problems, None)
        levels.append(result)
    verified = None
    if level > 1:
        run = run or checks.as_run(contents, checks.rescore(contents))
        verified = _verified(contents, run, levels)
        if write:
            write_verified(verified, folder)
    return Validation(folder, tuple(levels), None, (), verified)


def _check(contents: Contents, run: Run | None, number: int) -> tuple[tuple[str, ...], LevelResult]:
    """Return a level's problems, and its result for the case that there are none."""
    status: Status = "passed"
    notes: tuple[str, ...] = ()
    if number == 2:
        problems: Iterable[str] = checks.check_complete(contents)
    elif number == 3:
        problems = checks.check_identity(contents)
        status, notes = _identity_notes(contents)
    elif run is not None and number == 4:
        problems = checks.check_scores(contents, run.tasks)
    else:
        assert run is not None
        problems = claims.check_claims(contents, run)
        if (protocol := derive_protocol(run)).name != "paper":
            status, notes = "other protocol", (protocol.name,)
        notes += claims.notes(contents)
    first = tuple(islice(problems, _SHOWN))
    return first, LevelResult(level=number, name=LEVELS[number - 1], status=status, notes=notes)


def _identity_notes(contents: Contents) -> tuple[Status, tuple[str, ...]]:
    unknown: dict[str, set[str]] = {}
    for task, (dataset, _) in checks.suite().items():
        if checks.verification(contents, task).verdict == "unknown":
            source = contents.results.configs[task].metadata.source
            unknown.setdefault(source, set()).add(dataset)
    notes = tuple(f"{s} rows of {', '.join(sorted(d))}" for s, d in sorted(unknown.items()))
    return ("not verified" if notes else "passed"), notes


def _verified(contents: Contents, run: Run, levels: Sequence[LevelResult]) -> Verified:
    protocol = derive_protocol(run)
    return Verified(
        package=__version__,
        inputs=dict(sorted(contents.inputs.items())),
        submission=contents.submission,
        levels=tuple(levels),
        badge="re-scored" if len(levels) == len(LEVELS) else "self-reported",
        protocol=protocol.name,
        differences=protocol.differences,
        warnings=tuple(warnings(run)),
        weights=claims.stored_weights(contents),
        chat_template=bool(run.record.chat_template_sha256),
        label_types={name: scores.rounded() for name, scores in summarize(run).items()},
        tasks=tuple(_task(contents, task) for task in run.tasks),
        documents={
            name: _documents(contents, tasks) for name, tasks in by_dataset(run.tasks).items()
        },
    )


def _task(contents: Contents, task: TaskScores) -> VerifiedTask:
    f1 = task.scores["f1"]
    return VerifiedTask(
        task=task.task,
        dataset=task.dataset,
        verbalizer=contents.results.configs[task.task].metadata.verbalizer,
        source=task.source,
        identity=task.verification().verdict,
        documents=len(f1),
        f1=rounded(f1.mean()),
        stderr=float(f1.std(ddof=1) / len(f1) ** 0.5) if len(f1) > 1 else None,
        outcomes={name: rounded(task.scores[name].mean()) for name in OUTCOMES},
        responses=_responses(contents, task.task),
    )


def _responses(contents: Contents, task: str) -> str:
    """Return a sketch of the responses to a task: of those that are alike most digits are equal.

    The responses, each with its prompt, fall into sixteen bins by their hash; of a bin's smallest
    four digits are kept. Right answers are left out: they are everybody's.
    """
    least: dict[str, str] = {}
    for row in contents.rows[task]:
        if row.f1 < 1:
            key = sha256(f"{row.raw_prompt_hash} {row.response}".encode())
            least[key[0]] = min(key, least.get(key[0], key))
    return "".join(least[digit][-4:] if digit in least else "0000" for digit in "0123456789abcdef")


def _documents(contents: Contents, tasks: Sequence[TaskScores]) -> Documents:
    """Return sums over a data set's verbalizers; the prompts' hash is over all of its tasks.

    In the order of the prompts' hashes, so that the same rows can be paired whatever their order.
    """
    identities = "".join(task.unordered or "" for task in tasks)
    first = contents.rows[tasks[0].task]
    order = sorted(range(len(first)), key=lambda number: first[number].raw_prompt_hash)
    columns = {
        label_type: [t.scores["f1"] for t in tasks if t.verbalizer.type == label_type]
        for label_type in LABEL_TYPES
    }
    sums = {name: np.sum(scores, axis=0) for name, scores in columns.items()}
    return Documents(
        prompts=sha256(identities.encode()),
        sums={
            name: tuple(round(float(total[i]), 12) for i in order) for name, total in sums.items()
        },
        verbalizers={name: len(scores) for name, scores in columns.items()},
    )
