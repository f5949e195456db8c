"""The demo: train two tiny checkpoints and score them by the real path, without a network.

verbalizer-bench demo
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

TOY_WARNING = "These are toy checkpoints on 24 made sentences a data set: the numbers mean nothing."


def demo(folder: Path, steps: int) -> None:
    """Train, run the 108 tasks on the embedded samples, print the summary, build a leaderboard.

    The last lines are the paths of the report and of the leaderboard, and the warning that toy
    numbers mean nothing.

    Args:
        folder: Where checkpoints, runs, report and leaderboard go; its earlier demo is replaced.
        steps: Training steps of the Llama; the LLaVA over it gets a third.

    Raises:
        ValueError: The folder holds something else than an earlier demo.
    """
    import torch

    from verbalizer_bench.harness import harness
    from verbalizer_bench.leaderboard.report import write_report
    from verbalizer_bench.leaderboard.runs import read_run
    from verbalizer_bench.trainers.toy import train_toys

    # lm-eval logs several lines a task; its tables go to a file.
    os.environ.setdefault("LMEVAL_LOG_LEVEL", "WARNING")
    _make_room(folder)
    # The models are so small that threads would only wait for each other.
    torch.set_num_threads(1)
    llm, llava = train_toys(folder / "checkpoints", steps)
    run_folders: list[Path] = []
    for adapter, checkpoint in (("verbalizer-llm", llm), ("verbalizer-lvlm", llava)):
        print(f"\nScoring {checkpoint.name}", flush=True)
        options = ["--model", adapter, "--model_args", f"pretrained={checkpoint},dtype=float32"]
        options += ["--tasks", "verbalizer", "--data", "sample", "--device", "cpu"]
        options += ["--batch_size", "32", "--output_path", str(folder / "runs")]
        with (folder / "lm-eval.log").open("a") as tables, contextlib.redirect_stdout(tables):
            run_folders += harness("run", options)
    report = write_report([read_run(run) for run in run_folders], folder / "report")
    print(f"\n{report.markdown}\n")
    page = _publish(run_folders, llm.name, folder / "leaderboard")
    print(f"Report: {report.files[0]}")
    print(f"Leaderboard: {page}")
    print(TOY_WARNING)


def _publish(runs: Sequence[Path], base: str, folder: Path) -> Path:
    """Pack and validate the runs, all but the first tuned from `base`; return the site's page."""
    from verbalizer_bench.leaderboard.pages.site import build_site
    from verbalizer_bench.leaderboard.submission.pack import pack
    from verbalizer_bench.leaderboard.submission.validate import validate

    for run in runs:
        packed = pack(
            run,
            folder / "submissions",
            submitter="make demo",
            licence="CC0-1.0",
            notes="An example: a toy, trained and scored by `make demo`.",
            base=None if run is runs[0] else base,
        )
        if (found := validate(packed)).failed:
            raise ValueError(f"demo: {found}")
    return build_site(folder / "submissions", folder / "site").files[0]


def _make_room(folder: Path) -> None:
    mark = folder / "made-by-verbalizer-bench-demo"
    if folder.exists() and any(folder.iterdir()):
        if not mark.exists():
            raise ValueError(f"demo: {folder} holds other files; give another folder with --output")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
