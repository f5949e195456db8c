"""What lmms-eval's samples say: scores computed anew, with intervals, and what is wrong with them.

Each kind of item is what a task's `process_results` leaves in a sample. lmms-eval's own score must
come out of it; where it does not, the samples are not those of the results.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verbalizer_bench.results.means import FEWEST, RESAMPLES, SEED, Mean, ends_of
from verbalizer_bench.results.resampling import bootstrap, bootstrap_alike, interval

_OPTION = re.compile(r"([A-E])(?:[.,:)]|\)\.)?|\(([A-E])\)\.?")
# lmms-eval's MMBench: the rounds of a question are this far apart.
_ROUND = 1_000_000
# POPE numbers its questions, so many to an image, from 1 on; samples do not name the image.
_QUESTIONS = 6
_FAILED = "Failed Request"


class Items(NamedTuple):
    """A task's items as numbers.

    Attributes:
        strata: A table each, with a row for what is drawn as one (a question, an image).
        score: Makes the score of the tables' mean rows, of shape (…, strata, columns).
        samples: How many samples they are of.
        judges: Who judged, as the samples have it.
        refusal: Why the score is none; "" where it is one.
        remark: What a reader must know.
        sure: Whether lmms-eval's score must come out of the items.
        paired: Whether the tasks of a benchmark have the same rows, which are drawn together.
    """

    strata: Mapping[str, np.ndarray]
    score: Callable[[np.ndarray], np.ndarray]
    samples: int
    judges: tuple[str, ...] = ()
    refusal: str = ""
    remark: str = ""
    sure: bool = True
    paired: bool = False

    @property
    def value(self) -> float:
        """Return the score."""
        return float(self.score(np.stack([table.mean(axis=0) for table in self.strata.values()])))

    def draws(self) -> np.ndarray:
        """Return the scores of the resamples."""
        # Of tables as long as each other `bootstrap` draws the same rows.
        draw = bootstrap if self.paired else bootstrap_alike
        drawn = draw(self.strata, RESAMPLES, SEED)
        return self.score(drawn.reshape(RESAMPLES, len(self.strata), -1))


def mean_of_tasks(tasks: Sequence[Items]) -> Mean:
    """Return the mean of tasks' scores with its bootstrap interval.

    There is none where a table has fewer than `FEWEST` rows, which drawn alone would hardly vary
    (MME with an image a category), nor where no resample differs.
    """
    value = float(np.mean([one.value for one in tasks]))
    count = sum(one.samples for one in tasks)
    if min(len(table) for one in tasks for table in one.strata.values()) < FEWEST:
        return Mean(value, np.nan, np.nan, count)
    low, high = interval(np.mean([one.draws() for one in tasks], axis=0)[:, None])
    return Mean(value, *ends_of(low[0], high[0]), count)


def _first(means: np.ndarray) -> np.ndarray:
    return np.asarray(means[..., 0, 0])


def _column(values: Sequence[float]) -> dict[str, np.ndarray]:
    return {"all": np.array(values, dtype=float)[:, None]}


def value(found: Sequence[Any]) -> Items:
    """Numbers, of which the score is the mean."""
    return Items(_column([float(one) for one in found]), _first, len(found))


def option(found: Sequence[Any]) -> Items:
    """A letter (`pred`) that is the answer or not."""
    right = [one["pred"].strip().lower() == one["answer"].strip().lower() for one in found]
    return Items(_column(right), _first, len(found))


def yes_no(found: Sequence[Any]) -> Items:
    """POPE's answers: F1 by the exact word, other answers left out of the recall as there.

    An image is drawn with all of its questions, in all three splits: half of them are the same.
    """
    images: dict[int, np.ndarray] = {}
    for one in found:
        pair = (one["prediction"], one["ground_truth"])
        image = (int(one["question_id"]) - 1) // _QUESTIONS
        images.setdefault(image, np.zeros(3))
        images[image] += [pair == kind for kind in (("yes", "yes"), ("yes", "no"), ("no", "yes"))]
    neither = sum(one["prediction"] not in ("yes", "no") for one in found)
    remark = f"{neither:,} of {len(found):,} answers are neither yes nor no" if neither else ""
    table = np.array([images[image] for image in sorted(images)])
    return Items({"all": table}, _f1, len(found), remark=remark, paired=True)


def _f1(means: np.ndarray) -> np.ndarray:
    right, wrong, missed = (means[..., 0, column] for column in range(3))
    return np.asarray(2 * right / np.maximum(2 * right + wrong + missed, 1e-12))


def pairs(found: Sequence[Any]) -> Items:
    """MME's two questions to an image: accuracy and both right in %, the sum over categories."""
    images: dict[str, dict[str, list[float]]] = {}
    for one in found:
        by_image = images.setdefault(one["category"], {})
        by_image.setdefault(one["question_id"], []).append(one["score"])
    strata = {
        category: np.array(
            [[100 * (sum(two) / len(two) + (sum(two) == 2))] for two in by_image.values()]
        )
        for category, by_image in images.items()
    }
    return Items(strata, lambda means: np.asarray(means[..., 0].sum(axis=-1)), len(found))


def circular(found: Sequence[Any]) -> Items:
    """MMBench: a question is right if all of its rounds are; for answers that are letters."""
    named = [_OPTION.fullmatch(one["prediction"].strip()) for one in found]
    rounds: dict[int, list[bool]] = {}
    for one, match in zip(found, named, strict=True):
        right = match is not None and one["answer"] in match.groups()
        rounds.setdefault(int(one["index"]) % _ROUND, []).append(right)
    asked = {int(one["index"]) for one in found}
    hits = [100 * all(each) for question, each in rounds.items() if question in asked]
    unnamed = sum(match is None for match in named)
    remark = f"{unnamed:,} of {len(found):,} answers are no plain letter" if unnamed else ""
    return Items(_column(hits), _first, len(found), remark=remark, sure=not unnamed)


def relative(found: Sequence[Any]) -> Items:
    """LLaVA-Bench: ratings of the reference and of the answer, and their sums' ratio in %."""
    scores = [tuple(map(float, one["scores"])) for one in found]
    failed = [
        one["eval_model"] == _FAILED or not all(1 <= rating <= 10 for rating in two)
        for one, two in zip(found, scores, strict=True)
    ]
    judges = {one["eval_model"] for one, bad in zip(found, failed, strict=True) if not bad}
    return Items(
        {"all": np.array(scores)},
        lambda means: np.asarray(100 * means[..., 0, 1] / means[..., 0, 0]),
        len(found),
        tuple(sorted(judges)),
        _failures(sum(failed), len(found), "llava-bench"),
    )


def rating(found: Sequence[Any]) -> Items:
    """MM-Vet: a judge's scores from 0 to 1, whose mean is taken in %."""
    failed = sum(not one["eval_model"] for one in found)
    judges = {one["eval_model"] for one in found if one["eval_model"]}
    return Items(
        _column([100 * one["score"] for one in found]),
        _first,
        len(found),
        tuple(sorted(judges)),
        _failures(failed, len(found), "mmvet"),
        "a verdict that lmms-eval could not read is a 0 in it, which nothing tells from another 0",
    )


def _failures(failed: int, count: int, command: str) -> str:
    if not failed:
        return ""
    return (
        f"{failed:,} of {count:,} verdicts failed, and lmms-eval counted them as scores; have the "
        f"checkpoint judged by `judge {command}`"
    )


KINDS: Mapping[str, Callable[[Sequence[Any]], Items]] = {
    kind.__name__: kind for kind in (value, option, yes_no, pairs, circular, relative, rating)
}
