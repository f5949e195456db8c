"""Means and ratios over questions, with bootstrap intervals; and scores made of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verbalizer_bench.results.resampling import bootstrap, interval

RESAMPLES, SEED = 10_000, 0
# Of fewer questions a bootstrap says nothing: they are drawn too much alike.
FEWEST = 5


class Mean(NamedTuple):
    """A mean with its 95 % interval.

    Attributes:
        value: The mean.
        low: The interval's lower end; NaN where there is none: of fewer than `FEWEST` questions, or
            of questions that are all alike.
        high: Its upper end.
        questions: How many questions it is over.
    """

    value: float
    low: float
    high: float
    questions: int

    def __str__(self) -> str:
        if not np.isnan(self.low):
            ends = f"[{self.low:.2f}, {self.high:.2f}]"
            return f"{self.value:.2f} {ends} ({self.questions} questions)"
        why = "too few" if self.questions < FEWEST else "all alike"
        count = f"{self.questions} question{'s' * (self.questions != 1)}"
        return f"{self.value:.2f} ({count}: {why} for an interval)"

    def record(self, digits: int = 4) -> dict[str, Any]:
        """Return what a result has of it."""
        ends = None if np.isnan(self.low) else [round(self.low, digits), round(self.high, digits)]
        return {"mean": round(self.value, digits), "interval": ends, "questions": self.questions}


class Scores(NamedTuple):
    """A benchmark's score, and what it is made of.

    Attributes:
        label: What the score is, for a reader.
        overall: The score.
        groups: By what (`categories`, `turns`), name and score of each.
    """

    label: str
    overall: Mean
    groups: Mapping[str, Mapping[str, Mean]]

    def record(self) -> dict[str, Any]:
        """Return what a result has of them."""
        parts = {
            kind: {name: mean.record() for name, mean in means.items()}
            for kind, means in self.groups.items()
        }
        return {"score": self.overall.record(), **parts}

    def lines(self) -> list[str]:
        """Return what is printed of them."""
        return [f"{self.label}: {self.overall}"] + [
            f"{name} ({kind}): {mean}"
            for kind, means in self.groups.items()
            for name, mean in means.items()
        ]


def mean_of(groups: Mapping[str, Sequence[Sequence[float]]]) -> Mean:
    """Return the mean over all values, and its interval, as `ratio_of`.

    Args:
        groups: For each group the values of each question; a question without any is left out.

    Raises:
        ValueError: There is no value.
    """
    return ratio_of(
        {
            name: [(sum(values), len(values)) for values in questions if values]
            for name, questions in groups.items()
        }
    )


def ratio_of(groups: Mapping[str, Sequence[tuple[float, float]]]) -> Mean:
    """Return the ratio of two sums, and its interval.

    Questions are drawn with replacement, each with all its values, within their group: how many
    questions of each kind there are is the benchmark's own. Where a group has fewer than `FEWEST`,
    which drawn alone would hardly vary, all questions are drawn together.

    Args:
        groups: For each group what each question adds to the sums.

    Raises:
        ValueError: There is no question.
    """
    tables = {name: np.array(rows, dtype=float) for name, rows in groups.items() if rows}
    if not tables:
        raise ValueError("no verdict is there, and so no score; give another judge")
    sizes = np.array([len(table) for table in tables.values()], dtype=float)
    above, below = (sum(float(t[:, column].sum()) for t in tables.values()) for column in (0, 1))
    count = int(sizes.sum())
    if count < FEWEST:
        return Mean(above / below, np.nan, np.nan, count)
    if sizes.min() < FEWEST:
        tables, sizes = (
            {"all": np.concatenate(list(tables.values()))},
            np.array([count], dtype=float),
        )
    draws = bootstrap(tables, RESAMPLES, SEED).reshape(RESAMPLES, len(tables), 2)
    drawn_above, drawn_below = (draws[:, :, column] @ sizes for column in (0, 1))
    low, high = interval((drawn_above / drawn_below)[:, None])
    return Mean(above / below, *ends_of(low[0], high[0]), count)


def ends_of(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an interval, NaN where no resample differs: alike is not certain."""
    return (float(low), float(high)) if high - low > 1e-9 else (np.nan, np.nan)
