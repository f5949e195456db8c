"""Which ranks a submission could have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.boards import invented, read_entries, write_submission
from verbalizer_bench.leaderboard.site.ranges import rank_ranges
from verbalizer_bench.leaderboard.site.ranking import rank
from verbalizer_bench.results.statistics import estimate
from verbalizer_bench.tasks.spec import LABEL_TYPES

COUNTS = {"natural": 3, "neutral": 6, "unnatural": 3}


def board(folder: Path, documents: dict[str, np.ndarray], **changes: Any) -> Path:
    """Write a submission for each name, whose documents have this share of their labels."""
    for number, (name, shares) in enumerate(documents.items()):
        sums = {t: (COUNTS[t] * shares).tolist() for t in LABEL_TYPES}
        mean = float(shares.mean())
        own: dict[str, Any] = {
            "submission": {"model": {"id": f"example/{name}"}},
            "documents": {"sst2": {"sums": sums}},
            "label_types": {t: {"f1": {"mean": mean}} for t in (*LABEL_TYPES, "All")},
        }
        write_submission(folder, invented(number, {"sst2": len(shares)}, **own | changes))
    return folder


def found(folder: Path) -> dict[str, tuple[int, int, int]]:
    (table,) = rank(read_entries(folder), resamples=50)
    return {row.entry.id.split("/")[1]: (row.rank, row.best, row.worst) for row in table.rows}


def test_what_cannot_be_told_apart_shares_ranks(tmp_path: Path) -> None:
    """Noise of a tenth over 400 documents is 0.007: 0.8 and 0.805 are one, 0.5 another."""
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.1, (3, 400)).clip(-0.2, 0.2)
    noise -= noise.mean(axis=1, keepdims=True)
    levels = {"first": 0.8, "second": 0.795, "last": 0.5}
    documents = {
        name: level + own for (name, level), own in zip(levels.items(), noise, strict=True)
    }
    assert found(board(tmp_path, documents)) == {
        "first": (1, 1, 2),
        "second": (2, 1, 2),
        "last": (3, 3, 3),
    }


def test_pairs_tell_more_than_intervals(tmp_path: Path) -> None:
    """Hard documents are hard for both, and one is a little better on each."""
    ease = np.random.default_rng(1).uniform(0, 0.9, 100)
    jitter = np.random.default_rng(2).uniform(0.01, 0.03, 100)
    documents = {"better": ease + jitter, "worse": ease}
    (a, b) = (estimate({"x": own[:, None]}, np.ones((1, 1)))[0] for own in documents.values())
    assert a.low is not None and b.high is not None and a.low < b.high
    assert found(board(tmp_path, documents)) == {"better": (1, 1, 1), "worse": (2, 2, 2)}


@pytest.mark.parametrize(("differing", "told"), [(14, False), (15, True)])
def test_a_few_documents_tell_nothing_apart(differing: int, told: bool, tmp_path: Path) -> None:
    one = np.ones(1000)
    other = one.copy()
    other[:differing] = 0
    ends = found(board(tmp_path, {"one": one, "other": other}))
    assert ends["one"] == ((1, 1, 1) if told else (1, 1, 2))


def test_one_document_tells_nothing(tmp_path: Path) -> None:
    documents = {"one": np.ones(1), "other": np.zeros(1)}
    assert found(board(tmp_path, documents)) == {"one": (1, 1, 2), "other": (2, 1, 2)}
    assert rank_ranges([]) == []
