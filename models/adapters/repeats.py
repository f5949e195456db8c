"""Requests that come more than once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def once_each(
    requests: Sequence[Any], answer: Callable[[list[Any]], Sequence[Answer]]
) -> list[Answer]:
    """Return what each request is answered, which is asked once of each.

    lm-eval repeats a rank's last request until all ranks have as many.
    """
    unique = list({id(request): request for request in requests}.values())
    answers = dict(zip(map(id, unique), answer(unique), strict=True))
    return [answers[id(request)] for request in requests]
