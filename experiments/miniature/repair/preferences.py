"""A cell's preference data, by the builders: what its tuned checkpoint answers, and pairs of it.

Written to `repair/` in a world, of the split `train`, and of `choose` to `repair/held_out/`:
`answers.json` (prompts with their reference answers), `preference/` (completions, and pairs with
and without images), `format/` (pairs by IFEval's verifiers). Beside them `replay.jsonl`: text.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from verbalizer_bench import api
from verbalizer_bench.builders.pipeline.sample import Instruction, TrainingSample, Turn
from verbalizer_bench.experiments.miniature.repair.judge_server import SceneJudge
from verbalizer_bench.experiments.miniature.world.curriculum import PHASES, base_record
from verbalizer_bench.experiments.miniature.world.instructions import dialogue, draw_item, record
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole

RECIPES = Path(__file__).parents[1] / "recipes" / "data"
SPLITS = {"train": "", "choose": "held_out"}
PAIRS = ("pairs", "pairs_no_image")


def folder_of(world: Path, split: str) -> Path:
    """Return where a split's preference data are."""
    return world / "repair" / SPLITS[split]


def write_replay(world: Path, seed: int, number: int) -> Path:
    """Write text of the base's last stages but for the suite's prompts, short or whole."""
    random = Random(f"{seed} replay")
    rows: list[dict[str, Any]] = []
    while len(rows) < number:
        row = base_record(random, PHASES[-1])
        if row["id"] != "verbalizer":
            rows.append(row)
    file = world / "repair" / "replay.jsonl"
    write_whole(file, jsonl.dumps(rows, ascii_only=True))
    return file


def write_prompts(world: Path, split: str, seed: int, number: int) -> Path:
    """Write a question, or a request to describe, of each of some scenes, with its answer."""
    random = Random(f"{seed} preference prompts {split}")
    rows = []
    for _ in range(number):
        row = dialogue(random, split)
        rows.append(row | {"conversations": row["conversations"][:2]})
    file = folder_of(world, split) / "answers.json"
    write_whole(file, json.dumps(rows, indent=1) + "\n")
    return file


def write_format_items(world: Path, split: str, seed: int, number: int) -> Path:
    """Write items with a format that IFEval has a verifier of, as a format-oriented set's samples.

    Each has a pair, the same question of the same scene answered as a sentence.
    """
    random = Random(f"{seed} format items {split}")
    samples: list[TrainingSample] = []
    while len(samples) < 2 * number:
        item = draw_item(random, split)
        check = record(item, "fovit")["check"]
        if check is None:
            continue
        name, image = f"{len(samples) // 2:06}", f"{item.scene.name}.png"
        content = hashlib.sha256((world / "images" / image).read_bytes()).hexdigest()
        plain = TrainingSample(f"{name}-plain", "plain", image=image, image_sha256=content)
        plain = replace(plain, turns=(Turn(item.question.text, item.question.sentence),))
        kind, arguments = check["instruction_id"], check["kwargs"]
        formatted = replace(
            plain,
            id=name,
            arm="format",
            caption=item.caption,
            instruction=Instruction(kind, arguments, item.instruction, "miniature"),
            turns=(Turn(item.question.text, item.formatted),),
            pair=plain.id,
        )
        samples += [formatted, plain]
    file = folder_of(world, split) / "format_items.jsonl"
    write_whole(file, jsonl.dumps(sample.as_json() for sample in samples))
    return file


def build(world: Path, split: str, checkpoint: Path, sets: Path, *overrides: str) -> None:
    """Build a split's completions, marks and pairs; what is there is kept.

    Args:
        world: With the split's prompts and format items.
        split: `train` or `choose`.
        checkpoint: What is sampled from.
        sets: The evaluation data that no record may share words with.
        overrides: Of the recipe of preference data.
    """
    folder = folder_of(world, split)
    common = (f"images={world / 'images'}", f"leakage.data={sets}")
    api.build_data(
        RECIPES / "format_pairs.yaml",
        *common,
        f"output={folder / 'format'}",
        f"samples={folder / 'format_items.jsonl'}",
    )
    with SceneJudge(world / "images") as judge:
        api.build_data(
            RECIPES / "preference.yaml",
            *common,
            f"output={folder / 'preference'}",
            f"records.prompts.file={folder / 'answers.json'}",
            f"completions.checkpoint.model_args.pretrained={checkpoint}",
            f"endpoints.judge.base_url={judge.url}",
            *overrides,
        )
