"""A table for each protocol, ranked inside by F1 over all; protocols are not compared.

Submissions whose prompts are not all known ones have a table of their own.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from verbalizer_bench.leaderboard.site.duplicates import same_responses
from verbalizer_bench.leaderboard.site.entries import PROTOCOLS, Entry
from verbalizer_bench.leaderboard.site.paired import AgainstBase, pair_with_bases
from verbalizer_bench.leaderboard.site.ranges import rank_ranges
from verbalizer_bench.results.statistics import RESAMPLES, SEED


@dataclasses.dataclass(frozen=True)
class Ranked:
    """A submission at its place, with its comparison where it names a base.

    Attributes:
        rank: Its place by F1 over all.
        best: The best rank that it could have, for all that can be told (`ranges`).
        worst: The worst.
        entry: The submission.
        pair: Its comparison with its base.
        copies: Other submissions with nearly its responses, and to how many tasks.
    """

    rank: int
    best: int
    worst: int
    entry: Entry
    pair: AgainstBase | None
    copies: tuple[tuple[str, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """The submissions of one protocol, best first, ties in the order of names.

    Attributes:
        protocol: How the models were asked.
        verified: Whether all prompts are known ones; of others it is not known what they are.
        rows: The submissions.
    """

    protocol: str
    verified: bool
    rows: tuple[Ranked, ...]


def rank(
    entries: Sequence[Entry], resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[Table, ...]:
    """Return the tables that are not empty, in the order of PROTOCOLS, known prompts first."""
    tables, copies = [], same_responses(entries)
    for protocol, verified in itertools.product(PROTOCOLS, (True, False)):
        rivals = [
            entry
            for entry in entries
            if (entry.verified.protocol, entry.identified) == (protocol, verified)
        ]
        rivals.sort(key=lambda entry: (-entry.score("All"), entry.id.lower(), entry.path))
        pairs = pair_with_bases(rivals, resamples, seed)
        rows = [
            Ranked(i, *ends, entry, pairs.get(entry.path), copies.get(entry.path, ()))
            for i, (entry, ends) in enumerate(
                zip(rivals, rank_ranges(rivals), strict=True), start=1
            )
        ]
        if rows:
            tables.append(Table(protocol, verified, tuple(rows)))
    return tuple(tables)
