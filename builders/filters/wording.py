"""Wording: what a question or an answer must not have, whatever the kind of data set."""

import re

from verbalizer_bench.builders.client.response_checks import (
    Problem,
    artifact_problem,
    refusal_problem,
)
from verbalizer_bench.builders.pipeline.sample import Sample

IMAGE = "<image>"
_MENTION = re.compile(r"\b(captions?|captioned|descriptions?)\b", re.IGNORECASE)
_BOX = re.compile(r"\b(bounding box(es)?|coordinates?)\b", re.IGNORECASE)

# Some 900 words; the longest of captions that models are asked for have 400.
LONGEST_CAPTION = 5000
_CUT = re.compile(
    r"(?:\b(?:an?|the|and|or|but|their|its|my|your|our)|[;:\-\u2013\u2014(\[/&]|\.{3}|\u2026)\Z",
    re.IGNORECASE,
)


def caption_problem(text: str) -> Problem | None:
    """Return what is wrong with a caption, whether a model or a file gives it."""
    whole = text.strip()
    problem = (
        empty_problem(whole, "the caption")
        or placeholder_problem(whole)
        or refusal_problem(whole)
        or artifact_problem(whole)
    )
    if problem:
        return problem
    if len(whole) > LONGEST_CAPTION:
        return Problem("too_long", f"the caption has {len(whole):,} characters")
    if end := _CUT.search(whole):
        return Problem("cut_off", f"the caption ends with {end.group()}")
    return None


def mention_problem(text: str, boxes: bool = False) -> Problem | None:
    """Return a problem if a text speaks of the caption, which who sees the image does not have.

    Args:
        text: A question or an answer.
        boxes: Whether boxes are not to be spoken of either.
    """
    found = _MENTION.search(text) or (_BOX.search(text) if boxes else None)
    return Problem("mention", found.group().lower()) if found else None


def placeholder_problem(text: str) -> Problem | None:
    """Return a problem if a text has the mark that stands for an image in training records."""
    return Problem("placeholder", IMAGE) if IMAGE in text else None


def empty_problem(text: str, what: str) -> Problem | None:
    """Return a problem if there is nothing to be seen in a text."""
    seen = any(char.isprintable() and not char.isspace() for char in text)
    return None if seen else Problem("empty", f"{what} is empty")


def question_problem(text: str, boxes: bool = False) -> Problem | None:
    """Return what is wrong with a question."""
    return (
        empty_problem(text, "the question")
        or placeholder_problem(text)
        or mention_problem(text, boxes)
    )


def sample_texts(sample: Sample) -> list[str]:
    """Return all texts of a row that a model is trained on, options and an image's captions too."""
    texts = [text for turn in sample.turns for text in turn]
    return [text for text in (sample.caption, sample.context, *texts) if text]
