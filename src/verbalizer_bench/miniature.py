"""The paper in miniature: its checkpoints, trained and scored at toy scale without a network.

Everything goes through what a user's own checkpoints go through: recipes and trainers, adapters and
tasks. `demo` runs it once; `python -m verbalizer_bench.miniature` makes the base it starts from.
"""

import argparse
import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

BASE = Path(str(files("verbalizer_bench.recipes"))) / "miniature" / "base"
# What the base must reach on the choose split: F1 of natural, neutral and unnatural label words.
GATE = {"natural": 0.95, "neutral": 0.9, "unnatural": 0.7}
STAGES = ("base_0", "base_1", "base_2", "base_3")


class Arm(NamedTuple):
    """A tuned checkpoint: its recipe, and the adapter that asks it."""

    recipe: str
    adapter: str


ARMS = {
    "LLM-FOIT": Arm("llm_foit", "verbalizer-llm"),
    "LLM-NoFOIT": Arm("llm_nofoit", "verbalizer-llm"),
    "LVLM-FOVIT": Arm("lvlm_fovit", "verbalizer-lvlm"),
    "LVLM-NoFOVIT": Arm("lvlm_nofovit", "verbalizer-lvlm"),
    "LVLM-LLaVA": Arm("lvlm_llava", "verbalizer-lvlm"),
}


def train_recipe(name: str, world: Path, output: Path, *overrides: str) -> Path:
    """Train one of the miniature's recipes on the data of a world.

    Args:
        name: Of `recipes/miniature`.
        world: What `builders.miniature` wrote.
        output: The checkpoint's folder.
        overrides: key=value.

    Returns:
        The checkpoint's folder.
    """
    from verbalizer_bench.trainers.recipe import read_recipe
    from verbalizer_bench.trainers.supervised import train

    shipped = read_recipe(f"miniature/{name}")
    data = [str(world / Path(file).relative_to("data/miniature")) for file in shipped.data]
    words = [f"data={','.join(data)}", f"output={output}", f"cache={output.parent / 'cache'}"]
    if shipped.images:
        words.append(f"images={world / 'images'}")
    return train(read_recipe(f"miniature/{name}", [*words, *overrides]))


def train_arms(world: Path, folder: Path, base: Path) -> dict[str, Path]:
    """Train tower, connector and the five arms from a base; return the arms' checkpoints."""
    tower = train_recipe("tower", world, folder / "tower")
    connector = train_recipe(
        "connector",
        world,
        folder / "connector",
        f"model.llm={base}",
        f"model.vision_tower={tower}",
    )
    found = {}
    for name, arm in ARMS.items():
        start = base if arm.adapter == "verbalizer-llm" else connector
        found[name] = train_recipe(arm.recipe, world, folder / name, f"model.path={start}")
    return found


def score(checkpoint: Path, adapter: str, data: Path, output: Path, log: Path) -> Path:
    """Run the 108 tasks on a folder of stand-ins, with 10 beams; return the run's folder.

    lm-eval's tables go to the file `log`.
    """
    from verbalizer_bench.harness import harness

    # lm-eval logs several lines a task.
    os.environ.setdefault("LMEVAL_LOG_LEVEL", "WARNING")
    options = ["--model", adapter, "--model_args", f"pretrained={checkpoint},dtype=float32"]
    options += ["--tasks", "verbalizer", "--data", str(data), "--device", "cpu"]
    options += ["--apply_chat_template", "--batch_size", "32", "--output_path", str(output)]
    with log.open("a") as tables, contextlib.redirect_stdout(tables):
        (run,) = harness("run", options)
    return run


def make_base(folder: Path, seed: int = 0) -> Path:
    """Train the base, and copy it in half precision if it passes the gate in both.

    Args:
        folder: Where the world, the stages' checkpoints and the runs go.
        seed: Of the world and of the training.

    Returns:
        The folder of the copy, `base`.

    Raises:
        ValueError: F1 on the choose split is below the gate. Report the seed; do not replace it.
    """
    from verbalizer_bench.builders.miniature.build import write_world

    world = write_world(folder / "world", seed)
    start = None
    for name in STAGES:
        overrides = [f"seed={seed}"] + ([f"model.path={start}"] if start else [])
        start = train_recipe(name, world, folder / name, *overrides)
    assert start is not None
    return halve(start, world, folder, seed)


def halve(trained: Path, world: Path, folder: Path, seed: int) -> Path:
    """Copy a base in half precision if it passes the gate before and after."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    scores = {"fp32": _gate(trained, world, folder / "runs" / "fp32", seed)}
    base = folder / "base"
    AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float16).save_pretrained(base)
    AutoTokenizer.from_pretrained(trained).save_pretrained(base)
    scores["fp16"] = _gate(base, world, folder / "runs" / "fp16", seed)
    digest = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    record = {"seed": seed, "recipes": list(STAGES), "sha256": digest, "choose": scores}
    (base / "base.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return base


def _gate(checkpoint: Path, world: Path, output: Path, seed: int) -> dict[str, float]:
    """Return F1 by label type on the choose split; raise ValueError where it is below the gate."""
    from verbalizer_bench.leaderboard.runs import read_run
    from verbalizer_bench.leaderboard.statistics import summarize

    output.mkdir(parents=True, exist_ok=True)
    log = output / "lm-eval.log"
    run = score(checkpoint, "verbalizer-llm", world / "choose", output, log)
    found = {name: round(s.f1.mean, 4) for name, s in summarize(read_run(run)).items()}
    print(f"{checkpoint}: F1 on the choose split: {found}", flush=True)
    if low := [name for name, least in GATE.items() if found[name] < least]:
        raise ValueError(
            f"miniature base, seed {seed}: {', '.join(low)} below the gate {GATE}: {found}; "
            "report this seed, and give another one a try beside it"
        )
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Make the base."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.miniature")
    parser.add_argument("folder", type=Path, help="where; what is there is gone on with")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    print(f"Wrote {make_base(args.folder, args.seed)}")


if __name__ == "__main__":
    main()
