"""Circuit breaker: when an endpoint that no longer answers is given up.

Failures count in rounds: attempts that were in flight together fail together, and count once.
"""

from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.transport import NO_SERVER, Failure

# An endpoint that was never reached: some four seconds where the connection is refused.
_FIRST_ROUNDS = {"connection": 5, "timeout": 3}
# A server that answers with errors: so many rounds, and calls, for one call may be at fault itself.
_ROUNDS, _CALLS = 8, 5
# A server that has said nothing yet but the same error of its own, and that of all calls there are:
# it would say so for ever. A gateway's errors (502 to 504) are those of a server that may yet come.
_FIRST_ERRORS, _OWN_ERRORS = 6, (500, 501)
# From this round on all calls wait, not only those that failed: without a server, and with one.
_ALL_WAIT = (2, 3)
_LONGEST_PAUSE = 60.0


class CircuitBreaker:
    """Count an endpoint's failures since it last answered."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Begin without failures."""
        self._patience, self._backoff = max(5, endpoint.retries + 1), endpoint.backoff
        self._reached = False
        # Whether all that was ever heard is one error.
        self._unchanging = True
        self.round = self.rounds = 0
        self._calls: set[str] = set()
        self._waiting = _CALLS
        self.last: Failure | None = None

    def answered(self) -> None:
        """Note that the server answered, even if only that it refuses a request."""
        self._reached, self._unchanging, self.rounds, self.last = True, False, 0, None
        self._calls.clear()

    def failed(self, failure: Failure, call: str, began: int, waiting: int) -> bool:
        """Note a failure that may not last; return whether it begins another round.

        Args:
            failure: What went wrong.
            call: Which call the attempt belongs to.
            began: The `round` in which the attempt began.
            waiting: How many calls have no response yet, this one among them.
        """
        self._reached |= failure.reason not in NO_SERVER
        self._unchanging &= failure.status in _OWN_ERRORS and (
            self.last is None or self.last[:3] == failure[:3]
        )
        self._calls.add(call)
        self._waiting, self.last = waiting, failure
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
        rounds, calls = max(_ROUNDS, self._patience), _CALLS
        if absent:
            rounds = self._patience if self._reached else _FIRST_ROUNDS[self.last.reason]
            calls = 1
        elif self._unchanging:
            rounds, calls = _FIRST_ERRORS, min(_CALLS, self._waiting)
        if self.rounds < rounds or len(self._calls) < calls:
            return None
        hint = "is the server running, and base_url its address?" if absent else "look at its log"
        if self.last.status == 429:
            hint = "lower requests_per_minute, tokens_per_minute or concurrency"
        message = f"{self.last.message}, {self.rounds} times in a row and no answer since; {hint}"
        return self.last._replace(message=message, retryable=False, retry_after=None, fatal=True)
