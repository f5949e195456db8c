"""A run's journal: every response as soon as its batch is done, so that a killed run can go on.

`journal-<rank>.jsonl` stands in the output folder, a JSON object a line: first how the run was
asked (`command`, `protocol`), then the model's `fingerprint`, then a row a response, at last
`finished`. A row's key is the sha256 of task, version, document, prompt, images and generation
arguments; model and protocol hold for the whole file. A torn last line is dropped.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from verbalizer_bench.models.images import image_sha256

_FORMAT = 1


class Response(NamedTuple):
    """A response and the engine that made it."""

    text: str
    engine: str


class Journal:
    """The responses of a run that is going on, and those of its earlier, killed attempts."""

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
        """Open a rank's journal, and read every rank's if the run goes on.

        Args:
            folder: The output folder.
            command: The arguments of `run`, for `--resume` without others.
            protocol: What a prompt depends on beside task and model.
            versions: A task's version, by name.
            resume: Whether to go on with what is there.
            rank: Whose journal is written.
            world_size: How many ranks the run has; those of more are removed by a new run.

        Raises:
            ValueError: The folder has an unfinished journal and `resume` is not given, or what is
                there was asked with another protocol.
        """
        self.path = folder / f"journal-{rank}.jsonl"
        self.protocol, self.versions = json.loads(json.dumps(protocol, default=str)), versions
        self.known: dict[str, Response] = {}
        self._fingerprint: dict[str, Any] | None = None
        files = journal_files(folder)
        if resume:
            for file in files:
                self._read(file)
        elif (count := _unfinished(files)) and rank == 0:
            raise ValueError(
                f"{folder}: an unfinished run left {count} responses in its journal; go on with "
                f"`verbalizer-bench run --resume {folder}`, or give another --output_path"
            )
        else:
            for file in files:
                if file == self.path or (rank == 0 and _rank(file) >= world_size):
                    file.unlink()
        _drop_torn_line(self.path)
        is_new = not self.path.is_file() or not self.path.stat().st_size
        self._file = self.path.open("a", encoding="utf-8")
        if is_new:
            self._write({"journal": _FORMAT, "command": list(command), "protocol": self.protocol})

    def check_model(self, fingerprint: Mapping[str, Any]) -> None:
        """Note whose responses these are.

        Raises:
            ValueError: The journal is of another model.
        """
        found: dict[str, Any] = json.loads(json.dumps(fingerprint, default=str))
        if self._fingerprint is None:
            self._write({"fingerprint": found})
        elif found != self._fingerprint:
            raise ValueError(
                f"{self.path}: the journal is of another model: "
                f"{_difference(self._fingerprint, found)}; give another --output_path"
            )
        self._fingerprint = found

    def add(self, key: str, request: Any, response: Response) -> None:
        """Write a response; it is on its way to the disk when this returns."""
        row = {"key": key, "task": request.task_name, "doc_id": request.doc_id}
        self._write({**row, "engine": response.engine, "response": response.text})
        self.known[key] = response

    def finish(self, results: Path) -> None:
        """Say that the run's results are written; a new run may then take the folder."""
        self._write({"finished": results.name})

    def close(self) -> None:
        """Close the file; nothing of it is in a buffer."""
        self._file.close()

    def keys(self, requests: Sequence[Any]) -> list[str]:
        """Return each request's key; equal requests get different ones, in their order."""
        seen: Counter[str] = Counter()
        keys = []
        for request in requests:
            visuals = request.args[2].get("visual", ()) if len(request.args) > 2 else ()
            asked = [
                *(request.task_name, self.versions.get(request.task_name), request.doc_id),
                *(request.doc, str(request.args[0]), request.args[1]),
                [image_sha256(image) for image in visuals],
            ]
            key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=_plain).encode())
            seen[key.hexdigest()] += 1
            keys.append(f"{key.hexdigest()}-{seen[key.hexdigest()]}")
        return keys

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def _read(self, file: Path) -> None:
        for row in _rows(file):
            if "protocol" in row and row["protocol"] != self.protocol:
                raise ValueError(
                    f"{file}: the journal is of another protocol: "
                    f"{_difference(row['protocol'], self.protocol)}; give another --output_path"
                )
            if "fingerprint" in row:
                self._fingerprint = row["fingerprint"]
            if "key" in row:
                self.known[row["key"]] = Response(row["response"], row["engine"])


_current: Journal | None = None


def current() -> Journal | None:
    """Return the journal of the run that is going on; None outside `verbalizer-bench run`."""
    return _current


@contextmanager
def recording(journal: Journal) -> Iterator[None]:
    """Have the adapters write to this journal; lm-eval has no way to hand it to them."""
    global _current
    _current = journal
    try:
        yield
    finally:
        _current = None
        journal.close()


def journal_files(folder: Path) -> list[Path]:
    """Return the journals of all ranks, rank 0 first."""
    return sorted(folder.glob("journal-*.jsonl"), key=_rank)


def recorded_command(folder: Path) -> list[str]:
    """Return the arguments that a run was started with.

    Raises:
        FileNotFoundError: There is no journal, or the run was killed before its first line.
    """
    for file in journal_files(folder)[:1]:
        for row in _rows(file):
            command: list[str] = row["command"]
            return command
    raise FileNotFoundError(
        f"--resume {folder}: no journal in it; start the run with its full command and "
        f"--output_path {folder}"
    )


def _plain(value: Any) -> str:
    """Return what stands for a value that JSON does not have; images by their content."""
    return image_sha256(value) if isinstance(value, Image.Image) else str(value)


def _rank(file: Path) -> int:
    return int(file.stem.removeprefix("journal-"))


def _unfinished(files: Sequence[Path]) -> int:
    """Return how many responses stand in journals whose run did not finish."""
    rows = [row for file in files for row in _rows(file)]
    if any("finished" in row for row in rows):
        return 0
    return sum("key" in row for row in rows)


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield a journal's rows but a torn last one.

    Raises:
        ValueError: Another line is no JSON, or the file is no journal.
    """
    content = file.read_bytes()
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{file}:{number}: not a line of a journal: {error}") from error
        if number == 1 and row.get("journal") != _FORMAT:
            raise ValueError(f"{file}: not a journal of format {_FORMAT}; move it away")
        yield row


def _drop_torn_line(file: Path) -> None:
    if file.is_file():
        content = file.read_bytes()
        with file.open("r+b") as handle:
            handle.truncate(content.rfind(b"\n") + 1)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{key} is {old.get(key)!r} there and {new.get(key)!r} here"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    )
