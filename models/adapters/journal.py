"""A run's journal: every answer as soon as its batch is done, so that a killed run can resume.

`journal-<rank>.jsonl` stands in the output folder, a JSON object a line: for each attempt how it
was asked (`command`, `protocol`) and the model's `fingerprint`, then a row a response or a score
(loglikelihood), at last `finished`. A row's key is the sha256 of task, version, document, prompt,
images and generation arguments, or the continuation; model and protocol are the same in the whole
file, which is an `AppendLog`.
"""

import hashlib
import itertools
import json
import logging
import re
import shutil
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from verbalizer_bench.client.response_store import NAME as STORE
from verbalizer_bench.io.append_log import AppendLog, read_log
from verbalizer_bench.io.images import image_sha256

log = logging.getLogger(__name__)

_FORMAT = 1


class Response(NamedTuple):
    """A response and the engine that made it.

    Attributes:
        text: The response.
        engine: Which engine made it.
        ending: What ended it, see `finish_reason`; None in an older journal, where it is not known.
        thought: Whether it holds a thought, `open` or `closed`.
    """

    text: str
    engine: str
    ending: str | None = None
    thought: str | None = None

    def row(self) -> dict[str, Any]:
        """Return what a journal has of it beside its key."""
        kept = {"ending": self.ending, "thought": self.thought}
        return {"engine": self.engine, "response": self.text, **kept}


class Scored(NamedTuple):
    """A log probability and what computed it.

    Attributes:
        value: The log probability of a continuation, or of a whole text (rolling).
        greedy: Whether the continuation is the greedy one; None for a whole text.
        engine: What computed it: `shared_prefix`, or a plain `forward` pass.
    """

    value: float
    greedy: bool | None
    engine: str

    def row(self) -> dict[str, Any]:
        """Return what a journal has of it beside its key; JSON keeps a float exactly."""
        return {"engine": self.engine, "score": self.value, "greedy": self.greedy}


