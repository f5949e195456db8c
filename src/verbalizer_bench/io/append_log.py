"""A log: JSON lines that only grow, written by one process at a time, that a kill cannot break.

The first line is a header, `{"journal": 1, …}`: a kind of log, and the version of its format. A
kill leaves at most a torn last line: reading passes it over, and whoever opens the log to write
cuts it off. Once a disk has refused a line, nothing more is written: the next would go on with it.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from verbalizer_bench.io import jsonl


def read_log(path: Path, kind: str, version: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and object of each whole line of a log, the header first.

    Args:
        path: The log; it may be empty, or not be there yet.
        kind: The header's key.
        version: The header's value.

    Raises:
        ValueError: It is no log of this kind and version, or a line is not JSON.
    """
    if not path.is_file():
        return
    for number, (place, row) in enumerate(jsonl.read_objects(path, torn=True)):
        written = row.get(kind)
        if number == 0 and written != version:
            newer = isinstance(written, int) and written > version
            raise ValueError(
                f"{path}, {place}: {kind}={written!r}: "
                + ("a newer version wrote it; update, or " if newer else f"{version} is expected; ")
                + "move the file away"
            )
        yield place, row


class AppendLog:
    """A log that this process writes until it closes it, or ends."""

    def __init__(
        self, path: Path, kind: str, version: int, fix: str, lock: Path | None = None
    ) -> None:
        """Take the log for this process, and cut off a torn last line.

        Args:
            path: The log; it is made where there is none.
            kind: The header's key.
            version: The header's value.
            fix: What to do where another process writes to it.
            lock: A file beside it that says which process that is; None to lock the log itself.

        Raises:
            ValueError: Another process writes to it, or it is no log of this kind and version.
        """
        self.path, self._kind, self._version = path, kind, version
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path, lock, fix)
        self._file = path.open("ab", buffering=0)
        self._refused: OSError | None = None
        self._is_named = False
        try:
            next(self.read(), None)
        except ValueError:
            self.close()
            raise
        with path.open("rb") as lines:
            whole = sum(len(line) for line in lines if line.endswith(b"\n"))
        self._file.truncate(whole)

    @property
    def is_empty(self) -> bool:
        """Whether the header is still to be written."""
        return self.path.stat().st_size == 0

    def read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield place and object of each line, as `read_log` does."""
        return read_log(self.path, self._kind, self._version)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a line; the system has it when this returns.

        Raises:
            OSError: The disk takes no more, now or before.
        """
        with self._writing():
            left = memoryview(jsonl.dumps([row]).encode())
            while left:
                left = left[self._file.write(left) :]

    def sync(self) -> None:
        """Wait until all lines, and the file's name, are on the disk.

        Raises:
            OSError: The disk takes no more, now or before.
        """
        with self._writing():
            os.fsync(self._file.fileno())
            if not self._is_named:
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
                self._is_named = True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._refused:
            raise self._refused
        try:
            yield
        except OSError as error:
            error.filename = str(self.path)
            self._refused = error
            raise

    def clear(self) -> None:
        """Remove all lines."""
        self._file.truncate(0)

    def close(self) -> None:
        """Give the log back; nothing of it is in a buffer."""
        self._file.close()
        os.close(self._lock)


def _lock(path: Path, lock: Path | None, fix: str) -> int:
    """Return a descriptor that holds the lock."""
    descriptor = os.open(lock or path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        who = f"process {lock.read_text().strip()}" if lock else "another process"
        os.close(descriptor)
        raise ValueError(f"{path}: {who} writes to it; {fix}") from error
    if lock:
        # A disk without room for the number holds the lock all the same.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
