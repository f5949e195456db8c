"""Write the miniature world, the same files for the same seed.

    python -m verbalizer_bench.experiments.miniature.world data/miniature --seed 0

What is written: `sets/` and `choose/`, each a folder for `--data` (test texts; those that steer the
base); `images/`, a PNG a scene; `base_0.jsonl` to `base_3.jsonl`, the base's stages;
`captions.json`; and for each split a folder with the records of the arms, `foit.json` to
`llava.json`, whose numbers are those of the items.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from verbalizer_bench.experiments.miniature.world.curriculum import base_record
from verbalizer_bench.experiments.miniature.world.instructions import (
    ARMS,
    captioned,
    dialogue,
    draw_item,
    record,
)
from verbalizer_bench.experiments.miniature.world.scenes import picture, scenes
from verbalizer_bench.experiments.miniature.world.splits import SPLITS
from verbalizer_bench.experiments.miniature.world.texts import documents
from verbalizer_bench.experiments.miniature.world.wording import wordings
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole

ITEMS = {"train": 2528, "choose": 200, "test": 200}
# The base's stages: the phase of its curriculum, and how many records.
STAGES = ((0, 60160), (1, 60160), (2, 128000), (2, 76800))
TEXTS = 24

README = """# The miniature world, seed {seed}

Made by `python -m verbalizer_bench.experiments.miniature.world`, from word lists and a seed.
`sets` and `choose` are folders for `--data`. Their texts stand in for nine data sets and are none
of their rows; every result carries the name `toy_<data set>`. In the stand-ins for SNLI, RTE, QQP
and MRPC a single word gives the class away (somebody or nobody, "was born in", "where can i buy",
"will fire"): they test whether label words are followed, and nothing of inference or paraphrase.
Train, choose and test share no text and no scene.
"""


def write_world(
    folder: Path,
    seed: int = 0,
    *,
    items: dict[str, int] = ITEMS,
    stages: Sequence[tuple[int, int]] = STAGES,
    texts: int = TEXTS,
    captions: int | None = None,
) -> Path:
    """Write the world.

    Args:
        folder: Where; files of an earlier world are replaced.
        seed: Of everything that is drawn.
        items: How many instruction items each split has.
        stages: Of the base: phase and number of records; none leaves them out.
        texts: How many texts a stand-in has, half of each class.
        captions: How many train scenes have a caption; None for all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "README.md", README.format(seed=seed))
    for place, split in (("sets", "test"), ("choose", "choose")):
        write_sets(folder / place, split, seed, texts)
    write_images(folder / "images")
    for stage, (phase, number) in enumerate(stages):
        random = Random(f"{seed} base {stage}")
        rows = (base_record(random, phase) for _ in range(number))
        _write_lines(rows, folder / f"base_{stage}.jsonl")
    write_instructions(folder, items, seed, captions)
    return folder


def write_sets(folder: Path, split: str, seed: int, texts: int = TEXTS) -> None:
    """Write the nine stand-ins as a folder for `--data` whose scored rows are a split's."""
    for wording in wordings():
        spec = wording.spec
        values = dict(zip(spec.classes, spec.label_values, strict=True))
        for part in ("train", split):
            random = Random(f"{seed} {spec.name} {part}")
            docs = documents(random, spec, part, texts)
            rows = (
                {k: v for k, v in doc.items() if k != "label"}
                | {spec.label_column: values[doc["label"]]}
                for doc in docs
            )
            name = spec.fewshot_split if part == "train" else part
            _write_lines(rows, folder / spec.name / f"{name}.jsonl")
    sources = {
        wording.spec.name: {"split": split, "source": f"toy_{wording.spec.name}"}
        for wording in wordings()
    }
    write_whole(folder / "sources.yaml", yaml.safe_dump(sources))


def write_images(folder: Path) -> None:
    """Draw every scene of every split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        for scene in (scene for kind in scenes(split) for scene in kind):
            picture(scene).save(folder / f"{scene.name}.png")


def write_instructions(
    folder: Path, items: dict[str, int], seed: int, captions: int | None = None
) -> None:
    """Write captions of the train scenes, and each split's records of the arms."""
    random = Random(f"{seed} captions")
    every = [captioned(random, scene) for kind in scenes("train") for scene in kind]
    random.shuffle(every)
    _write_list(every[:captions], folder / "captions.json")
    for split, number in items.items():
        random = Random(f"{seed} items {split}")
        drawn = [draw_item(random, split) for _ in range(number)]
        for arm in ARMS:
            _write_list([record(item, arm) for item in drawn], folder / split / f"{arm}.json")
        talks = [dialogue(random, split) for _ in range(number)]
        _write_list(talks, folder / split / "llava.json")


def _write_lines(rows: Iterable[dict[str, Any]], file: Path) -> None:
    write_whole(file, jsonl.dumps(rows, ascii_only=True))


def _write_list(rows: list[dict[str, Any]], file: Path) -> None:
    write_whole(file, json.dumps(rows, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the world, or the architectures that recipes name."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.miniature.world")
    parser.add_argument("folder", type=Path, help="where; its files are replaced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--architecture", action="store_true", help="write tokenizer and configurations alone"
    )
    args = parser.parse_args(argv)
    if args.architecture:
        from verbalizer_bench.experiments.miniature.world.architecture import write_architectures

        written = write_architectures(args.folder)
    else:
        written = [write_world(args.folder, args.seed)]
    for place in written:
        print(f"Wrote {place}")
