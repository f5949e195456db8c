"""Does a vision-language model fail where its encoder does? Patterns of MMVP against MMVP-VLM.

The paper's figure: for each visual pattern what the encoder gets right of MMVP-VLM's pairs, and
what a model that sees by it gets right of MMVP's; and Pearson's correlation over patterns.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import pearsonr

from verbalizer_bench.results.picture_scores import PictureScores, read_picture_scores
from verbalizer_bench.results.statistics import Interval

# Of fewer patterns a correlation has no interval.
FEWEST = 4


class Correlation(NamedTuple):
    """How alike a model and its encoder are over visual patterns.

    Attributes:
        encoder: The model of images and texts.
        run: The run of the vision-language model, by its name.
        task: The task of MMVP.
        encoder_shares: Of MMVP-VLM's pairs, by pattern.
        run_shares: Of MMVP's pairs, by the same patterns.
        value: Pearson's correlation; None where one of both is the same in all patterns.
        low: The lower end of its 95 % interval (Fisher's transformation).
        high: The upper end.
    """

    encoder: str
    run: str
    task: str
    encoder_shares: Mapping[str, Interval]
    run_shares: Mapping[str, Interval]
    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        count = len(self.encoder_shares)
        if self.value is None or self.low is None or self.high is None:
            return f"none ({count} patterns, all alike in one of both)"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] ({count} patterns)"

    @property
    def title(self) -> str:
        """Return what a figure says of it."""
        if self.value is None:
            return "No correlation: all patterns alike in one of both"
        return f"r = {self}"

    def line(self) -> str:
        """Return what is printed of it."""
        return f"{self.run} ({self.task}) and {self.encoder}: correlation over patterns {self}"

    def record(self) -> dict[str, Any]:
        """Return what a result has of it."""
        patterns = {
            name: [round(100 * share.mean, 2) for share in (share, self.run_shares[name])]
            for name, share in self.encoder_shares.items()
        }
        made = self._asdict() | {"patterns": patterns, "method": "Pearson, Fisher's interval"}
        return {key: value for key, value in made.items() if not key.endswith("_shares")}


def correlate(encoder: str, shares: Mapping[str, Interval], scores: PictureScores) -> Correlation:
    """Correlate an encoder's patterns with those of a run.

    Args:
        encoder: Its name.
        shares: Of MMVP-VLM's pairs, by pattern.
        scores: The run's, as `mmvp_scores` returns them.

    Raises:
        ValueError: Fewer than `FEWEST` patterns are in both.
    """
    found = {name: mean for name, (mean, _) in scores.by_category.items()}
    both = [name for name in shares if name in found]
    if len(both) < FEWEST:
        raise ValueError(
            f"--vlm {scores.run.folder}: {len(both)} patterns are in its questions and in "
            f"MMVP-VLM's, and a correlation needs {FEWEST}; give all of both"
        )
    x = np.array([shares[name].mean for name in both])
    y = np.array([found[name].mean for name in both])
    ends: tuple[float | None, float | None, float | None] = (None, None, None)
    if np.ptp(x) > 0 and np.ptp(y) > 0:
        result = pearsonr(x, y)
        interval = result.confidence_interval(0.95)
        ends = (float(result.statistic), float(interval.low), float(interval.high))
    return Correlation(
        encoder,
        scores.run.name,
        scores.task,
        {name: shares[name] for name in both},
        {name: found[name] for name in both},
        *ends,
    )


def mmvp_scores(path: Path) -> PictureScores:
    """Return the scores of the one run of MMVP at or below a path.

    Raises:
        FileNotFoundError: There is none.
        ValueError: There are several, or its questions have no pattern.
    """
    folders = sorted({file.parent for file in path.rglob("results_*.json")})
    runs = {folder: found for folder in folders if (found := _mmvp(folder))}
    if not runs:
        raise FileNotFoundError(
            f"--vlm {path}: no run of MMVP at or below it; give the --output_path of a run"
        )
    if len(runs) > 1:
        names = ", ".join(str(folder) for folder in list(runs)[:4])
        raise ValueError(f"--vlm {path}: holds {len(runs)} runs of MMVP ({names}); give one")
    ((folder, scores),) = runs.items()
    if not scores.by_category:
        raise ValueError(
            f"--vlm {folder}: its questions have no pattern; run MMVP on data whose "
            "Questions.csv has a column Pattern"
        )
    return scores


def _mmvp(folder: Path) -> PictureScores | None:
    for scores in read_picture_scores(folder):
        if scores.asked.benchmark == "mmvp" and not (scores.asked.swapped or scores.asked.blind):
            return scores
    return None
