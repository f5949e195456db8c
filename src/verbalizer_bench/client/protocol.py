"""The chat-completions protocol: a request's key and JSON, and what is in a response."""

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard

from verbalizer_bench.client.budget import Usage
from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.json_answers import parse
from verbalizer_bench.client.response_checks import strip_reasoning
from verbalizer_bench.client.structured_output import check_schema

# The estimate for a response whose length is not limited.
_REPLY_TOKENS = 1024
_MOST_TOKENS = 1_000_000_000
# For servers that do not take the schema itself.
_IN_WORDS = "Answer with one JSON object and nothing else. It follows this JSON schema:\n"
_TEXT_PARTS = ("text", "output_text")
_IMAGES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


@dataclass(frozen=True)
class Request:
    """One call.

    Attributes:
        role: What it is for (caption, question, answer …); chooses the endpoint.
        messages: In OpenAI's layout; an image is the part `{"type": "image_file", "path": …}`, or
            `{"type": "image_url", "image_url": {"url": …}}` with a data URL.
        schema: JSON schema of the object that is wanted; None: text is wanted.
        n: Counts attempts with the same prompt, which are different calls.
        parameters: Beside the endpoint's, for this call alone, such as a seed.
    """

    role: str
    messages: tuple[Mapping[str, Any], ...]
    schema: Mapping[str, Any] | None = None
    n: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.schema is not None:
            check_schema(self.schema)


class Reply(NamedTuple):
    """A server's answer.

    Attributes:
        text: The response.
        value: The object in it, if one was wanted and it follows the schema.
        refusal: The server's field of that name.
        finish_reason: `stop`, `length`, `content_filter` …; "" if the server gives none; `error: …`
            if it reports a failure.
        model: The server's name for it.
        input_tokens: Of the prompt; estimated if the server gives none.
        output_tokens: Of the response.
        key: Its key in the store.
        cached: Whether it cost nothing.
        problem: Why there is no value although one was wanted.
        response: All that the server sent, as JSON.
    """

    text: str
    value: dict[str, Any] | None
    refusal: str | None
    finish_reason: str
    model: str
    input_tokens: int
    output_tokens: int
    key: str
    cached: bool
    problem: str | None = None
    response: Mapping[str, Any] = MappingProxyType({})


def request_key(request: Request, endpoint: Endpoint) -> str:
    """Return the sha256 of model, prompt, images, parameters, schema and n.

    The address is not in it: a local server may move.

    Raises:
        FileNotFoundError: An image is not there.
    """
    messages = _with_images(request.messages, lambda path: _sha256(path.read_bytes()))
    parameters = {**endpoint.parameters, **request.parameters}
    asked = [endpoint.model, messages, request.schema, parameters, request.n]
    return _sha256(json.dumps(asked, sort_keys=True).encode())


def body(request: Request, endpoint: Endpoint, structured: str) -> dict[str, Any]:
    """Return the request's JSON.

    Args:
        request: The call.
        endpoint: Where it goes.
        structured: `json_schema`, `json_object` or `none`.

    Raises:
        ValueError: An image has a format that no server takes.
    """
    messages = _with_images(request.messages, _data_url)
    asked = {"model": endpoint.model, "messages": messages}
    asked |= {**endpoint.parameters, **request.parameters}
    if request.schema is None:
        return asked
    if structured == "json_schema":
        strict = request.schema.get("additionalProperties") is False
        schema = {"name": "answer", "schema": request.schema, "strict": strict}
        return {**asked, "response_format": {"type": structured, "json_schema": schema}}
    asked["messages"] = with_paragraph(messages, _IN_WORDS + json.dumps(request.schema))
    return asked | ({"response_format": {"type": structured}} if structured != "none" else {})


def estimate(request: Request, endpoint: Endpoint) -> Usage:
    """Return what a call may cost: three bytes a token, and the longest response allowed."""
    texts = [json.dumps(request.schema)] if request.schema else []
    images = 0
    for message in request.messages:
        for part in _parts(message):
            images += part.get("type") in ("image_file", "image_url")
            texts.append(part.get("text") or "")
    tokens = 4 * len(request.messages) + sum(map(_tokens, texts)) + images * endpoint.image_tokens
    longest = _REPLY_TOKENS if endpoint.max_tokens is None else endpoint.max_tokens
    longest *= endpoint.parameters.get("n", 1)
    return Usage(tokens, longest, endpoint.money(tokens, longest))


