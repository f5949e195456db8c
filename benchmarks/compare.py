"""Time and memory of comparing two full runs: 2 x 89,160 rows, 10,000 resamples.

python -m benchmarks.compare

The rows are made: Table 1's numbers of documents in the nine data sets, prompts of some 500
characters, scores by chance. Reading the samples files is counted.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.tasks.generate import read_dataset, suite_files
from verbalizer_bench.tasks.identity import TABLE_1
from verbalizer_bench.tasks.metrics import METRICS, OUTCOMES
from verbalizer_bench.tasks.spec import protocol, task_name

RESULTS = Path(__file__).parent / "results"
TARGETS = {"wall_seconds": 10.0, "peak_mib": 1024.0}
RESAMPLES = 10_000


def write_run(folder: Path, seed: int) -> int:
    """Write a run of the whole suite as lm-eval does; return its rows."""
    generator, rows = np.random.default_rng(seed), 0
    folder.mkdir(parents=True)
    configs: dict[str, Any] = {}
    for name, path in suite_files().items():
        spec, verbalizers = read_dataset(path)
        for verbalizer in verbalizers:
            task = task_name(name, verbalizer)
            metadata = {"dataset": name, "verbalizer": vars(verbalizer), "source": "made"}
            configs[task] = {
                "metadata": metadata | {"identity": hashlib.sha256(task.encode()).hexdigest()},
                "doc_to_text": spec.prompt,
                "generation_kwargs": protocol()["generation_kwargs"],
            }
            lines = []
            for i, correct in enumerate(generator.random(TABLE_1[name]) < 0.5):
                doc = {field: f"text {i} of {name}" + " word" * 20 for field in spec.fields}
                doc["label"] = spec.classes[i % 2]
                said = spec.target(doc, verbalizer) if correct else spec.other(doc, verbalizer)
                lines.append(json.dumps(_row(i, doc, spec.render(doc, verbalizer), said, correct)))
            (folder / f"samples_{task}_1.jsonl").write_text("\n".join(lines) + "\n")
            rows += len(lines)
    counts = {t: {"original": 1, "effective": 1} for t in configs}
    results: dict[str, Any] = {"configs": configs, "config": {"model": "hf"}, "results": {}}
    results["model_name"] = f"made-{seed}"
    (folder / "results_1.json").write_text(json.dumps(results | {"n-samples": counts}))
    return rows


def _row(i: int, doc: dict[str, str], prompt: str, said: str, correct: bool) -> dict[str, Any]:
    scores = dict.fromkeys(METRICS, 0.0)
    scores |= dict.fromkeys(("f1", "exact_match", "contains_label"), float(correct))
    scores[OUTCOMES[0 if correct else 2]] = 1.0
    arguments = {"gen_args_0": {"arg_0": prompt, "arg_1": {"num_beams": 10}}}
    head = {"doc_id": i, "doc": doc, "target": doc["label"], "arguments": arguments}
    hashes = {key: "0" * 64 for key in ("doc_hash", "prompt_hash", "target_hash")}
    return head | {"resps": [[said]], "filtered_resps": [said], "filter": "none"} | hashes | scores


def measure(folders: list[Path], output: Path) -> dict[str, float]:
    """Read and compare the runs; return seconds and this process's highest resident size."""
    start = time.perf_counter()
    from verbalizer_bench.leaderboard.compare import compare
    from verbalizer_bench.leaderboard.runs import find_runs

    runs = find_runs(folders)
    read = time.perf_counter()
    compare(runs, output, RESAMPLES)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "read_seconds": read - start,
        "compare_seconds": end - read,
        "wall_seconds": end - start,
        "peak_mib": peak,
    }


def main() -> None:
    """Measure in a process of its own, and write `results/compare.json` and `.md`."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / name for name in ("base", "model")]
        rows = sum(write_run(folder, seed) for seed, folder in enumerate(folders))
        command = [sys.executable, "-m", "benchmarks.compare", "--measure", temporary]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    result = {"rows": rows, "resamples": RESAMPLES, "numpy": np.__version__, "targets": TARGETS}
    text = json.dumps(result | {"measured": found}, indent=2) + "\n"
    (RESULTS / "compare.json").write_text(text)
    lines = ["| | measured | target |", "|---|--:|--:|"]
    lines += [f"| {k} | {v:.1f} | {TARGETS.get(k, '-')} |" for k, v in found.items()]
    title = f"# compare: {rows:,} rows, {RESAMPLES:,} resamples and permutations, one thread\n\n"
    (RESULTS / "compare.md").write_text(title + "\n".join(lines) + "\n")
    print(text)


if __name__ == "__main__":
    if "--measure" in sys.argv:
        where = Path(sys.argv[-1])
        print(json.dumps(measure([where / "base", where / "model"], where / "out")))
    else:
        main()
