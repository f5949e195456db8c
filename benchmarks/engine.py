"""Time the shared-prefix engine against stock ways to generate, on seeded random weights.

    make bench
    python -m benchmarks.engine --quick          # everything tiny, in less than a minute

Writes `benchmarks/results/<name>.json` and the same as a table, `<name>.md`. README.md beside this
file says what is measured how.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.arms import (
    CACHED,
    LMMS,
    OURS,
    STOCK,
    EngineCase,
    GenerationArm,
    lmms_installed,
    make_arm,
)
from benchmarks.checkpoints import (
    FULL,
    QUICK,
    CheckpointShape,
    Suite,
    by_length,
    lengths,
    one_task_a_data_set,
    read_suite,
    save_checkpoint,
    tokenizer_of,
)
from benchmarks.machine import environment, not_measured
from benchmarks.measure import Cost, peak_memory, spread, timed
from benchmarks.table import render
from verbalizer_bench.models.engine.prefix_groups import common_prefix_length

FOLDER = Path(__file__).parent
VOCABULARIES = (2048, 32000)
LOW = "bfloat16"


class EnginePlan(NamedTuple):
    """How much is measured.

    Attributes:
        shape: The checkpoints' sizes.
        cases: What is compared.
        documents: Documents of each of the nine data sets that our engine is timed on.
        few: Prompts that the other arms are timed on, by kind of case.
        sizes: Batch sizes tried with them.
        repetitions: Runs of each arm.
        requests: Numbers of prompts of the growth table; the other rows take `growth_prompts`.
        prefixes: Prefix lengths of the growth table.
        beams: Beams of the growth table.
        growth_prompts: Prompts for our engine there; stock takes an eighth.
    """

    shape: CheckpointShape
    cases: tuple[EngineCase, ...]
    documents: int
    few: Mapping[str, int]
    sizes: Mapping[str, tuple[int, ...]]
    repetitions: int
    requests: tuple[int, ...]
    prefixes: tuple[int, ...]
    beams: tuple[int, ...]
    growth_prompts: int


PLAN = EnginePlan(
    FULL,
    tuple(
        EngineCase(image, beams, words)
        for words in VOCABULARIES
        for image in (576, 256, 0)
        for beams in (10, 1)
    )
    + tuple(EngineCase(*case, VOCABULARIES[0], LOW) for case in ((576, 10), (0, 10), (0, 1))),
    documents=16,
    few={"lvlm beams": 4, "lvlm greedy": 16, "llm beams": 24, "llm greedy": 72},
    sizes={
        "lvlm beams": (1, 2, 4),
        "lvlm greedy": (1, 4, 8, 16),
        "llm beams": (1, 2, 4, 8),
        "llm greedy": (4, 8, 24, 72),
    },
    repetitions=5,
    requests=(50, 500, 5000),
    prefixes=(64, 256, 1024),
    beams=(1, 5, 10, 20),
    growth_prompts=64,
)
QUICK_PLAN = EnginePlan(
    QUICK,
    (EngineCase(16, 4, 2048), EngineCase(0, 1, 2048), EngineCase(0, 1, 2048, LOW)),
    documents=2,
    few={"lvlm beams": 4, "llm greedy": 4},
    sizes={"lvlm beams": (1, 2), "llm greedy": (2, 4)},
    repetitions=2,
    requests=(4, 8),
    prefixes=(64, 128),
    beams=(1, 4),
    growth_prompts=8,
)
# CPU time of the best stock batch size over ours; with 32,000 words half, in float32.
TARGETS = {"lvlm beams": 20.0, "llm beams": 6.0, "lvlm greedy": 5.0, "llm greedy": 1.4}
MEMORY_TARGET = 5.0


def kind(case: EngineCase) -> str:
    """Return which sizes and targets a case has."""
    return f"{'lvlm' if case.image_tokens else 'llm'} {'beams' if case.beams > 1 else 'greedy'}"


def run_case(
    case: EngineCase, plan: EnginePlan, suite: Suite, folder: Path, threads: int
) -> dict[str, Any]:
    """Measure all arms on one case."""
    generation = suite.generation | {"num_beams": case.beams}
    tokenizer = tokenizer_of(suite, case.vocabulary)
    save_checkpoint(folder, plan.shape, tokenizer, case.image_tokens)
    prompts = one_task_a_data_set(suite, plan.documents)
    some = [prompts[i] for i in by_length(prompts, tokenizer, plan.few[kind(case)])]
    # In low precision ours and stock alone.
    others = (STOCK,) if case.dtype == LOW else (STOCK, CACHED)
    tried = {name: _try_sizes(name, folder, case, plan, some, generation) for name in others}
    best = {name: min(costs, key=lambda n: costs[n].cpu) for name, costs in tried.items()}
    names = [OURS, *others]
    if case.image_tokens and case.dtype != LOW and lmms_installed():
        names.append(LMMS)
        best[LMMS] = 1
    arms = {name: make_arm(name, folder, case, best.get(name, 0)) for name in names}
    asked = {name: prompts if name == OURS else some for name in names}
    costs, responses = _time_arms(arms, asked, plan.repetitions, generation)
    reference = make_arm("reference", folder, case, 1).generate(some, generation)
    expected = dict(zip(some, reference, strict=True))
    # A batch of the longest prompts decides the peak of the arms whose batches have a fixed size.
    longest = [prompts[i] for i in by_length(prompts, tokenizer, len(prompts))][::-1]
    measured: dict[str, Any] = {}
    for name in arms:
        same = [
            response == expected[prompt]
            for prompt, response in zip(asked[name], responses[name], strict=True)
            if prompt in expected
        ]
        fed = prompts if name == OURS else longest[: 2 * best[name]]
        measured[name] = {
            "batch_size": best.get(name),
            "prompts": len(asked[name]),
            "text_tokens": lengths(asked[name], tokenizer),
            "cpu_seconds_a_prompt": spread([cost.cpu for cost in costs[name]]),
            "wall_seconds_a_prompt": spread([cost.wall for cost in costs[name]]),
            "peak_mib": peak_memory(
                name, folder, case, best.get(name, 0), fed, generation, threads
            ),
            "identical": sum(same),
            "compared": len(same),
        }
    return {
        "case": case._asdict() | {"name": case.name},
        "groups": len(suite.sources),
        "documents_a_group": plan.documents,
        "distinct_responses": len(set(responses[OURS])),
        "sizes_tried": {
            name: {str(n): cost._asdict() for n, cost in costs.items()}
            for name, costs in tried.items()
        },
        "arms": measured,
        **_against_targets(case, costs, measured),
    }


def _time_arms(
    arms: Mapping[str, GenerationArm],
    asked: Mapping[str, Sequence[str]],
    repetitions: int,
    generation: Mapping[str, object],
) -> tuple[dict[str, list[Cost]], dict[str, list[str]]]:
    """Run every arm in alternating order; return costs by repetition, and the last responses."""
    for name, arm in arms.items():
        arm.generate(asked[name][:2], generation)
    costs: dict[str, list[Cost]] = {name: [] for name in arms}
    responses: dict[str, list[str]] = {}
    for repetition in range(repetitions):
        for name in list(arms)[:: -1 if repetition % 2 else 1]:
            responses[name], cost = timed(arms[name], asked[name], generation)
            costs[name].append(cost)
    return costs, responses


def _against_targets(
    case: EngineCase, costs: Mapping[str, Sequence[Cost]], measured: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the ratios of the other arms to ours within each repetition, and of memory."""
    target = None
    if case.dtype != LOW:
        target = TARGETS[kind(case)] * (1.0 if case.vocabulary <= VOCABULARIES[0] else 0.5)
    ratios = {
        name: spread([a.cpu / b.cpu for a, b in zip(others, costs[OURS], strict=True)])
        for name, others in costs.items()
        if name != OURS
    }
    memory = measured[STOCK]["peak_mib"] / measured[OURS]["peak_mib"]
    return {
        "cpu_ratio": ratios,
        "target": target,
        "met": target and ratios[STOCK]["median"] >= target,
        "memory_ratio": memory,
        "memory_met": memory >= MEMORY_TARGET if case.beams > 1 and target else None,
    }


