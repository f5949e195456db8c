"""What a reply says: the response and what ended it, or how likely the first token is."""

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.models.utils import postprocess_generated_text

from verbalizer_bench.client.protocol import Reply
from verbalizer_bench.client.response_checks import finish_kind
from verbalizer_bench.io.thinking import CLOSED, OPEN, thought
from verbalizer_bench.models.adapters.finish_reason import EOS, FILTERED, LIMIT, STOP, UNKNOWN
from verbalizer_bench.models.adapters.journal import Response
from verbalizer_bench.models.adapters.scoring import Score

# vLLM and OpenRouter; SGLang, DeepSeek and older vLLM; others.
_REASONING = ("reasoning", "reasoning_content", "thinking")
ENGINE = "served"


def response_of(reply: Reply, stops: Sequence[str], think_end: str | None) -> Response:
    """Return a reply as a response: cut at the stops, without thoughts in a field of their own.

    Args:
        reply: The server's.
        stops: The task's stop strings.
        think_end: The text that ends a thought, which is then cut away; None: it stays.
    """
    raw = reply.text or reply.refusal or ""
    text: str = postprocess_generated_text(raw, list(stops), think_end)
    state = thought(raw, opened=False)
    if state == CLOSED and think_end is not None:
        state = None
    if reasoning_of(reply) and not raw:
        state = OPEN
    return Response(text, ENGINE, _ending(reply, raw, stops), state)


def reasoning_of(reply: Reply) -> str:
    """Return the thoughts that the server gives in a field of their own; "" without any."""
    message = _choices(reply)[0]["message"]
    return next((str(message[name]) for name in _REASONING if message.get(name)), "")


def _choices(reply: Reply) -> list[Mapping[str, Any]]:
    choices: list[Mapping[str, Any]] = reply.response["choices"]
    return choices


def _ending(reply: Reply, raw: str, stops: Sequence[str]) -> str:
    """Return what ended a response, as far as the server says it."""
    kind = finish_kind(reply.finish_reason)
    if reply.refusal or kind == "refused":
        return FILTERED
    if kind == "too_long":
        return LIMIT
    if kind == "other" or not reply.finish_reason:
        return UNKNOWN
    # vLLM and SGLang name the stop string, which is not in the text.
    named = _choices(reply)[0].get("stop_reason") or _choices(reply)[0].get("matched_stop")
    return STOP if named in stops or any(stop in raw for stop in stops) else EOS


def beams_problem(reply: Reply, beams: int) -> str | None:
    """Return why a reply is no beam search's; None if it may be one."""
    texts = [choice["message"].get("content") for choice in _choices(reply)]
    if len(texts) < beams:
        return f"it answers with {len(texts)} of {beams} beams"
    if len(set(texts)) == 1:
        return f"its {beams} answers are the same, as those of greedy search are"
    return None


def score_of(reply: Reply, continuation: str) -> Score:
    """Return the log probability of a continuation of one token, and whether it is the greedy one.

    A turn's first token has a space in front of it or has none, as the template leaves it.

    Raises:
        ValueError: The server gives no log probabilities, or not the continuation's.
    """
    logprobs = _choices(reply)[0].get("logprobs") or {}
    first = next(iter(logprobs.get("content") or ()), None)
    top = [*((first or {}).get("top_logprobs") or ())]
    if not top:
        raise ValueError(
            "the server gives no log probabilities (top_logprobs); score with verbalizer-llm or "
            "verbalizer-lvlm, or serve the model with vLLM or SGLang"
        )
    best = max(float(token["logprob"]) for token in top)
    for text in (continuation, continuation.lstrip()):
        for token in top:
            if token["token"] == text:
                return float(token["logprob"]), float(token["logprob"]) == best
    raise ValueError(
        f"the continuation {continuation!r} is no single token among the {len(top)} most likely "
        f"first ones ({', '.join(repr(token['token']) for token in top[:5])}, …), so that the "
        "server does not say how likely it is; score with verbalizer-llm or verbalizer-lvlm"
    )
