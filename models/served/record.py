"""What a run of a served model says of itself: what was sent, and what came back."""

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from verbalizer_bench.client.chat_client import ChatClient
from verbalizer_bench.client.protocol import Reply
from verbalizer_bench.models.adapters.journal import Response
from verbalizer_bench.models.adapters.response_counts import count_ending, ending_record
from verbalizer_bench.models.served.replies import reasoning_of

_PACKAGES = ("verbalizer-bench", "lm_eval", "openai", "pillow")


def versions() -> dict[str, str]:
    """Return the versions of the packages that a request depends on."""
    return {name: version(name) for name in _PACKAGES}


class ServedCounts:
    """What came back from a server.

    Attributes:
        replies: How many there are.
        empty: Those without a text.
        reported: Replies by the name that the server gave the model.
        fingerprints: Replies by `system_fingerprint`.
        reasoning: Replies with a thought in a field of its own.
        spent: What all calls of the folder have cost, earlier attempts included.
        sent: Distinct parameters of the requests.
    """

    def __init__(self) -> None:
        self.engines: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.reported: Counter[str] = Counter()
        self.fingerprints: Counter[str] = Counter()
        self.replies = self.empty = self.reasoning = 0
        self.spent: dict[str, Any] = {}
        self.sent: list[dict[str, Any]] = []

    def count_response(self, response: Response) -> None:
        """Count a response by what made it and what ended it."""
        self.engines[response.engine] += 1
        count_ending(self.endings, response)

    def count_reply(self, reply: Reply) -> None:
        """Count what a server says of itself."""
        self.replies += 1
        self.empty += not (reply.text or reply.refusal or "").strip()
        self.reported[str(reply.response.get("model") or "not named")] += 1
        if fingerprint := reply.response.get("system_fingerprint"):
            self.fingerprints[str(fingerprint)] += 1
        self.reasoning += bool(reasoning_of(reply))

    def note_sent(self, parameters: Mapping[str, dict[str, Any]]) -> None:
        """Note the parameters of requests, once each."""
        self.sent += [one for one in parameters.values() if one not in self.sent]

    def note_spent(self, client: ChatClient) -> None:
        """Note what all calls in a client's folder have cost."""
        totals = (client.earlier, client.usage)
        self.spent = {
            "calls": sum(total.calls for total in totals),
            "input_tokens": sum(total.input_tokens for total in totals),
            "output_tokens": sum(total.output_tokens for total in totals),
            "money": sum(total.money for total in totals),
        }

    def record(self) -> dict[str, Any]:
        """Return the counts that all adapters record."""
        return {
            "engine": dict(self.engines),
            "responses_by_rank": [sum(self.engines.values())],
            **ending_record(self.endings),
        }

    def served(self) -> dict[str, Any]:
        """Return the counts that only a served model has."""
        return {
            "reported": dict(self.reported),
            "system_fingerprints": dict(self.fingerprints),
            "parameters": self.sent,
            "reasoning": self.reasoning,
            "spent": self.spent,
        }
