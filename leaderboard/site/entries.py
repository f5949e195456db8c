"""Find submissions, validate them, and keep what the pages show.

submissions/<org>__<model>/<YYYYMMDD>-<8 hex>/

What stands in a folder is taken for nobody's word: every submission is validated again. Where the
same job has just done that, `trusted` reads its `verified.json`, which is stale where a file of the
submission was changed, added or removed since, or where another version of the package wrote it.
One that is wrong is left out, and the others are shown. Links are not followed.
"""

import dataclasses
import os
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from verbalizer_bench.leaderboard.submission.contents import slug
from verbalizer_bench.leaderboard.submission.reading import (
    VERIFIED,
    Limits,
    Malformed,
    escaped,
    list_files,
    read_bytes,
    sha256,
)
from verbalizer_bench.leaderboard.submission.signed import SpotCheckRecord, Status, read_signed
from verbalizer_bench.leaderboard.submission.validate import validate
from verbalizer_bench.leaderboard.submission.verified import Documents, Verified, read_verified
from verbalizer_bench.results.schema import short
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.version import __version__

COLUMNS = (*LABEL_TYPES, "All")
# None is ranked against another; this is the order in which they are shown.
PROTOCOLS = ("paper", "stock-beams", "vllm-beams", "greedy", "other", "toy")
# So many submissions are validated in one process.
_ALONE = 8
_MODEL_FOLDER = re.compile(r"[A-Za-z0-9_.-]+__[A-Za-z0-9_.-]+")
_FOLDER = re.compile(r"\d{8}-[0-9a-f]{8}")


@dataclasses.dataclass(frozen=True)
class Asked:
    """The documents of a data set, as they enter a submission's means.

    Attributes:
        prompts: Hash of the raw prompts.
        shares: What each document adds to each label type's F1, times the number of documents:
            the mean over documents, summed over the data sets, is that F1; shape (documents, 3).
        verbalizers: How many verbalizers of each label type the documents were asked with.
    """

    prompts: str
    shares: np.ndarray
    verbalizers: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A submission.

    Attributes:
        path: `<org>__<model>/<YYYYMMDD>-<8 hex>`.
        verified: What its validation found, without the documents.
        asked: The documents, by data set.
        signed: What a spot-check said of it, and the record; None where there was none.
    """

    path: str
    verified: Verified
    asked: dict[str, Asked]
    signed: tuple[Status, SpotCheckRecord | None] | None = None

    @property
    def id(self) -> str:
        """Return the model's id."""
        return self.verified.submission.model.id

    def score(self, column: str) -> float:
        """Return the F1 of a label type or All, in [0, 1]."""
        return self.verified.label_types[column].f1.mean

    @property
    def slope(self) -> float:
        """Return by how much F1 rises from natural to unnatural label words, in [-1, 1]."""
        return self.score("unnatural") - self.score("natural")

    @property
    def identified(self) -> bool:
        """Whether all prompts are those that the package knows."""
        return all(task.identity == "equal" for task in self.verified.tasks)


@dataclasses.dataclass(frozen=True)
class Board:
    """The submissions of a folder, in the order of their paths.

    Attributes:
        entries: Those that are valid.
        left_out: The folder of each other one and what is wrong with it, a line each.
    """

    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]


def read_board(submissions: Path, *, trusted: bool = False) -> Board:
    """Read the submissions of a folder.

    Args:
        submissions: The folder.
        trusted: Take each `verified.json` as it is, and validate nothing.

    Raises:
        ValueError: None is valid; the text is what is wrong with the first.
        FileNotFoundError: There is no submission.
    """
    left_out: list[str] = []
    folders = list(_folders(submissions, left_out))
    read = _trusted_entry if trusted else _validated_entry
    # What a process takes to start is more than a few submissions take.
    if trusted or len(folders) <= _ALONE or (os.cpu_count() or 1) < 2:
        read_entries = list(map(read, folders))
    else:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            read_entries = list(pool.map(read, folders))
    left_out += [one for one in read_entries if isinstance(one, str)]
    entries = tuple(one for one in read_entries if isinstance(one, Entry))
    if not entries and left_out:
        raise ValueError(left_out[0])
    if not entries:
        raise FileNotFoundError(
            f"{submissions}: no submission <org>__<model>/<YYYYMMDD>-<8 hex> in it; `verbalizer-"
            "bench submit pack` writes them"
        )
    return Board(entries, tuple(left_out))


