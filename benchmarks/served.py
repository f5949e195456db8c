"""Compare a served model's responses with those of the same checkpoint asked here.

    python -m benchmarks.served --data DIR                       # SmolLM2 by `transformers serve`
    python -m benchmarks.served --data DIR --checkpoint DIR \
        --base_url http://localhost:8000/v1 --model NAME         # any server that runs

Both are asked two documents of each of the suite's 108 tasks, greedily and as conversations:
`verbalizer-api`, and `verbalizer-llm` in float32. Every response that differs is listed.
"""

import argparse
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from tests.helpers.model_server import missing_package, serving
from verbalizer_bench import evaluate
from verbalizer_bench.leaderboard.reports.report import report
from verbalizer_bench.models.checkpoints.smollm2 import is_whole, smollm_folder
from verbalizer_bench.results.run import Run

RESULTS = Path(__file__).parent / "results" / "served.md"
GREEDY = {"num_beams": 1}
# Of the first 200 prompts so many shall have the same response.
WANTED = 0.99


class Difference(NamedTuple):
    """A response that differs: the task, the document, both responses, and what was wanted."""

    task: str
    doc_id: int
    here: str
    served: str
    target: str


def compared(here: Run, served: Run) -> tuple[int, list[Difference]]:
    """Return how many responses two runs have, and those that differ."""
    count, found = 0, []
    for task in here.tasks:
        others = {row.doc_id: row for row in served.samples(task.task)}
        for row in here.samples(task.task):
            other = others[row.doc_id]
            count += 1
            if row.response != other.response:
                texts = (row.response, other.response, row.target)
                found.append(Difference(task.task, row.doc_id, *texts))
    return count, found


def asked_both_ways(
    checkpoint: Path, url: str, model: str, output: Path, **options: Any
) -> tuple[Run, Run]:
    """Run the suite's tasks here and at a server, both greedily and as conversations.

    What is in the output folder already is not asked for again.
    """

    def run(name: str, adapter: str, model_args: dict[str, Any], **others: Any) -> Run:
        folder = output / name
        if any(folder.glob("journal-*.jsonl")):
            others["resume"] = folder
        return evaluate(
            adapter, model_args, output=folder, apply_chat_template=True, **options, **others
        )

    asked = {"model": model, "base_url": url, "image": "none", "concurrency": 1, "timeout": 600}
    loaded = {"pretrained": str(checkpoint), "dtype": "float32"}
    here = run("here", "verbalizer-llm", loaded, gen_kwargs=GREEDY)
    return here, run("served", "verbalizer-api", asked)


def text_of(here: Run, served: Run) -> str:
    """Return the comparison as Markdown."""
    count, found = compared(here, served)
    asked = served.record.served
    assert asked is not None
    names = ("torch", "transformers", "lm_eval", "openai")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    ends = {name: run.record.endings for name, run in (("here", here), ("served", served))}
    equal, tasks = count - len(found), len(here.tasks)
    sources = ", ".join(sorted({task.source for task in here.tasks}))
    lines = [
        "# A served model against the same checkpoint asked here",
        f"{served.name}, {count // tasks} documents of each of {tasks} tasks (rows: {sources}); "
        f"{platform.machine()}, {here.record.device}; {packages}. "
        f"`verbalizer-api` sent {asked.parameters}; `verbalizer-llm` was greedy, in "
        f"{here.record.dtype}, with {here.record.engine}.",
        f"**{equal} of {count} responses are the same ({100 * equal / count:.1f} %; "
        f"wanted: {100 * WANTED:.0f} %).** Ends: {ends}.",
        str(report(here, served)._scores()),
    ]
    if found:
        lines += ["Those that differ:", "\n".join(f"- {one}" for one in found)]
    return "\n\n".join(lines) + "\n"


@contextmanager
def server(given: str | None, log: Path) -> Iterator[str]:
    """Yield the address of the server that is given, or of one that runs meanwhile."""
    if given:
        yield given
        return
    if reason := missing_package():
        raise ValueError(reason)
    with serving(log) as url:
        yield url


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write the result and return 0 if enough responses are the same."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="a folder of rows, or sample")
    parser.add_argument("--checkpoint", type=Path, help="default: that of `make smollm`")
    parser.add_argument("--base_url", help="a server that runs; default: `transformers serve`")
    parser.add_argument("--model", help="the server's name for it; default: the checkpoint")
    parser.add_argument("--tasks", default="verbalizer")
    parser.add_argument("--limit", type=int, default=2, help="documents of each task")
    parser.add_argument("--runs", type=Path, help="a folder that keeps both runs, to go on with")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    given = parser.parse_args(argv)
    checkpoint = given.checkpoint or smollm_folder()
    if given.checkpoint is None and not is_whole(checkpoint):
        parser.error(f"{checkpoint} is not there; `make smollm` makes it")
    with ExitStack() as stack:
        place = given.runs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.mkdir(parents=True, exist_ok=True)
        url = stack.enter_context(server(given.base_url, place / "serve.log"))
        here, served = asked_both_ways(
            checkpoint,
            url,
            given.model or str(checkpoint),
            place,
            tasks=given.tasks,
            data=given.data,
            limit=given.limit,
        )
        text = text_of(here, served)
        count, found = compared(here, served)
    given.output.write_text(text, encoding="utf-8")
    print(text)
    return int(len(found) > (1 - WANTED) * count)


if __name__ == "__main__":
    sys.exit(main())
