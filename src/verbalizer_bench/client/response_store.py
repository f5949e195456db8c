"""The store: every response as soon as it is there, so that a rerun or a crash costs nothing.

`calls.jsonl` has a JSON object a line: a header, then a row a response with `key`, `role`, `model`,
`response` (as the server gave it), `usage` and `time`. The file is an `AppendLog`.
"""

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from verbalizer_bench.client.budget import Usage, UsageTotals
from verbalizer_bench.client.protocol import problem_of
from verbalizer_bench.io.append_log import AppendLog

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
            ValueError: Another process writes to it, a line is none of a store's, or the disk
                takes nothing.
        """
        self.path = folder / NAME
        fix = "wait until it is done, or give another output"
        self._log = AppendLog(self.path, "calls", _FORMAT, fix, lock=folder / "calls.lock")
        self.known: dict[str, Mapping[str, Any]] = {}
        self.earlier = UsageTotals()
        self._written = self._on_disk = 0
        self._syncing = asyncio.Lock()
        try:
            for row in _rows(self._log):
                if row["key"] not in self.known:
                    self.known[row["key"]] = row
                    self.earlier.add(Usage(**row["usage"]))
            if self._log.is_empty:
                self._log.append({"calls": _FORMAT})
                self._log.sync()
        except BaseException as error:
            self._log.close()
            if isinstance(error, OSError):
                raise _unwritten(self.path, error) from error
            raise

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
            self._log.append(row)
            self._written += 1
            await self._sync(self._written)
        except OSError as error:
            raise _unwritten(self.path, error) from error
        self.known[key] = row
        return row

    async def _sync(self, row: int) -> None:
        """Wait until a row is on the disk; rows that come meanwhile share the next fsync."""
        while self._on_disk < row:
            async with self._syncing:
                if self._on_disk < row:
                    await asyncio.sleep(_GATHER)
                    written = self._written
                    await asyncio.to_thread(self._log.sync)
                    self._on_disk = written

    def close(self) -> None:
        """Give the store back; nothing of it is in a buffer."""
        self._log.close()


def _rows(log: AppendLog) -> Iterator[dict[str, Any]]:
    for place, row in itertools.islice(log.read(), 1, None):
        where = f"{log.path}, {place}"
        if missing := sorted(_FIELDS - set(row)):
            raise ValueError(f"{where}: no {', '.join(missing)}; move the store away")
        if problem := _problem(row):
            raise ValueError(f"{where}: {problem}; remove the line, or move it away")
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


def _unwritten(path: Path, error: OSError) -> ValueError:
    """Return what is said of a file that a disk did not take."""
    return ValueError(
        f"{path}: it cannot be written ({error.strerror or error}); make room, or mend what the "
        "system says, and run the same command again: whatever is stored is kept"
    )
