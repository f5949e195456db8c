"""How far a run is: one bar for all its prompts on a terminal, a few lines in a file.

How long it takes is measured: responses come batch by batch, and the batches that are done say what
the rest takes. Before the first is done nothing is said of it.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, Self

from tqdm import tqdm

# What comes within so many seconds is of one batch, unless that goes on for longer.
_BURST, _LONG = 0.05, 1.0
# In a file: a line every tenth, and not sooner than so many seconds.
_TENTHS, _QUIET = 10, 10.0
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{left}{postfix}]"


class Pace:
    """What the batches that are done say of those to come."""

    def __init__(self, total: int, done: int, now: float) -> None:
        """Start at a time; `done` of the total are there already, and say nothing."""
        self.total, self.start = total, now
        self._kept = self._done = self._counted = done
        self._counted_at = self._last = now
        # When the batch began to come that is counted now.
        self._began: float | None = None

    def add(self, count: int, now: float) -> None:
        """Count what is there now."""
        if self._began is None:
            self._began = now
        elif now - self._last >= _BURST or now - self._began >= _LONG:
            self._counted, self._counted_at, self._began = self._done, self._last, now
        self._done, self._last = self._done + count, now

    def keep(self, now: float) -> None:
        """Count one that was there already: it took no time, and the others begin now."""
        self._kept, self._done, self._counted = self._kept + 1, self._done + 1, self._counted + 1
        self.start = self._counted_at = self._last = now

    @property
    def seconds_left(self) -> float | None:
        """Return how long the rest takes, in seconds; None before a batch is known to be done."""
        if self._counted == self._kept:
            return None
        each = (self._counted_at - self.start) / (self._counted - self._kept)
        return each * (self.total - self._done)

    @property
    def text(self) -> str:
        """Return how long the rest takes, in words."""
        if self._done >= self.total:
            return f"took {duration(self._last - self.start)}"
        left = self.seconds_left
        return "measuring the time" if left is None else f"about {duration(left)} left"


def duration(seconds: float) -> str:
    """Return seconds in words: `45 s`, `3 min 20 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class _Bar(tqdm):
    """A bar whose time is that of `Pace`."""

    def __init__(self, pace: Pace, **options: Any) -> None:
        self._pace = pace
        super().__init__(
            **options, bar_format=_FORMAT, miniters=1, mininterval=0.2, dynamic_ncols=True
        )

    @property
    def format_dict(self) -> dict[str, Any]:
        """Return what the bar's text is made of."""
        return {**super().format_dict, "left": self._pace.text}

    def update(self, n: float | None = 1) -> bool | None:
        """Count a response."""
        self._pace.add(int(n or 0), time.monotonic())
        shown: bool | None = super().update(n)
        return shown

    def keep(self) -> None:
        """Count a response that was there already."""
        self._pace.keep(time.monotonic())
        self.n += 1


class _Lines:
    """The same for a file, into which a bar would write itself over and over."""

    def __init__(
        self, pace: Pace, desc: str, unit: str, done: int, say: Callable[[str], None]
    ) -> None:
        self._pace, self._desc, self._unit, self._say = pace, desc, unit, say
        self._done, self._said, self._said_at = done, -1, 0.0

    def __enter__(self) -> Self:
        of = f" of {self._pace.total}" if self._done else ""
        self._say(f"{self._desc}: {self._pace.total - self._done}{of} {self._unit}s")
        return self

    def update(self) -> None:
        """Count a response; say how far it is, once it can be told and then every tenth."""
        now = time.monotonic()
        self._pace.add(1, now)
        self._done += 1
        tenth = self._done * _TENTHS // self._pace.total
        if self._pace.seconds_left is None or tenth == _TENTHS:
            return
        if self._said < 0 or (tenth > self._said and now - self._said_at >= _QUIET):
            self._said, self._said_at = tenth, now
            self._say(self._line())

    def keep(self) -> None:
        """Count a response that was there already."""
        self._pace.keep(time.monotonic())
        self._done += 1

    def set_postfix_str(self, text: str = "", refresh: bool = True) -> None:
        """Say nothing: that is for eyes that watch."""

    def _line(self) -> str:
        return f"{self._desc}: {self._done} of {self._pace.total}, {self._pace.text}"

    def __exit__(self, *error: object) -> None:
        self._say(self._line())


def progress(
    desc: str, total: int, done: int = 0, unit: str = "response", quiet: bool = False
) -> Any:
    """Return a bar, or what says the same in lines where nobody watches; a context manager.

    Args:
        desc: What is done.
        total: How many there are.
        done: How many of them are there already.
        unit: What one of them is.
        quiet: Whether to show nothing.
    """
    pace = Pace(total, done, time.monotonic())
    if quiet or sys.stderr.isatty():
        return _Bar(pace, desc=desc, total=total, initial=done, unit=unit, disable=quiet)
    return _Lines(pace, desc, unit, done, lambda text: print(text, file=sys.stderr, flush=True))
