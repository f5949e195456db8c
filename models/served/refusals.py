"""What a server's refusal means, and what to do about it."""

import re

from verbalizer_bench.models.served.asking import REFUSED, Unanswered

_TOO_LONG = re.compile(
    r"context (length|size|window)|maximum.{0,30}(context|length|tokens)|max_model_len|exceed"
    r"|too (long|large|many tokens)",
    re.IGNORECASE,
)
_NO_IMAGE = re.compile(r"image|multi-?modal|vision|mmproj|content", re.IGNORECASE)


def advice(error: Unanswered, with_image: bool) -> str:
    """Return how to mend what a call failed of, as the end of a line; "" where the error says it.

    Args:
        error: Why there is no reply.
        with_image: Whether an image was shown.
    """
    text = str(error)
    if error.status in (401, 403):
        return "; key_variable=NAME names the environment variable with the key"
    if error.status == 404:
        return (
            "; give base_url=… up to its /v1, and model=NAME as the server calls it (`curl "
            "BASE_URL/models` lists its names)"
        )
    if error.status == 500:
        return "; some servers answer so where model=NAME is none that they have"
    if error.status not in REFUSED:
        return ""
    if _TOO_LONG.search(text):
        return "; give the server a larger context (vLLM: --max-model-len), or fewer examples"
    if with_image and _NO_IMAGE.search(text):
        return "; if the model takes no images, image=none asks without one"
    if "temperature" in text:
        return "; this model cannot be asked greedily, which is all that verbalizer-api does"
    if "logprobs" in text:
        return "; the server gives no log probabilities: score with verbalizer-llm"
    if "use_beam_search" in text or re.search(r"\bn\b", text):
        return "; if the server has no beam search, leave beams= out"
    return ""
