"""Runs that were not finished: they have no results, and a report does without them."""

import logging
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)


def unfinished(path: Path) -> list[Path]:
    """Return the output folders at or below a path whose latest `run` was not finished.

    A run's journal that cannot be read to its end is warned of: what it says is not known.
    """
    from verbalizer_bench.models.adapters.journal import has_command, is_finished

    found = []
    for folder in sorted({file.parent for file in path.rglob("journal-*.jsonl")}):
        # One that was killed before its first line has nothing to go on with, another's file is no
        # run, and what `judge` keeps has no command of `run`.
        if not has_command(folder):
            continue
        try:
            if not is_finished(folder):
                found.append(folder)
        except ValueError as error:
            log.warning("%s: whether its latest run was finished is not known: %s", folder, error)
    return found


def say_left_out(unfinished: Iterable[Path], folders: Iterable[Path]) -> None:
    """Warn of runs that were not finished, beside the folders of results that are read."""
    for output in unfinished:
        # Results are in a folder named after the model; what lies deeper is another run's.
        earlier = any(output in (folder, folder.parent) for folder in folders)
        left = "the results are of an earlier one" if earlier else "it is left out"
        log.warning(
            "%s: its latest run was not finished, %s; `verbalizer-bench run --resume %s` goes on",
            *(output, left, output),
        )