def _folders(submissions: Path, left_out: list[str]) -> Iterator[Path]:
    if not submissions.is_dir():
        raise FileNotFoundError(f"{submissions}: no such folder; give the folder of submissions")
    for model in _listed(submissions):
        if model.name.startswith(".") or not (model.is_symlink() or model.is_dir()):
            continue
        try:
            if not _MODEL_FOLDER.fullmatch(model.name):
                raise ValueError(
                    f"{escaped(model.path)}: not a model's folder (<org>__<model>); remove it"
                )
            _check_folder(model)
            entries = _listed(Path(model))
        except (ValueError, OSError) as error:
            left_out.append(_reason(Path(model), error))
            continue
        for entry in entries:
            try:
                if not _FOLDER.fullmatch(entry.name):
                    raise ValueError(
                        f"{model.path}: {short(entry.name)} is not a submission "
                        "(<YYYYMMDD>-<8 hex>); remove it"
                    )
                _check_folder(entry)
            except (ValueError, OSError) as error:
                left_out.append(_reason(Path(entry), error))
                continue
            yield Path(entry)


def _reason(folder: Path, error: Exception) -> str:
    """Return a line that names the folder."""
    if isinstance(error, OSError):
        return f"{escaped(folder)}: cannot be read: {error.strerror}; mend its permissions"
    return str(error)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _check_folder(entry: os.DirEntry[str]) -> None:
    if entry.is_symlink() or not entry.is_dir():
        raise ValueError(f"{escaped(entry.path)}: not a folder; links are not followed: remove it")


def _validated_entry(folder: Path) -> Entry | str:
    """Validate a submission; return what the pages show of it, or what is wrong."""
    validation = validate(folder, write=False)
    if validation.verified is None:
        return f"{escaped(folder)}: level {validation.failed} failed: {validation.problems[0]}"
    return _entry(folder, validation.verified)


def _trusted_entry(folder: Path) -> Entry | str:
    try:
        return _read_entry(folder)
    except (ValueError, OSError) as error:
        return _reason(folder, error)


def _read_entry(folder: Path) -> Entry:
    remedy = f"run `verbalizer-bench submit validate {escaped(folder)}`"
    try:
        names = list_files(folder, Limits())
        if not os.path.lexists(folder / VERIFIED):
            raise ValueError(f"{escaped(folder)}: not validated, {VERIFIED} is missing; {remedy}")
        verified = read_verified(folder / VERIFIED)
        changed = _changed(folder, names, verified)
    except Malformed as error:
        raise ValueError(f"{escaped(folder)}: {error}; then {remedy}") from error
    if changed:
        raise ValueError(f"{escaped(folder)}: {VERIFIED} is stale: {changed}; {remedy} again")
    if wrong := _inconsistent(folder, verified):
        raise ValueError(f"{escaped(folder)}: {VERIFIED} {wrong}; {remedy} again")
    return _entry(folder, verified)


def _entry(folder: Path, verified: Verified) -> Entry:
    tasks = [
        sum(documents.verbalizers.get(name, 0) for documents in verified.documents.values())
        for name in LABEL_TYPES
    ]
    asked = {
        name: _asked(documents, tasks) for name, documents in sorted(verified.documents.items())
    }
    # As Python's numbers the sums of a thousand submissions would take gigabytes.
    slim = verified.model_copy(update={"documents": {}})
    path = f"{folder.parent.name}/{folder.name}"
    return Entry(path, slim, asked, read_signed(folder))


def _changed(folder: Path, names: list[str], verified: Verified) -> str | None:
    """Say what of a submission is not as it was validated."""
    if verified.package != __version__:
        return f"of verbalizer-bench {short(verified.package)[1:-1]}, this is {__version__}"
    for name in sorted({*names} ^ {*verified.inputs}):
        return f"{short(name)[1:-1]} was {'added' if name in names else 'removed'} since"
    for name in names:
        if sha256(read_bytes(folder, name, Limits().json)) != verified.inputs[name]:
            return f"{name} was changed since"
    return None


def _inconsistent(folder: Path, verified: Verified) -> str | None:
    """Say what of a verified.json cannot be so, or does not belong to its folder."""
    model = verified.submission.model.id
    if slug(model) != folder.parent.name:
        return f"is of {model}, whose folder is {slug(model)}"
    if verified.protocol not in PROTOCOLS:
        return f"has an unknown protocol, {short(verified.protocol)}"
    for name in COLUMNS:
        if name not in verified.label_types:
            return f"has no scores of {name}"
    for dataset, asked in verified.documents.items():
        if set(asked.sums) != set(asked.verbalizers) or not set(asked.sums) <= set(LABEL_TYPES):
            return f"has other label types in {short(dataset)}"
        if (
            len({len(sums) for sums in asked.sums.values()} | {0}) != 2
            or 0 in asked.verbalizers.values()
        ):
            return f"has no or other documents in a label type of {short(dataset)}"
    return None


def _asked(documents: Documents, tasks: list[int]) -> Asked:
    size = len(next(iter(documents.sums.values())))
    shares = np.zeros((size, len(LABEL_TYPES)))
    for column, name in enumerate(LABEL_TYPES):
        if name in documents.sums:
            shares[:, column] = np.array(documents.sums[name]) / tasks[column]
    counts = tuple(documents.verbalizers.get(name, 0) for name in LABEL_TYPES)
    return Asked(documents.prompts, shares, counts)
