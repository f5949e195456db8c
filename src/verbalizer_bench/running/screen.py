"""What stands on the terminal during a run: ours, and of lm-eval what is of use.

lm-eval prints its table and several bars, with no option to be quiet. What is not shown is kept in
`run.log`; `--verbose` shows it.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from verbalizer_bench.io.json_reading import read_record
from verbalizer_bench.models.adapters.log_lines import kept_lines, readable_lines

LOG = "run.log"


class Screen:
    """How much a run shows.

    Attributes:
        shown: Whether it shows its first lines, tables and examples: a command does, Python's
            functions do not.
        verbose: Whether lm-eval's lines, bars and tables stand there too.
    """

    def __init__(self, args: argparse.Namespace, shown: bool, verbose: bool) -> None:
        """Take lm-eval's options: what was asked for is shown."""
        asked = getattr(args, "show_config", False) or getattr(args, "write_out", False)
        self.shown, self.verbose = shown, bool(verbose or asked)
        self._level = getattr(args, "verbosity", None) or os.environ.get("LMEVAL_LOG_LEVEL")

    @contextmanager
    def lines(self) -> Iterator[None]:
        """Show log lines for readers, unless a level of lm-eval's lines was chosen."""
        if self.verbose or self._level:
            yield
            return
        first = os.environ.get("RANK", "0") == "0"
        with readable_lines(logging.INFO if self.shown and first else logging.WARNING):
            yield

    @contextmanager
    def of_run(self, folder: Path) -> Iterator[None]:
        """Keep all lines in the folder's log, and lm-eval's tables and bars off the terminal."""
        first = os.environ.get("RANK", "0") == "0"
        with ExitStack() as stack:
            if first:
                stack.enter_context(kept_lines(folder / LOG))
            if not self.verbose:
                stack.enter_context(_without_tables())
                stack.enter_context(_without_bars())
            yield

    def say(self, *lines: str | None) -> None:
        """Print lines for readers, beside the log's."""
        if self.shown and os.environ.get("RANK", "0") == "0":
            for line in filter(None, lines):
                print(line, file=sys.stderr, flush=True)

    def print(self, *texts: str) -> None:
        """Print results, which may go elsewhere than what is said of the run."""
        if self.shown:
            for text in filter(None, texts):
                print(f"\n{text}", flush=True)


def other_tables(results: Path) -> str:
    """Return lm-eval's table of the tasks of a results file that are none of ours; "" for none."""
    from lm_eval.utils import make_table

    record = read_record(results)
    others = {
        task
        for task, config in record["configs"].items()
        if not {"verbalizer", "benchmark"} & set(config.get("metadata") or {})
    }
    parts = record.get("group_subtasks") or {}

    def is_other(name: str) -> bool:
        below = parts.get(name)
        return all(map(is_other, below)) if below else name in others

    tables = []
    for column in ("results", "groups"):
        rows = {name: row for name, row in record.get(column, {}).items() if is_other(name)}
        if rows:
            groups = {name: below for name, below in parts.items() if is_other(name)}
            tables.append(
                make_table({**record, column: rows, "group_subtasks": groups}, column).strip()
            )
    return "\n\n".join(tables)


@contextmanager
def _without_tables() -> Iterator[None]:
    """Log what lm-eval's command line prints."""
    import lm_eval._cli.run as command

    log = logging.getLogger(command.__name__)
    command.print = lambda *texts: log.info("\n".join(map(str, texts)))
    try:
        yield
    finally:
        del command.print


@contextmanager
def _without_bars() -> Iterator[None]:
    """Show no bars of lm-eval's, transformers' and datasets'; those of downloads stay."""
    import datasets
    import lm_eval.api.model
    import lm_eval.api.task
    from transformers.utils import logging as transformers_logging

    def no_bar(items: Any, **options: Any) -> Any:
        return items

    modules = (lm_eval.api.model, lm_eval.api.task)
    bars = [module.tqdm for module in modules]
    for module in modules:
        module.tqdm = no_bar
    shown = transformers_logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        for module, bar in zip(modules, bars, strict=True):
            module.tqdm = bar
        if shown[0]:
            transformers_logging.enable_progress_bar()
        if not shown[1]:
            datasets.enable_progress_bars()
