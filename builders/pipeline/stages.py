"""Stages: each reads the samples that the one before has written, and is not done twice.

`stages.json` beside the files has what each was made from: the stage's settings and the hash of the
file before. A file is up to date if it is as it was written, and made from what is there now.
"""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verbalizer_bench.builders.pipeline.sample import TrainingSample, read_samples
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import file_sha256, write_whole
from verbalizer_bench.io.json_reading import read_json

# Raise it when the same settings would give other samples.
_LAYOUT = 3
_INDEX = "stages.json"


@dataclass(frozen=True)
class Stage:
    """One step.

    Attributes:
        name: In file names, and for `stage=`.
        settings: What its samples depend on, besides the samples before.
        work: Makes its samples of the samples before.
    """

    name: str
    settings: Mapping[str, Any]
    work: Callable[[list[TrainingSample]], Awaitable[list[TrainingSample]]]


class Pipeline:
    """Stages in a folder."""

    def __init__(self, folder: Path, stages: Sequence[Stage]) -> None:
        """Take the stages in their order; nothing is read."""
        self.folder, self.stages = folder, tuple(stages)

    def path(self, name: str) -> Path:
        """Return a stage's file."""
        number = [stage.name for stage in self.stages].index(name) + 1
        return self.folder / f"{number}_{name}.jsonl"

    def pending(self) -> list[str]:
        """Return the names of the first stage that is not up to date, and of all after it."""
        index, before = self._index(), ""
        for place, stage in enumerate(self.stages):
            if not self._is_current(stage, index, before):
                return [later.name for later in self.stages[place:]]
            before = index[stage.name]["sha256"]
        return []

    async def run(self, only: str | None = None) -> None:
        """Run the stages that are pending, or one stage in any case.

        Raises:
            FileNotFoundError: The stage before that one has no file.
            ValueError: There is no such stage.
        """
        if only:
            check_stage(only, [stage.name for stage in self.stages])
        wanted = [only] if only else self.pending()
        for place, stage in enumerate(self.stages):
            if stage.name in wanted:
                await self._do(stage, self.path(self.stages[place - 1].name) if place else None)

    async def _do(self, stage: Stage, before: Path | None) -> None:
        if before and not before.is_file():
            name = before.stem.partition("_")[2]
            raise FileNotFoundError(f"{before}: no such file; run stage={name} first")
        samples = await stage.work(read_samples(before) if before else [])
        content = jsonl.dumps(sample.as_json() for sample in samples)
        write_whole(self.path(stage.name), content)
        made = {"from": _key(stage, _hash(before)), "sha256": _hash(self.path(stage.name))}
        write_whole(self.folder / _INDEX, json.dumps(self._index() | {stage.name: made}, indent=1))

    def _index(self) -> dict[str, dict[str, str]]:
        path = self.folder / _INDEX
        try:
            index: dict[str, dict[str, str]] = read_json(path) if path.is_file() else {}
        except ValueError as error:
            raise ValueError(f"{error}; remove it, and all stages are made again") from error
        if not (isinstance(index, dict) and all(isinstance(one, dict) for one in index.values())):
            raise ValueError(f"{path}: no index of stages; remove it, and all are made again")
        return index

    def _is_current(
        self, stage: Stage, index: Mapping[str, Mapping[str, str]], before: str
    ) -> bool:
        made = {"from": _key(stage, before), "sha256": _hash(self.path(stage.name))}
        return index.get(stage.name) == made


def check_stage(name: str, known: Sequence[str]) -> None:
    """Raise ValueError for an unknown stage."""
    if name not in known:
        raise ValueError(f"stage={name}: no such stage; {hint(name, known)}")


def hint(name: str, known: Sequence[str]) -> str:
    """Return the known name that is nearest, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


def _key(stage: Stage, before: str) -> str:
    """Return the hash of all that a stage's samples depend on."""
    whole = json.dumps([_LAYOUT, stage.name, dict(stage.settings), before], default=_plain)
    return hashlib.sha256(whole.encode()).hexdigest()


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)  # type: ignore[arg-type]


def _hash(path: Path | None) -> str:
    """Return a file's sha256, "" if there is none."""
    return file_sha256(path) if path and path.is_file() else ""
