"""Breaker: when an endpoint is given up, of which nothing comes back any more.

Failures count in rounds: attempts that were under way together fail together, and that is once.
"""

from verbalizer_bench.builders.client.endpoint import Endpoint
from verbalizer_bench.builders.client.transport import NO_SERVER, Failure

# An endpoint that was never reached: some four seconds where the connection is refused.
_FIRST_ROUNDS = {"connection": 5, "timeout": 3}
# A server that answers with errors: so many rounds, and calls, for a single one may be its fault.
_ROUNDS, _CALLS = 8, 5
# From this round on everybody waits, and not only who failed: where nobody is there, and else.
_ALL_WAIT = (2, 3)


class CircuitBreaker:
    """Count an endpoint's failures since it last answered."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Begin with none."""
        self._patience, self._backoff = max(5, endpoint.retries + 1), endpoint.backoff
        self._reached = False
        self.round = self.rounds = 0
        self._calls: set[str] = set()
        self.last: Failure | None = None

    def answered(self) -> None:
        """Note that there was an answer, if only that a request is refused."""
        self._reached, self.rounds, self.last = True, 0, None
        self._calls.clear()

    def failed(self, failure: Failure, call: str, began: int) -> bool:
        """Note a failure that may not last; return whether it begins another round.

        Args:
            failure: What went wrong.
            call: Whose attempt it was.
            began: The `round` that it began in.
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
        """Return the seconds before anybody asks again."""
        if self.last is None:
            return 0.0
        late = self.rounds - _ALL_WAIT[self.last.reason not in NO_SERVER]
        return min(60.0, self._backoff * 2**late) if late >= 0 else 0.0

    @property
    def verdict(self) -> Failure | None:
        """Return why nobody is asked any more; None: it may come back."""
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
        return self.last._replace(message=message, again=False, wait=None, fatal=True)
