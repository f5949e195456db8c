"""Journals that models write to, and processes that are killed as they do."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from verbalizer_bench.cli import main
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


def kill_at(
    row: int, part: float, model: RunRecorder, folder: Path, work: Callable[[], object]
) -> list[dict[str, Any]]:
    """Have a model's process killed as it writes; return the rows that it leaves, which are whole.

    Args:
        row: As of `killed_at`.
        part: As of `killed_at`.
        model: Who writes, in a fork.
        folder: Where the journal is.
        work: What the model does.
    """

    def write() -> None:
        with writing(model, open_journal(folder, kind=killed_at(row, part))):
            work()

    assert in_a_fork(write) == signal.SIGKILL
    left = rows(folder)
    assert len(left) == row - (part < 1)
    return left


def kill_command(
    row: int, part: float, arguments: Sequence[str], folder: Path, patch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """Have `verbalizer-bench run` killed as it writes to a folder; return the rows that it leaves.

    The whole command is refused then, since `--resume` is wanted.
    """
    command = ["run", *arguments, "--output_path", str(folder)]
    with patch.context() as patched:
        patched.setattr("verbalizer_bench.running.harness.Journal", killed_at(row, part))
        assert in_a_fork(lambda: main(command)) == signal.SIGKILL
    left = rows(folder)
    assert len(left) == row - (part < 1)
    assert main(command) == 2
    return left


def check_went_on(folder: Path, before: Sequence[Mapping[str, Any]], total: int) -> None:
    """Check that a resumed run kept the rows of its journal, and added those that lacked."""
    after = rows(folder)
    assert after[: len(before)] == before
    assert len({row["key"] for row in after}) == len(after) == total


def check_refuses_other_weights(model: Any, folder: Path, work: Callable[[], object]) -> None:
    """Check that a journal in the folder is not gone on with by the model with another weight."""
    weight = model.model.get_input_embeddings().weight.data
    before = weight[0, 0].clone()
    weight[0, 0] += 1
    model.__dict__.pop("_weights_fingerprints")
    try:
        with (
            writing(model, open_journal(folder)),
            pytest.raises(ValueError, match="of another model: weights_loaded is '"),
        ):
            work()
    finally:
        weight[0, 0] = before
        model.__dict__.pop("_weights_fingerprints")


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