class Journal:
    """The responses and scores of one rank, and those that all ranks of earlier attempts left."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        protocol: Mapping[str, Any],
        versions: Mapping[str, Any],
        resume: bool,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Open a rank's journal; when resuming, read the journals of all ranks.

        Args:
            folder: The output folder.
            command: The arguments of `run`, for `--resume` without others.
            protocol: What a prompt depends on beside task and model.
            versions: A task's version, by name.
            resume: Whether to keep the responses that are there.
            rank: Whose journal is written; no other rank writes or removes it.
            world_size: How many ranks the run has. A new run puts the journals of a finished one
                aside, those of more ranks too.

        Raises:
            ValueError: The journal is of an unfinished run and `resume` is not given, what is there
                was asked with another protocol, or another process writes to it.
        """
        self.path = folder / f"journal-{rank}.jsonl"
        self.protocol, self.versions = json.loads(json.dumps(protocol, default=str)), versions
        self.known: dict[str, Response] = {}
        self.scores: dict[str, Scored] = {}
        self._fingerprints: dict[Path, dict[str, Any]] = {}
        self._resumed, self._share = resume, f"of rank {rank}'s" if world_size > 1 else "of"
        fix = "give each run an --output_path of its own"
        self._log = AppendLog(self.path, "journal", _FORMAT, fix)
        try:
            self._go_on() if resume else self._start_anew(rank, world_size)
            header = {"journal": _FORMAT, "command": list(command), "protocol": self.protocol}
            self._log.append(header)
        except BaseException:
            self.close()
            raise

    def _go_on(self) -> None:
        """Read the journals of all ranks."""
        kept = [file for file in journal_files(self.path.parent) if self._read(file)]
        if self.path not in kept:
            self._log.clear()

    def _start_anew(self, rank: int, world_size: int) -> None:
        """Set aside a finished run's journals: this rank's, and those of ranks beyond the run."""
        others = journal_files(self.path.parent) if rank == 0 else []
        others = [file for file in others if _rank(file) >= world_size]
        for file in (self.path, *others):
            _check_finished(file)
        if any("finished" in row for row in _rows(self.path)):
            _put_store_aside(self.path.with_name(STORE))
        for file in (self.path, *others):
            _put_aside(file)
        self._log.clear()
        for file in others:
            file.unlink()

    def check_model(self, fingerprint: Mapping[str, Any]) -> None:
        """Record the model's fingerprint.

        Raises:
            ValueError: Responses in the journals are another model's.
        """
        current: dict[str, Any] = json.loads(json.dumps(fingerprint, default=str))
        for file, known in self._fingerprints.items():
            if known != current:
                raise ValueError(
                    f"{file}: the journal is of another model: {_difference(known, current)}; "
                    "give another --output_path"
                )
        if self.path not in self._fingerprints:
            self._log.append({"fingerprint": current})
            self._fingerprints[self.path] = current

    def add(self, key: str, request: Any, answer: Response | Scored) -> None:
        """Write a response or a score; the operating system has it when this returns."""
        row = {"key": key, "task": request.task_name, "doc_id": request.doc_id}
        self._log.append({**row, **answer.row()})
        self._keep(key, answer)

    def _keep(self, key: str, answer: Response | Scored) -> None:
        if isinstance(answer, Scored):
            self.scores[key] = answer
        else:
            self.known[key] = answer

    def say_kept(self, count: int, total: int, what: str) -> None:
        """Say how many of the answers that a resumed run wants it has already."""
        if self._resumed:
            log.info(
                "--resume %s: %d %s %d %s are kept, %d are left to do",
                *(self.path.parent, count, self._share, total, what, total - count),
            )

    def finish(self) -> None:
        """Mark the run as complete and scored, so that a new run may use the folder."""
        self._log.append({"finished": True})

    def close(self) -> None:
        """Close the file; nothing of it is in a buffer."""
        self._log.close()

    def keys(self, requests: Sequence[Any]) -> list[str]:
        """Return each request's key; equal requests are numbered."""
        seen: Counter[str] = Counter()
        keys = []
        for request in requests:
            visuals = request.args[2].get("visual", ()) if len(request.args) > 2 else ()
            asked = [
                *(request.task_name, self.versions.get(request.task_name), request.doc_id),
                *(request.doc, str(request.args[0]), *request.args[1:2]),
                [image_sha256(image) for image in visuals],
            ]
            if request.request_type != "generate_until":
                asked.append(request.request_type)
            key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=_plain).encode())
            seen[key.hexdigest()] += 1
            keys.append(f"{key.hexdigest()}-{seen[key.hexdigest()]}")
        return keys

    def _read(self, file: Path) -> bool:
        """Load a journal's responses; return whether it has any."""
        rows = list(_rows(file))
        # An attempt that was killed before its first response binds nobody.
        if not any("key" in row for row in rows):
            return False
        for row in rows:
            if "protocol" in row and row["protocol"] != self.protocol:
                raise ValueError(
                    f"{file}: the journal is of another protocol: "
                    f"{_difference(row['protocol'], self.protocol)}; give another --output_path"
                )
            if "fingerprint" in row:
                self._fingerprints[file] = row["fingerprint"]
            if "key" in row:
                self._keep(row["key"], _answer(row))
        return True


def journal_files(folder: Path) -> list[Path]:
    """Return the journals of all ranks, rank 0 first."""
    files = [f for f in folder.glob("journal-*.jsonl") if re.fullmatch(r"journal-\d+", f.stem)]
    return sorted(files, key=_rank)


def noted(folder: Path, task: str, doc_id: int) -> list[Response]:
    """Return the responses to a document in a folder's journals, those of finished runs too."""
    return [
        answer
        for file in sorted(folder.glob("journal-*.jsonl"))
        for row in _rows(file)
        if row.get("task") == task and row.get("doc_id") == doc_id and "key" in row
        if isinstance(answer := _answer(row), Response)
    ]


