"""What is asked of a checkpoint of the miniature, unless it was asked before."""

import json
import shutil
from pathlib import Path

from verbalizer_bench.experiments.miniature.arms import score
from verbalizer_bench.io.files import write_whole


def write_fixed(world: Path, unseen: int, texts: int) -> None:
    """Write the texts and unseen scenes that every checkpoint is asked, unless they are there.

    Args:
        world: Where.
        unseen: How many records of unseen scenes.
        texts: Of each of the nine stand-ins.
    """
    from verbalizer_bench.experiments.miniature.world.build import write_world

    # The last file that a world consists of.
    if not (world / "test" / "llava.json").exists():
        items = {"train": 1, "choose": 1, "test": unseen}
        write_world(world, 0, items=items, stages=(), texts=texts)


def score_once(checkpoint: Path, adapter: str, world: Path, output: Path, image: str) -> None:
    """Run the suite on the texts of a world; the arguments are `arms.score`'s.

    Args:
        checkpoint: A checkpoint folder.
        adapter: What asks it.
        world: With the texts.
        output: Where the run goes; one that is there is kept.
        image: What an LVLM is shown; `""` for a text model.
    """
    if not any(output.rglob("run.json")):
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        score(checkpoint, adapter, world / "sets", output, output / "lm-eval.log", image or None)


def ask_once(checkpoint: Path, adapter: str, world: Path, file: Path) -> None:
    """Ask for formats about unseen scenes, and write what came and how it was judged."""
    from verbalizer_bench.experiments.miniature.unseen import ask

    if file.exists():
        return
    kind = "fovit" if adapter == "verbalizer-lvlm" else "foit"
    answers = ask(checkpoint, adapter, world / "test" / f"{kind}.json", world / "images")
    text = json.dumps([answer._asdict() for answer in answers], indent=1)
    write_whole(file, text + "\n")