def _try_sizes(
    name: str,
    folder: Path,
    case: EngineCase,
    plan: EnginePlan,
    prompts: Sequence[str],
    generation: Mapping[str, object],
) -> dict[int, Cost]:
    """Time an arm once at each batch size, after a warm-up of one prompt."""
    costs = {}
    for size in plan.sizes[kind(case)]:
        arm = make_arm(name, folder, case, size)
        arm.generate(prompts[:1], generation)
        costs[size] = timed(arm, prompts, generation)[1]
    return costs


def run_growth(plan: EnginePlan, suite: Suite, folder: Path) -> list[dict[str, Any]]:
    """Measure how the cost of a text model's prompts grows: once each, stock at batch size 4."""
    tokenizer = tokenizer_of(suite, VOCABULARIES[0])
    case = EngineCase(0, 10, VOCABULARIES[0])
    save_checkpoint(folder, plan.shape, tokenizer, 0)
    ours, stock = make_arm(OURS, folder, case, 0), make_arm(STOCK, folder, case, 4)
    ordered = [prompt for prompts in suite.prompts.values() for prompt in prompts]
    beams = plan.beams[-2]
    rows = []

    def row(grows: str, value: int, prompts: Sequence[str], few: int, beams: int) -> None:
        generation = suite.generation | {"num_beams": beams}
        rows.append(
            {"grows": grows, "value": value, "prompts": len(prompts), "beams": beams}
            | {"text_tokens": lengths(prompts, tokenizer)["mean"]}
            | {"ours": timed(ours, prompts, generation)[1]._asdict()}
            | {"stock_prompts": few}
            | {"stock": timed(stock, prompts[:few], generation)[1]._asdict() if few else None}
        )

    ours.generate(ordered[:2], suite.generation)
    stock.generate(ordered[:2], suite.generation)
    few = max(1, plan.growth_prompts // 8)
    for count in plan.requests:
        # Stock costs the same a prompt however many there are.
        few_here = few if count == plan.requests[0] else 0
        row("requests", min(count, len(ordered)), ordered[:count], few_here, beams)
    task = next(iter(suite.prompts.values()))[: plan.growth_prompts]
    for prefix in plan.prefixes:
        row("prefix tokens", prefix, _longer(task, ordered, tokenizer, prefix), few, beams)
    for width in plan.beams:
        row("beams", width, task, few, width)
    return rows


def _longer(task: Sequence[str], texts: Sequence[str], tokenizer: Any, prefix: int) -> list[str]:
    """Put text in front of a task's prompts, so that they share about `prefix` tokens."""
    ids = [tokenizer(prompt)["input_ids"] for prompt in task]
    shared = min(common_prefix_length(ids[0], other) for other in ids)
    filler = tokenizer("\n".join(texts[-60:]), add_special_tokens=False)["input_ids"]
    front = tokenizer.decode(filler[: max(0, prefix - shared)])
    return [f"{front}\n{prompt}" if front else prompt for prompt in task]


def run(plan: EnginePlan, data: str, threads: int, growth: bool = True) -> dict[str, Any]:
    """Measure everything in the plan; return what the JSON holds."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    suite = read_suite(data)
    result: dict[str, Any] = {
        "environment": environment(threads),
        "sources": suite.sources,
        "shape": plan.shape._asdict(),
        "generation": suite.generation,
        "repetitions": plan.repetitions,
        "suite_prompts": sum(map(len, suite.prompts.values())),
        "cases": [],
        "growth": [],
        "not_measured": not_measured(growth),
    }
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(plan.cases):
            measured = run_case(case, plan, suite, Path(folder) / str(number), threads)
            result["cases"].append(measured)
            print(
                f"{case.name}: {measured['cpu_ratio'][STOCK]['median']:.1f}x "
                f"({time.perf_counter() - start:.0f} s)",
                file=sys.stderr,
                flush=True,
            )
        if growth:
            result["growth"] = run_growth(plan, suite, Path(folder) / "growth")
    result["wall_seconds"] = time.perf_counter() - start
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write the JSON and the table."""
    given = _parser().parse_args(arguments)
    if given.device:
        from benchmarks import device

        return device.main(given)
    plan = QUICK_PLAN if given.quick else PLAN
    cases = tuple(case for case in plan.cases if fnmatch(case.name, given.cases))
    if not cases:
        sys.exit(f"--cases {given.cases}: none of {'; '.join(c.name for c in plan.cases)}")
    plan = plan._replace(cases=cases)
    result = run(plan, given.data, given.threads, not given.no_growth)
    given.output.mkdir(parents=True, exist_ok=True)
    name = "engine-quick" if given.quick else "engine"
    (given.output / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    table = render(result)
    (given.output / f"{name}.md").write_text(table)
    print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data",
        default=os.environ.get("VERBALIZER_BENCH_DATA") or "sample",
        help="hub, sample or a folder (default: VERBALIZER_BENCH_DATA, else sample)",
    )
    parser.add_argument("--quick", action="store_true", help="everything tiny: is it still whole?")
    parser.add_argument("--no-growth", action="store_true", help="leave out the growth table")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch's threads, for all arms (default 1: CPU time then holds no waiting)",
    )
    parser.add_argument("--output", type=Path, default=FOLDER / "results", help="folder")
    parser.add_argument("--cases", default="*", help="glob of the cases' names (default: all)")
    real = parser.add_argument_group("models of real size, bfloat16, in place of all this")
    real.add_argument("--device", help="cuda; cpu with --quick is a rehearsal")
    real.add_argument("--prompts", type=Path, help="file of benchmarks.prompts, in place of --data")
    real.add_argument("--seconds", type=float, default=75, help="of a case (default 75)")
    real.add_argument("--minutes", type=float, default=8, help="of all cases (default 8)")
    real.add_argument("--resume", action="store_true", help="keep the cases that --output has")
    return parser


if __name__ == "__main__":
    main()
