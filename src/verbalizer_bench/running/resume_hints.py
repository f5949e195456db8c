"""What an interrupted command has kept, and the command that resumes it."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from verbalizer_bench.client.response_store import NAME as STORE
from verbalizer_bench.running.options import OUR_MODELS

if TYPE_CHECKING:
    from verbalizer_bench.builders.pipeline.recipe import DataRecipe
    from verbalizer_bench.trainers.recipe import Recipe


def run_hint(output: Path, model: str | None) -> str:
    """Describe how many responses a run's journals hold."""
    from verbalizer_bench.models.adapters.journal import counted, kept

    if model not in OUR_MODELS:
        return (
            f"nothing is kept: --model {model or 'hf'} has no journal; {' and '.join(OUR_MODELS)} "
            "have one"
        )
    # A served model's are stored before the journal has them.
    counts = kept(output)
    counts["responses"] = max(counts["responses"], _stored(output))
    if not counts.total():
        return "no response was there yet; the same command starts again"
    command = shlex.join(["verbalizer-bench", "run", "--resume", str(output)])
    return f"{counted(counts)} are kept in {output}; `{command}` goes on"


def training_hint(recipe: "Recipe", words: Sequence[str]) -> str:
    """Describe the last saved state of a training.

    Args:
        recipe: The recipe.
        words: The command's arguments.
    """
    from verbalizer_bench.trainers.training.resume_states import newest_whole

    folder = recipe.output
    state = folder / "state"
    last = newest_whole([state]).state
    started = folder.is_dir() and any(folder.iterdir())
    command = shlex.join(
        ["verbalizer-bench", *words]
        + (["resume=true"] if started and "resume=true" not in words else [])
    )
    if last is None:
        return f"no state was saved yet (save_steps); `{command}` starts again"
    return f"the state of step {last.step} is kept in {last.folder}; `{command}` goes on"


def build_hint(recipe: "DataRecipe", words: Sequence[str]) -> str:
    """Describe how many responses a build has stored, or batches of completions."""
    from verbalizer_bench.builders.kinds.local_sampling import NAME as SAMPLED

    count, command = _stored(recipe.work), shlex.join(["verbalizer-bench", *words])
    sampled = recipe.work / SAMPLED
    if not count and (batches := _lines(sampled)):
        return f"{batches} batches of completions are kept in {sampled}; `{command}` goes on"
    if not count:
        return f"no response was stored yet; `{command}` starts again"
    return (
        f"{count} responses are stored in {recipe.work / STORE}; `{command}` goes on, and asks for "
        "none twice"
    )


def _stored(folder: Path) -> int:
    """Count the responses that an endpoint's client stored in a folder."""
    return _lines(folder / STORE)


def _lines(file: Path) -> int:
    """Count a log's lines after the first, which says what the file is."""
    return max(0, file.read_bytes().count(b"\n") - 1) if file.is_file() else 0
