"""Endpoints: a block of a data recipe names a server, its limits, and how it is asked.

caption:
  model: gpt-4o-mini
  requests_per_minute: 500
  parameters: {temperature: 0.7, max_tokens: 300}

The key is never in a recipe: `key_variable` names the environment variable that has it.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from verbalizer_bench.config import check

OPENAI = "https://api.openai.com/v1"
STRUCTURED = ("json_schema", "json_object", "none")
# What the client sets itself, or what would carry a key into a recipe and so into records.
RESERVED = ("model", "messages", "n", "stream", "response_format", "extra_headers", "api_key")


def _is_json(value: Any) -> bool:
    """Return whether a value can be sent: no date, no NaN, no lone surrogate."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        return False
    return True


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible chat-completions server.

    Attributes:
        reserved: The parameters that cannot be set.
        model: The server's name for it.
        base_url: The server's address up to `/v1`; None: OpenAI's.
        key_variable: Environment variable with the key; "" for a server without keys.
        concurrency: Requests in flight at once.
        requests_per_minute: At most so many are sent in any minute; None: no limit.
        tokens_per_minute: Of prompt and response, estimated before a call and counted after it.
        timeout: Seconds that a response may take.
        retries: Attempts after the first one that fails.
        backoff: Seconds before the second attempt; doubled with each, half of it random.
        structured: How an object is asked for: `json_schema`, `json_object`, `none` (in words
            only), or `auto`: the first of them that the server takes.
        parameters: Sent as they are (temperature, max_tokens, seed), and part of a response's key
            in the store.
        input_price: Money for a million tokens of prompts.
        output_price: Money for a million tokens of responses.
        image_tokens: Tokens of an image in an estimate; servers count from 85 to 37,000.
    """

    reserved: ClassVar[tuple[str, ...]] = RESERVED

    model: str
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout: float = 120.0
    retries: int = 8
    backoff: float = 0.5
    structured: str = "auto"
    parameters: dict[str, Any] = field(default_factory=dict)
    input_price: float | None = None
    output_price: float | None = None
    image_tokens: int = 1000

    def __post_init__(self) -> None:
        check("model", repr(self.model), bool(self.model), "a model's name")
        self._check_secrets()
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            check(name, value, value is None or value >= 1, "at least 1")
        for name in ("timeout", "backoff"):
            check(name, getattr(self, name), getattr(self, name) > 0, "above 0")
        for name in ("retries", "input_price", "output_price", "image_tokens"):
            value = getattr(self, name)
            check(name, value, value is None or value >= 0, "at least 0")
        for name, value in self.parameters.items():
            check(f"parameters.{name}", repr(value), _is_json(value), "a value that JSON has")
        known = ("auto", *STRUCTURED)
        check("structured", self.structured, self.structured in known, f"one of {', '.join(known)}")

    def _check_secrets(self) -> None:
        """Raise ValueError, without the value, if a key is in the recipe."""
        hint = "put the key into the environment variable that key_variable names"
        if not re.fullmatch(r"([A-Za-z_]\w*)?", self.key_variable, re.ASCII):
            raise ValueError(
                "key_variable: the name of an environment variable is expected, "
                f"such as OPENAI_API_KEY; {hint}"
            )
        parts = urlsplit(self.base_url or OPENAI)
        if parts.username or parts.password or parts.query:
            raise ValueError(f"base_url: it has more than an address; {hint}")
        right = parts.scheme in ("http", "https") and bool(parts.hostname)
        check("base_url", self.base_url, right, "an address such as http://localhost:8000/v1")
        for name in self.parameters:
            if name in self.reserved:
                fix = hint if name in ("extra_headers", "api_key") else "leave it out"
                raise ValueError(f"parameters.{name}: it cannot be set here; {fix}")

    @property
    def address(self) -> str:
        """Return the server's address."""
        return self.base_url or OPENAI

    @property
    def max_tokens(self) -> int | None:
        """Return the longest response that the parameters allow."""
        limits = (self.parameters.get(name) for name in ("max_completion_tokens", "max_tokens"))
        return next((limit for limit in limits if isinstance(limit, int)), None)

    @property
    def channel_key(self) -> tuple[str | int | None, ...]:
        """Return what is equal in blocks that share a channel: model, key and limits."""
        rates = (self.concurrency, self.requests_per_minute, self.tokens_per_minute)
        return (self.address, self.model, self.key_variable, *rates)

    @property
    def is_priced(self) -> bool:
        """Whether it has a price, of prompts or of responses."""
        return self.input_price is not None or self.output_price is not None

    def money(self, input_tokens: int, output_tokens: int) -> float:
        """Return the price of so many tokens, 0 without prices."""
        price = input_tokens * (self.input_price or 0) + output_tokens * (self.output_price or 0)
        return price / 1_000_000

    def key(self) -> str:
        """Return the server's key.

        Raises:
            ValueError: The environment has none, or one that cannot be sent, which the HTTP library
                would repeat in its error and its log.
        """
        if not self.key_variable:
            return "none"
        value = os.environ.get(self.key_variable, "").strip()
        if not value:
            raise ValueError(
                f"{self.key_variable} is not set; {self.address} needs a key: export it, or give "
                "base_url of another server, and an empty key_variable for one without keys"
            )
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError(f"{self.key_variable}: not a key; it has other than ASCII letters")
        return value


def endpoint_for(endpoints: Mapping[str, Endpoint], role: str) -> Endpoint:
    """Return the endpoint of a role: its own, or `default`.

    Raises:
        ValueError: There is neither.
    """
    endpoint = endpoints.get(role) or endpoints.get("default")
    if endpoint is None:
        raise ValueError(
            f"endpoints.{role}: missing, and no endpoints.default; give one, such as "
            "{model: …, base_url: …}"
        )
    return endpoint
