"""Circuit breaker: when an endpoint that no longer answers is given up.

Failures count in rounds: attempts that were in flight together fail together, and count once.
"""

from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.transport import NO_SERVER, Failure

# An endpoint that was never reached: some four seconds where the connection is refused.
_FIRST_ROUNDS = {"connection": 5, "timeout": 3}
# A server that answers with errors: so many rounds, and calls, for one call may be at fault itself.
_ROUNDS, _CALLS = 8, 5
# From this round on all calls wait, not only those that failed: without a server, and with one.
_ALL_WAIT = (2, 3)
_LONGEST_PAUSE = 60.0


class CircuitBreaker:
    """Count an endpoint's failures since it last answered."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Begin without failures."""
        self._patience, self._backoff = max(5, endpoint.retries + 1), endpoint.backoff
        self._reached = False
        self.round = self.rounds = 0
        self._calls: set[str] = set()
        self.last: Failure | None = None

    def answered(self) -> None:
        """Note that the server answered, even if only that it refuses a request."""
        self._reached, self.rounds, self.last = True, 0, None
        self._calls.clear()

    def failed(self, failure: Failure, call: str, began: int) -> bool:
        """Note a failure that may not last; return whether it begins another round.

        Args:
            failure: What went wrong.
            call: Which call the attempt belongs to.
            began: The `round` in which the attempt began.
        """
        self._reached |= failure.reason not in NO_SERVER
        self._calls.add(call)
        self.last = failure
        if began < self.round:
            return False
        self.round += 1
        self.rounds += 1
        return True

    @property
    def pause(self) -> float:
        """Return the seconds before the next call of any kind."""
        if self.last is None:
            return 0.0
        late = self.rounds - _ALL_WAIT[self.last.reason not in NO_SERVER]
        return min(_LONGEST_PAUSE, self._backoff * 2**late) if late >= 0 else 0.0

    @property
    def verdict(self) -> Failure | None:
        """Return why the endpoint is given up; None: it may come back."""
        if self.last is None:
            return None
        absent = self.last.reason in NO_SERVER
        rounds = max(_ROUNDS, self._patience)
        if absent:
            rounds = self._patience if self._reached else _FIRST_ROUNDS[self.last.reason]
        if self.rounds < rounds or (not absent and len(self._calls) < _CALLS):
            return None
        hint = "is the server running, and base_url its address?" if absent else "look at its log"
        if self.last.status == 429:
            hint = "lower requests_per_minute, tokens_per_minute or concurrency"
        message = f"{self.last.message}, {self.rounds} times in a row and no answer since; {hint}"
        return self.last._replace(message=message, retryable=False, retry_after=None, fatal=True)
