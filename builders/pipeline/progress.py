"""Progress: a bar for a stage, with records a minute, rejections, and what was spent."""

import asyncio
import re
import time
from typing import Any

from tqdm import tqdm

from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.client.budget import UsageTotals
from verbalizer_bench.client.chat_client import ChatClient

# Seconds between two looks at the client's status.
_INTERVAL = 0.5
_FORMAT = "{desc}: {n_fmt}/{total_fmt} |{bar:20}| {elapsed}<{remaining}{postfix}"


class StageProgress:
    """The bar of one stage; a context manager."""

    def __init__(self, stage: str, samples: int, usage: UsageTotals, file: Any = None) -> None:
        """Begin.

        Args:
            stage: Its name.
            samples: How many there are.
            usage: What calls have cost so far.
            file: Where to draw; None: standard error.
        """
        self._usage, self._began, self._rejected, self._status = usage, time.monotonic(), 0, ""
        self._bar = tqdm(total=samples, desc=stage, unit="record", file=file, bar_format=_FORMAT)

    def __enter__(self) -> "StageProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self._status = ""
        self._bar.set_postfix_str(self._postfix())
        self._bar.close()

    def done(self, *samples: TrainingSample) -> None:
        """Count samples that are done."""
        self._rejected += sum(sample.rejection is not None for sample in samples)
        self._bar.set_postfix_str(self._postfix(), refresh=False)
        self._bar.update(len(samples))

    async def watch(self, client: ChatClient) -> None:
        """Show the client's status as it changes, until cancelled."""
        while True:
            self.show(client.status)
            await asyncio.sleep(_INTERVAL)

    def show(self, status: str) -> None:
        """Show a status; in a file, once for each reason, whatever its numbers are."""
        terminal = self._bar.fp.isatty() if hasattr(self._bar.fp, "isatty") else False
        changed = re.sub(r"\d+", "", status) != re.sub(r"\d+", "", self._status)
        self._status = status
        if changed or (status and terminal):
            self._bar.set_postfix_str(self._postfix())

    def _postfix(self) -> str:
        rate = 60 * self._bar.n / max(time.monotonic() - self._began, 1e-6)
        tokens, spent = self._usage.input_tokens + self._usage.output_tokens, self._usage.money
        parts = [f"{rate:,.0f} records/min", f"{self._rejected} rejected"]
        parts += [f"{tokens:,} tokens"] if tokens else []
        parts += [f"{spent:,.2f} spent"] if spent else []
        return ", ".join(parts) + (f"; waiting: {self._status}" if self._status else "")
