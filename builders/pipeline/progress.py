"""Progress: a bar a stage, with records a minute, how many were set aside, and what was spent."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, Protocol

from tqdm import tqdm

from verbalizer_bench.builders.pipeline.sample import Row

# Seconds between two looks at what calls wait for.
_LOOK = 0.5


class Spent(Protocol):
    """What calls have cost so far: `limits.Spending`, or what stands in for it."""

    @property
    def money(self) -> float:
        """Return the money."""
        ...

    @property
    def input_tokens(self) -> int:
        """Return the tokens of prompts."""
        ...

    @property
    def output_tokens(self) -> int:
        """Return the tokens of responses."""
        ...


class Progress:
    """The bar of one stage; use it as a context."""

    def __init__(self, stage: str, rows: int, spent: Callable[[], Spent], file: Any = None) -> None:
        """Begin.

        Args:
            stage: Its name.
            rows: How many there are to do.
            spent: Says what calls have cost.
            file: Where to draw; None: standard error.
        """
        self._spent, self._began, self._aside, self._why = spent, time.monotonic(), 0, ""
        self._bar = tqdm(total=rows, desc=stage, unit="record", file=file, bar_format=_FORMAT)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._why = ""
        self._bar.set_postfix_str(self._say())
        self._bar.close()

    def done(self, *rows: Row) -> None:
        """Count rows that are done."""
        self._aside += sum(row.set_aside is not None for row in rows)
        self._bar.set_postfix_str(self._say(), refresh=False)
        self._bar.update(len(rows))

    async def watch(self, why: Callable[[], str]) -> None:
        """Say what calls wait for as soon as they do, until it is cancelled."""
        while True:
            self.say_why(why())
            await asyncio.sleep(_LOOK)

    def say_why(self, why: str) -> None:
        """Say what calls wait for; in a file, once for each reason, whatever its numbers are."""
        terminal = self._bar.fp.isatty() if hasattr(self._bar.fp, "isatty") else False
        changed = _reason(why) != _reason(self._why)
        self._why = why
        if changed or (why and terminal):
            self._bar.set_postfix_str(self._say())

    def _say(self) -> str:
        rate = 60 * self._bar.n / max(time.monotonic() - self._began, 1e-6)
        spent = self._spent()
        tokens = spent.input_tokens + spent.output_tokens
        money = f", {spent.money:,.2f} spent" if spent.money else ""
        why = f"; waiting: {self._why}" if self._why else ""
        return f"{rate:,.0f} records/min, {self._aside} rejected, {tokens:,} tokens{money}{why}"


def _reason(why: str) -> str:
    return re.sub(r"\d+", "", why)


_FORMAT = "{desc}: {n_fmt}/{total_fmt} |{bar:20}| {elapsed}<{remaining}{postfix}"