def is_finished(folder: Path) -> bool:
    """Tell whether a folder's latest run was finished by all of its ranks."""
    ends = [next(iter(deque(_rows(file), maxlen=1)), {}) for file in journal_files(folder)]
    return bool(ends) and all("finished" in row for row in ends)


def kept(folder: Path) -> Counter[str]:
    """Count the `responses` and `scores` in a folder's journals."""
    return _count(row for file in journal_files(folder) for row in _rows(file))


def counted(counts: Mapping[str, int]) -> str:
    """Return counts in words: `3 responses and 2 scores`."""
    return " and ".join(f"{count} {what}" for what, count in counts.items() if count)


def _count(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        if "key" in row:
            counts["scores" if "score" in row else "responses"] += 1
    return counts


def has_command(folder: Path) -> bool:
    """Tell whether a journal in a folder begins with a command, as a run's does."""
    for file in journal_files(folder):
        with suppress(ValueError):
            if next(_rows(file), {}).get("command"):
                return True
    return False


def recorded_command(folder: Path) -> list[str]:
    """Return the arguments of a folder's latest run.

    Raises:
        FileNotFoundError: There is no journal, or the run was killed before its first line.
    """
    for file in journal_files(folder):
        commands = [row["command"] for row in _rows(file) if "command" in row]
        if commands:
            command: list[str] = commands[-1]
            return command
    if not folder.is_dir():
        raise FileNotFoundError(
            f"--resume {folder}: no such folder; give the --output_path of the run that was killed"
        )
    if journal_files(folder.parent):
        raise FileNotFoundError(
            f"--resume {folder}: no journal in it, but one above; give {folder.parent}"
        )
    raise FileNotFoundError(
        f"--resume {folder}: no journal in it; start the run with its full command and "
        f"--output_path {folder}"
    )


def _plain(value: Any) -> str:
    """Return a text for a value that JSON cannot represent; an image by its content."""
    return image_sha256(value) if isinstance(value, Image.Image) else str(value)


def _answer(row: Mapping[str, Any]) -> Response | Scored:
    if "score" in row:
        return Scored(row["score"], row.get("greedy"), row["engine"])
    return Response(row["response"], row["engine"], row.get("ending"), row.get("thought"))


def _rank(file: Path) -> int:
    return int(file.stem.removeprefix("journal-"))


def _check_finished(file: Path) -> None:
    """Raise ValueError if a journal holds answers of an unfinished run."""
    rows = list(_rows(file))
    last = max((place for place, row in enumerate(rows) if "finished" in row), default=-1)
    if counts := _count(rows[last + 1 :]):
        raise ValueError(
            f"{file}: an unfinished run left {counted(counts)} in it; go on with "
            f"`verbalizer-bench run --resume {file.parent}`, or give another --output_path"
        )


def _put_aside(file: Path) -> None:
    """Copy the journal of a finished run, which a new run overwrites."""
    if not any("key" in row for row in _rows(file)):
        return
    copies = (file.with_name(f"{file.stem}.finished-{n}.jsonl") for n in itertools.count(1))
    copy = next(copy for copy in copies if not copy.exists())
    shutil.copyfile(file, copy)
    log.warning("%s: the journal of a finished run is kept as %s", file.parent, copy.name)


def _put_store_aside(store: Path) -> None:
    """Rename what a served model sent a finished run: a new run shall ask, not repeat it."""
    if store.is_file():
        names = (store.with_name(f"{store.stem}.finished-{n}.jsonl") for n in itertools.count(1))
        store.rename(next(name for name in names if not name.exists()))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield a journal's rows.

    Raises:
        ValueError: A line is none of a journal's, or the file is no journal.
    """
    for place, row in read_log(file, "journal", _FORMAT):
        texts = [row.get(key) for key in ("key", "engine")] if "key" in row else []
        if "key" in row and type(row.get("score")) is not float:
            texts.append(row.get("response"))
        command = row.get("command", [])
        texts += command if isinstance(command, list) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{file}, {place}: not what a run writes; move the journal away")
        yield row


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{key} is {old.get(key)!r} there and {new.get(key)!r} here"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    )
