"""How the page of a report begins: of how many runs it is, and what of it is made data."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from verbalizer_bench.results.picture_scores import PictureScores
from verbalizer_bench.results.summary import RunSummary


class Opening(NamedTuple):
    """What a page says first.

    Attributes:
        heading: A run's name, or how many there are.
        kinds: Runs of what, where there are several kinds; "" for one.
        made: Of what the numbers are made data; None: of nothing, "" of all there is.
    """

    heading: str
    kinds: str
    made: str | None


def opening(
    files: Sequence[Path],
    summaries: Sequence[RunSummary],
    scores: Sequence[PictureScores],
    others: int,
) -> Opening:
    """Return it.

    Args:
        files: The results file of each verbalizer run.
        summaries: Of each verbalizer run.
        scores: Of runs of benchmarks with images of their own.
        others: How many results of other benchmarks there are.
    """
    names = {one.run.file: one.run.name for one in scores}
    names |= {file: one.model for file, one in zip(files, summaries, strict=True)}
    count = len(names) + others
    heading = next(iter(names.values())) if count == len(names) == 1 else f"Report of {count} runs"
    kinds = {"verbalizer suite": len(summaries)}
    for title in dict.fromkeys(one.benchmark.title for one in scores):
        kinds[title] = len({one.run.file for one in scores if one.benchmark.title == title})
    kinds["judged or by lmms-eval"] = others
    told = [f"{title}: {number}" for title, number in kinds.items() if number]
    return Opening(
        heading, "; ".join(told) if len(told) > 1 else "", _made(summaries, scores, others)
    )


def _made(
    summaries: Sequence[RunSummary], scores: Sequence[PictureScores], others: int
) -> str | None:
    """Return of what the numbers are made data; None: of nothing, "" of all there is."""
    marked = [("F1", one.model, one.protocol == "toy") for one in summaries]
    marked += [(one.benchmark.title, one.run.name, one.asked.made) for one in scores]
    made = [(title, name) for title, name, is_made in marked if is_made]
    if not made:
        return None
    if len(made) == len(marked) and not others:
        return ""
    told = []
    for title in dict.fromkeys(title for title, _ in made):
        whole = dict.fromkeys(name for one, name, _ in marked if one == title)
        names = dict.fromkeys(name for one, name in made if one == title)
        told.append(f"{title} of {'every run' if len(names) == len(whole) else ', '.join(names)}")
    return "; ".join(told)
