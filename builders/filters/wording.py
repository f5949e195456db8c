"""Wording: what captions, questions and answers must not have, whatever the kind of data set."""

import re

from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.client.response_checks import (
    Problem,
    artifact_problem,
    refusal_problem,
)
from verbalizer_bench.io.preferences import IMAGE

_MENTION = re.compile(r"\b(captions?|captioned|descriptions?)\b", re.IGNORECASE)
_BOX = re.compile(r"\b(bounding box(es)?|coordinates?)\b", re.IGNORECASE)

# Some 900 words; the longest captions that models are asked for have 400.
LONGEST_CAPTION = 5000
_CUT = re.compile(
    r"(?:\b(?:an?|the|and|or|but|their|its|my|your|our)|[;:\-\u2013\u2014(\[/&]|\.{3}|\u2026)\Z",
    re.IGNORECASE,
)


def caption_problem(text: str) -> Problem | None:
    """Return what is wrong with a caption, whether a model wrote it or a file has it."""
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
    """Return a problem if a text mentions the caption, which a model that sees the image lacks.

    Args:
        text: A question or an answer.
        boxes: Whether boxes must not be mentioned either.
    """
    match = _MENTION.search(text) or (_BOX.search(text) if boxes else None)
    return Problem("mention", match.group().lower()) if match else None


def placeholder_problem(text: str) -> Problem | None:
    """Return a problem if a text has the placeholder of an image in training records."""
    return Problem("placeholder", IMAGE) if IMAGE in text else None


def empty_problem(text: str, what: str) -> Problem | None:
    """Return a problem if nothing in a text is visible."""
    visible = any(char.isprintable() and not char.isspace() for char in text)
    return None if visible else Problem("empty", f"{what} is empty")


def question_problem(text: str, boxes: bool = False) -> Problem | None:
    """Return what is wrong with a question."""
    return (
        empty_problem(text, "the question")
        or placeholder_problem(text)
        or mention_problem(text, boxes)
    )


def sample_texts(sample: TrainingSample) -> list[str]:
    """Return all texts of a sample that a model may be trained on, options and captions too."""
    texts = [text for turn in sample.turns for text in turn]
    return [text for text in (sample.caption, sample.context, sample.system, *texts) if text]
