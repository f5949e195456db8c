"""The benchmarks with images of their own, as reports and comparisons see them: what their unit is.

A unit (MMVP's pair, NaturalBench's group) is what counts as one observation: its questions are
asked of alike images, so that they are drawn together, and scored together.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from verbalizer_bench.tasks.mmvp import scoring as mmvp
from verbalizer_bench.tasks.naturalbench import scoring as naturalbench

# Under which a sample of lmms-eval's has its document, and where the rows came from.
SAMPLE_KEY = "verbalizer_bench"
Docs = Sequence[Mapping[str, Any]]


class PictureBenchmark(NamedTuple):
    """A benchmark.

    Attributes:
        title: Its name for readers.
        unit: What a unit is called; a document has the unit's number under this key.
        size: How many questions a unit has.
        units: How many units the whole benchmark has.
        columns: The scores of a unit, each in [0, 1], the benchmark's own first.
        values: Returns these scores of a unit's documents and responses.
        category: The key of a document's category; "" in it for none.
    """

    title: str
    unit: str
    size: int
    units: int
    columns: tuple[str, ...]
    values: Callable[[Docs, Sequence[str]], tuple[float, ...]]
    category: str


BENCHMARKS: Mapping[str, PictureBenchmark] = MappingProxyType(
    {
        "mmvp": PictureBenchmark(
            *("MMVP", "pair", 2, 150), mmvp.COLUMNS, mmvp.pair_values, "pattern"
        ),
        "naturalbench": PictureBenchmark(
            *("NaturalBench", "group", 4, 1900),
            *(naturalbench.COLUMNS, naturalbench.group_values, "type"),
        ),
    }
)
