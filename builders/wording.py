"""Wording: what a question or an answer must not have, whatever the kind of data set."""

import re

from verbalizer_bench.builders.endings import Problem
from verbalizer_bench.builders.rows import Row

IMAGE = "<image>"
_MENTION = re.compile(r"\b(captions?|captioned|descriptions?)\b", re.IGNORECASE)
_BOX = re.compile(r"\b(bounding box(es)?|coordinates?)\b", re.IGNORECASE)


def mention(text: str, boxes: bool = False) -> Problem | None:
    """Return a problem if a text speaks of the caption, which who sees the image does not have.

    Args:
        text: A question or an answer.
        boxes: Whether boxes are not to be spoken of either.
    """
    found = _MENTION.search(text) or (_BOX.search(text) if boxes else None)
    return Problem("mention", found.group().lower()) if found else None


def placeholder(text: str) -> Problem | None:
    """Return a problem if a text has the mark that stands for an image in training records."""
    return Problem("placeholder", IMAGE) if IMAGE in text else None


def empty(text: str, what: str) -> Problem | None:
    """Return a problem if a text is empty."""
    return None if text.strip() else Problem("empty", f"{what} is empty")


def question_problem(text: str, boxes: bool = False) -> Problem | None:
    """Return what is wrong with a question."""
    return empty(text, "the question") or placeholder(text) or mention(text, boxes)


def row_texts(row: Row) -> list[str]:
    """Return all texts of a row that a model is trained on."""
    texts = [text for turn in row.turns for text in turn]
    return [text for text in (row.caption, *texts) if text]
