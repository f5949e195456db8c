"""How far do template, BOS, decoding and wording move the score of one checkpoint?

    python -m verbalizer_bench.experiments.sanity.sensitivity out --model NAME=PATH --data DIR

The checkpoint is asked about the same documents in several ways, in float32 and with 1 beam where
not said otherwise: 10, the protocol's, take several times as long. What is there is kept:
interrupted, it goes on.
"""

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.experiments.asking import run_suite
from verbalizer_bench.experiments.machine import machine
from verbalizer_bench.experiments.sanity.wordings import (
    SPACE,
    suite_names,
    write_rows,
    write_sets,
)
from verbalizer_bench.io.files import write_whole

DOCUMENTS = 4
SEED = 0
# The class names, foo|bar, the class names reversed: one verbalizer a label type.
VERBALIZERS = (("natural", 0), ("neutral", 0), ("unnatural", 0))


class Way(NamedTuple):
    """A way to ask.

    Attributes:
        what: For a reader.
        options: Of `api.evaluate`, in place of the reference's.
        model_args: Beside the checkpoint's.
        wording: Whose prompts; None for the suite's.
    """

    what: str
    options: Mapping[str, Any] = {}
    model_args: Mapping[str, Any] = {}
    wording: str | None = None


REFERENCE = "reference"
WAYS = {
    REFERENCE: Way("the suite's prompts, chat template, 1 beam"),
    "a": Way("paraphrase A of each prompt", wording="a"),
    "b": Way("paraphrase B of each prompt", wording="b"),
    "space": Way('a space before "Answer:", no line break', wording=SPACE),
    "plain": Way("no chat template", {"apply_chat_template": False}),
    "plain-bos": Way(
        "no chat template, BOS in front",
        {"apply_chat_template": False},
        {"add_bos_token": True},
    ),
    "system": Way(
        'the system turn "You are a helpful assistant."',
        {"system_instruction": "You are a helpful assistant."},
    ),
    "beams": Way("10 beams, as the protocol says", {"gen_kwargs": None}),
}


def ask(way: str, checkpoint: str, place: Path, run: Path, device: str) -> None:
    """Run the chosen tasks in one way, unless it was done.

    Args:
        way: Its name.
        checkpoint: A folder or a hub id.
        place: With the rows and the sets of other wordings.
        run: Where the run goes.
        device: Where the model runs.
    """
    if (run / "seconds").is_file():
        return
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    asked = WAYS[way]
    sets = {"include_path": place / "tasks"} if asked.wording else {}
    start = time.process_time()
    run_suite(
        {"pretrained": checkpoint, **asked.model_args},
        "verbalizer-llm",
        run / "lm-eval.log",
        output=run,
        tasks=list(suite_names(VERBALIZERS, asked.wording).values()),
        data=str(place / "data"),
        device=device,
        **{"gen_kwargs": {"num_beams": 1}, **sets, **asked.options},
    )
    write_whole(run / "machine", f"{machine()}\n")
    write_whole(run / "seconds", f"{time.process_time() - start:.0f}\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Ask in all ways."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.sanity.sensitivity")
    parser.add_argument("folder", type=Path, help="where; what is there is kept")
    parser.add_argument("--model", required=True, help="NAME=PATH: a checkpoint, and its name")
    parser.add_argument("--data", required=True, help="the folder of the nine sets' rows")
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="of each set")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--device", default="cpu", help="where the model runs")
    args = parser.parse_args(argv)
    name, _, checkpoint = args.model.partition("=")
    if not name or not checkpoint:
        raise SystemExit(f"--model {args.model}: give NAME=PATH, smollm2=checkpoints/smollm2 say")
    place = args.folder / name
    try:
        write_rows(args.data, place / "data", args.documents, SEED)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    write_sets(place / "tasks")
    for way in args.ways:
        ask(way, checkpoint, place, place / "runs" / way, args.device)
        print(
            f"{name}, {way}: {(place / 'runs' / way / 'seconds').read_text().strip()} s", flush=True
        )


if __name__ == "__main__":
    main()
