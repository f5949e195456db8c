"""Compare runs over the same documents: did tuning hurt?

verbalizer-bench compare BASE OTHER… -o DIR
"""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from verbalizer_bench.leaderboard.reports.compare_report import write
from verbalizer_bench.results.differences import Pair, differences
from verbalizer_bench.results.pairing import check_prompts, check_scores
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.statistics import RESAMPLES, SEED


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What was written: the text and the files; and the numbers."""

    markdown: str
    files: tuple[Path, ...]
    pairs: tuple[Pair, ...]


def compare(
    runs: Sequence[Run],
    folder: Path,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    allowed: Collection[str] = (),
) -> Comparison:
    """Compare runs with the first; write `compare.md`, `compare.json`, `compare.png` and `.svg`.

    Args:
        runs: The base, then the others.
        folder: Where the files go.
        resamples: How many bootstrap samples and permutations.
        seed: Of the random numbers.
        allowed: Differences that are let through and stand in the answer: of
            `contrast.ALLOWABLE`.

    Raises:
        ValueError: The runs differ in protocol, tasks, documents or raw prompts.
    """
    check_scores(runs)
    check_prompts(runs, allowed)
    pairs = differences(runs, resamples, seed)
    markdown, files = write(runs, pairs, folder, resamples, seed, allowed)
    return Comparison(markdown, files, pairs)
