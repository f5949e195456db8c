"""Time the engine against `generate` in bfloat16, at real sizes on a GPU.

    python -m benchmarks.engine --device cuda --prompts prompts.json
    python -m benchmarks.engine --device cpu --quick        # a rehearsal of the same code, tiny

Cases run in the order of what they are worth, each within its seconds; results are written after
each. Stock is transformers' `generate`, which lm-eval's `hf` and `hf-multimodal` call, in batches
of its best size: no time of a harness is counted for either arm, nor of tokenizers.
"""

import argparse
import copy
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.device_table import render
from benchmarks.machine import device_environment
from benchmarks.prompts import COUNT, SomePrompts, choose_prompts, read_prompts
from benchmarks.real_shapes import SHAPES, RandomModel
from tests.helpers.toy import make_tokenizer
from verbalizer_bench.models.engine.batching import is_out_of_memory
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.shared_prefix import SharedPrefixEngine

NEW_TOKENS = 15
# So many entries make tokens of the length that a checkpoint's own tokenizer gives these prompts.
_TOKENIZER_ENTRIES = 2048
# Shares of a case's seconds.
_FOR_SIZES, _FOR_OURS, _FOR_STOCK, _FOR_AGREEMENT = 0.2, 0.3, 0.15, 0.2
# A batch that takes a longer share of them is the last that is tried.
_LONG_BATCH = 0.06
_REPETITIONS = 3
# Stock's time over ours; minutes of the full suite on one H100.
TARGETS = {"LVLM, 10 beams": 12.0, "LLM, 10 beams": 3.0}
SUITE_MINUTES = 30


class DeviceCase(NamedTuple):
    """A model's shape and a beam width."""

    shape: str
    beams: int

    @property
    def name(self) -> str:
        """Return a readable name."""
        return f"{self.shape}, {f'{self.beams} beams' if self.beams > 1 else 'greedy'}"

    @property
    def kind(self) -> str:
        """Return which target a case has."""
        kind = "LVLM" if SHAPES[self.shape].image else "LLM"
        return f"{kind}, {f'{self.beams} beams' if self.beams > 1 else 'greedy'}"


CASES = tuple(DeviceCase(shape, beams) for beams in (10, 1) for shape in SHAPES)


class DevicePlan(NamedTuple):
    """Where and how much is measured.

    Attributes:
        device: A device of torch.
        tiny: Whether models are tiny.
        seconds: Of a case.
        minutes: Of all; a case that would end later is not begun.
        sizes: Stock's batch sizes that are tried.
        compared: Responses that are compared with float32.
    """

    device: str
    tiny: bool
    seconds: float
    minutes: float
    sizes: tuple[int, ...] = (1, 4, 16, 64, 256)
    compared: int = 16


