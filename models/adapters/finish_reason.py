"""How a response ended, and whether it is a thought: what a reader must know before its score."""

import re
from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Any

# How a response ended: by an EOS, by a stop string, or not before its last token.
EOS, STOP, LIMIT, UNKNOWN = "eos", "stop", "limit", "unknown"
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


def ending(tokens: Sequence[int], eos_token_ids: Collection[int], text: str, stops: Any) -> str:
    """Say what ended a response.

    Args:
        tokens: The response's, with EOS and padding.
        eos_token_ids: The ids that end one.
        text: The response before it was cut at the stops.
        stops: The stop strings.
    """
    if any(token in eos_token_ids for token in tokens):
        return EOS
    return STOP if any(stop in text for stop in stops) else LIMIT


def opened_thought(prompt: str) -> str | None:
    """Return the mark with which a prompt ends that has the model begin with a thought."""
    found = list(_OPENED.finditer(prompt))
    return found[-1][0] if found and not prompt[found[-1].end() :].strip() else None


def thought(response: str, opened: bool) -> str | None:
    """Say whether a response holds a thought that was opened in it or in the prompt.

    Args:
        response: With its special tokens.
        opened: Whether the prompt opened one.

    Returns:
        `open` if it never closed, `closed`, or None without a thought.
    """
    marks = [(match.start(), OPEN) for match in _OPENED.finditer(response)]
    marks += [(match.start(), CLOSED) for match in _CLOSED.finditer(response)]
    return max(marks)[1] if marks else OPEN if opened else None


def turn_end(
    rest: str, tokenizer: Any, eos_token_ids: Collection[int] = ()
) -> dict[str, Any] | None:
    """Return the token that closes a turn, as `{"id", "token"}`; None where no added token does.

    Args:
        rest: What a chat template writes after an answer.
        tokenizer: Whose tokens these are.
        eos_token_ids: The ids that end a response: of several tokens in a row (Cohere's
            `<|END_RESPONSE|><|END_OF_TURN_TOKEN|>`), one of these is enough.
    """
    added = tokenizer.added_tokens_decoder
    ids = tokenizer(rest.lstrip(), add_special_tokens=False)["input_ids"]
    closing = list(takewhile(added.__contains__, ids))
    if not closing:
        return None
    token = next((token for token in closing if token in eos_token_ids), closing[0])
    return {"id": token, "token": str(added[token])}


def tokenizer_eos(tokenizer: Any) -> dict[str, Any] | None:
    """Return the tokenizer's EOS as `{"id", "token"}`."""
    if tokenizer.eos_token_id is None:
        return None
    return {"id": tokenizer.eos_token_id, "token": str(tokenizer.eos_token)}
