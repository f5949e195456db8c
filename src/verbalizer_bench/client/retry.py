"""Retry: how long, and how often, a call is attempted again."""

from collections.abc import Awaitable, Callable
from typing import Any

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_result,
    wait_exponential,
    wait_random_exponential,
)

from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.transport import Failure

_LONGEST_BACKOFF = 60.0


def retrying(
    endpoint: Endpoint,
    *,
    sleep: Callable[[float], Awaitable[None]],
    closing: Callable[[], bool],
    on_retry: Callable[[Failure], None],
) -> AsyncRetrying:
    """Return what repeats an attempt until it is answered or given up, and returns its outcome.

    Args:
        endpoint: Its retries and backoff.
        sleep: Waits before the next attempt.
        closing: Whether no further attempt is to be made.
        on_retry: Told of each failure that another attempt follows.
    """
    return AsyncRetrying(
        retry=retry_if_result(lambda outcome: isinstance(outcome, Failure) and outcome.retryable),
        stop=lambda state: closing() or state.attempt_number > endpoint.retries,
        wait=_wait(endpoint.backoff),
        sleep=sleep,
        before_sleep=lambda state: on_retry(_outcome(state)),
        retry_error_callback=_outcome,
    )


def _wait(backoff: float) -> Callable[[RetryCallState], float]:
    """Return what says how long to wait: ever longer, half of it random, or as the server asks."""
    half, most = backoff / 2, _LONGEST_BACKOFF / 2
    jittered = wait_exponential(half, max=most) + wait_random_exponential(half, max=most)
    return lambda state: max(jittered(state), _outcome(state).retry_after or 0.0)


def _outcome(state: RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()
