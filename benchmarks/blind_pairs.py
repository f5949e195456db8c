"""Time and memory of the search for near pairs, and how both grow, on made features.

python -m benchmarks.blind_pairs
python -m benchmarks.blind_pairs --quick                 # everything tiny

The features are made: random unit vectors, of which one in fifty has a partner near it in the
similar tower, and half of these partners are far in the different one. They are stored as
`blind-pairs` stores them, and searched by what it runs, each size in a process of its own.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import environment
from benchmarks.measure import cpu_seconds, spread
from benchmarks.memory import reset_peak, status_mib
from verbalizer_bench.results.tables import markdown_table
from verbalizer_bench.vision.features import Batch, PartWriter, Store
from verbalizer_bench.vision.search import Rule, Search, read_hits
from verbalizer_bench.vision.selection import Choice, choose

RESULTS = Path(__file__).parent / "results" / "blind_pairs"
SIZES = (12_500, 25_000, 50_000, 100_000)
WIDTH, MEMORY = 768, 1024
# The larger sizes run once: minutes.
REPETITIONS = {12_500: 3, 25_000: 2}
_PARTNER, _BATCH = 50, 1000
_MADE = {"images": "made"}


def make_stores(folder: Path, count: int, width: int) -> None:
    """Write both towers' features of so many images that are not there."""
    for seed, role in enumerate(("similar", "different")):
        with closing(PartWriter(folder / role, range(count), {**_MADE, "role": role})) as part:
            for start in range(0, count, _BATCH):
                size = min(_BATCH, count - start)
                draw = np.random.default_rng([seed, start])
                vectors = draw.standard_normal((size, width), np.float32)
                for place in range(0, size - 1, _PARTNER):
                    noise = 0.2 if role == "similar" or place % (2 * _PARTNER) else 3.0
                    partner = noise * vectors[place + 1]
                    vectors[place + 1] = vectors[place] + partner
                hashes = tuple(f"{start + place:064x}" for place in range(size))
                part.write(Batch(vectors, hashes, {}))


def measure(count: int, width: int, memory: int) -> dict[str, Any]:
    """Store, search and choose once, in this process; return what it took."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        make_stores(folder, count, width)
        stored = time.perf_counter() - began
        reset_peak()
        before = status_mib("VmRSS")
        wall, cpu = time.perf_counter(), cpu_seconds()
        similar, different = (Store(folder / role, count) for role in ("similar", "different"))
        search = Search(similar, different, np.arange(count), Rule(memory=memory), _MADE)
        search.run(folder / "search")
        hits = read_hits(folder / "search", search.blocks, search.made)
        chosen = choose(hits, Choice())
        return {
            "wall": time.perf_counter() - wall,
            "cpu": cpu_seconds() - cpu,
            "peak_mib": status_mib("VmHWM") - before,
            "stored_seconds": stored,
            "rows_of_a_block": search.rows,
            "near": len(hits),
            "pairs": len(chosen.pairs),
        }


def apart(count: int, width: int, memory: int) -> dict[str, Any]:
    """Measure in a process of its own."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, count, width, memory).result()


def run(
    sizes: Sequence[int], width: int, memories: Sequence[int], repetitions: dict[int, int]
) -> list[dict[str, Any]]:
    """Measure all sizes, in turns; the smaller memories on the second size alone."""
    cases = [(size, memories[0]) for size in sizes] + [(sizes[1], m) for m in memories[1:]]
    times: dict[tuple[int, int], list[dict[str, Any]]] = {case: [] for case in cases}
    for turn in range(max(repetitions.values(), default=1)):
        for case in cases:
            if turn < repetitions.get(case[0], 1):
                times[case].append(apart(case[0], width, case[1]))
                print(case, json.dumps(times[case][-1]), flush=True)
    return [
        {
            "vectors": size,
            "memory": memory,
            "repetitions": len(found),
            **{key: spread([one[key] for one in found]) for key in ("wall", "cpu", "peak_mib")},
            **{key: found[0][key] for key in ("rows_of_a_block", "near", "pairs")},
        }
        for (size, memory), found in times.items()
    ]


def render(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    header = [
        "Vectors",
        "`--memory`",
        "Rows of a block",
        "Seconds",
        "of the processor",
        "Million pairs a CPU second",
    ]
    header += ["Peak MiB", "Near pairs", "Taken", "Runs"]
    rows = []
    for case in result["cases"]:
        pairs = case["vectors"] * (case["vectors"] - 1) / 2e6
        rate = {"median": pairs / case["cpu"]["median"]}
        rate |= {"min": pairs / case["cpu"]["max"], "max": pairs / case["cpu"]["min"]}
        rows.append(
            [
                f"{case['vectors']:,}",
                str(case["memory"]),
                f"{case['rows_of_a_block']:,}",
                *(_told(numbers) for numbers in (case["wall"], case["cpu"], rate)),
                _told(case["peak_mib"]),
                f"{case['near']:,}",
                f"{case['pairs']:,}",
                str(case["repetitions"]),
            ]
        )
    machine = result["environment"]
    return "\n".join(
        [
            "# Search for near pairs",
            "",
            f"Made features of {result['width']} numbers in both towers; one thread. "
            f"{machine['cpu']}, {machine['cores']} cores with other work beside it (load "
            f"{', '.join(f'{load:.1f}' for load in machine['load_average_at_start'])} at the "
            f"start), torch {machine['versions']['torch']}; median [range] of the runs. Peak: of "
            "the process, less what it had before it opened the features; pages of the mapped "
            "features count, which the system may take back. "
            "By `python -m benchmarks.blind_pairs`.",
            "",
            markdown_table(header, rows),
            "",
            "Not measured: the towers; a GPU; more than one thread; a million images, which at "
            "this rate are 5e11 pairs and one core's work for "
            f"{5e11 / (1e6 * _last_rate(result)) / 3600:.0f} hours, that shards divide "
            "(extrapolated).",
            "",
        ]
    )


def _last_rate(result: dict[str, Any]) -> float:
    case = max(result["cases"], key=lambda case: case["vectors"])
    return float(case["vectors"] * (case["vectors"] - 1) / 2e6 / case["cpu"]["median"])


def _told(numbers: dict[str, float]) -> str:
    middle, low, high = (f"{numbers[key]:.1f}" for key in ("median", "min", "max"))
    return middle if low == high else f"{middle} [{low}, {high}]"


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything tiny; writes nothing")
    quick = parser.parse_args().quick
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sizes, width = ((200, 400), 64) if quick else (SIZES, WIDTH)
    found = {"environment": environment(1), "width": width}
    found["cases"] = run(sizes, width, (MEMORY, 256), {} if quick else REPETITIONS)
    text = render(found)
    print(text)
    if not quick:
        RESULTS.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
        RESULTS.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
