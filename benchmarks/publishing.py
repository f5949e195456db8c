"""Time and memory of publishing at full size: compare, report, pack, validate, build the site.

python -m benchmarks.publishing

Runs are made: rows of Table 1's numbers of documents, run through lm-eval by its own `dummy` model
and then answered by chance. The site has 1,000 submissions whose `verified.json` is the measured
one under other names, every third tuned from the one before. Each measurement is a process of its
own, imports counted; the commands alternate.
"""

import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import spread
from verbalizer_bench.tasks.identity import TABLE_1
from verbalizer_bench.tasks.suite import suite_datasets

RESULTS = Path(__file__).parent / "results"
REPETITIONS = 5
SUBMISSIONS = 1_000
# What a submission has beside verified.json: hashed by `leaderboard build`, and not read.
_FILES = ("submission.yaml", "results.json", "run.json", "SHA256SUMS", "samples/x.jsonl.gz")
TARGETS = {
    "compare": {"wall_seconds": 10, "peak_mib": 1024},
    "validate": {"wall_seconds": 20, "peak_mib": 500},
    "build": {"wall_seconds": 60},
}
_TIMED = """() => {{
  const start = performance.now();
  {};
  document.body.offsetHeight;
  return performance.now() - start;
}}"""
# Scripts for the page, by what they measure.
_ACTIONS = {
    "painted": "performance.getEntriesByName('first-contentful-paint')[0].startTime",
    "sorted": _TIMED.format("document.querySelector('thead th:nth-child(5) button').click()"),
    "filtered": _TIMED.format(
        "const field = document.getElementById('search'); field.value = 'model-77';"
        "field.dispatchEvent(new Event('input'))"
    ),
}


def make_data(folder: Path, sizes: dict[str, int]) -> None:
    """Write made rows in the hub's columns, as many of each data set as `sizes` says."""
    for name, (spec, _) in suite_datasets().items():
        for split, count in ((spec.test_split, sizes[name]), (spec.fewshot_split, 4)):
            rows = []
            for i in range(count):
                row: dict[str, Any] = {f: f"text {i}" + " of some words" * 6 for f in spec.fields}
                rows.append(row | {spec.label_column: spec.label_values[i % 2]})
            text = "".join(json.dumps(row) + "\n" for row in rows)
            place = folder / name / f"{split}.jsonl"
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
    sources = {name: {"source": "made"} for name in sizes}
    (folder / "sources.yaml").write_text(yaml.safe_dump(sources))


def make_run(data: Path, output: Path, seed: int) -> Path:
    """Run the suite with lm-eval's `dummy` model, then answer by chance; return the run."""
    from verbalizer_bench.results.files import newest_results, read_rows, read_table, write_run
    from verbalizer_bench.running.harness import harness
    from verbalizer_bench.running.merge import in_document_order
    from verbalizer_bench.tasks.metrics import score

    arguments = ["--model", "dummy", "--tasks", "verbalizer", "--data", str(data)]
    (folder,) = harness("run", [*arguments, "--output_path", str(output)])
    results, generator = newest_results(folder), random.Random(seed)
    table = read_table(results)
    samples = read_rows(results, list(table["configs"]))
    for task, rows in samples.items():
        words = table["configs"][task]["metadata"]["verbalizer"]
        for row in rows:
            other = words["second"] if row["target"] == words["first"] else words["first"]
            said = generator.choice([row["target"], other, f"It is {row['target']}."])
            row |= {"resps": [[said]], "filtered_resps": [said]}
            row |= score(row["target"], other, said)
    write_run(results, table, samples)
    in_document_order(results)
    return folder


