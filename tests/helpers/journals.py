"""Journals that models write to, and processes that are killed as they do."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from verbalizer_bench.models.adapters.journal import Journal, Response, Scored, journal_files
from verbalizer_bench.models.adapters.run_record import RunRecorder


@contextmanager
def writing(model: RunRecorder, journal: Journal) -> Iterator[None]:
    """Have a model write to a journal, and close it."""
    with closing(journal):
        model.journal = journal
        try:
            yield
        finally:
            model.journal = None


def open_journal(
    folder: Path, resume: bool = True, kind: type[Journal] = Journal, **changes: Any
) -> Journal:
    arguments: dict[str, Any] = {"command": ["--x"], "protocol": {"data": "sample"}, "versions": {}}
    return kind(folder, **(arguments | changes), resume=resume)


class KilledAt(Journal):
    """A journal whose process is killed as it writes its n-th answer, or a part of it."""

    row: int
    part: float

    def add(self, key: str, request: Any, answer: Response | Scored) -> None:
        self.row -= 1
        if self.row == 0:
            before = self.path.stat().st_size
            super().add(key, request, answer)
            whole = self.path.stat().st_size
            os.truncate(self.path, before + int(self.part * (whole - before)))
            os.kill(os.getpid(), signal.SIGKILL)
        super().add(key, request, answer)


def killed_at(row: int, part: float) -> type[Journal]:
    return type("Killed", (KilledAt,), {"row": row, "part": part})


def in_a_fork(work: Callable[[], object]) -> int:
    """Do some work in a fork, without its output; return how it ended, 0 if well."""
    if (child := os.fork()) == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.dup2(2, 1)
            torch.set_num_threads(1)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [line for file in journal_files(folder) for line in file.read_text().split("\n")]
    return [json.loads(line) for line in lines if '"key"' in line and line.endswith("}")]
