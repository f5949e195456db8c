"""How a command ends: one line that says what went wrong, and what is kept.

Where several things are wrong, such as records, an error's notes name each on a line below it.
Errors that the package raises on purpose name the fix. Anything else is unexpected: its traceback
goes into a file that the line names.
"""

import errno
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

# Code that shells give for a process that ended by Ctrl-C, and by `kill`.
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
# What to do about what the system says of a file.
_FIXES = {
    errno.ENOENT: "check the name",
    errno.EEXIST: "give a folder, or another name",
    errno.ENOTDIR: "give a folder, or another name",
    errno.EISDIR: "give a file",
    errno.EACCES: "give a place that may be read and written",
    errno.EPERM: "give a place that may be read and written",
    errno.EROFS: "give a place that may be written",
    errno.ENOSPC: "make room on the disk, or give a place on another",
    errno.EDQUOT: "make room on the disk, or give a place on another",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
}
# Whether it was SIGTERM that ended the command.
_terminated = False


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during work; the text says what is kept and how to continue."""


@contextmanager
def terminations() -> Iterator[None]:
    """Make SIGTERM end a command as Ctrl-C does, so that it says what is kept."""
    global _terminated
    _terminated = False
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    def end(number: int, frame: Any) -> None:
        global _terminated
        _terminated = True
        # A build's loop has a handler of its own for Ctrl-C, which waits for calls that are paid.
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(number, frame)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def interrupted(error: KeyboardInterrupt) -> int:
    """Print one line about an interrupted command; return its exit code."""
    kept = str(error) if isinstance(error, Interrupted) else "the same command starts again"
    if os.environ.get("RANK", "0") == "0":
        _say(f"{'terminated' if _terminated else 'interrupted'}: {kept}")
    return TERMINATED if _terminated else INTERRUPTED


def failed(error: Exception) -> int:
    """Print one line about an error; return the exit code, 2 if the user can fix it."""
    notes = [_joined(note) for note in getattr(error, "__notes__", ())]
    if is_ours(error):
        log.debug("The error in full:", exc_info=error)
        _say("\n  ".join([f"error: {_line(error)}", *notes]))
        return 2
    if isinstance(error, ImportError):
        name = fix = ""
        if error.name:
            name = f"the package {error.name} cannot be imported: "
            fix = f"; `pip install {error.name.partition('.')[0]}`, if it is that"
        _say(f"error: {name}{_line(error)}{fix}{_traceback(error)}")
        return 2
    line = f"error: {type(error).__name__}: {_line(error)}{_traceback(error)}"
    _say("\n  ".join([line, *notes]))
    return 2 if isinstance(error, (ValueError, OSError, MemoryError)) else 1


def is_ours(error: Exception) -> bool:
    """Return whether an error is an expected one, whose text names the fix.

    That is what this package refuses and what lm-eval refuses of its options, and what the system
    says of a file or of memory. A `ValueError` from within a library has no text for our users.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        return True
    if not isinstance(error, (ValueError, OSError)):
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    name = f"{frame.f_globals.get('__name__', '')}."
    return name.startswith(("verbalizer_bench.", "lm_eval.config.", "lm_eval._cli."))


def _line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in _FIXES:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror}; {_FIXES[error.errno]}"
    return _joined(str(error)) or "no text"


def _joined(text: str) -> str:
    return " ".join(text.split())


def _traceback(error: Exception) -> str:
    """Write the traceback to a file; return a clause that names it."""
    text = "".join(traceback.format_exception(error))
    try:
        handle, name = tempfile.mkstemp(prefix="verbalizer-bench-", suffix=".traceback.txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{' '.join(sys.argv)}\n\n{text}")
    except OSError:
        print(text, file=sys.stderr)
        return ""
    return f"; the traceback is in {name}"


def _say(text: str) -> None:
    _close_bars()
    print(f"verbalizer-bench: {text}", file=sys.stderr, flush=True)


def _close_bars() -> None:
    """Close progress bars, which would otherwise be redrawn below the last line."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", ())):
            bar.close()
