"""The store: every response as soon as it is there, so that a rerun or a crash costs nothing.

`calls.jsonl` has a JSON object a line: a header, then a row a response with `key`, `role`, `model`,
`response` (as the server gave it), `usage` and `time`. It only grows; a torn last line is dropped.
Once a disk has refused a row, nothing more is written: the next row would go on with its line.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from verbalizer_bench.builders.client.budget import Usage, UsageTotals
from verbalizer_bench.builders.client.protocol import problem_of

NAME = "calls.jsonl"
_FORMAT = 1
# Seconds in which rows gather for one fsync: no call waits for it, only the use of its response.
_GATHER = 0.005
_FIELDS = {"key", "role", "model", "response", "usage"}


class ResponseStore:
    """The responses of a folder; one process at a time has it."""

    def __init__(self, folder: Path) -> None:
        """Read what is there.

        Raises:
            ValueError: Another process writes to it, or a line is none of a store's.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self._lock = _lock(folder / "calls.lock", self.path)
        self.known: dict[str, Mapping[str, Any]] = {}
        self.earlier = UsageTotals()
        try:
            self._open(folder)
        except BaseException:
            self._lock.close()
            raise
        self._written = self._on_disk = 0
        self._refused: OSError | None = None
        self._syncing = asyncio.Lock()

    def _open(self, folder: Path) -> None:
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        for row in _rows(self.path, whole):
            if row["key"] not in self.known:
                self.known[row["key"]] = row
                self.earlier.add(Usage(**row["usage"]))
        self._file = self.path.open("ab", buffering=0)
        self._file.truncate(len(whole))
        if not whole:
            try:
                self._write({"calls": _FORMAT})
                os.fsync(self._file.fileno())
            except OSError as error:
                raise unwritten(self.path, error) from error
            _sync_folder(folder)

    async def add(
        self, key: str, role: str, model: str, response: Mapping[str, Any], cost: Usage
    ) -> Mapping[str, Any]:
        """Write a response and return its row once it is on the disk.

        Raises:
            ValueError: The disk takes no more.
        """
        row = {"key": key, "role": role, "model": model, "response": response}
        row |= {"usage": cost._asdict(), "time": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            self._check()
            self._write(row)
            self._written += 1
            await self._sync(self._written)
        except OSError as error:
            self._refused = error
            raise unwritten(self.path, error) from error
        self.known[key] = row
        return row

    async def _sync(self, row: int) -> None:
        """Wait until a row is on the disk; rows that come meanwhile share the next fsync."""
        while self._on_disk < row:
            async with self._syncing:
                self._check()
                if self._on_disk < row:
                    await asyncio.sleep(_GATHER)
                    written = self._written
                    await asyncio.to_thread(os.fsync, self._file.fileno())
                    self._on_disk = written

    def _check(self) -> None:
        if self._refused:
            raise self._refused

    def _write(self, row: Mapping[str, Any]) -> None:
        left = memoryview((json.dumps(row, ensure_ascii=False) + "\n").encode())
        while left:
            left = left[self._file.write(left) :]

    def close(self) -> None:
        """Close the files; nothing of them is in a buffer."""
        self._file.close()
        self._lock.close()


def _lock(path: Path, store: Path) -> Any:
    """Take the store for this process; a process that dies gives it back."""
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        pid = file.read().strip()
        file.close()
        raise ValueError(
            f"{store}: process {pid} writes to it; wait until it is done, or give another output"
        ) from error
    with suppress(OSError):  # a disk without room for the number holds the lock all the same
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    return file


def _sync_folder(folder: Path) -> None:
    """Put a new file's name on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rows(path: Path, data: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: not a line of a store: {error}") from error
        if not isinstance(row, dict) or (number == 1 and row.get("calls") != _FORMAT):
            raise ValueError(f"{path}:{number}: not a store of format {_FORMAT}; move it away")
        if number > 1:
            if missing := sorted(_FIELDS - set(row)):
                raise ValueError(f"{path}:{number}: no {', '.join(missing)}; move the store away")
            if problem := _problem(row):
                raise ValueError(f"{path}:{number}: {problem}; remove the line, or move it away")
            yield row


def _problem(row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a row that has all its fields."""
    usage = row["usage"]
    names = isinstance(usage, dict) and set(usage) == set(Usage._fields)
    if not names or not all(isinstance(value, (int, float)) for value in usage.values()):
        return f"usage={usage!r}: {', '.join(Usage._fields)} are expected"
    if not isinstance(row["key"], str):
        return f"key={row['key']!r}: a text is expected"
    return problem_of(row["response"])


def unwritten(path: Path, error: OSError) -> ValueError:
    """Return what is said of a file that a disk did not take."""
    return ValueError(
        f"{path}: it cannot be written ({error.strerror or error}); make room, or mend what the "
        "system says, and run the same command again: whatever is stored is kept"
    )
