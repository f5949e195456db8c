"""Progress: a bar a stage, with records a minute, how many were set aside, and what was spent."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from verbalizer_bench.builders.client.budget import UsageTotals
from verbalizer_bench.builders.pipeline.sample import Sample

# Seconds between two looks at what calls wait for.
_LOOK = 0.5


class ProgressBar:
    """The bar of one stage; use it as a context."""

    def __init__(
        self, stage: str, samples: int, usage: Callable[[], UsageTotals], file: Any = None
    ) -> None:
        """Begin.

        Args:
            stage: Its name.
            samples: How many there are to do.
            usage: Returns what calls have cost so far.
            file: Where to draw; None: standard error.
        """
        self._usage, self._began, self._rejected, self._waiting_for = usage, time.monotonic(), 0, ""
        self._bar = tqdm(total=samples, desc=stage, unit="record", file=file, bar_format=_FORMAT)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *error: object) -> None:
        self._waiting_for = ""
        self._bar.set_postfix_str(self._say())
        self._bar.close()

    def done(self, *samples: Sample) -> None:
        """Count rows that are done."""
        self._rejected += sum(sample.rejection is not None for sample in samples)
        self._bar.set_postfix_str(self._say(), refresh=False)
        self._bar.update(len(samples))

    async def watch(self, waiting_for: Callable[[], str]) -> None:
        """Say what calls wait for as soon as they do, until it is cancelled."""
        while True:
            self.say_waiting(waiting_for())
            await asyncio.sleep(_LOOK)

    def say_waiting(self, waiting_for: str) -> None:
        """Say what calls wait for; in a file, once for each reason, whatever its numbers are."""
        terminal = self._bar.fp.isatty() if hasattr(self._bar.fp, "isatty") else False
        changed = _reason(waiting_for) != _reason(self._waiting_for)
        self._waiting_for = waiting_for
        if changed or (waiting_for and terminal):
            self._bar.set_postfix_str(self._say())

    def _say(self) -> str:
        rate = 60 * self._bar.n / max(time.monotonic() - self._began, 1e-6)
        usage = self._usage()
        tokens = usage.input_tokens + usage.output_tokens
        money = f", {usage.money:,.2f} spent" if usage.money else ""
        waiting = f"; waiting: {self._waiting_for}" if self._waiting_for else ""
        return (
            f"{rate:,.0f} records/min, {self._rejected} rejected, {tokens:,} tokens{money}{waiting}"
        )


def _reason(waiting_for: str) -> str:
    return re.sub(r"\d+", "", waiting_for)


_FORMAT = "{desc}: {n_fmt}/{total_fmt} |{bar:20}| {elapsed}<{remaining}{postfix}"
