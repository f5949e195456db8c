"""POPE (Li et al. 2023): is there such a thing in the image? Scored without a judge, by two rules.

`exact` reads an answer that is the word itself, as lmms-eval does: "Yes." is none.
`first_sentence` is POPE's own: a first sentence with the word No, no or not means no, any other
yes. The score is the mean F1 of the three splits, as LLaVA's table has it; an answer that is
neither word is wrong.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from verbalizer_bench.judged.questions import Answer, Question, check_unique, rows_of
from verbalizer_bench.judged.record import answer_counts, write_result
from verbalizer_bench.results.means import FEWEST, RESAMPLES, SEED, Mean, ends_of
from verbalizer_bench.results.resampling import bootstrap, interval

SPLITS = ("random", "popular", "adversarial")
SUFFIX = "\nAnswer the question using a single word or phrase."
_NEGATIONS = {"No", "no", "not"}
# Of a table's columns: true and false positives, false negatives, right ones, yeses, all.
_COLUMNS = 6


class Pope(NamedTuple):
    """The benchmark's files.

    Attributes:
        questions: Of all splits; a question's category is its split.
        labels: `yes` or `no` by the question's id.
    """

    questions: tuple[Question, ...]
    labels: Mapping[str, str]
    name: str = "pope"


def read_pope(folder: Path, images: Path, suffix: str = SUFFIX) -> Pope:
    """Read `coco_pope_<split>.json` of the three splits.

    Args:
        folder: Where they are.
        images: The folder of the images.
        suffix: What stands behind each question.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is not as POPE has it.
    """
    questions, labels = [], {}
    wanted = {"question_id": int, "image": str, "text": str, "label": str}
    for split in SPLITS:
        for place, row in rows_of(folder / f"coco_pope_{split}.json", wanted):
            name = f"{split}-{row['question_id']}"
            if row["label"] not in ("yes", "no"):
                raise ValueError(f"{place}: label={row['label']!r}: yes or no is expected")
            image = images / row["image"]
            questions.append(Question(name, split, (row["text"] + suffix,), 0.0, image))
            labels[name] = row["label"]
    check_unique(questions, folder)
    return Pope(tuple(questions), labels)


def limited(bench: Pope, limit: int | None) -> Pope:
    """Return the benchmark with the first questions of each split; None: all of them."""
    splits = ([one for one in bench.questions if one.category == split] for split in SPLITS)
    return bench._replace(questions=tuple(one for split in splits for one in split[:limit]))


def exact(text: str) -> str | None:
    """Return an answer that is `yes` or `no`, in whatever case, and nothing else."""
    word = text.strip().lower()
    return word if word in ("yes", "no") else None


def first_sentence(text: str) -> str | None:
    """Return `no` if the first sentence has the word No, no or not, else `yes`."""
    words = text.partition(".")[0].replace(",", "").split()
    return "no" if _NEGATIONS & set(words) else "yes"


RULES: Mapping[str, Callable[[str], str | None]] = {
    "exact": exact,
    "first_sentence": first_sentence,
}


class SplitScores(NamedTuple):
    """Scores of a split, as shares."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes: float


class Scores(NamedTuple):
    """POPE's scores by one rule: the mean F1 of the splits, and each split's own."""

    f1: Mean
    splits: Mapping[str, SplitScores]


def scores(bench: Pope, answers: Mapping[str, Answer], rule: str) -> Scores:
    """Return the scores by a rule; images are drawn, with all their questions, for the interval.

    There is none of fewer than `FEWEST` images, nor where no resample differs.
    """
    table = _table(bench, answers, RULES[rule])
    splits = {
        split: _split_scores(column)
        for split, column in zip(SPLITS, table.sum(axis=0), strict=True)
    }
    value = float(np.mean([split.f1 for split in splits.values()]))
    count = len(bench.questions)
    if len(table) < FEWEST:
        return Scores(Mean(value, np.nan, np.nan, count), splits)
    flat = table.reshape(len(table), -1)
    draws = bootstrap({bench.name: flat}, RESAMPLES, SEED).reshape(RESAMPLES, len(SPLITS), _COLUMNS)
    low, high = interval(_f1(draws).mean(axis=1)[:, None])
    return Scores(Mean(value, *ends_of(low[0], high[0]), count), splits)


def _table(
    bench: Pope, answers: Mapping[str, Answer], read: Callable[[str], str | None]
) -> np.ndarray:
    """Return counts of shape (images, splits, `_COLUMNS`)."""
    images = {image: n for n, image in enumerate(dict.fromkeys(q.image for q in bench.questions))}
    table = np.zeros((len(images), len(SPLITS), _COLUMNS))
    for question in bench.questions:
        said, label = read(answers[question.id].turns[0]), bench.labels[question.id]
        table[images[question.image], SPLITS.index(question.category)] += (
            said == label == "yes",
            said == "yes" != label,
            said != "yes" == label,
            said == label,
            said == "yes",
            1,
        )
    return table


def _split_scores(counts: np.ndarray) -> SplitScores:
    positive, wrong, missed, right, yes, count = counts.tolist()
    precision = positive / (positive + wrong) if positive else 0.0
    recall = positive / (positive + missed) if positive else 0.0
    return SplitScores(right / count, precision, recall, float(_f1(counts)), yes / count)


def _f1(counts: np.ndarray) -> np.ndarray:
    """Return 2 TP / (2 TP + FP + FN) along the last axis; 0 without a true positive."""
    twice = 2 * counts[..., 0]
    return np.asarray(twice / np.maximum(twice + counts[..., 1] + counts[..., 2], 1e-12))


def score_pope(
    bench: Pope, answers: Mapping[str, Answer], output: Path
) -> tuple[dict[str, Scores], Path]:
    """Return the scores by each rule, and the file that has them."""
    found = {rule: scores(bench, answers, rule) for rule in RULES}
    result: dict[str, Any] = {
        "rules": {
            rule: {
                "f1": one.f1.record(),
                "splits": {split: values._asdict() for split, values in one.splits.items()},
            }
            for rule, one in found.items()
        },
        "judge": None,
        "answers": answer_counts(answers),
    }
    return found, write_result(output, output, bench, result)


def lines(found: Mapping[str, Scores]) -> list[str]:
    """Return what is printed of the scores."""
    printed = []
    for rule, one in found.items():
        ends = f"[{one.f1.low:.3f}, {one.f1.high:.3f}]"
        if np.isnan(one.f1.low):
            ends = "(no interval of so few images, or of images that are all alike)"
        printed.append(f"{rule}: mean F1 {one.f1.value:.3f} {ends}")
        printed += [
            f"  {split}: F1 {s.f1:.3f}, accuracy {s.accuracy:.3f}, precision {s.precision:.3f}, "
            f"recall {s.recall:.3f}, yes {s.yes:.1%}"
            for split, s in one.splits.items()
        ]
    return printed