def run_case(case: DeviceCase, plan: DevicePlan, prompts: Sequence[str]) -> dict[str, Any]:
    """Measure both arms on one case."""
    began = time.perf_counter()
    tokenizer = make_tokenizer(list(prompts)[::4], _TOKENIZER_ENTRIES)
    model = RandomModel(SHAPES[case.shape], tokenizer, plan.device, plan.tiny)
    ours = OurArm(model, case.beams)
    setup = time.perf_counter() - began
    by_length = sorted(prompts, key=lambda prompt: len(model.ids(prompt)))
    ours.generate(by_length[:: max(1, len(by_length) // 32)])
    probe = list(prompts)[::10] or list(prompts)
    a_prompt = _timed(lambda: ours.generate(probe))[1] / len(probe)
    fitting = int(_FOR_OURS * plan.seconds / _REPETITIONS / a_prompt)
    some = _evenly(prompts, max(1, fitting))
    sizes = _try_sizes(model, case.beams, by_length, plan)
    best = min(sizes, key=lambda size: sizes[size])
    times, stock_count = _alternate(ours, model, case.beams, some, by_length, best, sizes, plan)
    peaks = {
        "ours": _peak_gib(plan.device, lambda: ours.generate(some)),
        "stock": _peak_gib(plan.device, lambda: stock(model, by_length[-best:], case.beams, best)),
    }
    lengths = [len(model.ids(prompt)) for prompt in prompts]
    return {
        "case": case.name,
        "kind": case.kind,
        "parameters": sum(weight.numel() for weight in model.model.parameters()),
        "prompt_tokens": {"min": min(lengths), "mean": sum(lengths) / len(lengths)}
        | {"max": max(lengths)},
        "calibration": ours.calibration.record() if ours.calibration else None,
        "seconds_a_prompt": times,
        "prompts": {"ours": len(some), "stock": stock_count},
        "stock_sizes": {str(size): seconds for size, seconds in sizes.items()},
        "stock_batch": best,
        "ratio": [b / a for a, b in zip(times["ours"], times["stock"], strict=True)],
        "target": None if plan.tiny else TARGETS.get(case.kind),
        "peak_gib": peaks,
        "agreement": _agreement(ours, by_length, best, plan),
        "setup_seconds": setup,
        "wall_seconds": time.perf_counter() - began,
    }


def _alternate(
    ours: "OurArm",
    model: RandomModel,
    beams: int,
    some: Sequence[str],
    by_length: Sequence[str],
    best: int,
    sizes: dict[int, float],
    plan: DevicePlan,
) -> tuple[dict[str, list[float]], int]:
    """Return both arms' seconds a prompt by repetition, in turning order, and stock's prompts."""
    batches = int(_FOR_STOCK * plan.seconds / _REPETITIONS / (sizes[best] * best))
    asked = _evenly(by_length, best * max(1, min(batches, len(by_length) // best)))
    arms: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours.generate(some),
        "stock": lambda: stock(model, asked, beams, best),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    for repetition in range(_REPETITIONS):
        for name in list(arms)[:: -1 if repetition % 2 else 1]:
            count = len(some) if name == "ours" else len(asked)
            times[name].append(_timed(arms[name])[1] / count)
    return times, len(asked)


def _evenly(prompts: Sequence[str], count: int) -> list[str]:
    """Return at most `count` prompts that stand evenly in their order."""
    count = min(count, len(prompts))
    return [prompts[n * len(prompts) // count] for n in range(count)]


class OurArm:
    """The engine, with its budget measured."""

    def __init__(self, model: RandomModel, beams: int) -> None:
        """Time passes of the model."""
        tokenizer = model.tokenizer
        self.model, self.beams = model, beams
        self.engine = SharedPrefixEngine(
            model.model, tokenizer.pad_token_id, [tokenizer.eos_token_id]
        )
        self.calibration = self.engine.calibrate()

    def generate(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the prompts' new tokens."""
        encoded = [self.model.encoded(prompt) for prompt in prompts]
        settings = GenerationSettings(NEW_TOKENS, (), {"num_beams": self.beams, "do_sample": False})
        found = dict(self.engine.generate(encoded, settings, None))
        return [found[place] for place in range(len(prompts))]


@torch.inference_mode()
def stock(
    model: RandomModel, prompts: Sequence[str], beams: int, size: int, used: Any = None
) -> list[list[int]]:
    """Generate with transformers in batches of prompts of similar length; `used`: other weights."""
    order = sorted(range(len(prompts)), key=lambda n: -len(model.ids(prompts[n])))
    found: dict[int, list[int]] = {}
    tokenizer = model.tokenizer
    for start in range(0, len(order), size):
        members = order[start : start + size]
        inputs = model.inputs([prompts[n] for n in members])
        if used is not None:
            inputs = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
        output = (used or model.model).generate(
            **inputs,
            do_sample=False,
            num_beams=beams,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )[:, inputs["input_ids"].shape[1] :]
        for n, row in zip(members, output.tolist(), strict=True):
            end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else None
            found[n] = row[:end]
    return [found[n] for n in range(len(prompts))]


def _try_sizes(
    model: RandomModel, beams: int, by_length: Sequence[str], plan: DevicePlan
) -> dict[int, float]:
    """Return stock's seconds a prompt by batch size, until memory or time ends or it gets slower.

    Once each, after a short warm-up; a size of one on four prompts.
    """
    began = time.perf_counter()
    stock(model, by_length[:1], beams, 1)
    found: dict[int, float] = {}
    for size in plan.sizes:
        asked = _evenly(by_length, max(4, size))
        try:
            taken = _timed(partial(stock, model, asked, beams, size))[1]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not found:
                raise
            break
        found[size] = taken / len(asked)
        late = time.perf_counter() - began > _FOR_SIZES * plan.seconds
        slower = found[size] > 1.1 * min(found.values())
        if late or slower or taken > _LONG_BATCH * plan.seconds or len(asked) == len(by_length):
            break
    gc.collect()
    return found


def _agreement(
    ours: OurArm, by_length: Sequence[str], best: int, plan: DevicePlan
) -> dict[str, Any]:
    """Count the responses that are those of `generate` in float32, one prompt at a time."""
    some, model, beams = _evenly(by_length, plan.compared), ours.model, ours.beams
    arms = {
        "ours": ours.generate(some),
        "stock": stock(model, some, beams, min(best, len(some))),
        "stock, alone": stock(model, some, beams, 1),
    }
    expected: list[list[int]] = []
    began = time.perf_counter()
    # Else a GPU's convolutions of the vision tower are not float32.
    torch.backends.cudnn.allow_tf32 = False
    try:
        exact = copy.deepcopy(model.model).float()
        for prompt in some:
            if time.perf_counter() - began > _FOR_AGREEMENT * plan.seconds:
                break
            expected += stock(model, [prompt], beams, 1, exact)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    same = {
        name: sum(a == b for a, b in zip(found, expected, strict=False))
        for name, found in arms.items()
    }
    distinct = len({tuple(tokens) for tokens in arms["ours"]})
    return {"compared": len(expected), "equal": same, "distinct": distinct, "asked": len(some)}


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = run()
    _wait()
    return result, time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_gib(device: str, run: Callable[[], Any]) -> float | None:
    """Return what a run needs at its peak besides the model; None where it is not counted."""
    if not device.startswith("cuda"):
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def run(
    cases: Sequence[DeviceCase], plan: DevicePlan, chosen: SomePrompts, output: Path, resume: bool
) -> dict[str, Any]:
    """Measure the cases; write the JSON and the table after each."""
    name = "engine-gpu-quick" if plan.tiny else "engine-gpu"
    file = output / f"{name}.json"
    result: dict[str, Any] = {
        "environment": device_environment(plan.device, plan.tiny),
        "sources": chosen.sources,
        "suite_prompts": chosen.suite_prompts,
        "prompts": len(chosen.prompts),
        "seconds_a_case": plan.seconds,
        "suite_minutes": SUITE_MINUTES,
        "cases": [],
        "not_run": {},
    }
    if resume and file.is_file():
        before = json.loads(file.read_text())
        if before["environment"] == result["environment"]:
            result["cases"] = before["cases"]
    began = time.perf_counter()
    done = {found["case"] for found in result["cases"]}
    for case in cases:
        if case.name in done:
            continue
        left = max(0.0, 60 * plan.minutes - (time.perf_counter() - began))
        if left < plan.seconds:
            result["not_run"][case.name] = f"{left:.0f} of {60 * plan.minutes:.0f} s were left"
        else:
            with _failure_noted(result, case):
                result["cases"].append(run_case(case, plan, chosen.prompts))
            _free()
        output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=1) + "\n")
        (output / f"{name}.md").write_text(render(result))
        print(f"{case.name}: {time.perf_counter() - began:.0f} s", flush=True)
    return result


@contextmanager
def _failure_noted(result: dict[str, Any], case: DeviceCase) -> Iterator[None]:
    """Keep what other cases gave where one fails: a GPU's time is dear."""
    try:
        yield
    except Exception as error:
        lines = str(error).splitlines()
        result["not_run"][case.name] = f"{type(error).__name__}: {lines[0] if lines else ''}"
        if result["environment"]["tiny"]:
            raise


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def matching(pattern: str) -> tuple[DeviceCase, ...]:
    """Return the cases whose name matches a glob."""
    return tuple(case for case in CASES if fnmatch(case.name, pattern))


def main(given: argparse.Namespace) -> None:
    """Measure what `benchmarks.engine`'s command line asks for."""
    plan = DevicePlan(given.device, given.quick, given.seconds, given.minutes)
    if given.quick:
        plan = plan._replace(sizes=(1, 2), compared=2)
    if not given.device.startswith("cuda") and not given.quick:
        sys.exit(f"--device {given.device}: real sizes are for cuda; add --quick for a rehearsal")
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(f"--device {given.device}: torch {torch.__version__} finds no GPU here")
    if not (cases := matching(given.cases)):
        sys.exit(f"--cases {given.cases}: none of {'; '.join(case.name for case in CASES)}")
    try:
        chosen = (
            read_prompts(given.prompts)
            if given.prompts
            else choose_prompts(given.data, 9 if given.quick else COUNT)
        )
    except ModuleNotFoundError as error:
        sys.exit(
            f"the suite cannot be read here: {error}; write its prompts where it can, with "
            "`python -m benchmarks.prompts prompts.json --data DIR`, and give --prompts"
        )
    print(json.dumps(device_environment(plan.device, plan.tiny)), flush=True)
    print(render(run(cases, plan, chosen, given.output, given.resume)))
