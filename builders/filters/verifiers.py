"""Verifiers: whether an answer obeys its instruction, by lm-eval's IFEval in the strict sense.

Zhou et al. 2023, arXiv 2311.07911. Two of the 25 types need NLTK's punkt_tab, which PyPI lacks.
"""

import contextlib
import io
import random
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

NEED_PUNKT = ("length_constraints:number_sentences", "change_case:capital_word_frequency")
# Its argument is IFEval's prompt, in whose place a record has its question.
REPEAT = "combination:repeat_prompt"
_DRAWS = 8


@cache
def registry() -> Mapping[str, type]:
    """Return lm-eval's verifiers by type."""
    # Without a network, the import prints that punkt_tab could not be downloaded, and that it was.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT
    verifiers: Mapping[str, type] = INSTRUCTION_DICT
    return verifiers


@cache
def has_punkt() -> bool:
    """Return whether NLTK's punkt_tab is installed."""
    registry()
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return False
    return True


def check_type(kind: str) -> None:
    """Raise ValueError for a type that cannot be verified here."""
    if kind not in registry():
        raise ValueError(f"instruction {kind}: no such type; known: {', '.join(registry())}")
    if kind in NEED_PUNKT and not has_punkt():
        raise ValueError(
            f"instruction {kind}: its verifier needs NLTK's punkt_tab, which is not here: "
            "python -m nltk.downloader punkt_tab, or leave the type out of instructions.filter"
        )


class RandomInstruction(ValueError):
    """An instruction part of which its verifier draws at random."""


def describe(kind: str, arguments: Mapping[str, Any]) -> str:
    """Return an instruction's text, `build_description(**arguments)` of its verifier.

    Raises:
        RandomInstruction: An argument is missing or out of range, and the verifier would draw
            another each time.
        ValueError: The type does not take these arguments.
    """
    texts = set()
    with _random_state_kept():
        for seed in range(_DRAWS):
            random.seed(seed)
            checker = _checker(kind, arguments)
            texts.add((checker.text, repr(checker.verifier.get_instruction_args())))
    if len(texts) > 1:
        raise RandomInstruction(
            f"instruction {kind} with {dict(arguments)}: its verifier draws what is missing or "
            "out of range at random; give all arguments"
        )
    ((text, _),) = texts
    return text


def verify(kind: str, arguments: Mapping[str, Any], prompt: str, answer: str) -> bool:
    """Return whether an answer obeys an instruction, as lm-eval's strict accuracy counts it.

    Args:
        kind: The type.
        arguments: What the type's `build_description` takes.
        prompt: The request that is answered; one of the types wants it repeated.
        answer: The response, unchanged; an empty one obeys nothing.
    """
    check_type(kind)
    if kind == REPEAT:
        arguments = {"prompt_to_repeat": prompt}
    import langdetect

    # Otherwise langdetect may see one language in a text today and another tomorrow.
    langdetect.DetectorFactory.seed = 0
    with _random_state_kept():
        verifier = _checker(kind, arguments).verifier
        return bool(answer.strip()) and bool(verifier.check_following(answer))


class _Checker(NamedTuple):
    """A verifier with its arguments, and the instruction's text."""

    verifier: Any
    text: str


def _checker(kind: str, arguments: Mapping[str, Any]) -> _Checker:
    verifier = registry()[kind](kind)
    try:
        return _Checker(verifier, verifier.build_description(**arguments))
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"instruction {kind} with {dict(arguments)}: {error}") from error


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """Restore the state of `random` afterwards."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
