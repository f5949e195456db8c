"""An append-only log of JSON lines, written by one process at a time, that survives a kill.

The first line is a header, `{"journal": 1, …}`: the kind of log and the version of its format. A
killed process leaves at most a torn last line: readers skip it, and the next writer truncates it.
After a failed write nothing more is written, since the next line would be glued to a torn one.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import no_locks


def read_log(path: Path, kind: str, version: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and object of each complete line of a log, the header first.

    Args:
        path: The log; it may be empty or missing.
        kind: The header's key.
        version: The header's value.

    Raises:
        ValueError: It is not a log of this kind and version, or a line is not JSON.
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
    """A log that this process holds for writing until it closes it or exits."""

    def __init__(
        self, path: Path, kind: str, version: int, fix: str, lock: Path | None = None
    ) -> None:
        """Lock the log for this process, and truncate a torn last line.

        Args:
            path: The log; it is created if missing.
            kind: The header's key.
            version: The header's value.
            fix: What to do if another process writes to it, for the error.
            lock: A separate lock file, which holds the process id; None to lock the log itself.

        Raises:
            ValueError: Another process writes to it, or it is not a log of this kind and version.
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
        """Whether the header has yet to be written."""
        return self.path.stat().st_size == 0

    def read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield place and object of each line, as `read_log` does."""
        return read_log(self.path, self._kind, self._version)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a line; the operating system has it when this returns.

        Raises:
            OSError: This or an earlier write failed.
        """
        with self._writing():
            left = memoryview(jsonl.dumps([row]).encode())
            while left:
                left = left[self._file.write(left) :]

    def sync(self) -> None:
        """Flush all lines, and the new file's directory entry, to the disk.

        Raises:
            OSError: This or an earlier write failed.
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
        """Close the log and release its lock."""
        self._file.close()
        os.close(self._lock)


def _lock(path: Path, lock: Path | None, fix: str) -> int:
    """Take the lock; return the descriptor that holds it."""
    descriptor = os.open(lock or path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        who = f"process {lock.read_text().strip()}" if lock else "another process"
        os.close(descriptor)
        raise ValueError(f"{path}: {who} writes to it; {fix}") from error
    except OSError as error:
        os.close(descriptor)
        raise no_locks(path, error) from error
    if lock:
        # A disk without room for the number holds the lock all the same.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
