"""States that training can resume from: whole ones, told from those that were cut off.

A state is sealed behind its last file with a list of all of them and their sizes. One without a
seal, or whose files are others, was cut off by a kill or a full disk.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io.files import write_whole

_SEAL = "whole.json"
_NAME = re.compile(r"checkpoint-(\d+)")


class ResumeState(NamedTuple):
    """A whole state.

    Attributes:
        folder: Its folder.
        step: The optimiser step.
        record: What was sealed with it.
    """

    folder: Path
    step: int
    record: dict[str, Any]


class NewestState(NamedTuple):
    """The newest whole state, if there is one, and a line for each newer one that is not."""

    state: ResumeState | None
    passed_over: list[str]


def newest_whole(places: Sequence[Path], run: str | None = None) -> NewestState:
    """Return the newest whole state of some folders of states.

    Args:
        places: The folders.
        run: The training whose states count; None for any.
    """
    steps = [
        (int(name[1]), entry)
        for place in places
        if place.is_dir()
        for entry in place.iterdir()
        if (name := _NAME.fullmatch(entry.name)) and entry.is_dir()
    ]
    passed_over = []
    for step, folder in sorted(steps, reverse=True):
        seal, problem = _seal(folder)
        if problem:
            passed_over.append(f"{folder}: {problem}")
        elif run is None or seal["record"].get("run") == run:
            return NewestState(ResumeState(folder, step, seal["record"]), passed_over)
    return NewestState(None, passed_over)


def state_of(place: Path, step: int, run: str) -> Path | None:
    """Return the folder of a training's whole state of a step; None if there is none."""
    folder = place / f"checkpoint-{step}"
    found, problem = _seal(folder)
    return folder if problem is None and found["record"].get("run") == run else None


def _seal(folder: Path) -> tuple[dict[str, Any], str | None]:
    """Return a state's seal, and why it is not whole, None if it is."""
    try:
        seal: dict[str, Any] = json.loads((folder / _SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}, "it was not written to its end"
    for name, size in seal["files"].items():
        file = folder / name
        if not file.is_file():
            return seal, f"{name} is missing"
        if file.stat().st_size != size:
            return seal, f"{name} has {file.stat().st_size} bytes of {size}"
    return seal, None


def seal(folder: Path, record: dict[str, Any]) -> None:
    """Record that a state is whole, once all processes have written their part."""
    files = {
        str(file.relative_to(folder)): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    write_whole(folder / _SEAL, json.dumps({"files": files, "record": record}, indent=1))


def clear(folder: Path) -> None:
    """Remove what an earlier attempt left where a state is about to be written."""
    if folder.exists():
        (folder / _SEAL).unlink(missing_ok=True)
        shutil.rmtree(folder)


def state_places(output: Path, cache: Path) -> list[Path]:
    """Return where the states of an output folder are, then where they are kept if that is full."""
    name = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    other = cache.expanduser() / "kept" / name
    return [output / "state", other, Path(tempfile.gettempdir()) / f"verbalizer-bench-{name}"]
