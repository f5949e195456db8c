"""Make the base that the miniature's arms start from: four stages, and a gate on its quality.

python -m verbalizer_bench.experiments.miniature.base miniature_out/base-1 --seed 1
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from verbalizer_bench.experiments.miniature.arms import score, train_recipe
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_record

# What the base must reach on the choose split: F1 of natural, neutral and unnatural label words.
GATE = {"natural": 0.95, "neutral": 0.9, "unnatural": 0.7}
STAGES = ("base_0", "base_1", "base_2", "base_3")


def make_base(folder: Path, seed: int = 0) -> Path:
    """Train the base, and copy it in half precision with its scores on the choose split.

    Args:
        folder: Where the world, the stages' checkpoints and the runs go; stages that are there
            are not trained again.
        seed: Of the world and of the training.

    Returns:
        The folder of the copy, `base`; `base.json` in it has the scores.
    """
    from verbalizer_bench.experiments.miniature.world.build import write_world

    world = write_world(folder / "world", seed)
    start = None
    for name in STAGES:
        overrides = [f"seed={seed}", "resume=true"] + ([f"model.path={start}"] if start else [])
        start = train_recipe(name, world, folder / name, *overrides)
    assert start is not None
    return halve(start, world, folder, seed)


def halve(trained: Path, world: Path, folder: Path, seed: int) -> Path:
    """Copy a base in half precision, and write what it scores before and after."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    scores = {"fp32": _choose_scores(trained, world, folder / "runs" / "fp32")}
    base = folder / "base"
    AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float16).save_pretrained(base)
    AutoTokenizer.from_pretrained(trained).save_pretrained(base)
    scores["fp16"] = _choose_scores(base, world, folder / "runs" / "fp16")
    digest = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    record = {"seed": seed, "recipes": list(STAGES), "sha256": digest, "choose": scores}
    write_whole(base / "base.json", json.dumps(record, indent=2) + "\n")
    return base


def check_gate(base: Path) -> None:
    """Raise ValueError for a base whose F1 on the choose split is below the gate."""
    record = read_record(base / "base.json")
    for precision, scores in record["choose"].items():
        if low := below_gate(scores):
            raise ValueError(
                f"miniature base, seed {record['seed']}, {precision}: {', '.join(low)} below the "
                f"gate {GATE}: {scores}; report this seed, and give another one a try beside it"
            )


def below_gate(scores: Mapping[str, float]) -> list[str]:
    """Return the label types whose F1 is below the gate."""
    return [name for name, least in GATE.items() if scores[name] < least]


def _choose_scores(checkpoint: Path, world: Path, output: Path) -> dict[str, float]:
    """Return F1 by label type on the choose split."""
    from verbalizer_bench.results.statistics import summarize

    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    run = score(checkpoint, "verbalizer-llm", world / "choose", output, output / "lm-eval.log")
    scores = {name: round(s.f1.mean, 4) for name, s in summarize(run).items()}
    print(f"{checkpoint}: F1 on the choose split: {scores}", flush=True)
    return scores


def main(argv: Sequence[str] | None = None) -> None:
    """Make the base."""
    parser = argparse.ArgumentParser("python -m verbalizer_bench.experiments.miniature.base")
    parser.add_argument("folder", type=Path, help="where; stages that are there are kept")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    base = make_base(args.folder, args.seed)
    print(f"Wrote {base}")
    try:
        check_gate(base)
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
