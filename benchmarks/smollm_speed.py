"""Time the engine against stock lm-eval on SmolLM2-135M-Instruct and real prompts.

    make bench-smollm                                 # hours on a slow core; VERBALIZER_BENCH_DATA
    python -m benchmarks.smollm_speed --dtypes float32 --stock-prompts 27 --repetitions 3

Stock is lm-eval's `hf` at the batch size that takes least CPU time a prompt, of those tried on some
prompts. Arms alternate; costs are CPU seconds a prompt. Writes `results/smollm_speed.json`, `.md`.
"""

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from benchmarks.arms import Generation, GenerationArm
from benchmarks.checkpoints import by_length, one_task_a_data_set, read_suite
from benchmarks.engine import environment
from benchmarks.measure import Cost, spread, timed
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.checkpoints.smollm2 import is_whole, smollm_folder
from verbalizer_bench.results.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
OURS, STOCK = "engine", "hf"
DOCUMENTS = 24  # of one task of each of the nine data sets
GENERATION = {"until": [], "do_sample": False, "max_gen_toks": 15, "num_beams": 10}
TRIED_PROMPTS = 9


def measure(
    folder: Path,
    prompts: Sequence[str],
    dtype: str,
    sizes: Sequence[int],
    stock_prompts: int,
    repetitions: int,
) -> Iterator[dict[str, Any]]:
    """Time both arms in one precision; yield the result so far after each repetition.

    Args:
        folder: The checkpoint.
        prompts: What the engine is asked; rendered.
        dtype: Of the weights.
        sizes: Batch sizes that are tried with stock.
        stock_prompts: How many stock is timed on, evenly in the order of lengths.
        repetitions: Runs of each arm, in alternating order.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    some = [prompts[i] for i in by_length(prompts, tokenizer, stock_prompts)]
    tried = [prompts[i] for i in by_length(prompts, tokenizer, TRIED_PROMPTS)]
    costs = {size: _once(load_arm(STOCK, folder, dtype, size), tried) for size in sizes}
    best = min(costs, key=lambda size: costs[size].cpu)
    print(f"{dtype}: batch sizes {costs}", flush=True)
    arms = {
        OURS: (load_arm(OURS, folder, dtype), prompts),
        STOCK: (load_arm(STOCK, folder, dtype, best), some),
    }
    runs: dict[str, list[Cost]] = {name: [] for name in arms}
    responses: dict[str, list[str]] = {}
    for repetition in range(repetitions):
        for name in list(arms)[:: -1 if repetition % 2 else 1]:
            arm, asked = arms[name]
            responses[name], cost = timed(arm, asked, GENERATION)
            runs[name].append(cost)
            print(f"{dtype}: {name}: {cost}", flush=True)
        mine = dict(zip(prompts, responses[OURS], strict=True))
        same = [mine[prompt] == text for prompt, text in zip(some, responses[STOCK], strict=True)]
        yield {
            "dtype": dtype,
            "prompts": {OURS: len(prompts), STOCK: len(some)},
            "repetitions": repetition + 1,
            "batch_size": best,
            "sizes_tried": {str(size): cost.cpu for size, cost in costs.items()},
            "cpu_seconds_a_prompt": {n: spread([c.cpu for c in runs[n]]) for n in arms},
            "ratio": spread([b.cpu / a.cpu for a, b in zip(runs[OURS], runs[STOCK], strict=True)]),
            "same_responses": sum(same),
        }


def load_arm(name: str, folder: Path, dtype: str, size: int = 1) -> GenerationArm:
    """Load the checkpoint for the engine, which chooses its batches, or for lm-eval's `hf`."""
    options: dict[str, Any] = {"dtype": dtype, "device": "cpu", "batch_size": size}
    if name == OURS:
        lm = VerbalizerLLM(str(folder), engine="shared_prefix", **options)
    else:
        lm = HFLM(str(folder), **options)

    def generate(prompts: Sequence[str], generation: Generation) -> list[str]:
        asked = [Instance("generate_until", {}, (text, dict(generation)), 0) for text in prompts]
        responses: list[str] = lm.generate_until(asked, disable_tqdm=True)
        return responses

    return GenerationArm(lm.model, generate)


def _once(arm: GenerationArm, prompts: Sequence[str]) -> Cost:
    """Time an arm once, after a warm-up of one prompt."""
    arm.generate(prompts[:1], GENERATION)
    return timed(arm, prompts, GENERATION)[1]


def render(result: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    where = result["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    header = [
        "Precision",
        "Prompts, engine and hf",
        "Repetitions",
        "Engine, CPU s a prompt",
        "hf (batch size)",
    ]
    header += ["hf / engine", "Same responses", "Batch sizes tried, CPU s a prompt, once each"]
    rows = [
        [
            row["dtype"],
            f"{row['prompts'][OURS]}, {row['prompts'][STOCK]}",
            str(row["repetitions"]),
            _spread(row["cpu_seconds_a_prompt"][OURS]),
            f"{_spread(row['cpu_seconds_a_prompt'][STOCK])} ({row['batch_size']})",
            _spread(row["ratio"]),
            f"{row['same_responses']} of {row['prompts'][STOCK]}",
            ", ".join(f"{size}: {cost:.2f}" for size, cost in row["sizes_tried"].items()),
        ]
        for row in result["measured"]
    ]
    return (
        "# SmolLM2-135M-Instruct: the engine against lm-eval's `hf`\n\n"
        f"{where['cpu']}, {where['cpu_capability']}, one thread, load at the end "
        f"{where['load_average_at_start'][0]:.1f}; {versions}; commit {where['git_commit']}; "
        f"{where['gpu']}.\n\n"
        f"10 beams, 15 new tokens, chat template; {result['documents']} documents of one task of "
        "each of the nine data sets. Median [range] of repetitions in alternating order; ratios "
        "are taken within each. hf is timed on prompts that stand evenly in the order of lengths, "
        f"its batch sizes on {TRIED_PROMPTS}. Its stop criterion is wrong under beams, so that its "
        "responses differ (and may end early).\n\n" + markdown_table(header, rows) + "\n"
    )


def _spread(values: Mapping[str, float]) -> str:
    return f"{values['median']:.2f} [{values['min']:.2f}, {values['max']:.2f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write the JSON and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    default = os.environ.get("VERBALIZER_BENCH_DATA")
    parser.add_argument("--data", default=default, help="hub or a folder (VERBALIZER_BENCH_DATA)")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="of each data set")
    parser.add_argument("--stock-prompts", type=int, default=9 * DOCUMENTS)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder")
    given = parser.parse_args(arguments)
    if not given.data or not is_whole(smollm_folder()):
        parser.error("set VERBALIZER_BENCH_DATA, and run `make smollm`")
    torch.set_num_threads(1)
    folder = smollm_folder()
    prompts = _rendered(folder, one_task_a_data_set(read_suite(given.data), given.documents))
    measured: dict[str, Any] = {}
    for dtype in given.dtypes:
        counts = (given.sizes, given.stock_prompts, given.repetitions)
        for so_far in measure(folder, prompts, dtype, *counts):
            measured[dtype] = so_far
            result = {
                "environment": environment(1),
                "documents": given.documents,
                "measured": list(measured.values()),
            }
            (given.output / "smollm_speed.json").write_text(json.dumps(result, indent=1) + "\n")
            (given.output / "smollm_speed.md").write_text(render(result))
    print(render(result))


def _rendered(folder: Path, prompts: Sequence[str]) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    texts: list[str] = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    return texts


if __name__ == "__main__":
    main()
