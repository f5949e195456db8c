"""Write what the study trains on and asks: captions, instruction records, pairs in MMVP's layout.

A tuning seed's world has the layout of the miniature's (`world/build.py`), so that its recipes
train on it: `captions.json`, `train/fovit.json`, `choose/fovit.json`, `images`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from verbalizer_bench.experiments.miniature.mof.scenes import (
    Scene,
    asked,
    caption,
    changed,
    picture,
    question,
    scenes,
    statement,
    value,
)
from verbalizer_bench.experiments.miniature.world.build import write_sets
from verbalizer_bench.experiments.miniature.world.instructions import (
    formatted_item,
    record,
    record_of,
)
from verbalizer_bench.experiments.rows import write_rows
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.tasks.mmvp.patterns import PATTERNS
from verbalizer_bench.tasks.mmvp.questions import COLUMNS, FILE, IMAGES
from verbalizer_bench.vision.vlm_benchmark import COLUMNS as VLM_COLUMNS
from verbalizer_bench.vision.vlm_benchmark import FOLDERS, QUESTIONS

# The code of the pattern of pairs that differ in it, and in nothing else.
PAIRS = {"colour": "ca", "direction": "od"}


def write_world(folder: Path, seed: int, items: int, held_out: int, captions: int) -> None:
    """Write a tuning seed's world, unless it is there.

    Args:
        folder: Where.
        seed: Of everything that is drawn.
        items: Records that an arm is tuned on.
        held_out: Records of other scenes.
        captions: Captions that connectors are aligned on.
    """
    last = folder / "captions.json"
    if last.exists():
        return
    for split, number in (("train", items), ("choose", held_out)):
        random = Random(f"{seed} items {split}")
        _write([_instruction(random, split) for _ in range(number)], folder / split / "fovit.json")
    random = Random(f"{seed} captions")
    shown = random.sample(scenes("train"), captions)
    told = [record_of(s, [("<image>", caption(random, s))], image=True) for s in shown]
    draw_scenes((*scenes("train"), *scenes("choose")), folder / "images")
    _write(told, last)


def _instruction(random: Random, split: str) -> dict[str, Any]:
    """Return a record that asks of a scene, half of them with options as MMVP's prompt has them."""
    scene = random.choice(scenes(split))
    about = question(random, scene)
    if random.random() < 0.5:
        return record(formatted_item(random, scene, caption(random, scene), about), "fovit")
    one, other = random.sample((about.short, about.wrong), 2)
    prompt = f"<image>\n{about.text} (a) {one} (b) {other}"
    return record_of(scene, [(prompt, about.short)], image=True)


def write_fixed(folder: Path, texts: int, pairs: int) -> None:
    """Write what every checkpoint is asked, unless it is there: texts, pairs, and test images.

    Args:
        folder: Where.
        texts: Of each of the nine stand-ins.
        pairs: Of each kind.
    """
    last = folder / "sets" / "sources.yaml"
    if last.exists():
        return
    draw_scenes(scenes("test"), folder / "images")
    write_pairs(folder, pairs)
    write_sets(folder / "sets", "test", 0, texts)


def write_pairs(folder: Path, number: int) -> None:
    """Write pairs of test scenes: `mmvp` and `vlm`, in MMVP's layout and in MMVP-VLM's.

    The first image's answer is (a), the second's (b), as in MMVP.

    Args:
        folder: Where.
        number: Of pairs of each kind.
    """
    random = Random("pairs")
    questions: list[dict[str, str]] = []
    statements: list[dict[str, str]] = []
    for kind, code in PAIRS.items():
        pattern = PATTERNS[code]
        for scene in random.sample(scenes("test"), number):
            pair = scene, changed(random, scene, kind)
            one, other = (value(shown, kind) for shown in pair)
            asks = asked(scene, kind, other).text
            for letter, shown in zip("ab", pair, strict=True):
                index = str(len(questions) + 1)
                cells = (index, asks, f"(a) {one} (b) {other}", f"({letter})", pattern)
                questions.append(dict(zip((*COLUMNS, "Pattern"), cells, strict=True)))
                told = index, pattern, statement(shown, direction=kind == "direction")
                statements.append(dict(zip(VLM_COLUMNS, told, strict=True)))
                for place in (folder / "mmvp" / IMAGES, folder / "vlm" / FOLDERS[0] / pattern):
                    place.mkdir(parents=True, exist_ok=True)
                    picture(shown).save(place / f"{index}.png")
    write_rows(questions, folder / "mmvp" / FILE)
    write_rows(statements, folder / "vlm" / QUESTIONS)


def draw_scenes(shown: Iterable[Scene], folder: Path) -> None:
    """Write an image of each scene."""
    folder.mkdir(parents=True, exist_ok=True)
    for scene in shown:
        picture(scene).save(folder / f"{scene.name}.png")


def _write(rows: list[dict[str, Any]], file: Path) -> None:
    write_whole(file, json.dumps(rows, indent=1) + "\n")
