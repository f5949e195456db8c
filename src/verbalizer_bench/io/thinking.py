"""Thoughts in a response: whether the model was told to think first, and whether it came to an end.

A response that is a thought holds label words that are no answer.
"""

import re

OPEN, CLOSED = "open", "closed"
_NAMES = "think|thinking|thought|reasoning|reflection|seed:think"
_OPENED = re.compile(
    rf"<(?:{_NAMES})>|\[THINK\]|<\|begin_of_thought\|>|<\|START_THINKING\|>|◁think▷"
    r"|<\|channel\|?>\s*(?:analysis|thought)"
)
_CLOSED = re.compile(
    rf"</(?:{_NAMES})>|\[/THINK\]|<\|end_of_thought\|>|<\|END_THINKING\|>|◁/think▷"
    r"|<\|channel\|>\s*final|<channel\|>"
)


def opened_thought(prompt: str) -> str | None:
    """Return the mark at the end of a prompt that has the model begin with a thought, or None."""
    marks = list(_OPENED.finditer(prompt))
    return marks[-1][0] if marks and not prompt[marks[-1].end() :].strip() else None


def thought(response: str, opened: bool) -> str | None:
    """Return whether a response holds a thought that was opened in it or in the prompt.

    Args:
        response: With its special tokens.
        opened: Whether the prompt opened one.

    Returns:
        `open` if it never closed, `closed`, or None without a thought.
    """
    marks = [(match.start(), OPEN) for match in _OPENED.finditer(response)]
    marks += [(match.start(), CLOSED) for match in _CLOSED.finditer(response)]
    return max(marks)[1] if marks else OPEN if opened else None


def after_thought(response: str) -> str:
    """Return a response without its thoughts; of one that never closed nothing."""
    closed = list(_CLOSED.finditer(response))
    text = response[closed[-1].end() :] if closed else response
    return _OPENED.split(text)[0]
