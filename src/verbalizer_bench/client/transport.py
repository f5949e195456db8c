"""Transport: one attempt at a call, sent by the `openai` client, which neither retries nor parses.

Failures are returned, not raised: the library's exceptions hold the request with its key.
"""

import asyncio
import email.utils
import errno
import http.client
import json
import math
import os
import re
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import openai

from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.protocol import error_of, problem_of

# Shorter keys are placeholders ("EMPTY"), and may be words of responses.
_SECRET_LENGTH = 8
_RETRYABLE = (408, 409, 429)
# The answer will be the same whatever is asked.
_FATAL = (401, 402, 404)
# A server that asks for more is out of quota for the day: better to run again later.
_LONGEST_WAIT = 600.0
# A server that takes longer to accept a connection is not there.
_CONNECT_TIMEOUT = 10.0
# Replaced by tests, so that they need not wait.
_within = asyncio.timeout
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^<>]*>", re.DOTALL | re.IGNORECASE)
# Reasons of failures for which no server need exist.
NO_SERVER = ("connection", "timeout")


class Failure(NamedTuple):
    """Why an attempt gave no response.

    Attributes:
        reason: A status, `timeout`, `connection` or `malformed`.
        message: The server's, in one line.
        status: HTTP's, if there was one.
        retryable: Whether another attempt may succeed.
        retry_after: Seconds that the server asks to wait.
        lost: Whether the server may have answered, and charged for it.
        fatal: Whether no other call to this endpoint can succeed either.
    """

    reason: str
    message: str
    status: int | None = None
    retryable: bool = True
    retry_after: float | None = None
    lost: bool = False
    fatal: bool = False


class Connection:
    """A connection to an endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Read the key from the environment.

        Raises:
            ValueError: It is not there.
        """
        key = endpoint.key()
        self._secret = key if len(key) >= _SECRET_LENGTH else None
        self._client = openai.AsyncOpenAI(api_key=key, base_url=endpoint.address, max_retries=0)

    async def send(self, body: Mapping[str, Any], timeout: float) -> dict[str, Any] | Failure:
        """Return the response's JSON, or why there is none.

        Args:
            body: The request's JSON.
            timeout: Seconds until the whole response is there.
        """
        create = self._client.chat.completions.with_raw_response.create
        connect = min(timeout, _CONNECT_TIMEOUT)
        limits = openai.Timeout(timeout, connect=connect)
        try:
            async with _within(timeout):
                # The library converts whatever is not in extra_body, which takes a fifth of a call.
                raw = await create(
                    model=body["model"], messages=(), extra_body=body, timeout=limits
                )
        except (TimeoutError, openai.APITimeoutError) as error:
            if type(error.__cause__).__name__ == "ConnectTimeout":
                return Failure("timeout", f"no connection within {connect:g} s")
            return Failure("timeout", f"no response in {timeout:g} s", lost=True)
        except openai.APIConnectionError as error:
            return _connection_failure(error.__cause__)
        except openai.APIStatusError as error:
            text = self._without_key(error.response.text)
            return status_failure(error.status_code, error.response.headers, text)
        return _response(self._without_key(raw.text))

    def _without_key(self, text: str) -> str:
        """Return a server's text without the key, which some servers repeat."""
        return text.replace(self._secret, "[key]") if self._secret else text

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _connection_failure(cause: BaseException | None) -> Failure:
    name = type(cause).__name__
    if not name.startswith("Connect"):
        said = _one_line(str(cause)).rstrip(".") or name
        return Failure("connection", f"cut off ({_first_reason(cause, said)})", lost=True)
    return Failure("connection", f"no connection ({_first_reason(cause, name)})")


def _first_reason(error: BaseException | None, name: str) -> str:
    """Return the system's reason: connection refused, unknown name, no certificate."""
    reason = name
    while error is not None:
        if isinstance(error, OSError) and error.args:
            if isinstance(error, ssl.SSLError):
                reason = f"{_one_line(error.strerror or str(error))}; without TLS it is http://"
            elif error.errno is not None and error.errno in errno.errorcode:
                reason = os.strerror(error.errno)
            else:
                reason = _one_line(error.strerror or str(error))
        error = error.__cause__ or error.__context__
    return reason


def _response(text: str) -> dict[str, Any] | Failure:
    try:
        response = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        said = f"no JSON: {_one_line(text)}" if text.strip() else "empty"
        return Failure("malformed", f"the response is {said}", lost=True)
    if error := error_of(response):
        return _failure_within(error)
    if problem := problem_of(response):
        return Failure("malformed", _one_line(problem), lost=True)
    whole: dict[str, Any] = _whole_characters(response)
    return whole


def _failure_within(error: Any) -> Failure:
    """Return the failure that an error with status 200 stands for, as OpenRouter sends them."""
    code = error.get("code") if isinstance(error, dict) else None
    text = json.dumps({"error": error})
    if isinstance(code, int) and 400 <= code < 600:
        return status_failure(code, {}, text)._replace(lost=True)
    return Failure("malformed", f"the response says: {_error(text)[1]}", lost=True)


def _whole_characters(value: Any) -> Any:
    """Return JSON without lone surrogates, which a model leaves behind that is stopped midway."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {_whole_characters(name): _whole_characters(item) for name, item in value.items()}
    return value


def status_failure(status: int, headers: Mapping[str, str], text: str) -> Failure:
    """Return the failure that a status other than 200 stands for."""
    code, message = _error(text)
    wait = retry_after(headers, time.time())
    no_quota = status == 429 and code == "insufficient_quota"
    fatal = status in _FATAL or no_quota or (wait or 0) > _LONGEST_WAIT
    return Failure(
        reason=str(status),
        message=message or http.client.responses.get(status, "no reason is given"),
        status=status,
        retryable=not fatal and (status in _RETRYABLE or status >= 500),
        retry_after=wait,
        fatal=fatal,
    )


def _error(text: str) -> tuple[str | None, str]:
    """Return an error's code and message, which servers lay out in several ways."""
    try:
        response = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None, _one_line(text)
    error = response.get("error", response) if isinstance(response, dict) else response
    if not isinstance(error, dict):
        return None, _one_line(str(error) if error else "")
    message = error.get("message") or error.get("detail") or error
    return error.get("code"), _one_line(message if isinstance(message, str) else str(message))


def _one_line(text: str) -> str:
    """Return a server's text in one line, without HTML tags and terminal control characters."""
    said = _TAGS.sub(" ", text) if text.lstrip("\ufeff \r\n\t").startswith("<") else text
    line = " ".join("".join(char if char.isprintable() else " " for char in said).split())
    return line if len(line) <= 300 else f"{line[:297]}..."


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that a server asks to wait; None if it does not.

    Args:
        headers: The response's: `retry-after-ms`, or `retry-after` in seconds or with a date.
        now: Seconds since 1970.
    """
    for name, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name, "")
        try:
            seconds = float(value) / divisor
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, date.timestamp() - now)
