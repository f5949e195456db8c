"""Store the hub's rows of the nine data sets in the layout of a local data folder.

verbalizer-bench data fetch DIR
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.tasks.data import read_rows, read_sources
from verbalizer_bench.tasks.suite import suite_datasets


def fetch(folder: Path) -> Iterator[str]:
    """Write `<data set>/<split>.jsonl` for the test and few-shot splits, and `sources.yaml`.

    Rows keep the hub's columns and classes. A file that is there stays; each is written whole or
    not at all, so that a fetch that was cut off goes on where it stopped.

    Yields:
        A line a file.

    Raises:
        ConnectionError: The hub cannot be reached.
    """
    sources = read_sources(folder)
    for name, (spec, _) in suite_datasets().items():
        splits = dict.fromkeys((spec.test_split, spec.fewshot_split))
        files = {split: folder / name / f"{split}.jsonl" for split in splits}
        is_new = name not in sources and not any(file.is_file() for file in files.values())
        for split, file in files.items():
            if file.is_file():
                yield f"{file}: is there, kept"
                continue
            rows = read_rows(spec, split, "hub")
            if is_new:
                sources[name] = {"source": "hub"}
                write_whole(folder / "sources.yaml", yaml.safe_dump(sources))
            write_whole(file, jsonl.dumps(rows))
            yield f"{file}: {len(rows)} rows"
