"""Atomic writes, hashes of files, and locks between processes."""

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file atomically: a temporary file is synced to the disk and renamed.

    Raises:
        OSError: The write failed; names the file, which is unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        # A full disk does not say which.
        error.filename, error.filename2 = str(file), None
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Where what follows fails, remove a folder and its parents that it made and left empty."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        for place in made:
            with suppress(OSError):
                place.rmdir()
        raise


def file_sha256(file: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def wait_for_lock(file: Path) -> Iterator[bool]:
    """Wait for a lock and hold it; it is released when the process exits at the latest.

    Yields:
        Whether `file` is still the one that was locked: if whoever held it has removed it, what was
        to be done is done.

    Raises:
        OSError: The file system has no locks.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = file.open("a")
    # It was removed, with its folder, since.
    except FileNotFoundError:
        yield False
        return
    with stream:
        _acquire(file, stream.fileno())
        yield file.exists() and file.stat().st_ino == os.fstat(stream.fileno()).st_ino


@contextmanager
def try_lock(file: Path) -> Iterator[bool]:
    """Try to take a lock; yield whether it was free. The file holds the owner's process id."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # A disk without locks, or without room, is no reason not to work.
        except OSError as error:
            log.debug("%s: no lock: %s", file, error)
        with suppress(OSError):
            stream.truncate(0)
            stream.write(f"{os.getpid()}\n")
            stream.flush()
        try:
            yield True
        finally:
            file.unlink(missing_ok=True)


def _acquire(file: Path, descriptor: int) -> None:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("Another process works in %s: waiting for it", file.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise no_locks(file, error) from error


def no_locks(file: Path, error: OSError) -> OSError:
    """Return the error of a file system that has no locks."""
    return OSError(f"{file}: no lock on this file system ({error}); give a local one")


def remove(folder: Path) -> None:
    """Remove a folder that others may recreate: renaming it first frees its name at once."""
    gone = folder.with_name(f"{folder.name}.{os.getpid()}")
    folder.rename(gone)
    shutil.rmtree(gone)
