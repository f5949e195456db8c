"""Does the engine lose more to low precision than `generate` does?

    make bench-precision                              # an hour on one core, then what has changed
    python -m benchmarks.precision --models stories --dtypes bfloat16

The reference is `generate` in float32, one prompt at a time. In bfloat16 and float16 the engine and
`generate` at batch size 1 are both held against it, on prompts of all data sets; the rule stands
in `agreement.py`. Writes `benchmarks/results/precision.json` and the same as a table, `.md`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.agreement import AskedDocument, agreement, f1, f1_difference
from benchmarks.engine import environment
from benchmarks.precision_arms import (
    CACHE,
    ENGINE,
    GENERATE,
    Generated,
    MeasuredModel,
    PrecisionArm,
    asked_documents,
    engine_sha256,
    run_arm,
)
from benchmarks.precision_table import render
from verbalizer_bench.models.checkpoints.smollm2 import is_whole, smollm_folder
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256

RESULTS = Path(__file__).parent / "results"
REFERENCE = "float32"
LOW = ("bfloat16", "float16")


def models() -> dict[str, MeasuredModel]:
    """Return the models that are there: 8 documents of each task, and 2 of the larger model.

    A CPU that multiplies no float16 takes four times as long for it as for float32: of the larger
    model it is measured where `--dtypes` asks for it, as is greedy where `--beams 1` does.
    """
    found = {}
    shared = os.environ.get("VERBALIZER_BENCH_SHARED")
    if shared and (Path(shared) / "models" / "stories260K-llama").is_dir():
        folder = Path(shared) / "models" / "stories260K-llama"
        found["stories260K"] = MeasuredModel("stories260K", folder, False, 8, LOW, (10, 1))
    if is_whole(smollm_folder()):
        name = "SmolLM2-135M-Instruct"
        found[name] = MeasuredModel(name, smollm_folder(), True, 2, LOW[:1])
    return found


def measure(model: MeasuredModel, data: str, beams: int, cache: Path) -> dict[str, Any]:
    """Run all arms of a model and compare them; `generate` first, which takes longest."""
    asked, dtypes = asked_documents(data, model.documents), model.dtypes

    def run(way: str, dtype: str) -> Generated:
        arm, start = PrecisionArm(way, dtype, beams), time.perf_counter()

        def progress(done: int) -> None:
            if done % 20 == 0 or done == len(asked):
                took = time.perf_counter() - start
                print(f"{model.name}: {arm.name}: {done} of {len(asked)}, {took:.0f} s", flush=True)

        return run_arm(arm, model, asked, cache, progress)

    plain = {dtype: run(GENERATE, dtype) for dtype in (REFERENCE, *dtypes)}
    ours = {dtype: run(ENGINE, dtype) for dtype in (REFERENCE, *dtypes)}
    return {
        "model": model.name,
        "weights_sha256": checkpoint_sha256(model.folder),
        "chat_template": model.chat,
        "beams": beams,
        "prompts": len(asked),
        "distinct_responses": len(set(plain[REFERENCE].texts)),
        "f1": {
            way: {dtype: f1(asked, arms[dtype].texts) for dtype in arms}
            for way, arms in ((GENERATE, plain), (ENGINE, ours))
        },
        "cpu_seconds_a_response": {
            way: {dtype: arms[dtype].cpu_seconds / len(asked) for dtype in arms}
            for way, arms in ((GENERATE, plain), (ENGINE, ours))
        },
        "float32_equal": sum(
            mine == wanted
            for mine, wanted in zip(ours[REFERENCE].tokens, plain[REFERENCE].tokens, strict=True)
        ),
        "precisions": {
            dtype: compare(asked, plain[REFERENCE], ours[dtype], plain[dtype]) for dtype in dtypes
        },
    }


def compare(
    asked: Sequence[AskedDocument], reference: Generated, engine: Generated, generate: Generated
) -> dict[str, Any]:
    """Hold engine and `generate` of one precision against the reference."""
    counts = agreement(reference.tokens, engine.tokens, generate.tokens)
    return {
        **counts._asdict(),
        "p_worse": counts.p_worse,
        "p_differs": counts.p_differs,
        "worse": counts.worse,
        "f1_difference": vars(f1_difference(asked, engine.texts, generate.texts)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write the JSON and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    default = os.environ.get("VERBALIZER_BENCH_DATA")
    parser.add_argument("--data", default=default, help="hub or a folder (VERBALIZER_BENCH_DATA)")
    parser.add_argument("--models", nargs="+", help="beginnings of their names (default: all)")
    parser.add_argument("--dtypes", nargs="+", choices=LOW, help="default: the model's")
    parser.add_argument("--beams", nargs="+", type=int, help="default: the model's")
    parser.add_argument("--cache", type=Path, default=CACHE, help="what arms gave is kept here")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder")
    given = parser.parse_args(arguments)
    known = models()
    wanted = tuple(given.models or known)
    chosen = [model for name, model in known.items() if name.startswith(wanted)]
    if not given.data or not chosen:
        parser.error("set VERBALIZER_BENCH_DATA, and `make smollm` or VERBALIZER_BENCH_SHARED")
    torch.set_num_threads(1)
    measured = [
        measure(model._replace(dtypes=given.dtypes or model.dtypes), given.data, beams, given.cache)
        for model in chosen
        for beams in given.beams or model.searches
    ]
    where = {"environment": environment(1), "engine_sha256": engine_sha256()}
    result = {**where, "measured": measured}
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "precision.json").write_text(json.dumps(result, indent=1) + "\n")
    table = render(result)
    (given.output / "precision.md").write_text(table)
    print(table)
    if any(row["worse"] for part in measured for row in part["precisions"].values()):
        sys.exit("the engine is worse than generate")


if __name__ == "__main__":
    main()
