"""Which answers of MMVP are disputed: labels as published (`original`) and as `corrected`.

Images 99 and 100 (long or short tusks) and 279 and 280 (standing or sitting) are labelled the wrong
way round in the release; lmms-eval corrected all four in its copy (its issue 1018, MMVP's 30), and
the threads disagree whether two or all four are wrong. We saw no image: both versions are reported.
"""

from collections.abc import Sequence

from verbalizer_bench.tasks.mmvp.questions import Question

VERSIONS = ("original", "corrected")
# The release's answers to the disputed questions, and how each begins: what has other words there
# is another benchmark in MMVP's layout.
DISPUTED = {99: "a", 100: "b", 279: "a", 280: "b"}
_BEGINNINGS = {99: "Does the elephant", 100: "Does the elephant"}
_BEGINNINGS |= {279: "Is the elderly person", 280: "Is the elderly person"}
_QUESTIONS = 300


def answers(questions: Sequence[Question], version: str) -> tuple[str, ...]:
    """Return the right letters by a version of the labels, in the questions' order.

    What is no MMVP has one version, its own. MMVP has both, whichever of them its source has.

    Raises:
        ValueError: There is no such version.
    """
    if version not in VERSIONS:
        raise ValueError(f"labels={version!r}: give one of {', '.join(VERSIONS)}")
    if not is_mmvp(questions):
        return tuple(question.answer for question in questions)
    return tuple(_answer(question, version) for question in questions)


def is_mmvp(questions: Sequence[Question]) -> bool:
    """Say whether questions are MMVP's own: 300, the disputed ones in their places."""
    return len(questions) == _QUESTIONS and all(
        questions[index - 1].text.startswith(beginning) for index, beginning in _BEGINNINGS.items()
    )


def _answer(question: Question, version: str) -> str:
    original = DISPUTED.get(question.number)
    if original is None:
        return question.answer
    return original if version == "original" else {"a": "b", "b": "a"}[original]
