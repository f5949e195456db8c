"""Prompts for the benchmark on an accelerator, written where the suite can be read.

    python -m benchmarks.prompts prompts.json --data DIR

A machine with a GPU may have neither lm-eval nor the rows: it takes this file.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.checkpoints import read_suite

COUNT = 2000


class SomePrompts(NamedTuple):
    """Some prompts that stand for the suite.

    Attributes:
        prompts: Those of one task of each data set, as many as is its share of the suite.
        suite_prompts: How many the suite has.
        sources: A data set's source of rows, as results name it.
    """

    prompts: list[str]
    suite_prompts: int
    sources: dict[str, str]


def choose_prompts(data: str, count: int = COUNT) -> SomePrompts:
    """Take the first documents of one task of each data set; label words differ."""
    suite = read_suite(data)
    sizes = {
        data_set: {
            name: prompts
            for name, prompts in suite.prompts.items()
            if name.startswith(f"verbalizer_{data_set}_")
        }
        for data_set in sorted(suite.sources)
    }
    total = sum(map(len, suite.prompts.values()))
    chosen: list[str] = []
    for number, tasks in enumerate(sizes.values()):
        share = sum(map(len, tasks.values())) / total
        name = sorted(tasks)[number % len(tasks)]
        chosen += tasks[name][: max(1, round(count * share))]
    return SomePrompts(chosen, total, suite.sources)


def read_prompts(path: Path) -> SomePrompts:
    """Read what `main` wrote."""
    return SomePrompts(**json.loads(path.read_text()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the prompts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", default="sample", help="hub, sample or a folder")
    parser.add_argument("--count", type=int, default=COUNT)
    given = parser.parse_args(arguments)
    chosen = choose_prompts(given.data, given.count)
    given.file.write_text(json.dumps(chosen._asdict()))
    sources = Counter(chosen.sources.values())
    print(f"{given.file}: {len(chosen.prompts)} of {chosen.suite_prompts} prompts, {dict(sources)}")


if __name__ == "__main__":
    main()
