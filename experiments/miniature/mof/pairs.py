"""Ask a checkpoint the pairs, as MMVP is asked."""

import contextlib
import json
import shutil
from pathlib import Path

from verbalizer_bench.running.harness import harness
from verbalizer_bench.running.log_level import lm_eval_warnings_only

TASK = "mmvp_options"


def ask_pairs_once(checkpoint: Path, asked: Path, output: Path) -> None:
    """Run MMVP's task on the study's pairs, unless it was done.

    Args:
        checkpoint: A LLaVA.
        asked: A folder with `mmvp`.
        output: Where the run goes.
    """
    if any(output.rglob("run.json")):
        return
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    options = {
        "--model": "verbalizer-lvlm",
        "--model_args": json.dumps({"pretrained": str(checkpoint), "dtype": "float32"}),
        "--tasks": TASK,
        "--data": str(asked),
        "--device": "cpu",
        "--batch_size": "32",
        "--output_path": str(output),
    }
    words = [word for option in options.items() for word in option]
    with (
        (output / "lm-eval.log").open("a") as tables,
        contextlib.redirect_stdout(tables),
        lm_eval_warnings_only(),
    ):
        harness("run", [*words, "--apply_chat_template"])
