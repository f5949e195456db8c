"""What ended a response: an EOS, a stop string or the limit, and which token closes a turn."""

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Any

# By an EOS, by a stop string, or not before the last token; unknown in older journals.
EOS, STOP, LIMIT, UNKNOWN = "eos", "stop", "limit", "unknown"
# Withheld by a served model, or its provider.
FILTERED = "filtered"


def finish_reason(
    tokens: Sequence[int], eos_token_ids: Collection[int], text: str, stops: Sequence[str]
) -> str:
    """Return what ended a response.

    Args:
        tokens: The response's, with EOS and padding.
        eos_token_ids: The ids that end one.
        text: The response before its first EOS, not cut at the stops.
        stops: The stop strings.
    """
    if any(stop in text for stop in stops):
        return STOP
    return EOS if end_of_text(tokens, eos_token_ids) < len(tokens) else LIMIT


def end_of_text(tokens: Sequence[int], eos_token_ids: Collection[int]) -> int:
    """Return how many tokens stand before the first EOS."""
    return next((n for n, token in enumerate(tokens) if token in eos_token_ids), len(tokens))


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
