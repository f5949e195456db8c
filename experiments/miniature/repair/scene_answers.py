"""What a checkpoint answers about unseen scenes, with the marks of the program."""

import json
from pathlib import Path
from typing import Any

from verbalizer_bench.experiments.miniature.repair.judge import rate
from verbalizer_bench.experiments.miniature.unseen import answered
from verbalizer_bench.experiments.miniature.world.scenes import Scene, scenes
from verbalizer_bench.io.files import write_whole


def ask_scenes_once(checkpoint: Path, adapter: str, world: Path, file: Path) -> None:
    """Ask the first questions of a world's test dialogues, and write answers and marks.

    A file that is there is kept.
    """
    if file.exists():
        return
    text = (world / "test" / "llava.json").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = json.loads(text)
    known = {scene.name: scene for kind in scenes("test") for scene in kind}
    answers = answered(checkpoint, adapter, rows, world / "images")
    marked = [_marked(known, row, answer) for row, answer in zip(rows, answers, strict=True)]
    write_whole(file, json.dumps(marked, indent=1) + "\n")


def _marked(known: dict[str, Scene], row: dict[str, Any], answer: str) -> dict[str, Any]:
    question = row["conversations"][0]["value"]
    marks = rate(known[row["id"]], question, answer)
    asked = {"scene": row["id"], "question": question, "answer": answer}
    return asked | {"quality": marks.quality, **marks.model_dump()}