def measure(arguments: Sequence[str]) -> dict[str, float]:
    """Run our command line once in a process of its own; return seconds and peak MiB."""
    code = (
        "import sys, time; t = time.perf_counter()\n"
        "from verbalizer_bench.cli import main\n"
        "code = main(sys.argv[1:])\n"
        # Not ru_maxrss, which starts from what this process has.
        "peak = next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]\n"
        "used = time.process_time()\n"
        "print(time.perf_counter() - t, used, int(peak) / 1024, file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wall, cpu, peak = map(float, done.stderr.split()[-3:])
    return {"wall_seconds": wall, "cpu_seconds": cpu, "peak_mib": peak}


def make_board(verified: dict[str, Any], folder: Path, count: int) -> None:
    """Write `count` validated submissions, all of the size of the one given."""
    for number in range(count):
        model = {**verified["submission"]["model"], "id": f"made/model-{number}"}
        if number % 3 == 2:
            model["base"] = f"made/model-{number - 1}"
        place = folder / f"made__model-{number}" / f"20260101-{number:08x}"
        (place / "samples").mkdir(parents=True)
        for name in _FILES:
            (place / name).write_text(name)
        inputs = {name: hashlib.sha256(name.encode()).hexdigest() for name in _FILES}
        submission = {**verified["submission"], "model": model}
        changed = {**verified, "submission": submission, "inputs": inputs}
        (place / "verified.json").write_text(json.dumps(changed))


def browse(page: Path) -> dict[str, float]:
    """Open the site's page in Chromium; return the milliseconds of painting, sorting, filtering.

    Raises:
        FileNotFoundError: No Chromium is in the PATH.
    """
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if path is None:
        raise FileNotFoundError("no chromium in the PATH; install one to measure the page")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        shown = browser.new_page()
        shown.goto(page.as_uri())
        found = {name: float(shown.evaluate(script)) for name, script in _ACTIONS.items()}
        browser.close()
    return found


def run(
    folder: Path, sizes: dict[str, int], submissions: int, repetitions: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Measure the commands; return median and range of each quantity of each."""
    from verbalizer_bench.leaderboard.submission.pack import pack
    from verbalizer_bench.leaderboard.submission.validate import validate

    make_data(folder / "data", sizes)
    runs = [make_run(folder / "data", folder / name, i) for i, name in enumerate(("a", "b"))]
    words: dict[str, Any] = {"submitter": "made", "licence": "CC0-1.0", "weights_sha256": "0" * 64}
    packed = pack(runs[0], folder / "packed", **words)
    found = validate(packed)
    if found.verified is None:
        raise RuntimeError(str(found))
    make_board(found.verified.model_dump(mode="json"), folder / "board", submissions)
    both = [str(one) for one in runs]
    commands = {
        "compare": lambda k: ["compare", *both, "-o", str(folder / f"compare-{k}")],
        "report": lambda k: ["report", *both, "-o", str(folder / f"report-{k}")],
        "pack": lambda k: [
            *("submit", "pack", both[0], "--submitter", "made", "--licence", "CC0-1.0"),
            *("--weights-sha256", "0" * 64, "-o", str(folder / f"packed-{k}")),
        ],
        "validate": lambda k: ["submit", "validate", str(packed)],
        "build": lambda k: [
            *("leaderboard", "build", str(folder / "board"), "-o", str(folder / f"site-{k}")),
            "--trust-verified",
        ],
    }
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for k in range(repetitions):
        for name, command in commands.items():
            costs[name].append(measure(command(k)))
            print(name, costs[name][-1], flush=True)
    return {
        name: {key: spread([cost[key] for cost in found]) for key in found[0]}
        for name, found in costs.items()
    }


def render(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Publishing at full size",
        "",
        f"{result['rows']:,} rows a run; {result['submissions']:,} submissions on the site; "
        f"{result['repetitions']} repetitions, median [range]. {result['machine']}, Python "
        f"{result['python']}, one thread.",
        "",
        "| | Seconds | of the processor | Peak MiB | Target |",
        "|---|--:|--:|--:|---|",
    ]
    units = {"wall_seconds": "s", "peak_mib": "MiB"}
    for name, found in result["measured"].items():
        cells = [
            f"{own['median']:.1f} [{own['min']:.1f}, {own['max']:.1f}]" for own in found.values()
        ]
        target = ", ".join(f"{v} {units[k]}" for k, v in TARGETS.get(name, {}).items()) or "-"
        lines.append(f"| {name} | {' | '.join(cells)} | {target} |")
    lines += [
        "",
        "compare and report: two runs, 10,000 resamples, samples files read. report writes its "
        "page, which compares too. pack ends with a validation. build takes verified.json as it "
        "is (--trust-verified); without that it validates each submission first. Not measured: a "
        "network.",
        "",
        "The page of all submissions in Chromium: "
        + ", ".join(f"{name} in {value:.0f} ms" for name, value in result["page"].items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write `results/publishing.json` and `.md`."""
    os.environ.setdefault("LMEVAL_LOG_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory() as temporary:
        measured = run(Path(temporary), TABLE_1, SUBMISSIONS, REPETITIONS)
        page = browse(Path(temporary) / "site-0" / "index.html")
    result = {
        "rows": 12 * sum(TABLE_1.values()),
        "submissions": SUBMISSIONS,
        "repetitions": REPETITIONS,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
        "targets": TARGETS,
        "measured": measured,
        "page": page,
    }
    (RESULTS / "publishing.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "publishing.md").write_text(render(result))
    print(render(result))


if __name__ == "__main__":
    main()