def problem_of(response: Any) -> str | None:
    """Return why a response's JSON is not a chat completion."""
    if not isinstance(response, dict):
        return "the response is no JSON object"
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices:
        error = response.get("error")
        message = error.get("message") if isinstance(error, dict) else error
        return f"the response has no choices{f': {message}' if message else ''}"
    if not isinstance(choices[0], dict) or not isinstance(choices[0].get("message"), dict):
        return "the response's choice has no message"
    return None


def error_of(response: Any) -> Any:
    """Return the error that a response with status 200 reports, or None."""
    if not isinstance(response, dict):
        return None
    choices = response.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return response.get("error") or (choice.get("error") if isinstance(choice, dict) else None)


def usage_of(response: Mapping[str, Any], request: Request, endpoint: Endpoint) -> Usage:
    """Return what a response cost, by the server's count or, without one, by estimate."""
    usage = response.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (_is_count(read) and _is_count(written)):
        read = estimate(request, endpoint).input_tokens
        written = _tokens(_text(response["choices"][0]["message"]))
    return Usage(read, written, endpoint.money(read, written))


def _is_count(value: Any) -> TypeGuard[int]:
    """Return whether a value can be a number of tokens; anything else would spoil the budget."""
    return type(value) is int and 0 <= value < _MOST_TOKENS


def reply_of(
    stored: Mapping[str, Any], request: Request, cached: bool, longest: int | None = None
) -> Reply:
    """Return a stored response as the reply to a request.

    Args:
        stored: The store's entry.
        request: The call.
        cached: Whether it cost nothing.
        longest: The most tokens that the response may have; None: not known.
    """
    choice = stored["response"]["choices"][0]
    message = choice["message"]
    text, refusal = _text(message), message.get("refusal")
    value = problem = None
    if request.schema is not None:
        value, problem = parse(strip_reasoning(text), request.schema)
    return Reply(
        text=text,
        value=value,
        refusal=str(refusal) if refusal else None,
        finish_reason=_finish(stored["response"], choice, longest),
        model=str(stored["response"].get("model") or stored["model"]),
        input_tokens=stored["usage"]["input_tokens"],
        output_tokens=stored["usage"]["output_tokens"],
        key=stored["key"],
        cached=cached,
        problem=problem,
        response=stored["response"],
    )


def _finish(response: Mapping[str, Any], choice: Mapping[str, Any], longest: int | None) -> str:
    """Return how a response ended."""
    if error := error_of(response):
        return f"error: {error.get('message', error) if isinstance(error, dict) else error}"
    reason = choice.get("finish_reason")
    # SGLang's native server gives an object.
    reason = str((reason.get("type") if isinstance(reason, Mapping) else reason) or "")
    message = choice["message"]
    if message.get("tool_calls") or message.get("function_call"):
        return reason if reason not in ("", "stop") else "tool_calls"
    usage = response.get("usage")
    written = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    if not reason and longest and isinstance(written, int) and written >= longest:
        return "length"
    return reason


def _text(message: Mapping[str, Any]) -> str:
    """Return a message's text, which some servers give in parts, beside parts of thoughts."""
    parts = (part for part in _parts(message) if part.get("type", "text") in _TEXT_PARTS)
    return "".join(str(part.get("text") or "") for part in parts)


def _parts(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    elif isinstance(content, Sequence):
        yield from (part for part in content if isinstance(part, Mapping))


def _with_images(messages: Sequence[Mapping[str, Any]], read: Any) -> list[dict[str, Any]]:
    """Return messages in which `read` of its path stands for each image file."""

    def replaced(part: Mapping[str, Any]) -> dict[str, Any]:
        if part.get("type") != "image_file":
            return dict(part)
        others = {name: value for name, value in part.items() if name not in ("type", "path")}
        image = {"url": read(Path(part["path"])), **others}
        return {"type": "image_url", "image_url": image}

    return [
        {
            name: list(map(replaced, value))
            if name == "content" and not isinstance(value, str)
            else value
            for name, value in message.items()
        }
        for message in messages
    ]


def with_paragraph(messages: Sequence[Mapping[str, Any]], text: str) -> list[Mapping[str, Any]]:
    """Return messages with a paragraph after the last one's text."""
    *others, last = messages
    content = last["content"]
    if isinstance(content, str):
        return [*others, {**last, "content": f"{content}\n\n{text}"}]
    return [*others, {**last, "content": [*content, {"type": "text", "text": text}]}]


def _data_url(path: Path) -> str:
    data = path.read_bytes()
    kind = next((kind for start, kind in _IMAGES.items() if data.startswith(start)), None)
    if kind is None:
        raise ValueError(f"{path}: no JPEG, PNG, GIF or WebP image; convert it")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode("utf-8", "replace")) / 3)
