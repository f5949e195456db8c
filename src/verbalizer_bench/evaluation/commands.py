"""The shell commands by which checkpoints take a recipe's benchmarks.

verbalizer-bench benchmarks evaluation/llava15 checkpoints/a checkpoints/b -o out > llava15.sh
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from verbalizer_bench.evaluation.recipe import Benchmark, Evaluation


class Asked(NamedTuple):
    """Who is asked, and where answers go.

    Attributes:
        model: The adapter, or a model class of lmms-eval.
        model_args: Arguments beside the checkpoint; "" for none.
        judge: The judge's name in our commands.
        output: The folder of all results.
    """

    model: str
    model_args: str
    judge: str
    output: Path


def commands(evaluation: Evaluation, checkpoints: Sequence[str], asked: Asked) -> str:
    """Return a shell script: for each checkpoint the command of each benchmark.

    Args:
        evaluation: The benchmarks.
        checkpoints: Folders or ids of the hub, or model arguments (`pretrained=DIR,peft=DIR`).
        asked: Who is asked, and where answers go.

    Raises:
        ValueError: A checkpoint is there twice.
    """
    if twice := sorted({one for one in checkpoints if checkpoints.count(one) > 1}):
        raise ValueError(f"{twice[0]}: given twice; give each checkpoint once")
    known = f"# Tasks and metrics as in lmms-eval {evaluation.lmms_eval}."
    parts = [known, "# Words in capitals (JUDGE, MMVET) stand for what only you have."]
    for checkpoint, name in zip(checkpoints, _names(checkpoints), strict=True):
        parts.append(f"\n# {checkpoint}")
        for title, benchmark in evaluation.benchmarks.items():
            parts += _command(title, benchmark, checkpoint, name, asked)
    parts.append(f"\n# The table: verbalizer-bench report {shlex.quote(str(asked.output))}")
    return "\n".join(parts)


def _command(
    title: str, benchmark: Benchmark, checkpoint: str, name: str, asked: Asked
) -> list[str]:
    """Return the lines of a benchmark; what our command replaces is a comment."""
    given = checkpoint if "=" in checkpoint else f"pretrained={checkpoint}"
    given = ",".join(filter(None, (given, asked.model_args)))
    words = ["lmms-eval", "--model", asked.model, "--model_args", given]
    words += ["--tasks", ",".join(benchmark.tasks)]
    words += ["--gen_kwargs", benchmark.gen_kwargs] if benchmark.gen_kwargs else []
    theirs = shlex.join([*words, "--log_samples", "--output_path", str(asked.output)])
    judge = f"; judged by {benchmark.judge}" if benchmark.judge else ""
    head = f"# {title}: {benchmark.split}{judge}"
    if not benchmark.ours:
        return [head, theirs]
    ours = ["verbalizer-bench", *shlex.split(benchmark.ours), "--judge", asked.judge]
    place = asked.output / f"{name}-{shlex.split(benchmark.ours)[1]}"
    ours += ["--model_args", given, "-o", str(place)]
    why = "# lmms-eval's own task takes verdicts that failed for scores; this leaves them out:"
    return [head, f"# {theirs}", why, shlex.join(ours)]


def _names(checkpoints: Sequence[str]) -> list[str]:
    """Return a name for each: its last folder, or all of it where that is another's too."""
    paths = [one.rpartition("=")[2].rstrip("/") for one in checkpoints]
    last = [path.rpartition("/")[2] for path in paths]
    return [
        name if last.count(name) == 1 else path.strip("/").replace("/", "_")
        for path, name in zip(paths, last, strict=True)
    ]
