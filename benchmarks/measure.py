"""Time and memory of one way to generate."""

import os
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from benchmarks.arms import EngineCase, Generation, GenerationArm, make_arm
from benchmarks.memory import reset_peak, status_mib


class Cost(NamedTuple):
    """Seconds of one run: of the processor (all threads and children) and of the clock."""

    cpu: float
    wall: float


def cpu_seconds() -> float:
    """Return the CPU time of this process and its children so far."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(
    arm: GenerationArm, prompts: Sequence[str], generation: Generation
) -> tuple[list[str], Cost]:
    """Run an arm once; return its responses and what a prompt cost."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    responses = arm.generate(prompts, generation)
    cost = Cost((cpu_seconds() - cpu) / len(prompts), (time.perf_counter() - wall) / len(prompts))
    return responses, cost


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median and range."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def peak_memory(
    name: str,
    folder: Path,
    case: EngineCase,
    size: int,
    prompts: Sequence[str],
    generation: Generation,
    threads: int,
) -> float:
    """Return the MiB that an arm needs at its peak besides the loaded model, in its own process."""
    # Large blocks go back to the system at once: the peak is of memory in use, not of fragments.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    # A server that has done the imports makes each process in no time.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "verbalizer_bench.models.adapters.lvlm"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        job = pool.submit(_peak, name, folder, case, size, prompts, dict(generation), threads)
        return job.result()


def _peak(
    name: str,
    folder: Path,
    case: EngineCase,
    size: int,
    prompts: Sequence[str],
    generation: dict[str, object],
    threads: int,
) -> float:
    torch.set_num_threads(threads)
    arm = make_arm(name, folder, case, size)
    # Weights are read from the file when they are first used, code when it first runs.
    for weight in arm.model.parameters():
        weight.sum()
    arm.generate(prompts[:1], generation | {"max_gen_toks": 2})
    reset_peak()
    before = status_mib("VmRSS")
    arm.generate(prompts, generation)
    return status_mib("VmHWM") - before
