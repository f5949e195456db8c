"""What a request holds: the conversation, and the parameters of the decoding.

Only what OpenAI's schema has is sent, and vLLM's `use_beam_search` where beams are asked for. What
a provider does not take of it is left out where that changes no answer (`Dialect`).
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image

from verbalizer_bench.models.adapters.chat_prompts import ChatPrompt
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings

# lm-eval's mark of a task's own image.
PLACEHOLDER = "<image>"
# OpenAI takes so many; what these leave over is cut here.
_MOST_STOPS = 4
# Log probabilities of the most likely first tokens: OpenAI's and vLLM's most.
TOP_LOGPROBS = 20
_LIMITS = ("max_tokens", _NEWER_LIMIT := "max_completion_tokens")
# How a refusal of a parameter is worded, and one of a prompt that is too long is not.
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|unexpected|unknown|unrecogni[sz]ed|not permitted|not allowed|extra",
    re.IGNORECASE,
)
# Of a task, without which greedy search is the same, or which beams= is for.
_WITHOUT_EFFECT = ("do_sample", "num_beams", "temperature", "top_p", "top_k", "min_p")


class Dialect(NamedTuple):
    """What of the request a server takes.

    Attributes:
        limit: The name of the most new tokens: OpenAI's reasoning models refuse the older one.
        stop: Whether stop strings are sent. They only save tokens: the text is cut here anyway.
    """

    limit: str = _LIMITS[0]
    stop: bool = True

    def without(self, refusal: str) -> "Dialect | None":
        """Return the dialect without what a server's refusal names; None if it names nothing."""
        if not _UNSUPPORTED.search(refusal):
            return None
        if self.limit != _NEWER_LIMIT and re.search(r"\bmax_tokens\b", refusal):
            return self._replace(limit=_NEWER_LIMIT)
        if self.stop and re.search(r"\bstop\b", refusal):
            return self._replace(stop=False)
        return None


DIALECTS = tuple(Dialect(limit, stop) for stop in (True, False) for limit in _LIMITS)


def check_generation(settings: GenerationSettings) -> None:
    """Raise ValueError for what a task asks of `generate` and is not sent."""
    if settings.kwargs.get("do_sample"):
        raise ValueError(
            "gen_kwargs do_sample=True: verbalizer-api decodes greedily, or with beams=N; leave "
            "it out"
        )
    for name, value in settings.kwargs.items():
        if name not in _WITHOUT_EFFECT:
            raise ValueError(
                f"gen_kwargs {name}={value}: is an argument of `generate`, which a server does not "
                f"know; leave it out, or give it as --model_args parameters="
                f'{{"{name}": …}} where the server has one of that name'
            )


def decoding(
    settings: GenerationSettings, dialect: Dialect, beams: int, cut_thoughts: bool
) -> dict[str, Any]:
    """Return the parameters of a request for a text.

    Args:
        settings: What the task asks.
        dialect: What the server takes.
        beams: Their number; 1 is greedy.
        cut_thoughts: Whether a thought is cut off here, in which no stop string counts.
    """
    asked = {"temperature": 0, dialect.limit: settings.max_new_tokens}
    if beams > 1:
        # vLLM's beam search looks for no stop string.
        return {**asked, "use_beam_search": True, "n": beams}
    stops = list(settings.stops)[:_MOST_STOPS] if dialect.stop and not cut_thoughts else []
    return {**asked, "stop": stops} if stops else asked


def scoring(dialect: Dialect) -> dict[str, Any]:
    """Return the parameters of a request for the probabilities of the first token."""
    return {"temperature": 0, dialect.limit: 1, "logprobs": True, "top_logprobs": TOP_LOGPROBS}


def conversation(
    context: str, image: str | None, visuals: Sequence[Image.Image]
) -> tuple[list[dict[str, Any]], bool]:
    """Return a prompt as messages, and whether a literal `<image>` in it was made harmless.

    Args:
        context: A conversation, or a text, which becomes one user message.
        image: The data URL of the image that goes in front of the first user turn; None: no image.
        visuals: The task's own images, which go where it says `<image>`.

    Raises:
        ValueError: The task does not say as often `<image>` as it has images.
    """
    messages: list[dict[str, Any]] = (
        [dict(message) for message in context.messages]
        if isinstance(context, ChatPrompt)
        else [{"role": "user", "content": str(context)}]
    )
    if visuals:
        return _with_visuals(messages, visuals), False
    if image is None:
        return messages, False
    escaped = False
    for message in messages:
        escaped |= PLACEHOLDER in message["content"]
        message["content"] = message["content"].replace(PLACEHOLDER, "< image>")
    first = next(message for message in messages if message["role"] == "user")
    first["content"] = [_image_part(image), {"type": "text", "text": first["content"]}]
    return messages, escaped


def _with_visuals(
    messages: Sequence[Mapping[str, Any]], visuals: Sequence[Image.Image]
) -> list[dict[str, Any]]:
    places = sum(message["content"].count(PLACEHOLDER) for message in messages)
    if places != len(visuals):
        raise ValueError(
            f"a prompt says {PLACEHOLDER} {places} times and has {len(visuals)} images; correct "
            "the task's placeholders"
        )
    images, made = iter(visuals), []
    for message in messages:
        parts: list[dict[str, Any]] = []
        for place, text in enumerate(message["content"].split(PLACEHOLDER)):
            if place:
                parts.append(_image_part(data_url(next(images))))
            if text:
                parts.append({"type": "text", "text": text})
        made.append({**message, "content": parts})
    return made


def _image_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def data_url(image: Image.Image) -> str:
    """Return an image as a data URL, as PNG: the server sees the same pixels."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
