"""Counts of how responses ended, for a run's record."""

from collections import Counter

from verbalizer_bench.io.thinking import CLOSED, OPEN
from verbalizer_bench.models.adapters.finish_reason import EOS, FILTERED, LIMIT, STOP, UNKNOWN
from verbalizer_bench.models.adapters.journal import Response


def count_ending(counts: Counter[str], response: Response) -> None:
    """Count what ended a response, and whether it holds a thought."""
    counts[response.ending or UNKNOWN] += 1
    if response.thought:
        counts[f"thought {response.thought}"] += 1


def ending_record(counts: Counter[str]) -> dict[str, dict[str, int]]:
    """Return how many responses ended how, and how many hold a thought."""
    kinds = (EOS, STOP, LIMIT, UNKNOWN, FILTERED)
    return {
        "endings": {kind: counts[kind] for kind in kinds if counts[kind]},
        "thoughts": {
            state: counts[f"thought {state}"]
            for state in (OPEN, CLOSED)
            if counts[f"thought {state}"]
        },
    }
